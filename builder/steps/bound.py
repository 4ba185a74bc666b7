"""Binds of a command step: each is a hidden, read-only `copy`."""

from __future__ import annotations

from collections.abc import Iterable

from builder.plan.mounts import NAME
from builder.spec.model import Place
from builder.spec.mounts import Bind, Cache, Mount
from builder.steps.copy import Copy

_NOWHERE = Place("", 0, 0)


def copies(mounts: Iterable[Mount]) -> tuple[Copy, ...]:
    """One of each bind, and of each cache that has a seed. What is in an image is seen with the
    times that it has there."""
    found, times = [], ("mtime",)
    for each in mounts:
        if isinstance(each, Bind):
            dest, kept = f"/{NAME}", times if each.origin else ()
            dest += "/" if each.target.endswith("/") else ""
            found.append(
                Copy(each.place, None, each.sources, dest, preserve=kept, origin=each.origin)
            )
        elif isinstance(each, Cache) and each.seed:
            seed = each.seed
            found.append(Copy(each.place, None, ("/",), f"/{NAME}", preserve=times, origin=seed))
    return tuple(found)


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
