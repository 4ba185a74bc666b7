"""Runs: the pieces a layer is compressed in, and those that an earlier layer holds already.

The tar is cut into runs of about a megabyte, at places that its own paths decide, and each run
becomes a gzip member or zstd frame of its own. A run whose changes all came with a line that tells
header and content has an identity: the hash of its lines. When the layer is made anew, a run with
an identity that the earlier blob knows is taken from there: no header is made, no file is read and
nothing compressed again. That is a speed-up and no more: the bytes are the same either way, and the
diff_id is hashed over all of them.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import NamedTuple

from builder.errors import CorruptBlob, LayerError
from builder.layer.content import CHUNK, read_chunks, read_whole
from builder.layer.entry import FILE, WHITEOUT, Change, Content, Entry
from builder.layer.header import BLOCK, Headers, end_of_archive, padding
from builder.oci.digest import hasher

RUN = 1 << 20
_LEAST = RUN // 4
_RECORD = struct.Struct("<16sIII")  # identity, check, sizes compressed and raw
NONE = bytes(16)
"""The identity of a run that has none: what it holds is known when it is read."""
_FORMAT = b"tar 1\n"
"""Raised whenever the same lines would make another tar than before."""

_Item = tuple[Entry, Content, bytes]


class Told(NamedTuple):
    """What is known of changes that are about to be written."""

    lines: Iterable[bytes]
    """One per change, which tells its header and content in any form; b"" for a file whose content
    is not known yet."""
    line_of: Callable[[Entry, bytes], bytes]
    """The line of such a file, by the raw sha256 of its bytes."""


Learned = bytearray
"""Raw sha256, 32 bytes each, of the files whose content was not known before, in the layer's
order."""


class Name:
    """A run's identity, 16 bytes, given at the latest when the run behind it is made."""

    def __init__(self, value: bytes = NONE) -> None:
        self.value = value


class Fresh(NamedTuple):
    """A run to be compressed."""

    data: bytes | bytearray
    name: Name


class Reused(NamedTuple):
    """A run that the earlier blob holds, from `offset` on; `check` is of its compressed bytes."""

    name: Name
    check: int
    compressed: int
    size: int
    offset: int


class Earlier:
    """The runs of an earlier layer's blob. `index` is what `write_layer` gave for it; anything
    else, and one of another encoder, is as if there were none. Close it."""

    def __init__(self, blob: str, index: bytes, encoder: str) -> None:
        self._runs: dict[bytes, Reused] = {}
        name, _, records = index.partition(b"\n")
        if name != encoder.encode() or len(records) % _RECORD.size:
            records = b""
        offset = 0
        for identity, check, compressed, size in _RECORD.iter_unpack(records):
            if identity != NONE:
                self._runs[identity] = Reused(Name(identity), check, compressed, size, offset)
            offset += compressed
        try:
            self._handle = os.open(blob, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._handle, self._runs = -1, {}

    def find(self, identity: bytes) -> Reused | None:
        return self._runs.get(identity)

    def read(self, run: Reused) -> bytes:
        """Its compressed bytes. Raises CorruptBlob when they are not what they were."""
        data = os.pread(self._handle, run.compressed, run.offset)
        if _check(data) != run.check:
            raise CorruptBlob("a run of an earlier layer is not what it was")
        return data

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)


def index_name(digest: str) -> str:
    """The entry of the kind "trees" that holds the index of a blob's runs."""
    return f"runs-{digest.removeprefix('sha256:')}"


def sizes(index: bytes) -> list[tuple[int, int]]:
    """Of each run: bytes compressed and raw. Empty for what is no index."""
    _, _, records = index.partition(b"\n")
    if len(records) % _RECORD.size:
        return []
    return [record[2:] for record in _RECORD.iter_unpack(records)]


class Indexed(NamedTuple):
    """What an index holds of one run."""

    name: Name
    check: int
    compressed: int
    size: int

    @classmethod
    def of(cls, name: Name, compressed: bytes, size: int) -> Indexed:
        return cls(name, _check(compressed), len(compressed), size)

    def pack(self) -> bytes:
        return _RECORD.pack(self.name.value, *self[1:])


def _check(data: bytes) -> int:
    """Tells a damaged run; which run it is, its place says."""
    from isal import isal_zlib

    return isal_zlib.crc32(data)


