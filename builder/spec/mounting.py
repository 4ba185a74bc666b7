"""`mounts:` of a command step: a list whose items say their kind with their first word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from builder.spec import syntax
from builder.spec.base import ORIGIN
from builder.spec.fields import (
    BAD,
    Field,
    Kind,
    Reader,
    Table,
    boolean,
    choice,
    list_of,
    read_table,
    table_schema,
    text,
)
from builder.spec.kinds import MODE, OWNER, SOURCE, check_env, place
from builder.spec.mounts import Bind, Cache, Mount, Secret, Ssh, Tmpfs
from builder.spec.node import MAPPING, TEXT, Node
from builder.spec.source import did_you_mean, quote, written
from builder.spec.syntax import Malformed

_SIZE = "^[1-9][0-9]{0,14}[kmgKMG]?[bB]?$"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
RESERVED = ("/proc", "/sys", "/dev")
"""What a sandbox mounts itself."""


def check_target(path: str) -> None:
    """An absolute path where something may be mounted. Raises Malformed."""
    if path == "/":
        raise Malformed("is the image's root, expected a path below it")
    for each in RESERVED:
        if (path + "/").startswith(each + "/"):
            raise Malformed(f"lies in {each}, which is the step's own, expected another path")


def _target(value: str) -> str:
    path = syntax.parse_target(value)
    if path.startswith("/"):
        check_target(path.rstrip("/") or "/")
    return path


def _name(value: str) -> str:
    if not re.fullmatch(syntax.NAME, value):
        meant = re.sub("[^A-Za-z0-9._-]+", "-", value).strip("-._")[:128]
        hint = f"write {written(meant)}" if re.fullmatch(syntax.NAME, meant) else None
        raise Malformed("is not a name, expected letters, digits and . _ - in it", hint)
    return value


def _size(value: str) -> int:
    if not re.fullmatch(_SIZE, value):
        raise Malformed("is not a size, expected bytes or a number such as '64m' or '1g'")
    digits = value.lower().rstrip("b")
    unit = digits[-1] if digits[-1] in _UNITS else ""
    return int(digits.removesuffix(unit)) * _UNITS[unit]


def _variable(value: str) -> str:
    check_env(value)
    return value


def _octal(value: str) -> str:
    if not re.fullmatch(syntax.OCTAL, syntax.parse_mode(value)):
        raise Malformed("is symbolic, expected octal text such as '0700'")
    return value


_NAMED = text(_name, expected="a name", pattern=syntax.NAME)
_WHERE = Kind(text(_target, expected="a path in the image").read, text().schema)
_TARGET = Field(_WHERE, "Where it is seen; relative: below the working directory.")
_OCTAL = Kind(text(_octal, expected="octal text such as '0700'", numbers=False).read, MODE.schema)
_SOURCES = "a path or a list of paths"

_TABLES: dict[str, Table] = {
    "bind": {
        "bind": Field(
            list_of(SOURCE, one=True, least=1, expected=_SOURCES),
            "Files, directories (their contents) or globs, read-only, as `copy` takes them.",
            required=True,
        ),
        "from": Field(ORIGIN, "The image that they are in, else the context."),
        "target": _TARGET._replace(required=True),
    },
    "cache": {
        "cache": Field(_NAMED, "A folder that outlives the step, by this name.", required=True),
        "target": _TARGET._replace(required=True),
        "sharing": Field(
            choice("shared", "locked", "private"),
            "While another step has it: shared (default), locked (wait) or private (another one).",
        ),
        "mode": Field(_OCTAL, "The folder's mode, 0755 by default."),
        "owner": Field(OWNER, "The folder's owner, else the step's user."),
        "seed": Field(ORIGIN, "The image whose files a new one holds; else it is empty."),
    },
    "secret": {
        "secret": Field(_NAMED, "A value by the name it is given under.", required=True),
        "target": Field(_WHERE, "The file that holds it, /run/secrets/NAME by default."),
        "env": Field(text(_variable), "The variable that holds it, in place of a file."),
        "mode": Field(_OCTAL, "The file's mode, 0400 by default."),
        "owner": Field(OWNER, "The file's owner, else root."),
        "required": Field(boolean(), "false: the step runs without it where it is not given."),
        "rotate": Field(boolean(), "true: another value runs the step again."),
    },
    "ssh": {
        "ssh": Field(_NAMED, "An agent by the name it is given under.", required=True),
        "required": Field(boolean(), "false: the step runs without it where there is none."),
    },
    "tmpfs": {
        "tmpfs": Field(_WHERE, "Where an empty folder in memory is seen.", required=True),
        "size": Field(
            text(_size, expected="a size such as '64m'"), "How much it holds at most, as 64m."
        ),
    },
}


def _read(reader: Reader, node: Node) -> Any:
    if node.kind == TEXT and node.text == "ssh":
        return Ssh(place(reader, node))
    if node.kind != MAPPING:
        raise node.fault(f"found {node.show()}, expected a mount", _written(node.text))
    kind = next((key.text for key, _ in node.pairs if key.text in _TABLES), None)
    if kind is None:
        raise _no_mount(node)
    table = _TABLES[kind]
    if kind == "bind" and node.get("from") is not None:
        source = text(syntax.parse_image_source, expected="a path in the image")
        kinds = list_of(source, one=True, least=1, expected=_SOURCES)
        table = {**table, "bind": table["bind"]._replace(kind=kinds)}
    given = read_table(reader, node, table, f"a {kind!r} mount")
    return BAD if given is None else _made(reader, node, kind, given)


def _made(reader: Reader, node: Node, kind: str, given: Mapping[str, Any]) -> Mount:
    at = place(reader, node.get(kind) or node)
    if kind == "bind":
        target, sources = given["target"], given["bind"]
        several = len(sources) > 1 or any(map(syntax.is_glob, sources))
        folder = target + "/" if several and not target.endswith("/") else target
        return Bind(at, folder, sources, given.get("from"))
    if kind == "tmpfs":
        return Tmpfs(at, given["tmpfs"], given.get("size"))
    if kind == "ssh":
        return Ssh(at, given["ssh"], given.get("required", True))
    rest = {name: value for name, value in given.items() if name not in (kind, "target")}
    if kind == "cache":
        return Cache(at, given["target"], given["cache"], **rest)
    target = given.get("target")
    if target and target.endswith("/"):
        raise (node.get("target") or node).fault("the target of a secret is a file")
    return Secret(at, given["secret"], target, **rest)


def _no_mount(node: Node) -> Any:
    one_of = f"expected one of {', '.join(_TABLES)}"
    options = {key.text: value.text for key, value in node.pairs}
    if meant := _of_options(options):
        return node.fault(f"a mount without its kind, {one_of}", f"write {meant}")
    names = [key.text for key, _ in node.pairs]
    near = next(filter(None, (did_you_mean(name, list(_TABLES)) for name in names)), "")
    return node.fault(f"a mount without its kind, {one_of}{near}")


def _written(text: str) -> str:
    """The hint for a text in the place of a mount."""
    if meant := of_docker(text):
        return f"write {meant}"
    return (
        "a mount is ssh or {secret: NAME}, {cache: NAME, target: DIR}, {bind: SOURCE, target: PATH}"
        " or {tmpfs: DIR}"
    )


def of_docker(value: str) -> str | None:
    """The mount that a Dockerfile's `--mount=` means, as YAML."""
    pairs = (each.partition("=") for each in value.removeprefix("--mount=").split(","))
    return _of_options({name.strip(): text for name, _, text in pairs})


