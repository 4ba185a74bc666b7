"""A Dockerfile's instructions, as far as its base and a list of what it does need them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

NAMES = ("Dockerfile", "Containerfile", "dockerfile")

_DIRECTIVE = re.compile(r"#\s*([a-z]+)\s*=\s*(\S+)\s*", re.I)
_HEREDOC = re.compile(r"<<-?\s*([\"']?)([A-Za-z_]\w*)\1")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^{}]*))?\})")


class Instruction(NamedTuple):
    word: str  # in capitals
    rest: str  # continued lines as one, without comments; a here-document's first line alone


class Unknown(Exception):
    """The name of an ARG without a value."""


def instructions(text: str) -> Iterator[Instruction]:
    """Docker's line rules: directives at the top, comments, continued lines, here-documents."""
    lines = text.removeprefix("\ufeff").splitlines()
    escape = "\\"
    for line in lines:
        directive = _DIRECTIVE.fullmatch(line.strip())
        if not directive:
            break
        if directive[1].lower() == "escape":
            escape = directive[2]
    waiting = iter(lines)
    for line in waiting:
        parts: list[str] = []
        part: str | None = line
        while part is not None:
            part = part.strip()
            if part and not part.startswith("#"):
                parts.append(part.removesuffix(escape).strip())
                if not part.endswith(escape):
                    break
            elif not parts:
                break  # a comment or an empty line between instructions
            part = next(waiting, None)
        word, *rest = " ".join(parts).split(None, 1) or [""]
        if not word:
            continue
        found = Instruction(word.upper(), " ".join(rest))
        yield found
        if found.word in ("RUN", "COPY", "ADD"):
            for _, end in _HEREDOC.findall(found.rest):
                while (part := next(waiting, None)) is not None and part.strip() != end:
                    pass


def base_of(found: list[Instruction]) -> str | None:
    """The image that the last stage stands on, through the stages below it; None without a FROM.
    Raises Unknown."""
    given: dict[str, str] = {}
    bases: dict[str, str] = {}
    last = None
    for word, rest in found:
        if word == "ARG" and last is None:
            name, equals, value = rest.partition("=")
            if equals:
                given[name.strip()] = _expanded(value.strip().strip("\"'"), given)
        elif word == "FROM":
            words = [each for each in rest.split() if not each.startswith("--")]
            last = _expanded(words[0].strip("\"'"), given) if words else ""
            last = bases.get(last.lower(), last)
            if len(words) == 3 and words[1].lower() == "as":
                bases[words[2].lower()] = last
    return last


def _expanded(text: str, given: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name, sign, other = found[1] or found[2], found[3], found[4]
        known = given.get(name, "")
        if sign == "+":
            return str(other) if known else ""
        if not known and sign is None:
            raise Unknown(name)
        return known or str(other)

    return _VARIABLE.sub(value, text)
