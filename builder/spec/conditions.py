"""Conditions: `when` and `foreach`, expressions without braces."""

from __future__ import annotations

import re
from typing import Any

from builder.spec.fields import Field, Kind, Reader, Table, kind_name
from builder.spec.kinds import check_variable
from builder.spec.node import BOOL, TEXT, Node, scalar_kind
from builder.spec.render import is_template
from builder.spec.source import quote, written
from builder.spec.syntax import Malformed

_LOOP = re.compile(r"\s*(\S+)\s+in\s+(.+)", re.S)


def read_when(reader: Reader, node: Node) -> Any:
    """Whether a condition holds. Raises Fault, NeedsBase."""
    if node.kind == BOOL:
        return node.text.lower() == "true"
    if node.kind != TEXT or not node.text.strip():
        raise node.fault(f"found {node.show()}, expected an expression such as debug or x == 'y'")
    if is_template(node.text):
        inner = re.fullmatch(r"\s*\{\{-?\s*([^{}]+?)\s*-?\}\}\s*", node.text)
        hint = _proposed(reader, node, inner[1]) if inner else None
        raise node.fault("an expression is written without braces", hint)
    value = reader.value(node, bare=True)
    if not isinstance(value, bool):
        hint = _proposed(reader, node, _compared(node.text.strip(), value))
        raise node.fault(
            f"{quote(node.text)} gives {kind_name(value)}, expected true or false", hint
        )
    return value


def _compared(expression: str, value: Any) -> str:
    """What asks whether there is something."""
    if isinstance(value, (list, dict)):
        return f"{expression} | length > 0"
    return f"{expression} != {'0' if isinstance(value, (int, float)) else repr('')}"


def _proposed(reader: Reader, node: Node, expression: str) -> str | None:
    """A hint, if the expression would do."""
    meant = Node(scalar_kind(expression), node.line, node.column, expression, node.source)
    fits = len(expression) <= 60 and reader.fits(Kind(read_when, {}), meant)
    return f"write {written(expression)}" if fits else None


def _read_loop(reader: Reader, node: Node) -> Any:
    """`NAME in EXPRESSION`: the name, and the values. Raises Fault, NeedsBase."""
    expected = 'expected "NAME in LIST", such as "v in versions"'
    if node.kind != TEXT:
        raise node.fault(f"found {node.show()}, {expected}")
    found = _LOOP.fullmatch(node.text)
    if not found or is_template(node.text):
        raise node.fault(f"{quote(node.text)} is no loop, {expected}")
    try:
        check_variable(found[1])
    except Malformed as error:
        raise node.fault(f"{quote(found[1])} {error.what}", error.hint) from None
    whole = Node(TEXT, node.line, node.column, found[2], node.source)
    whole.end_line, whole.style = node.end_line, node.style
    values = reader.value(whole, bare=True)
    if isinstance(values, dict):
        raise node.fault(
            f"{quote(found[2])} gives a mapping, expected a list", f"loop over {found[2]} | list"
        )
    if not isinstance(values, list):
        raise node.fault(f"{quote(found[2])} gives {kind_name(values)}, expected a list")
    return found[1], values


_EXPRESSION = {"type": ["string", "boolean"]}
WHEN_FIELD = Field(
    Kind(read_when, _EXPRESSION), "A condition without braces; false: it is left out."
)
FOREACH_FIELD = Field(
    Kind(_read_loop, {"type": "string", "pattern": "\\S+\\s+in\\s+\\S"}),
    "NAME in LIST: the step is repeated with each value.",
)
COMMON: Table = {"when": WHEN_FIELD, "foreach": FOREACH_FIELD}
"""What every entry of `steps` takes."""
