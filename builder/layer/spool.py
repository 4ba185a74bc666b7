"""A spool: streams that come in one order, kept on disk to be read in another."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.errors import LayerError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 1 << 20


class Spool:
    """One unlinked temporary file that goes with the value; nothing is left behind by a crash."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed with the spool
        self._end = 0
        self._places: dict[int, tuple[int, int]] = {}

    def add(
        self, number: int, content: BinaryIO, size: int, seen: Callable[[bytes], object]
    ) -> None:
        """Take a stream in under a number; exactly `size` bytes must come."""
        start = self._end
        while chunk := content.read(_CHUNK):
            seen(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.pwrite(self._file.fileno(), view, self._end) :]
            self._end += len(chunk)
        if self._end - start != size:
            raise LayerError(f"{self._end - start} bytes came where {size} were announced")
        self._places[number] = (start, size)

    def open(self, number: int) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Part(self._file, *self._places[number]), _CHUNK))


class _Part(io.RawIOBase):
    def __init__(self, file: io.FileIO, start: int, size: int) -> None:
        self._file, self._at, self._end = file, start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")[: self._end - self._at]
        count = os.preadv(self._file.fileno(), [view], self._at) if view else 0
        self._at += count
        return count
