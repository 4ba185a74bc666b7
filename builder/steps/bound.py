"""Binds of a command step: each is a hidden, read-only `copy`."""

from __future__ import annotations

from collections.abc import Iterable

from builder.plan.mounts import NAME
from builder.spec.model import Place
from builder.spec.mounts import Bind, Cache, Mount
from builder.steps.copy import Copy

_NOWHERE = Place("", 0, 0)


def copies(mounts: Iterable[Mount]) -> tuple[Copy, ...]:
    """One of each bind. What is in an image is seen with the times that it has there."""
    return tuple(
        Copy(
            each.place,
            None,
            each.sources,
            f"/{NAME}/" if each.target.endswith("/") else f"/{NAME}",
            preserve=("mtime",) if each.origin else (),
            origin=each.origin,
        )
        for each in mounts
        if isinstance(each, Bind)
    )


def without_sources(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    """Without what decides no key beside what was scanned of the sources: places, names of files of
    the context, and all of caches but where they are."""
    found: list[Mount] = []
    for each in mounts:
        if isinstance(each, Bind):
            sources = each.sources if each.origin else ("",) * len(each.sources)
            each = each._replace(sources=sources, origin=None)
        elif isinstance(each, Cache):
            each = Cache(_NOWHERE, each.target, "")
        found.append(each._replace(place=_NOWHERE))
    return tuple(found)
