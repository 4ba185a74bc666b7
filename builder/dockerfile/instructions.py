"""Instructions: each line of a Dockerfile as a value, with the places of its words."""

from __future__ import annotations

import re
from typing import NamedTuple

from builder.dockerfile import words
from builder.dockerfile.lines import File, Heredoc, Line, read_lines
from builder.dockerfile.words import Word
from builder.spec.source import Fault, Problems, Source, did_you_mean, quote

# word -> its flags: a text, True: a truth value, None: may be given several times
_FLAGS: dict[str, dict[str, type | None]] = {
    "FROM": {"platform": str},
    "RUN": {"mount": None, "network": str, "security": str, "device": None},
    "COPY": {
        **dict.fromkeys(("from", "chown", "chmod"), str),
        **dict.fromkeys(("link", "parents"), bool),
        "exclude": None,
    },
    "ADD": {
        **dict.fromkeys(("chown", "chmod", "checksum"), str),
        **dict.fromkeys(("link", "keep-git-dir", "unpack"), bool),
        "exclude": None,
    },
    "HEALTHCHECK": dict.fromkeys(
        ("interval", "timeout", "start-period", "start-interval", "retries"), str
    ),
}
WORDS = (
    *("FROM", "RUN", "CMD", "LABEL", "MAINTAINER", "EXPOSE", "ENV", "ADD", "COPY", "ENTRYPOINT"),
    *("VOLUME", "USER", "WORKDIR", "ARG", "ONBUILD", "STOPSIGNAL", "HEALTHCHECK", "SHELL"),
)
_STAGE = re.compile("[a-z][a-z0-9_.-]*")
_SPACE = re.compile(r"\s+")


class Flag(NamedTuple):
    name: str
    value: str  # "true" of one that is given alone
    at: int


class Pair(NamedTuple):
    """NAME=VALUE of ENV, LABEL and ARG; no value: NAME alone."""

    name: Word
    value: Word | None


class Instruction(NamedTuple):
    """`args` are its words, of the JSON form where `is_json`: then all stand at the array. Of RUN,
    CMD and the like in the shell form it is one, the whole text."""

    word: str  # in capitals
    line: Line
    flags: tuple[Flag, ...] = ()
    args: tuple[Word, ...] = ()
    is_json: bool = False
    pairs: tuple[Pair, ...] = ()

    @property
    def place(self) -> tuple[int, int]:
        return self.line.at(0)

    @property
    def heredocs(self) -> tuple[Heredoc, ...]:
        return self.line.heredocs

    @property
    def text(self) -> str:
        return self.args[0].text if self.args else ""

    def flag(self, name: str) -> Flag | None:
        return next((each for each in self.flags if each.name == name), None)

    def on(self, name: str) -> bool:
        """Of a flag that is true or false."""
        found = self.flag(name)
        return found is not None and found.value.lower() == "true"

    def all(self, name: str) -> list[Flag]:
        return [each for each in self.flags if each.name == name]

    def fault(self, message: str, hint: str | None = None, at: int = 0) -> Fault:
        return self.line.fault(at, message, hint)


class Stage(NamedTuple):
    """FROM and what follows it."""

    base: Instruction
    name: str  # in small letters; "": it has none
    steps: tuple[Instruction, ...]


class Dockerfile(NamedTuple):
    file: File
    arguments: tuple[Instruction, ...]  # ARG before the first FROM
    stages: tuple[Stage, ...]


def read(source: Source) -> Dockerfile:
    """Raises SpecErrors with all that is wrong in it."""
    arguments: list[Instruction] = []
    stages: list[Stage] = []
    steps: list[list[Instruction]] = []
    problems = Problems(source)
    with problems.collected():
        file = read_lines(source)
        for line in file.lines:
            try:
                found = instruction(line, file.escape)
                if found.word == "FROM":
                    steps.append([])
                    stages.append(_stage(found))
                elif steps:
                    steps[-1].append(found)
                elif found.word == "ARG":
                    arguments.append(found)
                else:
                    text = f"{found.word} stands before the first FROM, where only ARG may be"
                    raise found.fault(text, "begin with FROM IMAGE")
            except Fault as fault:
                problems.add(fault)
        if not stages and not len(problems):
            raise file.lines[-1].fault(0, "no FROM, expected a stage", "begin with FROM IMAGE")
    whole = (each._replace(steps=tuple(own)) for each, own in zip(stages, steps, strict=True))
    return Dockerfile(file, tuple(arguments), tuple(whole))


def _stage(found: Instruction) -> Stage:
    args = found.args
    if len(args) == 1:
        return Stage(found, "", ())
    if len(args) != 3 or args[1].text.lower() != "as":
        at = args[1].at if len(args) > 1 else 0
        raise found.fault("FROM has one word, or three", "write FROM IMAGE AS NAME", at)
    name = args[2].text.lower()
    if not _STAGE.fullmatch(name):
        text = (
            f"{quote(args[2].text)} names no stage, expected a letter, then letters, digits, . _ -"
        )
        raise found.fault(text, None, args[2].at)
    return Stage(found, name, ())


