"""GNU sparse files in tar: their maps (old, 0.0, 0.1, 1.0), and their content with holes filled."""

from __future__ import annotations

import os
from collections.abc import Callable

from builder.errors import LayerError

Segments = list[tuple[int, int]]
"""(offset, length) of the data parts, ascending, apart from each other and within the file."""

Take = Callable[[int], bytes]
"""Reads exactly so many bytes."""

MAX_SEGMENTS = 250_000
_ZEROS = bytes(1 << 16)


def check_map(segments: Segments, size: int, stored: int) -> Segments:
    """The map without its empty parts. `stored` bytes of data make a file of `size` bytes."""
    end = 0
    for offset, length in segments:
        if offset < end or length < 0 or offset + length > size:
            raise LayerError("a sparse file's map is out of order or beyond its size")
        end = offset + length
    if sum(length for _, length in segments) != stored:
        raise LayerError("a sparse file's map does not fit its data")
    return [segment for segment in segments if segment[1]]


def read_old_map(header: bytes, take: Take, number: Callable[[bytes], int]) -> tuple[Segments, int]:
    """The map of a type S header and of the blocks behind it; and the file's size."""
    size = number(header[483:495])
    segments: Segments = []

    def add(block: bytes, start: int, count: int) -> None:
        for at in range(start, start + 24 * count, 24):
            if block[at : at + 12].strip(b"\0 "):
                segments.append((number(block[at : at + 12]), number(block[at + 12 : at + 24])))

    add(header, 386, 4)
    more = header[482]
    while more:
        block = take(512)
        add(block, 0, 21)
        more = block[504]
        _bound(len(segments))
    return segments, size


def parse_map(text: bytes) -> Segments:
    """The map of format 0.1 (and of 0.0, joined): offset,length,offset,length."""
    numbers = [_decimal(each) for each in text.split(b",")] if text else []
    if len(numbers) % 2:
        raise LayerError("a sparse file's map has an odd count of numbers")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def read_pax_map(take: Take) -> tuple[Segments, int]:
    """The map of format 1.0 at the start of the data; and how many bytes it took."""
    buffer = b""
    used = 0

    def line() -> int:
        nonlocal buffer, used
        while b"\n" not in buffer:
            if len(buffer) > 32:
                raise LayerError("a sparse file's map is no list of numbers")
            buffer += take(512)
            used += 512
        text, _, buffer = buffer.partition(b"\n")
        return _decimal(text)

    count = line()
    _bound(count)
    return [(line(), line()) for _ in range(count)], used


def _bound(count: int) -> None:
    if count > MAX_SEGMENTS:
        raise LayerError(f"a sparse file has more than {MAX_SEGMENTS} parts")


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise LayerError(f"{os.fsdecode(text[:40])!r} in a sparse file's map is not a number")
    return int(text)


def skip_hole(content: object) -> int:
    """As SparseContent has it; 0 for any other content."""
    return content.skip_hole() if isinstance(content, SparseContent) else 0


class SparseContent:
    """Reads a sparse file as its reader sees it: `size` bytes, zeros in the holes."""

    def __init__(self, read: Callable[[int], bytes], segments: Segments, size: int) -> None:
        self._read, self._size = read, size
        self._segments = segments[::-1]
        self._at = 0

    def skip_hole(self) -> int:
        """Go past the zeros that no data stands for, if such come next; how many they were."""
        while self._segments and self._at >= sum(self._segments[-1]):
            self._segments.pop()
        start = self._segments[-1][0] if self._segments else self._size
        hole, self._at = max(0, start - self._at), max(self._at, start)
        return hole

    def read(self, size: int = -1) -> bytes:
        """`size` bytes (all when negative), fewer only at the end."""
        left = self._size - self._at
        size = left if size < 0 else min(size, left)
        pieces = []
        while size:
            while self._segments and self._at >= sum(self._segments[-1]):
                self._segments.pop()
            start, length = self._segments[-1] if self._segments else (self._size, 0)
            if self._at < start:
                data = _ZEROS[: min(size, start - self._at)]
            else:
                data = self._read(min(size, start + length - self._at))
                if not data:
                    break  # the next entry was asked for
            pieces.append(data)
            self._at += len(data)
            size -= len(data)
        return b"".join(pieces)
