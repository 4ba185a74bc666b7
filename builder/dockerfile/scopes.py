"""Scopes: what ARG and ENV make of a name, from one instruction to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from builder.dockerfile.expand import Bound, Ref, Scope, Value, known, quoted
from builder.dockerfile.nodes import template
from builder.oci.image import Platform
from builder.plan.config import DEFAULT_PATH
from builder.spec.render import RESERVED

PLATFORM = {
    f"{prefix}{name}": Bound((Ref(f"{side}.{field}"),))
    for prefix, side in (("TARGET", "target"), ("BUILD", "host"))
    for name, field in (
        *(("PLATFORM", "platform"), ("OS", "os"), ("ARCH", "arch"), ("VARIANT", "variant")),
    )
}


def of_platforms(target: Platform | None) -> dict[str, Bound]:
    """The ARGs of platforms: templates, or, for one that is built, text."""
    if target is None:
        return dict(PLATFORM)
    from builder.oci.image import host_platform

    return {
        f"{prefix}{name}": Bound((value,))
        for prefix, each in (("TARGET", target), ("BUILD", host_platform()))
        for name, value in (
            *(("PLATFORM", str(each)), ("OS", each.os), ("ARCH", each.architecture)),
            ("VARIANT", each.variant or ""),
        )
    }


_TAKEN = frozenset((*RESERVED, "base", "target", "host", "spec", "vars"))


_USUAL = {"target.os": "linux", "target.arch": "amd64", "host.os": "linux", "host.arch": "amd64"}


class Variables:
    """The spec's variables: of each ARG one, the first default counts. With `given` values of
    --build-arg nothing is a variable, and what they say is text. `defaults` count in place of the
    ARGs' own."""

    def __init__(
        self, given: Mapping[str, str] | None, defaults: Mapping[str, str] | None = None
    ) -> None:
        self.given = given
        self.defaults = defaults or {}
        self.top: dict[str, str] = {}  # name -> default, a template
        self.unset: set[str] = set()  # those without a default, which are empty here
        self.needed: set[str] = set()  # those of them that must be given
        self.known: dict[str, str] = {}  # the defaults that hold no template

    def bind(self, name: str, default: Value | None, own: dict[str, str]) -> Bound | None:
        """What an ARG stands for; `own` are the variables of its stage. None: it is not set."""
        if self.given is not None:
            if name in self.given:
                return Bound((self.given[name],))
            return None if default is None else Bound(default)
        if name in self.defaults:
            default = (self.defaults[name],)
        if not (name.isascii() and name.isidentifier()) or name in _TAKEN:
            return None if default is None else Bound(default)
        text = "" if default is None else template(default)
        if any("base." in each.expression for each in default or () if isinstance(each, Ref)):
            return Bound(default or ())  # a variable's default is known before the base
        if name not in self.top:
            self.top[name] = text
            if default is None:
                self.unset.add(name)
            elif (plain := known(default)) is not None:
                self.known[name] = plain
        elif self.top[name] != text and own.get(name) != text:
            if name in own:
                return Bound(default or ())  # a second default in one stage
            own[name] = text
        return Bound((Ref(name),), name if default is None else "")

    def usual(self, expression: str) -> str | None:
        """What a variable is by default, and a platform on most machines."""
        return self.known.get(expression, _USUAL.get(expression))


class StageScope(NamedTuple):
    """`names`: what ARG and ENV have set; `arguments`: those of ARG, in order, which commands see;
    `above`: what a name stands for that neither has set."""

    names: dict[str, Bound]
    arguments: dict[str, None]
    on_scratch: bool

    @classmethod
    def new(cls, *, on_scratch: bool) -> StageScope:
        return cls({"PATH": Bound((DEFAULT_PATH,))} if on_scratch else {}, {}, on_scratch)

    def child(self) -> StageScope:
        """Of a stage on this one: what its environment says is the base's there."""
        names = {}
        for name, bound in self.names.items():
            sure = known(bound.value) is not None or name in self.arguments
            names[name] = bound if sure else Bound((Ref(_of_base(name)),))
        return StageScope(names, dict(self.arguments), self.on_scratch)

    @property
    def lookup(self) -> Scope:
        def find(name: str) -> Bound | None:
            if name in self.names:
                return self.names[name]
            if self.on_scratch or not name.isascii() or not name.isidentifier():
                return None
            if name == "PATH":
                return Bound((Ref("base.env.PATH"),))
            said = _of_base(name)
            return Bound((Ref(f"({said} | default(''))"),), f"{said} is defined")

        return find

    def argument(self, name: str, bound: Bound) -> None:
        self.names[name] = bound
        self.arguments[name] = None

    def variable(self, name: str, value: Value) -> None:
        self.names[name] = Bound(value)
        self.arguments.pop(name, None)

    def environment(self) -> dict[str, Value]:
        """What commands have beside the image's environment."""
        return {name: self.names[name].value for name in self.arguments}


def _of_base(name: str) -> str:
    return (
        f"base.env.{name}"
        if name not in ("items", "keys", "values", "get")
        else (f"base.env[{quoted(name)}]")
    )
