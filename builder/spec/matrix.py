"""Matrix: the rows of `matrix:`, each of which makes an image."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

from builder.spec.fields import Reader, at_key, made_by_template
from builder.spec.kinds import check_variable
from builder.spec.node import LIST, MAPPING, Node
from builder.spec.source import did_you_mean, quote
from builder.spec.syntax import Malformed

MAX_ROWS = 1000
Row = dict[str, Any]
EDITS = ("exclude", "include")


def read_rows(reader: Reader, node: Node) -> list[Row]:
    """Every combination of the axes' values, the last axis fastest, without those that `exclude`
    matches, then those of `include`. Raises Fault."""
    if node.kind != MAPPING:
        raise node.fault(f"found {node.show()}, expected a mapping of axes to lists of values")
    axes: dict[str, list[Any]] = {}
    for key, value in node.pairs:
        if key.text in EDITS:
            continue
        try:
            check_variable(key.text)
        except Malformed as error:
            raise at_key(key, error) from None
        axes[key.text] = _values(reader, value)
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > MAX_ROWS:
        raise node.fault(f"the matrix has {count} rows, expected at most {MAX_ROWS}")
    rows = [dict(zip(axes, row, strict=True)) for row in product(*axes.values())] if axes else []
    for each in _listed(node, "exclude"):
        rows = _excluded(reader, rows, each, axes)
    for each in _listed(node, "include"):
        row = _mapping(reader, each)
        if missing := [name for name in axes if name not in row]:
            raise each.fault(f"the row gives no {missing[0]!r}, expected all axes of the matrix")
        rows.append(row)
    if not rows:
        raise node.fault("the matrix has no rows")
    if len(rows) > MAX_ROWS:
        raise node.fault(f"the matrix has {len(rows)} rows, expected at most {MAX_ROWS}")
    return rows


def axes_of(node: Node) -> tuple[str, ...]:
    """The names that a matrix gives values to in every row."""
    return tuple(key.text for key, _ in node.pairs if key.text not in EDITS)


def row_text(row: Row) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in row.items())


def _values(reader: Reader, node: Node) -> list[Any]:
    found = reader.data(node) if node.kind == LIST or made_by_template(node) else None
    if not isinstance(found, list):
        raise node.fault(f"found {node.show()}, expected a list of values")
    if not found:
        raise node.fault("the list is empty, expected values")
    return found


def _listed(node: Node, name: str) -> list[Node]:
    found = node.get(name)
    if found is None:
        return []
    if found.kind != LIST:
        raise found.fault(f"found {found.show()}, expected a list of rows")
    return found.items


def _mapping(reader: Reader, node: Node) -> Row:
    if node.kind != MAPPING:
        raise node.fault(f"found {node.show()}, expected a mapping of names to values")
    for key, _ in node.pairs:
        try:
            check_variable(key.text)
        except Malformed as error:
            raise at_key(key, error) from None
    found = reader.data(node)
    assert isinstance(found, dict)
    return found


def _excluded(reader: Reader, rows: list[Row], node: Node, axes: dict[str, list[Any]]) -> list[Row]:
    """The rows that have not all of these values. Raises Fault where that is none."""
    wanted = _mapping(reader, node)
    for key, value in node.pairs:
        if key.text not in axes:
            near = did_you_mean(key.text, list(axes))
            raise key.fault(f"the matrix has no axis {quote(key.text)}{near}")
        if wanted[key.text] not in axes[key.text]:
            texts = [_text(each) for each in axes[key.text]]
            near = did_you_mean(value.text, texts)
            text = f"{value.show()} is no value of {key.text!r}{near}"
            raise value.fault(text, None if near else f"its values: {', '.join(texts)}"[:200])
    if not wanted:
        raise node.fault("the row is empty, it would exclude all")
    return [row for row in rows if any(row[name] != value for name, value in wanted.items())]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
