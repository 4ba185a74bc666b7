"""Byte strings in bounded memory: what does not fit waits in an unlinked file.

Sorter gives back sorted what comes in any order; Listing and Pile give back what came as it came,
Pile whole blocks, the first of them from memory. All may be read several times, Sorter and Listing
not added to after that. OSError is raised when the file cannot be written, by Pile LayerError; and
LayerError when it gives back other bytes than were written: the digests stay in memory, so that
nothing but our own bytes reaches marshal.
"""

from __future__ import annotations

import marshal
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from builder.errors import LayerError
from builder.oci.digest import hasher

if TYPE_CHECKING:
    import io

_RUN = 24 << 20  # bytes held: what up to 100,000 entries of a layer take
_OVERHEAD = 48  # bytes of memory that an item takes besides its own
_HELD = 16 << 20  # bytes of a pile that stay in memory
_BLOCK = 1 << 16  # bytes of a run that are read at once


class Sorter:
    """Runs are sorted in memory and merged when they are read; one that follows on the one before
    it goes on with it, so that what comes sorted is only written and read."""

    def __init__(self, folder: str | None = None) -> None:
        """`folder`: where the file is; None: where the system keeps temporary files."""
        self._folder = folder
        self._file = _File(folder)
        self._items: list[bytes] = []
        self._size = 0
        self._runs: list[_Blocks] = []
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
        runs = [self._file.read(run) for run in self._runs]
        if len(runs) == 1:
            return runs[0]
        from heapq import merge

        return merge(*runs)

    def _spill(self) -> None:
        self._items.sort()
        if not self._runs or self._items[0] < self._greatest:
            self._runs.append([])
        self._greatest = self._items[-1]
        self._file.write(self._items, self._runs[-1])
        self._items, self._size = [], 0

    def close(self) -> None:
        self._file.close()


class Listing:
    """As it came, always on disk."""

    def __init__(self, items: Iterable[bytes]) -> None:
        self._file = _File(None)
        self._blocks: _Blocks = []
        self._file.write(items, self._blocks)

    def __iter__(self) -> Iterator[bytes]:
        return self._file.read(self._blocks)


class Pile:
    """Blocks as they came, by number."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size = 0
        self._file = _File(None)
        self._rest: _Blocks = []

    def append(self, block: bytes) -> None:
        if self._size < _HELD:
            self._held.append(block)
            self._size += len(block)
            return
        try:
            self._rest.append(self._file.append(block))
        except OSError as error:
            raise LayerError(
                f"a temporary file cannot be written: {error.strerror}",
                "TMPDIR names another folder for them",
            ) from error

    def __len__(self) -> int:
        return len(self._held) + len(self._rest)

    def __getitem__(self, number: int) -> bytes:
        held = len(self._held)
        return self._held[number] if number < held else self._file.block(*self._rest[number - held])


_Blocks = list[tuple[int, int, bytes]]
"""Places in a file: offset, size and SHA-256."""


class _File:
    """Made when it is first written."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._file: io.FileIO | None = None
        self._end = 0

    def write(self, items: Iterable[bytes], blocks: _Blocks) -> None:
        """Append `items`, and where they are to `blocks`."""
        block: list[bytes] = []
        size = 0
        for item in items:
            block.append(item)
            size += len(item)
            if size >= _BLOCK:
                blocks.append(self.append(marshal.dumps(block)))
                block, size = [], 0
        if block:
            blocks.append(self.append(marshal.dumps(block)))

    def append(self, block: bytes) -> tuple[int, int, bytes]:
        if self._file is None:
            import tempfile

            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115  # close
        start = self._end
        data = memoryview(block)
        while data:
            count = os.pwrite(self._file.fileno(), data, self._end)
            self._end += count
            data = data[count:]
        return start, self._end - start, hasher(block).digest()

    def block(self, offset: int, size: int, digest: bytes) -> bytes:
        assert self._file is not None
        data = os.pread(self._file.fileno(), size, offset)
        if hasher(data).digest() != digest:
            raise LayerError("a temporary file does not hold what was written to it")
        return data

    def read(self, blocks: _Blocks) -> Iterator[bytes]:
        for place in blocks:
            yield from marshal.loads(self.block(*place))  # noqa: S302  # our own, compared

    def close(self) -> None:
        if self._file:
            self._file.close()
