"""All that bake and compose files say, before it becomes specs."""

from __future__ import annotations

from typing import NamedTuple

from builder.bake.target import Place, Said, Target, merged
from builder.bake.values import Val
from builder.spec.source import Fault, did_you_mean, quote

MAX_INHERITED = 40


class Group(NamedTuple):
    name: str
    targets: tuple[str, ...]
    place: Place


class Default(NamedTuple):
    """A variable of the file; `value` says it by those before it. The environment comes first;
    `filled`: not where it is empty."""

    name: str
    value: Val
    place: Place
    filled: bool = False


class Bake(NamedTuple):
    """All that the files say, evaluated without an environment. `variables` in the order that
    their defaults need; `targets` by name, before they inherit."""

    variables: tuple[Default, ...]
    groups: dict[str, Group]
    targets: dict[str, Target]
    remarks: tuple[tuple[Place, str], ...]


class Resolver:
    """Targets with all that they inherit; each is put together once."""

    def __init__(self, bake: Bake) -> None:
        self._bake = bake
        self._done: dict[str, Target] = {}

    def target(self, name: str) -> Target:
        """Raises Fault."""
        return self._resolved(name, None, ())

    def _resolved(self, name: str, place: Place | None, above: tuple[str, ...]) -> Target:
        if name in self._done:
            return self._done[name]
        targets = self._bake.targets
        target = targets.get(name)
        if target is None:
            source, line, column = place or next(iter(targets.values())).place
            near = did_you_mean(name, sorted(targets)[:1000])
            raise Fault(line, column, f"there is no target {quote(name)}{near}", None, source)
        if name in above or len(above) > MAX_INHERITED:
            source, line, column = targets[above[-1]].place
            way = " -> ".join((*above[-5:], name))
            why = "in a circle" if name in above else f"over more than {MAX_INHERITED} others"
            raise Fault(line, column, f"targets inherit {why}: {way}", None, source)
        said: dict[str, Said] = {}
        for each in target.inherits:
            said = merged(said, self._resolved(each, target.place, (*above, name)).said)
        found = target._replace(said=merged(said, target.said), inherits=())
        self._done[name] = found
        return found
