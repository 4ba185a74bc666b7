"""Search: an engine's search of the hub, and a registry's own catalogue with its tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from builder.errors import TransportError
from builder.oci.reference import Reference, parse_reference

if TYPE_CHECKING:
    from builder.transport.engine import Engine
    from builder.transport.registry.session import Registry


class Hit(NamedTuple):
    """One image that the hub found."""

    name: str
    description: str
    stars: int
    official: bool


class Repository(NamedTuple):
    """One repository of a registry. `name` is with the registry."""

    name: str
    tags: tuple[str, ...]


def search_engine(engine: Engine, term: str) -> list[Hit]:
    """What the engine's own search finds at Docker Hub, in its order. Raises TransportError."""
    try:
        with engine.asking():
            found = engine.api.search(term)
    except TransportError as error:
        raise TransportError(
            f"{error.message} (searching for {term!r})",
            error.hint or "the engine searches Docker Hub; `--registry HOST` searches a registry",
        ) from error
    return [
        Hit(
            str(each.get("name", "")),
            " ".join(str(each.get("description") or "").split()),
            int(each.get("star_count") or 0),
            bool(each.get("is_official")),
        )
        for each in found or ()
    ]


def search_registry(registry: Registry, host: str, term: str) -> list[Repository]:
    """Repositories with `term` in their name, with their tags; `name:tag` narrows the tags too.

    Where a registry has no catalogue, `term` itself is tried as a repository.
    """
    name, _, tag = term.lower().partition(":")
    try:
        names = sorted(each for each in registry.catalog(host) if name in each.lower())
    except TransportError:
        reference = parse_reference(f"{host}/{name}")
        try:
            return _with_tags(registry, [reference], tag)
        except TransportError:
            pass
        raise
    return _with_tags(registry, [Reference(host, each, None) for each in names], tag)


def _with_tags(registry: Registry, names: list[Reference], tag: str) -> list[Repository]:
    found = []
    for each in names:
        tags = tuple(sorted(text for text in registry.tags(each) if tag in text.lower()))
        if tags or not tag:
            found.append(Repository(f"{each.registry}/{each.repository}", tags))
    return found
