"""Meter: what a template may still spend, and what its values weigh."""

from __future__ import annotations

import time
from typing import Any

from jinja2.runtime import Undefined
from jinja2.utils import Namespace

MAX_BITS = 4096  # of a whole number
MAX_VALUE = 1 << 22  # characters of one value


class OutOfBounds(Exception):
    """The template asks for more time or space than it may have."""


class Meter:
    """What may still be spent: `fuel` in units, `seconds` of this thread's CPU time."""

    def __init__(self, fuel: int, seconds: float) -> None:
        self.fuel = fuel
        self._end = time.thread_time() + seconds
        self._next_look = fuel - 4096

    def spend(self, units: int) -> None:
        self.fuel -= units
        if self.fuel < self._next_look:
            self._next_look = self.fuel - 4096
            if self.fuel < 0:
                raise OutOfBounds("the template does too much")
            if time.thread_time() > self._end:
                raise OutOfBounds("the template takes too long")

    def weigh(self, value: Any, *, plain: bool = False) -> int:
        """Spend and return what it takes to read all of `value`. With `plain` it is about to be
        text and must be data through and through: the text of a function or an iterator would hold
        a memory address, and what is undefined within a list is as much an error as by itself."""
        kind: type = type(value)
        if kind is str:
            if len(value) > MAX_VALUE:
                raise OutOfBounds("the template makes a value that is too large")
            weight = 1 + (len(value) >> 4)
        elif kind in _CONTAINERS or kind is int or isinstance(value, tuple):
            weight = self._weigh_deep(value, plain)
        else:
            weight = 1
            if plain and kind not in _SCALARS and not isinstance(value, Undefined):
                raise TypeError(f"{kind_of(value)} is not text")
        self.spend(weight)
        return weight

    def _weigh_deep(self, value: Any, plain: bool) -> int:
        """Shared parts count each time, as `==`, `str` and hashing walk them each time."""
        stack = [value]
        weight = 0
        while stack:
            value = stack.pop()
            kind = type(value)
            weight += 4
            if kind is str:
                weight += len(value) >> 4
            elif kind is int:
                if value.bit_length() > MAX_BITS:
                    raise OutOfBounds(f"a number has more than {MAX_BITS} bits")
            elif kind in (dict, _ITEMS):
                pairs = value.items() if kind is dict else value
                for pair in pairs:
                    stack.extend(pair)
            elif kind is Namespace or kind is QuietNamespace:
                stack.extend(value._Namespace__attrs.values())
            elif kind is range:
                weight += len(value)
            elif kind in _CONTAINERS or isinstance(value, tuple):
                stack.extend(value)
            elif plain and isinstance(value, Undefined):
                value._fail_with_undefined_error()
            elif plain and kind not in _SCALARS:
                raise TypeError(f"{kind_of(value)} is not text")
            if weight + 4 * len(stack) > MAX_VALUE >> 4:
                raise OutOfBounds("the template makes a value that is too large")
            if weight > self.fuel:
                raise OutOfBounds("the template does too much")
        return weight


class QuietNamespace(Namespace):
    """`namespace()`; it may hold itself, so its repr does not walk into it."""

    def __repr__(self) -> str:
        return "<namespace>"


_ITEMS: type = type({}.items())
_CONTAINERS = frozenset(
    (
        *(list, tuple, dict, range, Namespace, QuietNamespace),
        *(_ITEMS, type({}.keys()), type({}.values())),
    )
)

_SCALARS = frozenset((bool, float, type(None)))


def kind_of(value: Any) -> str:
    """A value's type, for a message."""
    names: dict[type, str] = {str: "text", dict: "a mapping", list: "a list", tuple: "a list"}
    return names.get(type(value), type(value).__name__)
