"""What the planner keeps in a store, as bytes. Whatever stands there is read: what is none of it
comes back empty, and takes no more memory than some times its own size."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from builder.plan.nodes import Node

Index = dict[bytes, tuple[bytes, bool]]
"""Of each part of a tree by its name, 32 bytes, in order: the digests of its nodes, 32 bytes each,
and whether that of every file is known."""

_COUNT = struct.Struct("<I")
_NODES = 1 << 20  # of a part; they are some thousands
_COLUMNS = "IQQQqqIII"  # of a node, behind its path
_PART = struct.Struct("<32s?I")  # name, whole, digests that follow


def pack_nodes(nodes: Sequence[Node]) -> bytes:
    """Their number, a column for each field, paths with NULs between. b"" for what has a field
    that does not fit, as the times of a few file systems may not."""
    paths, *columns = zip(*nodes, strict=True)
    try:
        arrays = [array(code, column) for code, column in zip(_COLUMNS, columns, strict=True)]
    except OverflowError:
        return b""
    return b"".join(
        [_COUNT.pack(len(nodes)), *(each.tobytes() for each in arrays), b"\0".join(paths)]
    )


def unpack_nodes(data: bytes) -> list[Node]:
    if len(data) < _COUNT.size:
        return []
    (count,) = _COUNT.unpack_from(data)
    if not 0 < count <= _NODES:
        return []
    at = _COUNT.size
    columns: list[list[int]] = []
    for code in _COLUMNS:
        column = array(code)
        end = at + count * column.itemsize
        if end > len(data):
            return []
        column.frombytes(data[at:end])
        columns.append(column.tolist())
        at = end
    if data.count(b"\0", at) != count - 1:
        return []
    return cast("list[Node]", list(zip(data[at:].split(b"\0"), *columns, strict=True)))


def pack_index(index: Index) -> bytes:
    out = bytearray()
    for name, (digests, whole) in index.items():
        out += _PART.pack(name, whole, len(digests) // 32)
        out += digests
    return bytes(out)


def unpack_index(data: bytes) -> Index:
    index: Index = {}
    at = 0
    while at < len(data):
        if at + _PART.size > len(data):
            return {}
        name, whole, count = _PART.unpack_from(data, at)
        at += _PART.size
        end = at + 32 * count
        if end > len(data):
            return {}
        index[name] = data[at:end], whole
        at = end
    return index