def instruction(line: Line, escape: str) -> Instruction:
    """Raises Fault."""
    word, rest, at = _apart(line.text)
    name = word.upper()
    if name not in WORDS:
        near = did_you_mean(name, WORDS)
        hint = None
        if name.startswith("<<"):
            hint = "a here-document is announced on a RUN, COPY or ADD"
        raise line.fault(0, f"{quote(word)} is no instruction{near}", hint)
    given, rest, at = words.flags(rest, at, escape) if rest.startswith("--") else ([], rest, at)
    found = Instruction(name, line, tuple(_flags(name, line, given)))
    if name in ("ENV", "LABEL", "ARG"):
        return found._replace(pairs=tuple(_pairs(found, rest, at, escape)))
    if name in ("HEALTHCHECK", "ONBUILD"):
        return _with_inner(found, rest, at, escape)
    args, is_json = _args(found, rest, at)
    found = found._replace(args=tuple(args), is_json=is_json)
    if not args and not is_json and name not in ("CMD", "ENTRYPOINT"):
        raise found.fault(f"{name} says nothing, expected {_EXPECTED[name]}")
    if name in ("COPY", "ADD") and len(args) < 2:
        text = f"{name} has {len(args)} words, expected sources and a destination"
        raise found.fault(text, f"write {name} SOURCE... DESTINATION")
    if name == "SHELL" and not (is_json and args):
        raise found.fault("SHELL needs a JSON array", 'write SHELL ["/bin/bash", "-c"]', at)
    return found


_EXPECTED = {
    "FROM": "an image",
    "RUN": "a command",
    "MAINTAINER": "a name",
    "EXPOSE": "ports",
    "ADD": "sources and a destination",
    "COPY": "sources and a destination",
    "VOLUME": "paths",
    "USER": "a user",
    "WORKDIR": "a path",
    "STOPSIGNAL": "a signal",
    "SHELL": "a JSON array",
    "HEALTHCHECK": "CMD or NONE",
    "ONBUILD": "an instruction",
}


def _apart(text: str) -> tuple[str, str, int]:
    """The first word, the rest and its offset."""
    whole = text.rstrip()
    found = _SPACE.search(whole)
    if not found:
        return whole, "", len(whole)
    return whole[: found.start()], whole[found.end() :], found.end()


def _flags(name: str, line: Line, given: list[Word]) -> list[Flag]:
    known, flags = _FLAGS.get(name, {}), list[Flag]()
    for word in given:
        key, equals, value = word.text[2:].partition("=")
        if key not in known:
            near = did_you_mean(key, list(known))
            hint = f"{name} knows {', '.join('--' + each for each in known)}" if known else None
            text = f"{name} has no flag {quote('--' + key)}{near}"
            raise line.fault(word.at, text, hint)
        kind = known[key]
        if kind is not None and any(each.name == key for each in flags):
            raise line.fault(word.at, f"the flag --{key} is given twice")
        if kind is bool:
            value = value if equals else "true"
            if value.lower() not in ("true", "false"):
                raise line.fault(word.at, f"--{key}={quote(value)}, expected true or false")
        elif not equals:
            raise line.fault(word.at, f"the flag --{key} has no value", f"write --{key}=VALUE")
        flags.append(Flag(key, value, word.at))
    return flags


def _pairs(found: Instruction, rest: str, at: int, escape: str) -> list[Pair]:
    given, name = words.quoted(rest, at, escape), found.word
    if not given:
        raise found.fault(f"{name} says nothing, expected NAME=VALUE")
    if name != "ARG" and "=" not in given[0].text:
        # the old form: all that follows the name is its value
        parts = _SPACE.split(rest, maxsplit=1)
        if len(parts) < 2:
            text = f"{name} {quote(given[0].text)} has no value"
            raise found.fault(text, f"write {name} {given[0].text[:40]}=VALUE", at)
        return [Pair(Word(parts[0], at), Word(parts[1], at + len(rest) - len(parts[1])))]
    pairs = []
    for word in given:
        key, equals, value = word.text.partition("=")
        if not equals and name != "ARG":
            raise found.fault(
                f"{quote(word.text)} has no value, expected NAME=VALUE",
                'a value with spaces goes in quotes: NAME="a b"', word.at,
            )  # fmt: skip
        if not key:
            raise found.fault(f"{quote(word.text)} has no name", None, word.at)
        told = Word(value, word.at + len(key) + 1) if equals else None
        pairs.append(Pair(Word(key, word.at), told))
    return pairs


def _args(found: Instruction, rest: str, at: int) -> tuple[list[Word], bool]:
    name = found.word
    if name in ("USER", "WORKDIR", "STOPSIGNAL", "MAINTAINER"):
        return ([Word(rest, at)] if rest else []), False
    if name not in ("FROM", "EXPOSE") and not found.heredocs:
        try:
            array = words.array(rest)
        except ValueError as error:
            raise found.fault(str(error), "put each word in double quotes", at) from None
        if array is not None:
            return [Word(each, at) for each in array], True
    if name in ("RUN", "CMD", "ENTRYPOINT", "SHELL"):
        return ([Word(rest, at)] if rest else []), False
    return words.split(rest, at), False


def _with_inner(found: Instruction, rest: str, at: int, escape: str) -> Instruction:
    """HEALTHCHECK and ONBUILD, whose first word says what the others are."""
    kind, command, offset = _apart(rest)
    first = Word(kind, at)
    if not kind:
        raise found.fault(f"{found.word} says nothing, expected {_EXPECTED[found.word]}")
    if found.word == "ONBUILD":
        word = kind.upper()
        if word in ("ONBUILD", "FROM", "MAINTAINER"):
            raise found.fault(f"{word} may not be a trigger of ONBUILD", None, at)
        spots = found.line.spots
        begin = found.line.at(at)
        inner = ((0, *begin), *((spot - at, row, col) for spot, row, col in spots if spot > at))
        instruction(found.line._replace(text=rest, spots=inner), escape)  # what is wrong in it
        return found._replace(args=(Word(rest, at),))
    if kind.upper() == "NONE" and not command:
        return found._replace(args=(first._replace(text="NONE"),))
    if kind.upper() != "CMD" or not command:
        raise found.fault(f"HEALTHCHECK {quote(kind)}, expected CMD COMMAND or NONE", None, at)
    args, is_json = _args(found._replace(word="RUN"), command, at + offset)
    return found._replace(args=(first._replace(text="CMD"), *args), is_json=is_json)
