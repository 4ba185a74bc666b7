"""A spool: streams that come in one order, kept on disk to be read in another."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.errors import LayerError
from builder.layer.entry import Content
from builder.layer.sparse import skip_hole

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_SMALL = 1 << 16  # bytes of a content that is read at once


class Spool:
    """One unlinked temporary file that goes with the value; nothing is left behind by a crash."""

    def __init__(self, folder: str | None = None) -> None:
        """`folder`: where the file is; None: where the system keeps temporary files."""
        import tempfile

        self._file = tempfile.TemporaryFile(buffering=_CHUNK, dir=folder)  # noqa: SIM115  # close
        self._end = 0

    def add(
        self, content: BinaryIO, size: int, seen: Callable[[bytes], object] = lambda chunk: None
    ) -> int:
        """Take a stream in, of which exactly `size` bytes must come; where it is now. Holes of a
        sparse one stay holes."""
        start = self._end
        while True:
            if hole := skip_hole(content):
                self._end += hole
                self._file.flush()
                os.ftruncate(self._file.fileno(), self._end)
                self._file.seek(self._end)
                for at in range(0, hole, _CHUNK):
                    seen(_ZEROS[: hole - at])
            if not (chunk := content.read(_CHUNK)):
                break
            seen(chunk)
            self._file.write(chunk)
            self._end += len(chunk)
        if self._end - start != size:
            raise LayerError(f"{self._end - start} bytes came where {size} were announced")
        return start

    def content(self, offset: int, size: int) -> Content:
        """What was added there, as an entry's content."""
        if size <= _SMALL:
            return self.read(offset, size)
        self._file.flush()
        handle = self._file.fileno()
        return lambda: cast(BinaryIO, io.BufferedReader(_Part(handle, offset, size), _CHUNK))

    def read(self, offset: int, size: int) -> bytes:
        self._file.flush()
        return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        self._file.close()


class _Part(io.RawIOBase):
    def __init__(self, handle: int, start: int, size: int) -> None:
        self._handle, self._at, self._end = handle, start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")[: self._end - self._at]
        count = os.preadv(self._handle, [view], self._at) if view else 0
        self._at += count
        return count
