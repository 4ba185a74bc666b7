"""Settings: the instructions that change what the image's config says."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from builder.dockerfile.expand import Value, known
from builder.dockerfile.nodes import below, drop, mapping, number, put, template, text, texts
from builder.plan.config import DEFAULT_PATH
from builder.spec.node import LIST, MAPPING, Node
from builder.spec.source import quote

if TYPE_CHECKING:
    from builder.dockerfile.convert import Part, _Converter
    from builder.dockerfile.instructions import Instruction

_SIGNAL = re.compile(r"(?:SIG)?([A-Z][A-Z0-9+-]*)")
_PORT = re.compile(r"\d+(-\d+)?(/[a-z]+)?")


def on_scratch(part: Part) -> None:
    at = part.stage.base.place
    put(part.config, "env", mapping({"PATH": DEFAULT_PATH}, at), at)
    put(part.config, "working_dir", text("/", at), at)
    part.folder = "/"


def change(by: _Converter, part: Part, found: Instruction) -> None:
    _CHANGES[found.word](by, part, found)


def _say(by: _Converter, found: Instruction, key: Node) -> None:
    """Comments above the instruction, above what it became."""
    if found.line.comments:
        by.comments.setdefault(id(key), []).extend(found.line.comments)


def _table(part: Part, found: Instruction, *, soon: bool) -> Node:
    """Where a setting goes: `config`, or from here on a `set`. `soon`: it holds for file steps,
    too, and must not be said before them."""
    if not (part.steps.items if soon else part.ran):
        return part.config
    last = part.steps.items[-1] if part.steps.items else None
    if last is not None and last.pairs[0][0].text == "set":
        return last.pairs[0][1]
    step, table = Node(MAPPING, *found.place), Node(MAPPING, *found.place)
    put(step, "set", table, found.place)
    part.steps.items.append(step)
    return table


def _env(by: _Converter, part: Part, found: Instruction) -> None:
    lookup = part.scope.lookup
    values = []  # all of one instruction see what was before it
    for pair in found.pairs:
        assert pair.value is not None
        name = template(by.value(pair.name, lookup))
        values.append((pair, name, by.value(pair.value, lookup)))
    for pair, name, value in values:
        at = found.line.at(pair.name.at)
        table = _table(part, found, soon=False)
        if name == "PATH" and (front := _front(value, part)):
            there = table.get("path")
            list_ = texts(front, at)
            list_.items += there.items if there else []
            key = put(table, "path", list_, at)
        else:
            if name == "PATH":
                drop(table, "path")
            key = put(below(table, "env", at), name, text(value, at), at)
        part.scope.variable(name, value)
        if pair is found.pairs[0]:
            _say(by, found, key)


def _front(value: Value, part: Part) -> list[str]:
    """The folders that a PATH puts in front of the one there is; none: it does something else."""
    bound = part.scope.lookup("PATH")
    there = bound.value if bound else ()
    if part.scope.on_scratch or not there:
        return []
    ends = len(there)
    if len(value) == ends and isinstance(value[0], str) and isinstance(there[0], str):
        # text in front of text grows together
        if value[1:] != there[1:] or not value[0].endswith(":" + there[0]):
            return []
        head = value[0][: -len(there[0]) - 1]
    elif len(value) == ends + 1 and value[1:] == there and isinstance(value[0], str):
        if not value[0].endswith(":"):
            return []
        head = value[0][:-1]
    else:
        return []
    folders = head.split(":")
    return folders if all(folders) else []


def _label(by: _Converter, part: Part, found: Instruction) -> None:
    lookup = part.scope.lookup
    for pair in found.pairs:
        assert pair.value is not None
        name, value = template(by.value(pair.name, lookup)), by.value(pair.value, lookup)
        at = found.line.at(pair.name.at)
        key = put(below(part.config, "labels", at), name, text(value, at), at)
        if pair is found.pairs[0]:
            _say(by, found, key)


def _maintainer(by: _Converter, part: Part, found: Instruction) -> None:
    key = put(part.config, "author", text(found.text, found.place), found.place)
    _say(by, found, key)


def _user(by: _Converter, part: Part, found: Instruction) -> None:
    user = by.text_of(found.args[0], part)
    if part.wanted and part.wanted[1] != user:
        make_folder(part, found)
    key = put(
        _table(part, found, soon=True), "user", text(user, found.place, ready=True), found.place
    )
    part.user = user
    _say(by, found, key)


def _workdir(by: _Converter, part: Part, found: Instruction) -> None:
    path = by.text_of(found.args[0], part)
    if not path:
        return
    fixed = "{{" not in path and "{%" not in path
    whole = path
    if fixed and not path.startswith("/"):
        whole = posixpath.join(part.folder, path) if part.folder else ""
    if fixed and whole:
        whole = "/" + posixpath.normpath(whole).lstrip("/")
    if part.wanted and not f"{whole}/".startswith(part.wanted[0] + "/"):
        make_folder(part, found)
    said = whole if fixed and whole else path
    if not part.steps.items and not said.startswith("/"):
        # below the base's, which only `set` may be
        table = Node(MAPPING, *found.place)
        step = mapping({"set": table}, found.place)
        part.steps.items.append(step)
    else:
        table = _table(part, found, soon=True)
    key = put(table, "working_dir", text(said, found.place, ready=True), found.place)
    part.folder = whole if fixed and whole else None
    part.wanted = (whole, part.user) if whole not in ("", "/") else None
    _say(by, found, key)


def make_folder(part: Part, found: Instruction) -> None:
    """A step for a WORKDIR that no step has needed yet."""
    assert part.wanted is not None
    (path, user), at = part.wanted, found.place
    step = Node(MAPPING, *at)
    put(step, "directory", text(path, at, ready=True), at)
    if user and user not in ("root", "0", "0:0", "root:root"):
        put(step, "owner", text(user, at, ready=True), at)
    part.steps.items.append(step)
    part.wanted = None


def _shell(by: _Converter, part: Part, found: Instruction) -> None:
    words = tuple(each.text for each in found.args)
    part.shell = words
    table = _table(part, found, soon=False)
    _say(by, found, put(table, "shell", texts(words, found.place), found.place))


def _command(by: _Converter, part: Part, found: Instruction) -> None:
    name, at = found.word.lower(), found.place
    if found.is_json:
        value = texts([each.text for each in found.args], at)
    elif part.shell:
        value = texts([*part.shell, found.text], at)
    elif found.text.strip():
        value = text(found.text, at)
    else:
        value = texts(["/bin/sh", "-c", ""], at)
    _say(by, found, put(part.config, name, value, at))


def _expose(by: _Converter, part: Part, found: Instruction) -> None:
    ports = below(part.config, "exposed_ports", found.place, LIST)
    for word in found.args:
        value = by.value(word, part.scope.lookup)
        plain = known(value)
        for port in [template(value)] if plain is None else plain.lower().split():
            if plain is not None and not _PORT.fullmatch(port):
                text_ = f"{quote(port)} is no port, expected a number, a range, or one with /tcp"
                raise found.fault(text_, None, word.at)
            ports.items.append(text(port, found.line.at(word.at), ready=True))
    if ports.items:
        _say(by, found, next(key for key, _ in part.config.pairs if key.text == "exposed_ports"))


def _volume(by: _Converter, part: Part, found: Instruction) -> None:
    volumes = below(part.config, "volumes", found.place, LIST)
    for word in found.args:
        path = by.text_of(word, part)
        if not path:
            raise found.fault("VOLUME names no path", None, word.at)
        if not path.startswith(("/", "{{")):
            by.remark(found.place, f"VOLUME {path!r} is written with a slash at its front")
            path = "/" + path
        volumes.items.append(text(path, found.line.at(word.at), ready=True))
    _say(by, found, next(key for key, _ in part.config.pairs if key.text == "volumes"))


def _stopsignal(by: _Converter, part: Part, found: Instruction) -> None:
    said = by.text_of(found.args[0], part)
    name = _SIGNAL.fullmatch(said)
    if name and not said.startswith("SIG"):
        by.remark(found.place, f"the signal {said!r} is written SIG{name[1]}")
        said = f"SIG{name[1]}"
    node = text(said, found.line.at(found.args[0].at), ready=True)
    _say(by, found, put(part.config, "stop_signal", node, found.place))


def _healthcheck(by: _Converter, part: Part, found: Instruction) -> None:
    at = found.place
    check = Node(MAPPING, *at)
    kind, *rest = (each.text for each in found.args)
    if kind == "NONE":
        put(check, "test", text("NONE", at), at)
    else:
        words = ["CMD", *rest] if found.is_json else ["CMD-SHELL", *rest]
        if len(words) == 1:
            raise found.fault("HEALTHCHECK CMD says no command")
        put(check, "test", texts(words, at), at)
        for flag in found.flags:
            where = found.line.at(flag.at)
            if flag.name == "retries":
                if not flag.value.isdecimal() or len(flag.value) > 9:
                    text_ = f"--retries={quote(flag.value)}, expected a number"
                    raise found.fault(text_, None, flag.at)
                if int(flag.value):
                    put(check, "retries", number(int(flag.value), where), where)
            elif flag.value.strip("0.msuhn") or any(char in "123456789" for char in flag.value):
                put(check, flag.name.replace("-", "_"), text(flag.value, where), where)
    _say(by, found, put(part.config, "healthcheck", check, at))


def finish(by: _Converter, part: Part) -> None:
    """What is left at the end of a stage."""
    if part.wanted and part.user and part.user != part.wanted[1]:
        make_folder(part, part.stage.base)


_CHANGES = {
    "ENV": _env,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "USER": _user,
    "WORKDIR": _workdir,
    "SHELL": _shell,
    "CMD": _command,
    "ENTRYPOINT": _command,
    "EXPOSE": _expose,
    "VOLUME": _volume,
    "STOPSIGNAL": _stopsignal,
    "HEALTHCHECK": _healthcheck,
}
