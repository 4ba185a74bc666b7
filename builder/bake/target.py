"""Targets: what one image is built from, and how several descriptions of it become one.

Values are as `values.py` has them, so that what depends on a variable can go on depending on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from builder.bake.values import Val, plain
from builder.spec.source import Source

Place = tuple[Source, int, int]

# how a later description of a target counts: instead of the earlier, key by key, or after it
_INSTEAD = (
    *("context", "dockerfile", "dockerfile-inline", "tags", "target", "call", "platforms"),
    *("cache-to", "output", "pull", "no-cache", "network", "shm-size", "description"),
)
_BY_KEY = ("args", "contexts", "labels", "extra-hosts")
_AFTER = (
    *("annotations", "attest", "secret", "ssh", "cache-from", "no-cache-filter", "ulimits"),
    *("entitlements", "policy"),
)
TEXTS = (
    *("context", "dockerfile", "dockerfile-inline", "target", "call", "network", "shm-size"),
    "description",
)
TRUTHS = ("pull", "no-cache")
LISTS = ("tags", "platforms", "output", "cache-to", *_AFTER)
MAPS = _BY_KEY
KNOWN = (*_INSTEAD, *_BY_KEY, *_AFTER)


class Said(NamedTuple):
    """An attribute of a target and where it stands."""

    value: Val
    place: Place


class Target(NamedTuple):
    """`said` by attribute, in bake's words; `inherits` are names of others, nearest last."""

    name: str
    place: Place
    said: Mapping[str, Said]
    inherits: tuple[str, ...] = ()

    def text(self, name: str) -> str | None:
        found = self.said.get(name)
        return None if found is None or found.value.data is None else str(found.value.data)

    def pairs(self, name: str) -> dict[str, Val]:
        found = self.said.get(name)
        return {} if found is None else dict(found.value.data)

    def items(self, name: str) -> list[Val]:
        found = self.said.get(name)
        return [] if found is None or found.value.data is None else found.value.data


def merged(first: Mapping[str, Said], second: Mapping[str, Said]) -> dict[str, Said]:
    """What two descriptions of a target say together, where the second one counts."""
    made = dict(first)
    for name, said in second.items():
        if said.value.data is None:
            continue
        before = made.get(name)
        if before is None or name in _INSTEAD:
            made[name] = said
            continue
        names = before.value.names | said.value.names
        data: Any
        if name in _BY_KEY:
            given = {key: each for key, each in said.value.data.items() if each.data is not None}
            data = {**before.value.data, **given}
        else:
            data = _once([*before.value.data, *said.value.data])
        made[name] = Said(Val(data, names), said.place)
    return made


def _once(values: list[Val]) -> list[Val]:
    """Without those that stand before already."""
    return list({repr(plain(each)): each for each in reversed(values)}.values())[::-1]
