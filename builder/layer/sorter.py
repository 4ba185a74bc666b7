"""Sorter: byte strings that come in any order, given back sorted, in bounded memory."""

from __future__ import annotations

import marshal
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import io

_RUN = 24 << 20  # bytes held: what up to 100,000 entries of a layer take
_OVERHEAD = 48  # bytes of memory that an item takes besides its own
_BLOCK = 1 << 16  # bytes of a run that are read at once


class Sorter:
    """What does not fit in memory waits in an unlinked file in sorted runs, which are merged when
    they are read; a run that follows on the one before it goes on with it. May be read several
    times, not added to after that. Raises OSError when the file cannot be written."""

    def __init__(self, folder: str | None = None) -> None:
        """`folder`: where the file is; None: where the system keeps temporary files."""
        self._folder = folder
        self._items: list[bytes] = []
        self._size = 0
        self._file: io.FileIO | None = None
        self._end = 0
        self._runs: list[list[tuple[int, int]]] = []  # of each its blocks: offset and size
        self._greatest = b""  # item of the last run

    def __bool__(self) -> bool:
        return bool(self._items or self._runs)

    def like(self) -> Sorter:
        """An empty one in the same place."""
        return Sorter(self._folder)

    def add(self, item: bytes) -> None:
        self._items.append(item)
        self._size += len(item) + _OVERHEAD
        if self._size >= _RUN:
            self._spill()

    def __iter__(self) -> Iterator[bytes]:
        if not self._runs:
            self._items.sort()
            return iter(self._items)
        if self._items:
            self._spill()
        runs = [self._read(run) for run in self._runs]
        if len(runs) == 1:
            return runs[0]
        from heapq import merge

        return merge(*runs)

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _spill(self) -> None:
        if self._file is None:
            import tempfile

            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115  # close
        self._items.sort()
        if not self._runs or self._items[0] < self._greatest:
            self._runs.append([])
        self._greatest = self._items[-1]
        block: list[bytes] = []
        size = 0
        for item in self._items:
            block.append(item)
            size += len(item)
            if size >= _BLOCK:
                self._write(block)
                block, size = [], 0
        if block:
            self._write(block)
        self._items, self._size = [], 0

    def _write(self, block: list[bytes]) -> None:
        assert self._file is not None
        data = memoryview(marshal.dumps(block))
        self._runs[-1].append((self._end, len(data)))
        while data:
            count = os.pwrite(self._file.fileno(), data, self._end)
            self._end += count
            data = data[count:]

    def _read(self, run: list[tuple[int, int]]) -> Iterator[bytes]:
        assert self._file is not None
        for offset, size in run:
            data = os.pread(self._file.fileno(), size, offset)
            yield from marshal.loads(data)  # noqa: S302  # our own file, which has no name
