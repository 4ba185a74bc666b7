"""Reading path tables; see format.py for their layout."""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator

from builder.errors import CorruptBlob
from builder.layer.entry import HARDLINK, Entry
from builder.layer.record import HEAD, TYPE_AT, key_of, path_of, unpack
from builder.rootfs.arrange import MAX_LINKS, follow
from builder.rootfs.format import HEADER, MAGIC, NAME, PAGE
from builder.store.files import READ, Files

_U64 = struct.Struct("<Q")
_MEMO = 50_000  # entries kept per open table, and keys that searches pass
_UNASKED = "unasked"
_HARDLINK = ord(HARDLINK)
_NEAR = 32  # how close two paths are when keys between them are no longer kept


Read = Callable[[bytes], bytes | None]
"""Reads the bytes of a small file of a layer by its path; None: it is too large."""


class PathTable:
    """An open table file. Raises CorruptBlob from any method when its bytes were damaged."""

    def __init__(self, path: str, data: mmap.mmap, of: str = "") -> None:
        self._path, self._data = path, data
        if len(data) < HEADER.size + 8:
            raise CorruptBlob(f"{path}: not a path table")
        magic, self._end, self._order, self._count, self._side = HEADER.unpack_from(data)
        pages = -(-self._end // PAGE)
        last = self._end + 4 * pages
        if magic != MAGIC or len(data) - last not in (4, 4 + NAME):
            raise CorruptBlob(f"{path}: not a path table, or cut short")
        raw = data[self._end : last]
        if zlib.crc32(raw) != struct.unpack("<I", data[last : last + 4])[0]:
            raise CorruptBlob(f"{path}: damaged")
        if of and data[last + 4 :] != of[-NAME:].encode():
            raise CorruptBlob(f"{path}: the table of another layer")
        self._crcs: array[int] = array("I", raw)
        self._good = bytearray(pages)
        self._check(0, HEADER.size)
        self._memo: dict[bytes, Entry | None] = {}
        self._passed: dict[int, bytes] = {}  # keys that every search passes, by index
        self.whiteouts, self.opaque, self.implied, self.files = self._sides()
        self.read: Read | None = None

    @classmethod
    def open(cls, path: str, of: str = "") -> PathTable:
        """`of`: the diff_id whose table it must be. Raises CorruptBlob when there is no such table
        or it is damaged."""
        try:
            handle = Files().open(path, READ)  # a FIFO in its place does not block
            try:
                data = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
            finally:
                os.close(handle)
        except (OSError, ValueError) as error:
            raise CorruptBlob(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        return cls(path, data, of)

    def __len__(self) -> int:
        return int(self._count)

    def get(self, path: bytes) -> Entry | None:
        memo = self._memo
        known = memo.get(path, _UNASKED)  # another thread may clear it
        if not isinstance(known, str):
            return known
        index = self.index(path)
        entry = None
        if index is not None:
            entry = self.entry(index)
            for _ in range(MAX_LINKS):
                if entry.type != HARDLINK:
                    break
                entry = follow(entry, self.get)
        if len(memo) >= _MEMO:
            memo.clear()
        memo[path] = entry
        return entry

    def index(self, path: bytes, guess: int = 0) -> int | None:
        """Which of the paths, in the order of `subtree`; the root, where it has an entry, is 0.
        `guess` is where it may well stand."""
        key = key_of(path)
        if guess < self._count and self._key_at(guess) == key:
            return guess
        index = self._bisect(key)
        return index if index < self._count and self._key_at(index) == key else None

    def entry(self, index: int) -> Entry:
        """As the layer has it: a hard link is one."""
        at, start = self._head(index)
        fields = HEAD.unpack_from(self._data, at)
        end = start + fields[0] + fields[1] + fields[8]  # path, link, xattrs
        self._check(start, end)
        return unpack(self._data[at:end])[0]

    def paths(self) -> Iterator[bytes]:
        """All of them, in their order."""
        return (path_of(self._key_at(index)) for index in range(self._count))

    def file(self, path: bytes) -> bytes:
        """The path that holds the bytes of a regular file: its own, or of a hard link the one at
        the end."""
        return self.entry(self.chain(path)[-1]).path

    def chain(self, path: bytes) -> list[int]:
        """Where `path` stands, then what it is a hard link to, down to what is none; [] when there
        is no such path."""
        found: list[int] = []
        for _ in range(MAX_LINKS + 1):
            index = self.index(path)
            if index is None:
                break
            found.append(index)
            entry = self.entry(index)
            if entry.type != HARDLINK:
                return found
            path = entry.link
        return []

    def links(self) -> Iterator[int]:
        """Which of the paths are hard links."""
        for index in range(self._count):
            at, _ = self._head(index)
            if self._data[at + TYPE_AT] == _HARDLINK:
                yield index

    def whole(self) -> bool:
        """Whether all of it is undamaged."""
        try:
            self._check(0, self._end)
        except CorruptBlob:
            return False
        return True

    def children(self, path: bytes) -> Iterator[Entry]:
        prefix = key_of(path) + b"\0" if path else b""
        index = self._bisect(prefix or b"\1")
        while index < self._count:
            key = self._key_at(index)
            if not key.startswith(prefix):
                return
            name, nested, _ = key[len(prefix) :].partition(b"\0")
            if not nested:
                yield self._resolved(index)
                index += 1
                if index < self._count and not self._key_at(index).startswith(key + b"\0"):
                    continue
            index = self._bisect(prefix + name + b"\1", index)

    def subtree(self, path: bytes) -> Iterator[Entry]:
        key = key_of(path)
        start = self._bisect(key + b"\0" if path else b"\1")
        end = self._bisect(key + b"\1", start) if path else self._count
        for index in range(start, end):
            yield self._resolved(index)

    def _resolved(self, index: int) -> Entry:
        entry = self.entry(index)
        return entry if entry.type != HARDLINK else self.get(entry.path) or entry

    def _bisect(self, key: bytes, low: int = 0) -> int:
        """Index of the first path whose key is not below `key`."""
        high, passed = self._count, self._passed
        while low < high:
            middle = (low + high) // 2
            found = passed.get(middle)
            if found is None:
                found = self._key_at(middle)
                if high - low > _NEAR and len(passed) < _MEMO:
                    passed[middle] = found
            if found < key:
                low = middle + 1
            else:
                high = middle
        return low

    def _key_at(self, index: int) -> bytes:
        at, start = self._head(index)
        data = self._data
        end = start + (data[at] | data[at + 1] << 8)
        if not self._good[end - 1 >> 12]:  # no key is longer than a page
            self._check(start, end)
        return data[start:end]

    def _head(self, index: int) -> tuple[int, int]:
        """Where a record begins and where its head ends, both on checked pages."""
        good = self._good
        at = self._order + 8 * index
        if not (good[at >> 12] and good[at + 7 >> 12]):
            self._check(at, at + 8)
        at = _U64.unpack_from(self._data, at)[0]
        start = at + HEAD.size
        if not (good[at >> 12] and good[start - 1 >> 12]):
            self._check(at, start)
        return at, start

    def _check(self, start: int, end: int) -> None:
        """Verify the pages of a range, each once."""
        good = self._good
        if end <= self._end and end - start <= PAGE and good[start >> 12] and good[end - 1 >> 12]:
            return
        if end > self._end:
            raise CorruptBlob(f"{self._path}: damaged")
        for page in range(start // PAGE, (end - 1) // PAGE + 1):
            if not good[page]:
                at = page * PAGE
                if zlib.crc32(self._data[at : min(at + PAGE, self._end)]) != self._crcs[page]:
                    raise CorruptBlob(f"{self._path}: damaged")
                good[page] = 1

    def _sides(
        self,
    ) -> tuple[frozenset[bytes], frozenset[bytes], frozenset[bytes], dict[bytes, bytes]]:
        self._check(self._side, self._end)
        data, at = self._data[self._side : self._end], 0
        names: list[frozenset[bytes]] = []
        for _ in range(3):
            found = []
            for _ in range(int.from_bytes(data[at : at + 4], "little")):
                end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
                found.append(data[at + 8 : end])
                at = end - 4
            names.append(frozenset(found))
            at += 4
        files: dict[bytes, bytes] = {}
        count, at = int.from_bytes(data[at : at + 4], "little"), at + 4
        for _ in range(count):
            length, size = struct.unpack_from("<II", data, at)
            at += 8 + length
            files[data[at - length : at]] = data[at : at + size]
            at += size
        whiteouts, opaque, implied = names
        return whiteouts, opaque, implied, files
