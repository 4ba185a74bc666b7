"""The tree of an HCL expression. `at` is an offset in the text that it was read from."""

from __future__ import annotations

from typing import Any, NamedTuple


class Literal(NamedTuple):
    at: int
    value: Any  # a text, int, Decimal, bool or None


class Template(NamedTuple):
    """A text of several parts; one expression alone keeps its type, see `parse.py`."""

    at: int
    parts: tuple[Any, ...]  # texts, expressions, TemplateIf and TemplateFor


class TemplateIf(NamedTuple):
    at: int
    condition: Any
    then: Template
    other: Template


class TemplateFor(NamedTuple):
    at: int
    key: str | None
    name: str
    over: Any
    body: Template


class ListOf(NamedTuple):
    at: int
    items: tuple[Any, ...]


class ObjectOf(NamedTuple):
    at: int
    pairs: tuple[tuple[Any, Any], ...]


class For(NamedTuple):
    """`[for KEY, NAME in OVER : result if condition]`; with a `key_of` it makes an object."""

    at: int
    key: str | None
    name: str
    over: Any
    key_of: Any | None
    result: Any
    condition: Any | None
    grouped: bool


class Variable(NamedTuple):
    at: int
    name: str


class Index(NamedTuple):
    """`of[index]` and `of.name`."""

    at: int
    of: Any
    index: Any


class Splat(NamedTuple):
    """`of[*].name` and `of.*.name`: what `body` makes of each, which is the variable `*` there."""

    at: int
    of: Any
    body: Any


class Call(NamedTuple):
    at: int
    name: str
    args: tuple[Any, ...]
    spread: bool  # the last argument is a list of arguments


class Unary(NamedTuple):
    at: int
    sign: str
    operand: Any


class Binary(NamedTuple):
    at: int
    sign: str
    left: Any
    right: Any


class Choice(NamedTuple):
    at: int
    condition: Any
    then: Any
    other: Any


class Block(NamedTuple):
    """`KIND "LABEL" {...}`; attributes once each, in their order."""

    at: int
    kind: str
    labels: tuple[str, ...]
    body: Body


class Body(NamedTuple):
    attributes: dict[str, Attribute]
    blocks: tuple[Block, ...]


class Attribute(NamedTuple):
    at: int
    name: str
    value: Any
