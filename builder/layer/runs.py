"""Runs: the pieces a layer is compressed in, and those that an earlier layer holds already.

The tar is cut into runs of about a megabyte, at places that its own paths decide, and each run
becomes a gzip member or zstd frame of its own. A run whose files all came with digests has an
identity: what its headers and digests say. When the layer is made anew, a run with an identity that
the earlier blob knows is taken from there: its files are not read and not compressed again. That is
a speed-up and no more: the bytes are the same either way, and the diff_id is hashed over all of
them.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from builder.errors import CorruptBlob, LayerError
from builder.layer.content import CHUNK, read_chunks, read_whole
from builder.layer.entry import FILE, WHITEOUT, Change, Content, Entry, HostFile
from builder.layer.header import Headers, end_of_archive, padding
from builder.oci.digest import hasher

RUN = 1 << 20
_LEAST = RUN // 4
_RECORD = struct.Struct("<16s16sII")  # identity, check, sizes compressed and raw
NONE = bytes(16)
"""The identity of a run that has none: what it holds is known when it is read."""


class Fresh(NamedTuple):
    """A run to be compressed."""

    data: bytes | bytearray
    identity: bytes  # 16 bytes; NONE: it has none


class Kept(NamedTuple):
    """A run that the earlier blob holds, from `offset` on; `check` is of its compressed bytes."""

    identity: bytes
    check: bytes
    compressed: int
    size: int
    offset: int


class Earlier:
    """The runs of an earlier layer's blob. `index` is what `write_layer` gave for it; anything
    else, and one of another encoder, is as if there were none. Close it."""

    def __init__(self, blob: str, index: bytes, encoder: str) -> None:
        self._runs: dict[bytes, Kept] = {}
        name, _, records = index.partition(b"\n")
        if name != encoder.encode() or len(records) % _RECORD.size:
            records = b""
        offset = 0
        for identity, check, compressed, size in _RECORD.iter_unpack(records):
            if identity != NONE:
                self._runs[identity] = Kept(identity, check, compressed, size, offset)
            offset += compressed
        try:
            self._handle = os.open(blob, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._handle, self._runs = -1, {}

    def find(self, identity: bytes) -> Kept | None:
        return self._runs.get(identity)

    def read(self, run: Kept) -> bytes:
        """Its compressed bytes. Raises CorruptBlob when they are not what they were."""
        data = os.pread(self._handle, run.compressed, run.offset)
        if _check(data) != run.check:
            raise CorruptBlob("a run of an earlier layer is not what it was")
        return data

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)


def index_record(identity: bytes, compressed: bytes, size: int) -> bytes:
    """What an index holds of one run."""
    check = NONE if identity == NONE else _check(compressed)
    return _RECORD.pack(identity, check, len(compressed), size)


def _check(data: bytes) -> bytes:
    return hasher(data).digest()[:16]


def sort_key(path: bytes) -> list[bytes]:
    """Order of a layer: parents first, bytewise by component, whiteouts before siblings."""
    parts = path.split(b"/")
    if parts[-1].startswith(WHITEOUT):
        parts[-1] = b"\0" + parts[-1]
    return parts


def cut(
    changes: Iterable[Change], seen: Callable[[Entry], object] | None, earlier: Earlier | None
) -> Iterator[Fresh | Kept]:
    """The tar of `changes` in runs. A run ends behind an entry, once it is large enough and the
    entry's path says so: an inserted file moves the cuts around it, not all that follow. Files of a
    run's size or more stand in runs of their own."""
    header_of = Headers().of
    headers: list[bytes] = []
    items: list[tuple[Entry, Content]] = []
    length = 0
    previous: list[bytes] = []
    for entry, content in changes:
        key = sort_key(entry.path)
        if key <= previous:
            raise LayerError(f"{entry.path!r} comes twice, or out of order")
        previous = key
        if seen:
            seen(entry)
        header = header_of(entry)
        if entry.type == FILE and entry.size >= RUN:
            if items:
                yield _run(headers, items, earlier)
                headers, items, length = [], [], 0
            yield from _large(header, entry, content, earlier)
            continue
        if callable(content):  # a stream, perhaps one that ends with the next entry
            content = read_whole(entry, content)
        headers.append(header)
        items.append((entry, content))
        length += len(header) + entry.size
        if length >= RUN or (length >= _LEAST and zlib.crc32(entry.path) & 7 == 0):
            yield _run(headers, items, earlier)
            headers, items, length = [], [], 0
    headers.append(end_of_archive())
    yield _run(headers, items, earlier)


def _run(
    headers: list[bytes], items: list[tuple[Entry, Content]], earlier: Earlier | None
) -> Fresh | Kept:
    """One run of small files; `headers` may have one more, the end of the archive."""
    identity = _identity(headers, items)
    kept = earlier.find(identity) if earlier else None
    if kept:
        return kept
    data = bytearray()
    for header, (entry, content) in zip(headers, items, strict=False):
        data += header
        if content is not None:
            data += read_whole(entry, content)
            data += bytes(-entry.size % 512)
    if len(headers) > len(items):
        data += headers[-1]
    return Fresh(data, identity)


def _identity(headers: list[bytes], items: list[tuple[Entry, Content]]) -> bytes:
    parts = list(headers)
    for _, content in items:
        if isinstance(content, HostFile):
            if content.digest is None:
                return NONE
            parts.append(content.digest)
        elif isinstance(content, bytes):
            parts.append(hasher(content).digest())
        elif content is not None:
            return NONE
    return hasher(b"".join(parts)).digest()[:16]


def _large(
    header: bytes, entry: Entry, content: Content, earlier: Earlier | None
) -> Iterator[Fresh | Kept]:
    """The runs of one large file: its header with the first piece, its padding with the last."""
    count = -(-entry.size // CHUNK)
    digest = content.digest if isinstance(content, HostFile) else None
    names = [NONE] * count
    if digest is not None:
        names = [hasher(b"%b%b%d" % (header, digest, n)).digest()[:16] for n in range(count)]
        kept = [earlier.find(name) if earlier else None for name in names]
        if all(kept):
            yield from (run for run in kept if run)
            return
    run = bytearray(header)
    number = 0
    for chunk in read_chunks(entry, content):
        run += chunk
        if len(run) >= RUN and number < count - 1:
            yield Fresh(run, names[number])
            run = bytearray()
            number += 1
    run += bytes(padding(entry.size))
    yield Fresh(run, names[number])
