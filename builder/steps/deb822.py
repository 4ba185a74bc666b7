"""Repositories that an `apt` step adds, as apt's own stanzas.

Source: sources.list(5), DEB822-STYLE FORMAT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from builder.steps.packages import repository_name

if TYPE_CHECKING:
    from builder.spec.fields import Kind, Reader
    from builder.spec.node import Node

_LARGEST_KEY = 100_000  # characters: the kernel takes arguments of 128 KiB


def repositories() -> Kind:
    """Names to repositories, each to its deb822 stanza and its key (armored; "": it has none)."""
    from builder.spec.fields import (
        BAD,
        Field,
        Kind,
        boolean,
        list_of,
        mapping_of,
        read_table,
        table_schema,
        text,
    )
    from builder.spec.kinds import matching
    from builder.spec.source import quote

    word = "[A-Za-z0-9][A-Za-z0-9+~._-]*"
    suite = text(matching(rf"(?!.*\.\.)({word}|\.)(/{word})*/?", "a suite such as bookworm"))
    component = text(matching(rf"{word}(/{word})*", "a component such as main"))
    table = {
        "uri": Field(text(_uri, expected="an address"), "Its address.", required=True),
        "suites": Field(
            list_of(suite, one=True, least=1, expected="a list of suites such as [bookworm]"),
            "Its suites; one with a slash at its end is a folder of packages.",
            required=True,
        ),
        "components": Field(
            list_of(component, one=True, expected="a list of components such as [main]"),
            "Their components, [main] by default.",
        ),
        "key": Field(text(_key, expected="an OpenPGP key"), "The key that signs it, armored text."),
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
                "of Debian's own: signed_by: /usr/share/keyrings/debian-archive-keyring.gpg",
            )
        flat = [each for each in given["suites"] if each.endswith("/")]
        if flat and ("components" in given or len(flat) < len(given["suites"])):
            raise node.fault(f"{quote(flat[0])} is a folder of packages: it has no components")
        return given

    def named(reader: Reader, node: Node) -> Any:
        found = each.read(reader, node)
        if found is BAD:
            return BAD
        return {name: (_stanza(name, given), given.get("key", "")) for name, given in found.items()}

    each = mapping_of(
        Kind(read, table_schema(table)), repository_name, "repositories by name: {NAME: {uri: ...}}"
    )
    return Kind(named, each.schema)


def _stanza(name: str, given: Mapping[str, Any]) -> str:
    key = f"/etc/apt/keyrings/{name}.asc" if given.get("key") else given.get("signed_by")
    flat = given["suites"][0].endswith("/")
    lines = {
        "Types": "deb",
        "URIs": given["uri"],
        "Suites": " ".join(given["suites"]),
        "Components": "" if flat else " ".join(given.get("components", ("main",))),
        "Signed-By": key,
        "Trusted": "yes" if given.get("trusted") else None,
    }
    return "".join(f"{field}: {value}\n" for field, value in lines.items() if value)


def _uri(value: str) -> str:
    from builder.spec.fetching import web_address

    if re.fullmatch("(file|copy):/[!-~]+", value):
        return value
    return web_address(value)


def _key(value: str) -> str:
    from builder.spec.syntax import Malformed

    begin, end = (f"-----{word} PGP PUBLIC KEY BLOCK-----" for word in ("BEGIN", "END"))
    if not value.strip().startswith(begin) or not value.strip().endswith(end):
        raise Malformed(
            f"is not an OpenPGP key, expected text that begins with {begin}",
            "of a file: `copy` or `download` it to /etc/apt/keyrings/ before, and write signed_by",
        )
    if len(value) > _LARGEST_KEY:
        raise Malformed(f"is too long for a key, expected at most {_LARGEST_KEY} characters")
    return value.strip() + "\n"
