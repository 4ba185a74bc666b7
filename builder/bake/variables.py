"""The variables of bake and compose files as those of a spec: each is what the environment says,
else its default, until --set says otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from builder.bake.model import Default
from builder.bake.values import MARK, Val, shown
from builder.dockerfile.expand import Ref, Value, quoted
from builder.dockerfile.nodes import template, texts
from builder.dockerfile.nodes import text as text_node
from builder.spec.node import Node
from builder.spec.render import RESERVED

_TAKEN = frozenset((*RESERVED, "base", "target", "host", "spec", "vars", "env"))
_MARKED = re.compile(rf"{MARK}([\w-]+)")


class Names:
    """What the variables are called in a spec, where `taken` are the names that others have."""

    def __init__(self, defaults: Sequence[Default], taken: Iterable[str]) -> None:
        self.defaults = {each.name: each for each in defaults}
        used = set(taken)
        self._new: dict[str, str] = {}
        for name in self.defaults:
            called = re.sub(r"\W", "_", name, flags=re.ASCII)
            while called in _TAKEN or called in used:
                called = f"bake_{called}"
            used.add(called)
            self._new[name] = called

    def of(self, name: str) -> str:
        return self._new[name]

    def said(self, value: Value) -> Value:
        """With the names of the spec."""
        return tuple(
            Ref(self.code(each.expression)) if isinstance(each, Ref) else each for each in value
        )

    def code(self, expression: str) -> str:
        return _MARKED.sub(lambda found: self._new.get(found[1], found[1]), expression)

    def needed(self, names: Iterable[str]) -> list[Default]:
        """Those of `names`, and of what these need, in an order where each is known before."""
        wanted: set[str] = set()
        waiting = [name for name in names if name in self.defaults]
        while waiting:
            name = waiting.pop()
            if name not in wanted:
                wanted.add(name)
                waiting += [
                    each for each in self.defaults[name].value.names if each in self.defaults
                ]
        return [each for each in self.defaults.values() if each.name in wanted]

    def node(self, default: Default) -> Node:
        """Its default in a spec."""
        value, name = default.value, quoted(default.name)
        at = (1, 1)
        if isinstance(value.data, list):
            return texts([self.said(_parts(each)) for each in value.data], at)
        code = self.code(value.code) if value.sayable else Val(value.data).code
        if isinstance(value.data, bool):
            plain = quoted(shown(value.data)) if not value.names else f"({code} | string)"
            made = f"env({name}, {plain}) | lower in ['1', 't', 'true']"
        elif isinstance(value.data, int | Decimal):
            kind = "int" if isinstance(value.data, int) else "float"
            made = f"env({name}, {quoted(shown(value.data))}) | {kind}"
        elif value.data is None:
            made = f"env({name}, '')"
        elif default.filled:
            made = f"env({name}, '') or {code}"
        else:
            made = f"env({name}, {code})"
        return text_node(template((Ref(made),)), at, ready=True)


def _parts(value: Val) -> Value:
    return value.parts if value.sayable else (shown(value.data),)


def names_in(values: Iterable[Val]) -> set[str]:
    """The variables that those values which a template says need."""
    found: set[str] = set()
    for value in values:
        if value.said is not None:
            found |= value.names
        elif isinstance(value.data, list) and not value.names:
            found |= names_in(value.data)
        elif isinstance(value.data, Mapping) and not value.names:
            found |= names_in(value.data.values())
    return found
