"""Compressed streams: gzip, zstd, xz, bzip2, in one member or many, up to a limit.

Trailing zeros are padding; any other trailing bytes are an error, as in Go's readers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, cast

from builder.errors import LayerError

_CHUNK = 1 << 20
_INPUT = 1 << 18
_MEMORY = 256 << 20  # what xz may take; zstd's own default allows windows of 128 MiB
_MAGIC = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)


class _Decoder(Protocol):
    """One member; the interface of bz2.BZ2Decompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def open_layer(stream: BinaryIO, codec: str | None = None, *, limit: int = 1 << 40) -> BinaryIO:
    """The uncompressed bytes of `stream` (its reader closes it, not this).

    `codec`: none, gzip, zstd, xz, bzip2; None: told by the first bytes. Reading raises LayerError
    on damage, on a stream that ends early, and beyond `limit` bytes of output.
    """
    head = b""
    if codec is None:
        head = stream.read(8)
        while len(head) < 8 and (more := stream.read(8 - len(head))):
            head += more
        codec = next((name for magic, name in _MAGIC if head.startswith(magic)), "none")
    make = None if codec == "none" else _decoder(codec)
    return cast(BinaryIO, _Decompressed(stream, head, codec, make, limit))


def _decoder(codec: str) -> Callable[[], _Decoder]:
    if codec == "gzip":
        from isal import igzip_lib

        def gzip() -> _Decoder:
            flag = igzip_lib.DECOMP_GZIP
            return cast(_Decoder, igzip_lib.IgzipDecompressor(flag=flag))

        return gzip
    if codec == "zstd":
        zstd: Any
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        return cast("Callable[[], _Decoder]", zstd.ZstdDecompressor)
    if codec == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    if codec == "bzip2":
        import bz2

        return bz2.BZ2Decompressor
    raise LayerError(f"compression {codec!r} is unknown, expected none, gzip, zstd, xz or bzip2")


class _Decompressed:
    def __init__(
        self,
        stream: BinaryIO,
        head: bytes,
        codec: str,
        make: Callable[[], _Decoder] | None,
        limit: int,
    ) -> None:
        self._stream, self._input, self._codec = stream, head, codec
        self._make, self._decoder = make, make() if make else None
        self._limit = self._left = limit

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, b"" at the end; fewer are normal."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        if size == 0:
            return b""
        data = self._plain(size) if self._decoder is None else self._decode(self._decoder, size)
        self._left -= len(data)
        if self._left < 0:
            raise LayerError(f"the stream decompresses to more than {self._limit} bytes")
        return data

    def readable(self) -> bool:
        return True

    def _plain(self, size: int) -> bytes:
        data, self._input = self._input[:size], self._input[size:]
        return data or self._stream.read(size)

    def _decode(self, decoder: _Decoder, size: int) -> bytes:
        while True:
            if decoder.eof:
                if not self._next_member(decoder):
                    return b""
                assert self._decoder is not None
                decoder = self._decoder
            data = b""
            if decoder.needs_input:
                data, self._input = self._input or self._stream.read(_INPUT), b""
                if not data:
                    raise LayerError(f"the {self._codec} stream is cut short")
            try:
                output = decoder.decompress(data, size)
            except Exception as error:  # each codec has its own
                raise LayerError(f"the {self._codec} stream is damaged: {error}") from error
            if output:
                return output

    def _next_member(self, decoder: _Decoder) -> bool:
        """Set up the member behind the one that ended; False at the end of the stream."""
        rest = decoder.unused_data.lstrip(b"\0")
        while not rest:
            rest = self._stream.read(_INPUT)
            if not rest:
                return False
            rest = rest.lstrip(b"\0")
        assert self._make is not None
        self._input, self._decoder = rest, self._make()
        return True
