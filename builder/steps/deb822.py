"""Repositories that an `apt` step adds, as apt's own stanzas.

Source: sources.list(5), DEB822-STYLE FORMAT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.spec.fields import Kind
    from builder.spec.node import Node


def repositories() -> Kind:
    """Names to repositories, each to its deb822 stanza and its key."""
    from builder.spec.fields import Field, list_of, text
    from builder.spec.kinds import matching
    from builder.steps import repositories

    word = "[A-Za-z0-9][A-Za-z0-9+~._-]*"
    suite = text(matching(rf"(?!.*\.\.)({word}|\.)(/{word})*/?", "a suite such as bookworm"))
    component = text(matching(rf"{word}(/{word})*", "a component such as main"))
    own = {
        "suites": Field(
            list_of(suite, one=True, least=1, expected="a list of suites such as [bookworm]"),
            "Its suites; one with a slash at its end is a folder of packages.",
            required=True,
        ),
        "components": Field(
            list_of(component, one=True, expected="a list of components such as [main]"),
            "Their components, [main] by default.",
        ),
    }
    its = "/usr/share/keyrings/debian-archive-keyring.gpg"
    return repositories.repositories(own, _stanza, _check, keys="/etc/apt/keyrings", its=its)


def _check(node: Node, given: Mapping[str, Any]) -> None:
    from builder.spec.source import quote

    flat = [each for each in given["suites"] if each.endswith("/")]
    if flat and ("components" in given or len(flat) < len(given["suites"])):
        raise node.fault(f"{quote(flat[0])} is a folder of packages: it has no components")


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