def sort_key(path: bytes) -> bytes:
    """Order of a layer: parents first, bytewise by component, whiteouts before siblings. (NUL is in
    no path.)"""
    if WHITEOUT in path:
        folder, slash, name = path.rpartition(b"/")
        if name.startswith(WHITEOUT):
            return (folder + slash).replace(b"/", b"\0") + b"\0" + name
    return path.replace(b"/", b"\0")


def cut(
    changes: Iterable[Change],
    seen: Callable[[Entry], object] | None,
    earlier: Earlier | None,
    told: Told | None,
    learned: Learned,
) -> Iterator[Fresh | Reused]:
    """The tar of `changes` in runs; `learned` is added to on the way. A run ends behind an entry,
    once it is large enough and the entry's path says so: an inserted file moves the cuts around it,
    not all that follow. Files of a run's size or more stand in runs of their own."""
    maker = _Maker(earlier, told, learned)
    items: list[_Item] = []
    length = 0
    previous: bytes | None = None
    for change, line in zip(changes, told.lines if told else repeat(b""), strict=False):
        entry, content = change
        path, size = entry[0], entry[6]
        key = sort_key(path)
        if previous is not None and key <= previous:
            raise LayerError(f"{os.fsdecode(path)!r} comes twice, or out of order")
        previous = key
        if seen:
            seen(entry)
        if size >= RUN and entry[1] == FILE:
            if items:
                yield maker.run(items)
                items, length = [], 0
            yield from maker.large(entry, content, line)
            continue
        if callable(content):  # a stream, perhaps one that ends with the next entry
            content = read_whole(entry, content)
        items.append((entry, content, line))
        length += BLOCK + size
        if length >= RUN or (length >= _LEAST and zlib.crc32(path) & 7 == 0):
            yield maker.run(items)
            items, length = [], 0
    yield maker.run(items, last=True)


class _Maker:
    """Makes runs, or finds them in the earlier blob."""

    def __init__(self, earlier: Earlier | None, told: Told | None, learned: Learned) -> None:
        self._header_of = Headers().of
        self._find = earlier.find if earlier else None
        self._line_of = told.line_of if told else None
        self._learned = learned

    def run(self, items: list[_Item], *, last: bool = False) -> Fresh | Reused:
        """One run of small files; the last one has the end of the archive."""
        lines = [line for _, _, line in items]
        end = b"end" if last else b""
        if self._find and all(lines):
            kept = self._find(_name(b"".join(lines) + end))
            if kept:
                return kept
        header_of, line_of = self._header_of, self._line_of
        data = bytearray()
        for number, (entry, content, line) in enumerate(items):
            data += header_of(entry)
            if content is not None:
                read = read_whole(entry, content)
                data += read
                data += bytes(-len(data) % BLOCK)
                if line_of and not line:
                    digest = hasher(read).digest()
                    self._learned += digest
                    lines[number] = line_of(entry, digest)
        if last:
            data += end_of_archive()
        return Fresh(data, Name(_name(b"".join(lines) + end) if line_of else NONE))

    def large(self, entry: Entry, content: Content, line: bytes) -> Iterator[Fresh | Reused]:
        """The runs of one large file: its header with the first piece, its padding with the
        last."""
        count = -(-entry.size // CHUNK)
        if self._find and line:
            kept = [self._find(_name(b"%b%d" % (line, number))) for number in range(count)]
            if all(kept):
                yield from (run for run in kept if run)
                return
        names = [Name() for _ in range(count)]
        line_of = self._line_of
        running = hasher() if line_of and not line else None
        run = bytearray(self._header_of(entry))
        number = 0
        for chunk in read_chunks(entry, content):
            if running:
                running.update(chunk)
            run += chunk
            if len(run) >= RUN and number < count - 1:
                yield Fresh(run, names[number])
                run = bytearray()
                number += 1
        run += bytes(padding(entry.size))
        if line_of and running:
            digest = running.digest()
            self._learned += digest
            line = line_of(entry, digest)
        if line:
            for number, name in enumerate(names):
                name.value = _name(b"%b%d" % (line, number))
        yield Fresh(run, names[-1])


def _name(data: bytes) -> bytes:
    return hasher(_FORMAT + data).digest()[:16]
