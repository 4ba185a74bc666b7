"""The base: `from:` as text, or as a mapping for debootstrap."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from builder.errors import masked, without_passwords
from builder.spec import syntax
from builder.spec.fields import (
    BAD,
    Field,
    Kind,
    Reader,
    Table,
    choice,
    list_of,
    read_table,
    table_schema,
    text,
)
from builder.spec.files import is_dockerfile
from builder.spec.kinds import (
    matching,
    place,
    reference,
)
from builder.spec.model import (
    BaseRef,
    Place,
)
from builder.spec.node import MAPPING, Node
from builder.spec.source import quote, written
from builder.spec.syntax import Malformed

AUTH_CONF = "write user and password into /etc/apt/auth.conf: they are used and not kept"
KINDS = (
    *("image", "stage", "dockerfile"),
    *("oci", "docker-archive", "rootfs", "debootstrap", "docker-daemon"),
)


def _mirror(value: str) -> str:
    if without_passwords(value) != value:
        raise Malformed("holds a user, which the image would keep", AUTH_CONF)
    return matching(syntax.MIRROR, "a mirror, expected a URL or a 'deb ...' line")(value)


_DEBOOTSTRAP: Table = {
    "debootstrap": Field(
        text(matching(syntax.SUITE, "a suite, expected a name such as 'bookworm'")),
        "The suite, such as bookworm.",
        required=True,
    ),
    "variant": Field(choice(*syntax.VARIANTS), "mmdebstrap's variant, minbase by default."),
    "include": Field(
        list_of(text(matching(syntax.PACKAGE, "a package name")), one=True),
        "Packages to install as well.",
    ),
    "mirror": Field(
        text(_mirror),
        "Where packages come from, else the system's apt sources.",
    ),
}


def _read_base(reader: Reader, node: Node) -> Any:
    at = place(reader, node)
    if node.kind == MAPPING:
        if node.get("debootstrap") is None:
            kind = next((key.text for key, _ in node.pairs if key.text in KINDS), None)
            hint = "as a mapping only debootstrap is known"
            meant = f"{kind}:{scalar.text}" if kind and (scalar := node.get(kind)) else ""
            if meant and _fits(meant, at):
                hint = f"write {written(meant)}"
            raise node.fault("a base without 'debootstrap', expected text", hint)
        given = read_table(reader, node, _DEBOOTSTRAP, "a debootstrap base")
        if given is None:
            return BAD
        suite = given.pop("debootstrap")
        return BaseRef("debootstrap", suite, at, given)
    value = reader.text(node, "a base", lambda value: _parse_base(value, at))
    try:
        return _parse_base(value, at)
    except Malformed as error:
        raise node.fault(f"{quote(masked(value))} {error.what}", error.hint) from None


def _fits(value: str, at: Place) -> bool:
    try:
        _parse_base(value, at)
    except Malformed:
        return False
    return True


def _parse_base(value: str, at: Place) -> BaseRef:
    if value == "scratch":
        return BaseRef("scratch", "", at)
    kind, colon, rest = value.partition(":")
    if not colon or kind not in KINDS:
        return BaseRef("registry", reference(value), at)
    if not rest.strip() or any(ord(char) < 32 for char in rest):
        raise Malformed(f"names no base, expected {kind}:{_EXAMPLES[kind]}")
    if kind == "stage":
        try:
            syntax.parse_name(rest)
        except Malformed:
            raise Malformed("names no stage, expected a name of 'stages'") from None
    elif kind == "image":
        try:
            syntax.parse_name(rest)
        except Malformed:
            name = rest.strip().rpartition("/")[2].lower()
            name = name.removesuffix(".yaml").removesuffix(".yml")
            hint = "a spec goes by its file name without .yaml"
            if re.fullmatch(syntax.IMAGE_NAME, name):
                hint += f": write image:{name}"
            raise Malformed("does not name a spec of this project", hint) from None
    elif kind == "dockerfile":
        path = posixpath.normpath(rest)
        if not is_dockerfile(path) or path.startswith(("/", "../")) or ":" in path:
            raise Malformed(
                "names no Dockerfile below the context",
                "it is called Dockerfile, Dockerfile.NAME or NAME.Dockerfile",
            )
        return BaseRef(kind, path, at)
    elif kind == "docker-daemon":
        reference(rest)
    elif kind == "debootstrap":
        matching(syntax.SUITE, "a suite, expected one such as 'debootstrap:bookworm'")(rest)
    return BaseRef(kind, rest, at)


def _read_origin(reader: Reader, node: Node) -> Any:
    """An image that files are copied from."""
    if node.kind == MAPPING:
        raise node.fault("found a mapping, expected an image such as 'stage:build'")
    ref = _read_base(reader, node)
    if ref is not BAD and ref.kind == "scratch":
        raise node.fault("'scratch' holds no files, expected an image such as 'stage:build'")
    return ref


_EXAMPLES = {
    "image": "NAME",
    "dockerfile": "PATH",
    "stage": "NAME",
    "oci": "DIR[:TAG]",
    "docker-archive": "FILE",
    "rootfs": "FILE.tar[.gz|.xz|.zst]",
    "debootstrap": "SUITE",
    "docker-daemon": "REFERENCE",
}
BASE = Kind(_read_base, {"anyOf": [{"type": "string", "minLength": 1}, table_schema(_DEBOOTSTRAP)]})
ORIGIN = Kind(_read_origin, {"type": "string", "minLength": 1})
