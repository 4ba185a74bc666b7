"""Bake files in JSON: the same blocks and expressions, every text a template."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from builder.bake import ast
from builder.bake.templates import template_of
from builder.bake.text import Text
from builder.errors import SpecErrors
from builder.spec.node import BOOL, LIST, MAPPING, NULL, TEXT, Node, parse_yaml
from builder.spec.source import Problems, quote

_CODE = {"function": ("params", "variadic_params", "result"), "variable": ("type",)}
_BLOCKS = ("target", "group", "variable", "function")


def json_body(text: Text) -> ast.Body:
    """Raises Fault."""
    source = text.source
    problems = Problems(source)
    top = parse_yaml(source, problems)
    if len(problems):
        raise SpecErrors(problems.errors())
    if top.kind != MAPPING:
        raise top.fault(f"{top.show()} stands here, expected an object of targets")
    attributes: dict[str, ast.Attribute] = {}
    blocks: list[ast.Block] = []
    for key, value in top.pairs:
        if key.text in _BLOCKS:
            for each in value.items if value.kind == LIST else [value]:
                blocks += _blocks(text, key.text, each)
        elif not key.text.startswith("//"):
            attributes[key.text] = _attribute(text, key, value)
    return ast.Body(attributes, tuple(blocks))


def _blocks(text: Text, kind: str, value: Node) -> list[ast.Block]:
    if value.kind != MAPPING:
        raise value.fault(f"{kind} is {value.show()}, expected an object of names")
    made = []
    for name, body in value.pairs:
        for each in body.items if body.kind == LIST else [body]:
            if each.kind != MAPPING:
                raise each.fault(f"{kind} {quote(name.text)} is {each.show()}, expected an object")
            attributes = {}
            inner: list[ast.Block] = []
            for key, value in each.pairs:
                if key.text == "validation":
                    inner.append(ast.Block(_at(text, key), key.text, (), ast.Body({}, ())))
                elif key.text in _CODE.get(kind, ()):
                    attributes[key.text] = _code(text, key, value)
                else:
                    attributes[key.text] = _attribute(text, key, value)
            made.append(
                ast.Block(_at(text, name), kind, (name.text,), ast.Body(attributes, tuple(inner)))
            )
    return made


def _at(text: Text, node: Node) -> int:
    """An offset, which is what the tree has for places."""
    return text.offset(node.line, node.column)


def _attribute(text: Text, key: Node, value: Node) -> ast.Attribute:
    return ast.Attribute(_at(text, key), key.text, _expression(text, value))


def _code(text: Text, key: Node, value: Node) -> ast.Attribute:
    """Names and an expression, as a function has them."""
    at = _at(text, value)
    made: Any
    if value.kind == LIST:
        made = ast.ListOf(at, tuple(ast.Variable(at, each.text) for each in value.items))
    elif key.text == "result":
        made = _expression(text, value)
    else:
        made = ast.Variable(at, value.text)
    return ast.Attribute(at, key.text, made)


def _expression(text: Text, value: Node) -> Any:
    at = _at(text, value)
    if value.kind == LIST:
        return ast.ListOf(at, tuple(_expression(text, each) for each in value.items))
    if value.kind == MAPPING:
        pairs = [(_expression(text, key), _expression(text, each)) for key, each in value.pairs]
        return ast.ObjectOf(at, tuple(pairs))
    if value.kind == TEXT:
        return _moved(template_of(Text(text.source, value.text, (value.line, value.column))), at)
    if value.kind == NULL:
        return ast.Literal(at, None)
    if value.kind == BOOL:
        return ast.Literal(at, value.text.lower() == "true")
    number = Decimal(value.text[:300])
    return ast.Literal(at, int(number) if number == number.to_integral_value() else number)


def _moved(node: Any, at: int) -> Any:
    """The tree with all of its places at the text that it came from."""
    if isinstance(node, tuple):
        made = [_moved(each, at) for each in node]
        fields: tuple[str, ...] = getattr(node, "_fields", ())
        if not fields:
            return tuple(made)
        return type(node)(**{**dict(zip(fields, made, strict=True)), "at": at})
    return node