def _of_options(options: Mapping[str, str]) -> str | None:
    kind = options.get("type")
    target = options.get("target") or options.get("dst") or options.get("destination") or ""
    name = options.get("id") or target
    if kind == "ssh":
        return "ssh" if name in ("", "default") else f"{{ssh: {name}}}"
    made: dict[str, str] = {}
    if kind == "tmpfs":
        made = {"tmpfs": target, "size": options.get("size", "")}
    elif kind == "secret":
        made = {"secret": name.rpartition("/")[2], "target": target, "env": options.get("env", "")}
    elif kind == "cache":
        made = {"cache": re.sub("[^A-Za-z0-9._-]+", "-", name).strip("-._"), "target": target}
        made["sharing"] = options.get("sharing", "")
    elif kind == "bind":
        source = options.get("source") or options.get("src") or "."
        origin = options.get("from", "")
        made = {"bind": source, "from": f"stage:{origin}" if origin else "", "target": target}
    if not made or not next(iter(made.values())):
        return None
    return f"{{{', '.join(f'{key}: {written(value)}' for key, value in made.items() if value)}}}"


def _read_all(reader: Reader, node: Node) -> Any:
    mounts = _LIST.read(reader, node)
    if mounts is BAD:
        return BAD
    seen: dict[str, Node] = {}
    items = [each for each in node.items if not reader.gives_nothing(each)]
    for mount, item in zip(mounts, items, strict=False):
        for said in _taken(mount):
            if said in seen:
                first = seen[said]
                raise item.fault(f"{said} is that of line {first.line}, too, expected one mount")
            seen[said] = item
    return mounts


def _taken(mount: Mount) -> list[str]:
    """What no two mounts of a step may have, in words."""
    found = []
    target = getattr(mount, "target", None)
    if target is not None:
        found.append(f"the target {quote(target.rstrip('/'))}")
    match mount:
        case Cache():
            found.append(f"the cache {quote(mount.name)}")
        case Secret() if mount.env is not None:
            found.append(f"the variable {quote(mount.env)}")
        case Ssh():
            found.append("SSH_AUTH_SOCK")
    return found


_ONE = Kind(_read, {"anyOf": [{"const": "ssh"}, *map(table_schema, _TABLES.values())]})
_LIST = list_of(_ONE, expected="a list of mounts such as [{cache: go, target: /go}]")
MOUNTS = Kind(_read_all, _LIST.schema)
