"""Compressed streams: gzip, zstd, xz, bzip2, in one member or many, up to a limit.

What a user names as an archive is told by its first bytes; what is no tar, by what it is instead.
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


_OTHERS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"!<arch>\n", "an ar archive, as packages (.deb) and libraries are"),
    (b"\xed\xab\xee\xdb", "an rpm package"),
    (b"07070", "a cpio archive"),
    (b"hsqs", "a squashfs image"),
    (b"QFI\xfb", "a qcow2 disk image"),
    (b"\x7fELF", "a program (ELF)"),
    (b"\x1f\x9d", "a file of compress (.Z)"),
    (b"\x04\x22\x4d\x18", "an lz4 file"),
    (b"LZIP", "an lzip file"),
    (b"\x5d\0\0", "an lzma file"),
    (b"<!DOCTYPE html", "a web page"),
    (b"<html", "a web page"),
    *((magic, f"a {name} stream") for magic, name in _MAGIC),
)
_BLOCK = 512  # bytes of a tar's header


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

    `codec`: none, gzip, zstd, xz, bzip2; None: told by the first bytes, and what does not begin as
    a tar is an error. Reading raises LayerError on damage, on a stream that ends early, and beyond
    `limit` bytes of output.
    """
    head, told = b"", codec is not None
    if codec is None:
        head = stream.read(8)
        while len(head) < 8 and (more := stream.read(8 - len(head))):
            head += more
        codec = codec_of(head)
    make = None if codec == "none" else _decoder(codec)
    opened = _Decompressed(stream, head, codec, make, limit)
    return cast(BinaryIO, opened if told else _Tar(opened, codec))


def codec_of(head: bytes) -> str:
    """How a stream that begins with these bytes, at least 6, is compressed: none, gzip, ..."""
    if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:
        return "zstd"  # pzstd begins with a frame to be skipped
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "none")


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
        self._fresh = codec == "gzip"  # at the beginning of a member

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
                if self._fresh:
                    self._fresh = False
                    self._check_header()
                data, self._input = self._input or self._stream.read(_INPUT), b""
                if not data:
                    raise LayerError(f"the {self._codec} stream is cut short")
            try:
                output = decoder.decompress(data, size)
            except Exception as error:  # each codec has its own
                if "memory" in str(error).lower():
                    raise LayerError(
                        f"the {self._codec} stream needs more memory than it may take",
                        "its window is too large: compress it without `--long` or `dict=`",
                    ) from error
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
        self._fresh = self._codec == "gzip"
        return True

    def _check_header(self) -> None:
        """Read a gzip header that has more than ten bytes and go on as if it had not: ISA-L gets
        several of its parts wrong where they come in pieces, its checksum too (RFC 1952, 2.3)."""
        self._gather(10)
        flags = self._input[3] if len(self._input) >= 10 else 0
        if not flags & 0x1E:
            return
        end = 10
        if flags & 4:
            self._gather(end + 2)
            end += 2 + int.from_bytes(self._input[end : end + 2], "little")
        for _ in range((flags >> 3 & 1) + (flags >> 4 & 1)):  # name and comment
            while (zero := self._input.find(b"\0", end)) < 0 and len(self._input) < _INPUT:
                if not self._gather(len(self._input) + 1):
                    break
            end = zero + 1 if zero >= 0 else _INPUT
        self._gather(end)
        header = self._input[:end]
        if flags & 2:
            from isal import isal_zlib

            self._gather(end + 2)
            end += 2
            wanted = int.from_bytes(self._input[end - 2 : end], "little")
            if len(self._input) >= end and isal_zlib.crc32(header) & 0xFFFF != wanted:
                raise LayerError("the gzip stream is damaged: its header's checksum is wrong")
        if len(self._input) < end:
            raise LayerError("the gzip stream is cut short")
        self._input = header[:3] + b"\0" + header[4:10] + self._input[end:]

    def _gather(self, size: int) -> bool:
        """Let at least so many bytes wait in _input; False where the stream has fewer."""
        while len(self._input) < size:
            more = self._stream.read(max(size - len(self._input), 512))
            if not more:
                return False
            self._input += more
        return True


class _Tar:
    """A stream that says what it is, should it not be a tar."""

    def __init__(self, stream: _Decompressed, codec: str) -> None:
        self._stream, self._codec = stream, codec
        self._ahead: bytes | None = None  # what was looked at and not yet read

    def read(self, size: int = -1) -> bytes:
        if self._ahead is None:
            self._ahead = b""
            while len(self._ahead) < _BLOCK:
                more = self._stream.read(_BLOCK - len(self._ahead))
                if not more:
                    break
                self._ahead += more
            _check_tar(self._ahead, self._codec)
        if not self._ahead or size == 0:
            return self._stream.read(size)
        if size < 0:
            data, self._ahead = self._ahead, b""
            return data + self._stream.read()
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def readable(self) -> bool:
        return True


def _check_tar(block: bytes, codec: str) -> None:
    if len(block) == _BLOCK and _sums(block):
        return
    kind = next((name for magic, name in _OTHERS if block.startswith(magic)), None)
    if kind is None and block and not block.translate(None, _TEXT):
        kind = "text"
    if kind is None:
        return  # damaged or cut short: its reader says how
    behind = "" if codec == "none" else f" within a {codec} stream"
    raise LayerError(
        f"this is {kind}{behind}, not a tar",
        "expected is a tar, plain or compressed by gzip, zstd, xz or bzip2",
    )


_TEXT = bytes({*range(0x20, 0x7F), *range(0x80, 0x100), *b"\t\n\f\r"})


def _sums(block: bytes) -> bool:
    """Whether a header's checksum is right, so that its name may begin with whatever it likes."""
    field = block[148:156]
    return field.strip(b" \0").lstrip(b"0") == b"%o" % (sum(block) - sum(field) + 8 * ord(" "))
