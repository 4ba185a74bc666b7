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


def resolved(bake: Bake, name: str, place: Place | None = None) -> Target:
    """A target with all that it inherits. Raises Fault."""
    return _resolved(bake, name, place, ())


def _resolved(bake: Bake, name: str, place: Place | None, above: tuple[str, ...]) -> Target:
    target = bake.targets.get(name)
    if target is None:
        source, line, column = place or next(iter(bake.targets.values())).place
        near = did_you_mean(name, sorted(bake.targets))
        raise Fault(line, column, f"there is no target {quote(name)}{near}", None, source)
    if name in above or len(above) > MAX_INHERITED:
        source, line, column = bake.targets[above[-1]].place
        way = " -> ".join((*above[-5:], name))
        raise Fault(line, column, f"targets inherit in a circle: {way}", None, source)
    said: dict[str, Said] = {}
    for each in target.inherits:
        said = merged(said, _resolved(bake, each, target.place, (*above, name)).said)
    return target._replace(said=merged(said, target.said), inherits=())
