"""Kinds of what steps fetch: addresses, checksums, folders of a repository."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from builder.errors import BuilderError
from builder.spec import syntax
from builder.spec.address import LENGTHS, check_download, check_git, parse_checksum
from builder.spec.fields import BAD, Kind, Reader, mapping_of, text
from builder.spec.node import MAPPING, Node
from builder.spec.syntax import Malformed

_OTHERS = {
    "x86_64": "amd64", "x86-64": "amd64", "x64": "amd64", "aarch64": "arm64", "armhf": "arm",
    "armv7l": "arm/v7", "i386": "386", "i686": "386", "ppc64el": "ppc64le",
}  # fmt: skip
_ARCHITECTURE = re.compile(r"[a-z0-9]{2,12}(/v[0-9])?")


def checksum(algorithm: str) -> Kind:
    """Hex digits, or a mapping of architectures to those; to a dict, "" being all of them."""

    def parse(value: str) -> str:
        try:
            return parse_checksum(algorithm, value).digest
        except BuilderError as error:
            raise Malformed(_behind_value(error.what), error.hint) from None

    def check(name: str) -> None:
        if name in _OTHERS or not _ARCHITECTURE.fullmatch(name):
            other = _OTHERS.get(name)
            raise Malformed(
                "is not an architecture's name here, expected one such as amd64 or arm64",
                f"write {other}" if other else None,
            )

    digits = f"[0-9a-fA-F]{{{LENGTHS[algorithm]}}}"
    one = text(parse, expected=f"a {algorithm} in hex", pattern=digits)
    each = mapping_of(one, check, "checksums by architecture")

    def read(reader: Reader, node: Node) -> Any:
        if node.kind != MAPPING:
            value = reader.take(one, node)
            return BAD if value is BAD else {"": value}
        if not node.pairs:
            raise node.fault("no checksum is given, expected one by architecture")
        return each.read(reader, node)

    return Kind(read, {"anyOf": [one.schema, {**each.schema, "minProperties": 1}]})


def web_address(value: str) -> str:
    return _checked(check_download, value)


def git_address(value: str) -> str:
    return _checked(check_git, value)


def subfolder(value: str) -> str:
    """A folder of a repository, without slashes at its ends."""
    try:
        path = syntax.parse_source(value)
    except Malformed as error:
        raise Malformed(error.what.replace("the context", "the repository"), error.hint) from None
    return "" if path in (".", "./") else path.strip("/")


def file_name(url: str) -> str:
    """What the file of an address is called; "" where it names none."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    return "" if name in (".", "..") or "/" in name or not name.isprintable() else name


def shell_word(value: str) -> str:
    """One word of a command that a hint shows."""
    import shlex

    return shlex.quote(value)


def _checked(check: Any, value: str) -> str:
    try:
        check(value)
    except BuilderError as error:
        raise Malformed(_behind_value(error.what), error.hint) from None
    return value


def _behind_value(what: str) -> str:
    """A message that begins with the value, without it: who reads a field shows it."""
    return re.sub(r"^('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"):? ", "", what)
