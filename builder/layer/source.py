"""A tar's bytes as its reader takes them: blocks, exact pieces, one member's data."""

from __future__ import annotations

from typing import BinaryIO

from builder.errors import LayerError

_CHUNK = 2 << 20  # at least a run of ours, which is then passed on as it is


class Source:
    """A stream read in large pieces. Whatever it cannot give raises LayerError."""

    __slots__ = ("_at", "_buffer", "_stream")

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0

    def block(self) -> bytes | None:
        """The next 512 bytes; None when the stream has ended before them."""
        end = self._at + 512
        if end > len(self._buffer):
            if self._at == len(self._buffer):
                self._buffer, self._at = self._stream.read(_CHUNK), 0
                if not self._buffer:
                    return None
            return self.take(512)
        block = self._buffer[self._at : end]
        self._at = end
        return block

    def some(self, size: int) -> bytes:
        """At least one of the next `size` bytes."""
        if self._at == len(self._buffer):
            self._buffer, self._at = self._stream.read(_CHUNK), 0
            if not self._buffer:
                raise LayerError("the archive is cut short")
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        return data

    def take(self, size: int) -> bytes:
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        if len(data) == size:
            return data
        pieces, size = [data], size - len(data)
        while size:
            pieces.append(self.some(size))
            size -= len(pieces[-1])
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        while size:
            size -= len(self.some(size))

    def drain(self, limit: int) -> None:
        """Read on to the stream's end."""
        while data := self._stream.read(_CHUNK):
            limit -= len(data)
            if limit < 0:
                raise LayerError("too many bytes behind the archive's end")


class Content:
    """The data of one member, until the next one is asked for."""

    __slots__ = ("_left", "_source")

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._left = size

    def read(self, size: int = -1) -> bytes:
        if self._left == 0 or size == 0:
            return b""
        data = self._source.take(min(size, self._left) if size > 0 else self._left)
        self._left -= len(data)
        return data

    def close(self) -> int:
        """End it; how many bytes were not read."""
        left, self._left = self._left, 0
        return left
