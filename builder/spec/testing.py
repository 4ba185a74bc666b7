"""`tests:` of an image or a stage: a list whose items say their kind with their first word."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from builder.spec import syntax
from builder.spec.conditions import WHEN_FIELD, read_when
from builder.spec.expand import blind
from builder.spec.fields import (
    BAD,
    Field,
    Kind,
    Reader,
    Table,
    boolean,
    choice,
    list_of,
    number,
    read_table,
    table_schema,
    text,
)
from builder.spec.kinds import (
    ARGV,
    DURATION,
    ENV,
    OWNER,
    SCRIPT,
    absolute,
    filled,
    one_line,
    place,
)
from builder.spec.node import MAPPING, Node
from builder.spec.source import did_you_mean, quote, written
from builder.spec.syntax import Malformed
from builder.spec.tests import (
    DirectoryTest,
    Expected,
    FileTest,
    Http,
    PackageTest,
    PortTest,
    RunTest,
    Test,
)

MANAGERS = ("dpkg", "apk", "rpm", "pip", "npm")
_TITLE = 60  # characters of a name that a test has of itself


def _octal(value: str) -> str:
    if not re.fullmatch(syntax.OCTAL, syntax.parse_mode(value)):
        raise Malformed("is symbolic, expected octal text such as '0644'")
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(filled(value))
    except (re.error, RecursionError, OverflowError) as error:
        raise Malformed(f"is no regular expression: {error}") from None
    return value


def _sha256(value: str) -> str:
    digits = value.removeprefix("sha256:").lower()
    if not re.fullmatch("[0-9a-f]{64}", digits):
        raise Malformed("is no SHA-256, expected 64 hex digits")
    return digits


def _package(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9@][A-Za-z0-9@/._+-]{0,199}", value):
        hint = "'version' is the word for it" if "=" in value else None
        raise Malformed("is no name of a package", hint)
    return value


def _port(value: str) -> tuple[int, str]:
    first, last, protocol = syntax.parse_ports(value)
    if first != last:
        raise Malformed("is a range, expected one port", "make a test of each")
    if protocol == "sctp":
        raise Malformed("is for sctp, expected tcp or udp")
    return first, protocol


def _url_path(value: str) -> str:
    if not re.fullmatch("/[!-~]*", value):
        hint = f"write /{value}" if re.fullmatch("[!-~]+", value) and "://" not in value else None
        raise Malformed("is no path of a URL, expected one such as /health", hint)
    return value


def _zone(value: str) -> str:
    syntax.parse_target(value)
    return value


_TEXTS = list_of(text(filled, expected="text"), one=True)
EXPECTED: Table = {
    "contains": Field(_TEXTS, "Text that is in it, or a list of them."),
    "lacks": Field(_TEXTS, "Text that is not in it, or a list of them."),
    "matches": Field(
        list_of(text(_pattern, expected="a regular expression"), one=True),
        "A regular expression that is found in it; ^ and $ are those of a line.",
    ),
    "equals": Field(text(), "All of it, but for one newline at its end."),
}


def _expected(reader: Reader, node: Node) -> Any:
    if node.kind != MAPPING:
        hint = f"write {{contains: {written(node.text)}}}" if node.text and not node.items else None
        text = f"found {node.show()}, expected a mapping with {', '.join(EXPECTED)}"
        raise node.fault(text, None if reader.trying else hint)
    given = read_table(reader, node, EXPECTED, "an expected text")
    return BAD if given is None else Expected(**given)


_TEXT = Kind(_expected, table_schema(EXPECTED))


def _command(reader: Reader, node: Node) -> Any:
    """Text for the shell, or an argv."""
    return ARGV.read(reader, node) if reader.is_list(node) else SCRIPT.read(reader, node)


_STATUS = number(0, 255)
_PATH = text(absolute, expected="an absolute path in the image", pattern="^/")
_MODE = text(_octal, expected="octal text such as '0644'", pattern=syntax.OCTAL, numbers=False)
_COMMON: Table = {
    "name": Field(text(one_line), "What it is called where it is told."),
    "when": WHEN_FIELD,
}
_ABOUT: Table = {
    "exists": Field(boolean(), "false: nothing is there."),
    "mode": Field(_MODE, "Its permissions, as octal text such as '0644'."),
    "owner": Field(OWNER, "user[:group], by number or by a name of the image's passwd."),
}
RUN: Table = {
    "run": Field(
        Kind(_command, {"anyOf": [SCRIPT.schema, ARGV.schema]}),
        "Text for the shell, or a list as argv; the image's entrypoint is not used.",
        required=True,
    ),
    **_COMMON,
    "entrypoint": Field(boolean(), "true: the list holds arguments of the image's entrypoint."),
    "status": Field(_STATUS, "The status that it ends with; default: 0."),
    "stdout": Field(_TEXT, "What it writes there."),
    "stderr": Field(_TEXT, "What it writes there."),
    "user": Field(OWNER, "Who runs it; else the image's user."),
    "env": Field(ENV, "Environment, over the image's."),
    "working_dir": Field(text(_zone), "Where it runs; else the image's."),
    "network": Field(choice("none", "private", "host"), "none by default; else as of a step."),
    "timeout": Field(DURATION, "How long it may take; default: 60s."),
    "stdin": Field(text(), "What it reads there; nothing by default."),
}
FILE: Table = {
    "file": Field(_PATH, "A file of the image; symlinks are followed.", required=True),
    **_COMMON,
    **_ABOUT,
    "sha256": Field(text(_sha256, expected="64 hex digits"), "The SHA-256 of its content."),
    "link": Field(text(filled), "It is a symlink, and this is what it says."),
    **EXPECTED,
}
DIRECTORY: Table = {
    "directory": Field(_PATH, "A folder of the image; symlinks are followed.", required=True),
    **_COMMON,
    **_ABOUT,
}
PACKAGE: Table = {
    "package": Field(
        text(_package, expected="a name"), "A package, as its manager calls it.", required=True
    ),
    **_COMMON,
    "version": Field(text(filled), "Its version, or a glob such as 1.2.*"),
    "installed": Field(boolean(), "false: it is not installed."),
    "manager": Field(choice(*MANAGERS), "Whose package it is; default: any of them."),
}
HTTP: Table = {
    "path": Field(text(_url_path), "What is asked for; default: /"),
    "status": Field(number(100, 599), "The status of the answer; default: 200."),
    **EXPECTED,
}


def _http(reader: Reader, node: Node) -> Any:
    given = read_table(reader, node, HTTP, "'http'")
    if given is None:
        return BAD
    return Http(given.get("path", "/"), given.get("status", 200), _body(given))


def _body(given: Mapping[str, Any]) -> Expected:
    return Expected(**{name: given[name] for name in EXPECTED if name in given})


PORT: Table = {
    "port": Field(
        text(_port, expected="a port such as 8080/tcp", pattern=syntax.PORT),
        "A port that the image's own command listens at.",
        required=True,
    ),
    **_COMMON,
    "within": Field(DURATION, "How long it may take to listen, and to answer; default: 10s."),
    "env": Field(ENV, "Environment, over the image's."),
    "http": Field(Kind(_http, table_schema(HTTP)), "What the port answers to a GET."),
}

TABLES: Mapping[str, Table] = {
    "run": RUN,
    "file": FILE,
    "directory": DIRECTORY,
    "package": PACKAGE,
    "port": PORT,
}
_ONLY = f"a test needs one of: {', '.join(TABLES)}"


def _read(reader: Reader, node: Node) -> Any:
    """A test; None for one that `when` leaves out."""
    given = [key for key, _ in node.pairs if key.text in TABLES]
    if not given:
        raise _no_test(node)
    if len(given) > 1:
        both = " and ".join(repr(key.text) for key in given)
        raise given[1].fault(f"{both} in one test, expected one of them", "make two tests of it")
    kind = given[0].text
    what, table = f"a {kind!r} test", TABLES[kind]
    foreign = {
        name: f"a {other!r} test"
        for other, table in TABLES.items()
        for name in table
        if name not in TABLES[kind]
    }
    when = node.get("when")
    if when is not None and reader.take(Kind(read_when, {}), when) is False:
        with blind(reader):
            read_table(reader, node, table, what, foreign)
        return None
    found = read_table(reader, node, table, what, foreign)
    if found is None:
        return BAD
    found.pop("when", None)
    return _MAKERS[kind](reader, node, found)


def _no_test(node: Node) -> Any:
    if node.kind != MAPPING:
        return node.fault(f"found {node.show()}, expected a test", _ONLY)
    words = _table(
        "command cmd exec script sh bash > run\npath > file\ndir folder > directory\n"
        "pkg apt apk dpkg rpm pip npm > package\nlisten addr http > port"
    )
    for key, _ in node.pairs:
        meant = words.get(key.text.lower().replace("_", ""))
        near = f", did you mean {meant!r}?" if meant else did_you_mean(key.text, list(TABLES))
        if near:
            return key.fault(f"unknown test {quote(key.text)}{near}", _ONLY)
    return node.fault("a test that says nothing to look at", _ONLY)


def _table(lines: str) -> dict[str, str]:
    pairs = (line.split(" > ") for line in lines.splitlines())
    return {word: ours for words, ours in pairs for word in words.split()}


def _title(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= _TITLE else line[: _TITLE - 1] + "…"


def _run(reader: Reader, node: Node, given: dict[str, Any]) -> Test:
    command = given.pop("run")
    if given.get("entrypoint") and isinstance(command, str):
        at = node.get("run") or node
        raise at.fault(
            "text is for the shell, expected the entrypoint's arguments as a list",
            f"write run: [{written(command)}]" if " " not in command else None,
        )
    if given.get("timeout") == 0:
        raise (node.get("timeout") or node).fault("a test ends: expected some time, such as 60s")
    shown = command if isinstance(command, str) else " ".join(command)
    name = given.pop("name", None) or "run " + _title(shown)
    return RunTest(place(reader, node), name, command, **given)


def _file(reader: Reader, node: Node, given: dict[str, Any]) -> Test:
    path = given.pop("file")
    content = _body(given)
    kept = {name: value for name, value in given.items() if name not in EXPECTED}
    _not_there(node, given)
    if "link" in given and len(given.keys() & {"mode", "sha256", *EXPECTED}):
        at = node.get("link") or node
        text = "'link' is about the symlink itself, the others are about the file that it leads to"
        raise at.fault(text, "make two tests of it")
    name = kept.pop("name", None) or f"file {path}"
    return FileTest(place(reader, node), name, path, content=content, **kept)


def _directory(reader: Reader, node: Node, given: dict[str, Any]) -> Test:
    path = given.pop("directory")
    _not_there(node, given)
    name = given.pop("name", None) or f"directory {path}"
    return DirectoryTest(place(reader, node), name, path, **given)


def _not_there(node: Node, given: Mapping[str, Any]) -> None:
    """Nothing can be said of what is not there. Raises Fault."""
    others = [name for name in given if name not in ("name", "exists")]
    if given.get("exists") is False and others:
        at = node.get(others[0]) or node
        raise at.fault(f"{others[0]!r} is given, but exists: false says that nothing is there")


def _package_test(reader: Reader, node: Node, given: dict[str, Any]) -> Test:
    package = given.pop("package")
    if given.get("installed") is False and "version" in given:
        at = node.get("version") or node
        raise at.fault("'version' is given, but installed: false says that there is none")
    name = given.pop("name", None) or f"package {package}"
    return PackageTest(place(reader, node), name, package, **given)


def _port_test(reader: Reader, node: Node, given: dict[str, Any]) -> Test:
    port, protocol = given.pop("port")
    if "http" in given and protocol != "tcp":
        raise (node.get("http") or node).fault(f"'http' is given, but the port is for {protocol}")
    name = given.pop("name", None) or f"port {port}/{protocol}"
    return PortTest(place(reader, node), name, port, protocol, **given)


_MAKERS: Mapping[str, Callable[[Reader, Node, dict[str, Any]], Test]] = {
    "run": _run,
    "file": _file,
    "directory": _directory,
    "package": _package_test,
    "port": _port_test,
}


def _read_tests(reader: Reader, node: Node) -> Any:
    def read(reader: Reader, node: Node) -> Any:
        found = _LISTED.read(reader, node)
        return BAD if found is BAD else tuple(each for each in found if each is not None)

    return reader.waiting(Kind(read, {}), node, tuple)


_LISTED = list_of(Kind(_read, {}), expected="a list of tests")
TESTS_FIELD = Field(
    Kind(_read_tests, {"type": "array", "items": {"$ref": "#/$defs/test"}}),
    "What the image has to be, before it gets its name: each in a throw-away container.",
)


def test_schema() -> dict[str, Any]:
    """The schema of a test."""
    return {"oneOf": [table_schema(table) for table in TABLES.values()]}
