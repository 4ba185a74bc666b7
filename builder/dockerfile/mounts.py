"""The mounts of RUN, as those of a command step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from builder.dockerfile.nodes import Place, below, put, template, text
from builder.dockerfile.words import Word
from builder.spec.node import BOOL, LIST, MAPPING, Node
from builder.spec.source import did_you_mean, quote

if TYPE_CHECKING:
    from builder.dockerfile.convert import Part, _Converter
    from builder.dockerfile.instructions import Flag, Instruction

_ALIASES = {
    **dict.fromkeys(("target", "dst", "destination"), "target"),
    **dict.fromkeys(("source", "src"), "source"),
    **dict.fromkeys(("rw", "readwrite"), "rw"),
    **dict.fromkeys(("ro", "readonly"), "ro"),
    **{each: each for each in ("type", "from", "id", "sharing", "mode", "uid", "gid", "size")},
    **{each: each for each in ("required", "env")},
}
_SIGNS = re.compile("[^A-Za-z0-9._-]+")
_KINDS = ("bind", "cache", "secret", "ssh", "tmpfs")


def mount(by: _Converter, part: Part, found: Instruction, flag: Flag, step: Node) -> None:
    where = found.line.at(flag.at)
    said = _options(by, part, found, flag)
    kind = said.get("type", "bind")
    if kind not in _KINDS:
        text_ = f"a mount of the type {quote(kind)}{did_you_mean(kind, _KINDS)}"
        raise found.fault(text_, f"known are {', '.join(_KINDS)}", flag.at)
    if kind in ("bind", "cache", "tmpfs"):
        said["target"] = said.get("target") or "."  # the working directory
    target = said.get("target", "")
    made = Node(MAPPING, *where)
    if kind == "bind":
        _bind(by, part, found, flag, said, made)
    elif kind == "cache":
        _cache(by, part, found, flag, said, made)
    elif kind == "tmpfs":
        _put(made, where, tmpfs=target, size=said.get("size", ""))
    elif kind == "ssh":
        _put(made, where, ssh=said.get("id", "default"))
        if said.get("required", "false") != "true":
            put(made, "required", Node(BOOL, *where, "false"), where)
        if target:
            by.remark(where, "the agent's socket is where SSH_AUTH_SOCK says, not at target=", made)
    else:
        name = said.get("id") or (said.get("source") or target).rpartition("/")[2]
        if not name:
            raise found.fault("a secret mount without id=", "write id=NAME", flag.at)
        _put(made, where, secret=name, target=target, env=said.get("env", ""))
        _owned(said, made, where)
        if said.get("required", "false") != "true":
            put(made, "required", Node(BOOL, *where, "false"), where)
    below(step, "mounts", where, LIST).items.append(made)


def _options(by: _Converter, part: Part, found: Instruction, flag: Flag) -> dict[str, str]:
    said: dict[str, str] = {}
    for each in flag.value.split(","):
        name, equals, value = each.strip().partition("=")
        known_as = _ALIASES.get(name.lower())
        if known_as is None:
            near = did_you_mean(name, list(_ALIASES))
            raise found.fault(f"a mount has no {quote(name)}{near}", None, flag.at)
        read = by.value(Word(value, flag.at), part.scope.lookup) if equals else ("true",)
        said[known_as] = template(read)
    return said


def _bind(
    by: _Converter,
    part: Part,
    found: Instruction,
    flag: Flag,
    said: dict[str, str],
    made: Node,
) -> None:
    from builder.dockerfile.copying import origin, source

    where = found.line.at(flag.at)
    path = said.get("source", "")
    if "from" in said:
        _put(made, where, bind=path or "/")
        put(made, "from", origin(by, part, found, said["from"], flag.at), where)
    else:
        _put(made, where, bind=source(path) if path else ".")
    _put(made, where, target=said["target"])
    if said.get("rw") == "true" or said.get("ro") == "false":
        by.remark(where, "a bind mount cannot be written to, as rw lets one", made)


def _cache(
    by: _Converter,
    part: Part,
    found: Instruction,
    flag: Flag,
    said: dict[str, str],
    made: Node,
) -> None:
    from builder.dockerfile.copying import origin

    where = found.line.at(flag.at)
    _put(made, where, cache=_name(said.get("id") or said["target"]), target=said["target"])
    sharing = said.get("sharing", "shared")
    if sharing != "shared":
        _put(made, where, sharing=sharing)
    if part.user not in ("", "root", "0"):
        said = {"uid": "0", "gid": "0", **said}
    _owned(said, made, where)
    if "from" in said:
        put(made, "seed", origin(by, part, found, said["from"], flag.at), where)
    if said.get("source"):
        by.remark(where, f"the cache begins with all of {said.get('from')}, not with source=", made)


def _name(text: str) -> str:
    """A name for a cache, made of a path or an id."""
    parts = re.split(r"(\{\{ .*? \}\})", text)
    made = "".join(
        f"{each[:-3]} | replace('/', '-') }}}}"
        if odd % 2
        else re.sub("[^A-Za-z0-9._-]+", "-", each)
        for odd, each in enumerate(parts)
    )
    return made.strip("-._")[:128] or "cache"


def _owned(said: dict[str, str], made: Node, where: Place) -> None:
    mode = said.get("mode", "")
    owner = f"{said.get('uid', '0')}:{said.get('gid', '0')}" if {"uid", "gid"} & {*said} else ""
    _put(made, where, mode=mode.zfill(4) if mode else "", owner=owner)


def _put(into: Node, where: Place, **values: str) -> None:
    for name, value in values.items():
        if value:
            put(into, name, text(value, where, ready=True), where)
