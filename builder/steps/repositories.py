"""Repositories that a package step adds: what all kinds of them say, and who signs them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from builder.steps.packages import repository_name

if TYPE_CHECKING:
    from builder.spec.fields import Kind, Reader, Table
    from builder.spec.node import Node

_LARGEST_KEY = 100_000  # characters: the kernel takes arguments of 128 KiB


def repositories(
    own: Table,
    stanza: Callable[[str, Mapping[str, Any]], str],
    check: Callable[[Node, Mapping[str, Any]], None],
    *,
    keys: str,
    its: str,
) -> Kind:
    """Names to repositories, each to its stanza and its key (armored; "": it has none). `own` are
    the fields of this kind; `keys` is the folder in the image for keys, `its` the file with the
    distribution's own."""
    from builder.spec.fields import (
        BAD,
        Field,
        Kind,
        boolean,
        mapping_of,
        read_table,
        table_schema,
        text,
    )
    from builder.spec.kinds import matching

    def key(value: str) -> str:
        return _key(value, keys)

    table = {
        "uri": Field(text(_uri, expected="an address"), "Its address.", required=True),
        **own,
        "key": Field(text(key, expected="an OpenPGP key"), "The key that signs it, armored text."),
        "signed_by": Field(
            text(matching("/[!-~]+", "an absolute path")), "The file in the image with its key."
        ),
        "trusted": Field(boolean(), "true: it is not signed, or by whom does not matter."),
    }

    def read(reader: Reader, node: Node) -> Any:
        given = read_table(reader, node, table, "a repository")
        if given is None:
            return BAD
        signed = [name for name in ("key", "signed_by", "trusted") if given.get(name)]
        if len(signed) > 1:
            at = node.get(signed[1]) or node
            raise at.fault(f"{signed[0]!r} and {signed[1]!r} of one repository, expected one")
        if not signed:
            raise node.fault(
                "nothing says who signs the repository: 'key', 'signed_by' or trusted: true",
                f"of the distribution's own: signed_by: {its}",
            )
        check(node, given)
        return given

    def named(reader: Reader, node: Node) -> Any:
        found = each.read(reader, node)
        if found is BAD:
            return BAD
        return {name: (stanza(name, given), given.get("key", "")) for name, given in found.items()}

    each = mapping_of(
        Kind(read, table_schema(table)), repository_name, "repositories by name: {NAME: {uri: ...}}"
    )
    return Kind(named, each.schema)


def _uri(value: str) -> str:
    from builder.spec.fetching import web_address

    if re.fullmatch("(file|copy):/[!-~]+", value):
        return value
    return web_address(value)


def _key(value: str, folder: str) -> str:
    from builder.spec.syntax import Malformed

    begin, end = (f"-----{word} PGP PUBLIC KEY BLOCK-----" for word in ("BEGIN", "END"))
    if not value.strip().startswith(begin) or not value.strip().endswith(end):
        raise Malformed(
            f"is not an OpenPGP key, expected text that begins with {begin}",
            f"of a file: `copy` or `download` it to {folder}/ before, and write signed_by",
        )
    if len(value) > _LARGEST_KEY:
        raise Malformed(f"is too long for a key, expected at most {_LARGEST_KEY} characters")
    return value.strip() + "\n"
