"""What the planner keeps in a store, as bytes. Whatever stands there is read: what is none of it
comes back empty, and takes no more memory than a few times its own size."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from builder.plan.nodes import Node

Index = dict[bytes, tuple[bytes, bool]]
"""Of each part of a tree by its name, 32 bytes, in order: the digests of its nodes, 32 bytes each,
and whether that of every file is known."""

_COUNT = struct.Struct("<I")
_COLUMNS = "IQQQqqII"  # of a node, behind its path
_PART = struct.Struct("<32s?I")  # name, whole, digests that follow
_VERDICTS = struct.Struct("<III")  # bytes of the paths of each verdict


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
    paths = data[at:].split(b"\0")
    return (
        cast("list[Node]", list(zip(paths, *columns, strict=True))) if len(paths) == count else []
    )


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


def pack_verdicts(verdicts: Mapping[bytes, int]) -> bytes:
    """Paths with NULs between, those with the verdict 0 first, then 1, then 2."""
    groups: tuple[list[bytes], ...] = ([], [], [])
    for path, verdict in verdicts.items():
        groups[verdict].append(path)
    joined = [b"\0".join(group) for group in groups]
    return _VERDICTS.pack(*map(len, joined)) + b"".join(joined)


def unpack_verdicts(data: bytes) -> dict[bytes, int]:
    if len(data) < _VERDICTS.size:
        return {}
    sizes, at = _VERDICTS.unpack_from(data), _VERDICTS.size
    if at + sum(sizes) != len(data):
        return {}
    verdicts: dict[bytes, int] = {}
    for verdict, size in enumerate(sizes):
        if size:
            verdicts |= dict.fromkeys(data[at : at + size].split(b"\0"), verdict)
        at += size
    return verdicts
