"""Path tables: the metadata of every path of one layer, searched on disk without parsing.

One file per diff_id. Layout, little-endian, in pages of 4 KiB:

    header    magic and where the parts begin
    records   one per path, in the order they came
    order     u64 positions of the records, sorted by path components (parents first)
    side      whiteouts, opaque folders, implied folders, contents of account files
    CRCs      u32 per page, checked when a page is first touched; then the CRC of the CRCs
    name      64 hex digits of the diff_id, added when it is published: another layer's table in
              its place is as good as none

A table is a cache that can be made again from its layer: it is published by rename without fsync,
and the CRCs turn whatever a crash or a bad disk left into CorruptBlob.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from builder.errors import CorruptBlob, LayerError
from builder.layer.entry import DIRECTORY, HARDLINK, Entry
from builder.rootfs.arrange import MAX_LINKS, Sides, arrange, check_links, key_of, path_of
from builder.store.files import READ, failure

if TYPE_CHECKING:
    from builder.store.store import Store

_MAGIC = b"bldpath\x01"
_HEADER = struct.Struct("<8sQQQQ")  # magic, size of all pages, position of order, count, side
_RECORD = struct.Struct("<HHHcxIIIIIqQ")  # lengths of path and link, mode, type, uid, gid, device,
# length of xattrs, mtime, size; then path, link, xattrs
_XATTR = struct.Struct("<HI")
_PAGE = 4096
_NAME = 64  # hex digits of a diff_id
_MEMO = 50_000  # entries kept per open table


class Table(Protocol):
    """One layer's paths. Whiteouts are not among the entries."""

    @property
    def whiteouts(self) -> frozenset[bytes]:
        """Paths that the layer removes from the layers below it."""
        ...

    @property
    def opaque(self) -> frozenset[bytes]:
        """Folders whose contents in the layers below are hidden."""
        ...

    @property
    def implied(self) -> frozenset[bytes]:
        """Folders that have something below them in this layer but no entry of their own."""
        ...

    @property
    def files(self) -> Mapping[bytes, bytes]:
        """Contents of account files, by path."""
        ...

    def get(self, path: bytes) -> Entry | None:
        """The entry of `path`; a hard link has the type and metadata of what it links to."""
        ...

    def children(self, path: bytes) -> Iterator[Entry]:
        """Entries directly below, sorted by name; implied folders are not among them."""
        ...

    def subtree(self, path: bytes) -> Iterator[Entry]:
        """Entries below `path` at any depth, without its own, parents first."""
        ...


def _follow(table: Table, entry: Entry) -> Entry:
    """What a hard link shares, under the link's path."""
    target: Entry | None = entry
    if entry.type == HARDLINK:
        target = table.get(entry.link)
        if target is None:
            raise LayerError(f"hard link {entry.path!r} points at {entry.link!r}, which is missing")
    assert target is not None  # for the type checker
    return target._replace(path=entry.path)


# -- writing ------------------------------------------------------------------------------------


def write_table(path: str, entries: Iterable[Entry], files: Mapping[bytes, bytes]) -> None:
    """Write a layer's table to `path`, whole. Entries may come in any order; of several with one
    path the last counts. `files` is read after the last entry, so it may be filled on the way.

    Holds the paths in memory, not the entries: about 120 bytes each. Raises LayerError for an
    entry below something that is no folder and for a hard link to nothing in this layer.
    """
    sides = Sides()
    keys: list[bytes] = []
    links: list[tuple[bytes, bytes]] = []
    directories = 0
    with open(path, "wb", buffering=1 << 20) as out:
        out.write(bytes(_HEADER.size))
        position = _HEADER.size
        suffix = struct.Struct(">Q")
        for entry in entries:
            if sides.take(entry.path):
                continue
            record = _pack(entry)
            # The type rides along, so that the pass over the sorted keys sees folders.
            is_directory = entry.type == DIRECTORY
            directories += is_directory
            keys.append(key_of(entry.path) + b"\0\0" + suffix.pack(position << 1 | is_directory))
            if entry.type == HARDLINK:
                links.append((entry.path, entry.link))
            out.write(record)
            position += len(record)
        keys.sort()
        order, implied = arrange(keys, sides)
        check_links(keys, links)
        order_at = position
        out.write(order.tobytes())
        position += 8 * len(order)
        side = _pack_side(sides, implied, files)
        out.write(side)
        end = position + len(side)
    _seal(path, _HEADER.pack(_MAGIC, end, order_at, len(order), position))


def _pack(entry: Entry) -> bytes:
    xattrs = b"".join(_XATTR.pack(len(k), len(v)) + k + v for k, v in entry.xattrs)
    path, link = entry.path, entry.link
    numbers = (entry.mode, entry.type.encode(), entry.uid, entry.gid, *entry.device)
    lengths = _RECORD.pack(len(path), len(link), *numbers, len(xattrs), entry.mtime, entry.size)
    return lengths + key_of(path) + link + xattrs


def _pack_side(sides: Sides, implied: set[bytes], files: Mapping[bytes, bytes]) -> bytes:
    out = bytearray()
    for names in (sides.whiteouts, sides.opaque, implied):
        out += struct.pack("<I", len(names))
        for name in sorted(names):
            out += struct.pack("<I", len(name)) + name
    out += struct.pack("<I", len(files))
    for name in sorted(files):
        out += struct.pack("<II", len(name), len(files[name])) + name + files[name]
    return bytes(out)


def _seal(path: str, header: bytes) -> None:
    """Put the header in place and the CRCs behind the pages."""
    with open(path, "r+b") as file:
        file.write(header)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            crcs = array(
                "I", (zlib.crc32(data[at : at + _PAGE]) for at in range(0, len(data), _PAGE))
            )
        raw = crcs.tobytes()
        file.seek(0, os.SEEK_END)
        file.write(raw + struct.pack("<I", zlib.crc32(raw)))


# -- reading ------------------------------------------------------------------------------------


class PathTable:
    """An open table file. Raises CorruptBlob from any method when its bytes were damaged."""

    def __init__(self, path: str, data: mmap.mmap, of: str = "") -> None:
        self._path, self._data = path, data
        if len(data) < _HEADER.size + 8:
            raise CorruptBlob(f"{path}: not a path table")
        magic, self._end, self._order, self._count, self._side = _HEADER.unpack_from(data)
        pages = -(-self._end // _PAGE)
        last = self._end + 4 * pages
        if magic != _MAGIC or len(data) - last not in (4, 4 + _NAME):
            raise CorruptBlob(f"{path}: not a path table, or cut short")
        raw = data[self._end : last]
        if zlib.crc32(raw) != struct.unpack("<I", data[last : last + 4])[0]:
            raise CorruptBlob(f"{path}: damaged")
        if of and data[last + 4 :] != of[-_NAME:].encode():
            raise CorruptBlob(f"{path}: the table of another layer")
        self._crcs: array[int] = array("I", raw)
        self._good = bytearray(pages)
        self._check(0, _HEADER.size)
        self._memo: dict[bytes, Entry | None] = {}
        self.whiteouts, self.opaque, self.implied, self.files = self._sides()

    @classmethod
    def open(cls, path: str, of: str = "") -> PathTable:
        """`of`: the diff_id whose table it must be. Raises CorruptBlob when there is no such table
        or it is damaged."""
        try:
            handle = os.open(path, READ | os.O_CLOEXEC)  # a FIFO in its place does not block
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
        if path in memo:
            return memo[path]
        key = key_of(path)
        index = self._bisect(key)
        entry = None
        if index < self._count and self._key_at(index) == key:
            entry = self._entry(index)
            for _ in range(MAX_LINKS):
                if entry.type != HARDLINK:
                    break
                entry = _follow(self, entry)
        if len(memo) >= _MEMO:
            memo.clear()
        memo[path] = entry
        return entry

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
        prefix = key_of(path) + b"\0" if path else b""
        for index in range(self._bisect(prefix or b"\1"), self._count):
            if not self._key_at(index).startswith(prefix):
                return
            yield self._resolved(index)

    def _resolved(self, index: int) -> Entry:
        entry = self._entry(index)
        return entry if entry.type != HARDLINK else self.get(entry.path) or entry

    def _bisect(self, key: bytes, low: int = 0) -> int:
        """Index of the first path whose key is not below `key`."""
        high = self._count
        while low < high:
            middle = (low + high) // 2
            if self._key_at(middle) < key:
                low = middle + 1
            else:
                high = middle
        return low

    def _key_at(self, index: int) -> bytes:
        at = self._position(index)
        self._check(at, at + 2)
        length = self._data[at] | self._data[at + 1] << 8
        at += _RECORD.size
        self._check(at, at + length)
        return self._data[at : at + length]

    def _position(self, index: int) -> int:
        at = self._order + 8 * index
        self._check(at, at + 8)
        return int.from_bytes(self._data[at : at + 8], "little")

    def _entry(self, index: int) -> Entry:
        at = self._position(index)
        self._check(at, at + _RECORD.size)
        name, link, mode, type_, uid, gid, major, minor, xattr, mtime, size = _RECORD.unpack_from(
            self._data, at
        )
        at += _RECORD.size
        self._check(at, at + name + link + xattr)
        data = self._data[at : at + name + link + xattr]
        return Entry(
            path_of(data[:name]),
            type_.decode(),
            mode,
            uid,
            gid,
            mtime,
            size,
            data[name : name + link],
            _unpack_xattrs(data[name + link :]) if xattr else (),
            (major, minor),
        )

    def _check(self, start: int, end: int) -> None:
        """Verify the pages of a range, each once."""
        good = self._good
        if end <= self._end and end - start <= _PAGE and good[start >> 12] and good[end - 1 >> 12]:
            return
        if end > self._end:
            raise CorruptBlob(f"{self._path}: damaged")
        for page in range(start // _PAGE, (end - 1) // _PAGE + 1):
            if not good[page]:
                at = page * _PAGE
                if zlib.crc32(self._data[at : min(at + _PAGE, self._end)]) != self._crcs[page]:
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


def _unpack_xattrs(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    found, at = [], 0
    while at < len(data):
        name, value = _XATTR.unpack_from(data, at)
        at += _XATTR.size
        found.append((data[at : at + name], data[at + name : at + name + value]))
        at += name + value
    return tuple(found)


def name_table(path: str, diff_id: str) -> None:
    """Say at the end of a table whose it is."""
    with open(path, "ab") as file:
        file.write(diff_id[-_NAME:].encode())


def make_table(
    store: Store, diff_id: str, entries: Iterable[Entry], files: Mapping[bytes, bytes]
) -> PathTable:
    """Write the table of a layer into the store and open it. See write_table."""
    folder = store.temporary()
    try:
        path = os.path.join(folder, "table")
        write_table(path, entries, files)
        name_table(path, diff_id)
        store.folder.place(path, store.table_path(diff_id))
    except OSError as error:
        raise failure(error, "write", store.table_path(diff_id), store.root) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, "table"))
        os.rmdir(folder)
    return PathTable.open(store.table_path(diff_id), diff_id)


# -- in memory ----------------------------------------------------------------------------------


class MemoryTable:
    """The table of a layer that is planned but not built. Same rules as write_table."""

    def __init__(
        self, entries: Iterable[Entry], files: Mapping[bytes, bytes] | None = None
    ) -> None:
        sides = Sides()
        found: dict[bytes, Entry] = {}
        for entry in entries:
            if not sides.take(entry.path):
                found[key_of(entry.path)] = entry
        self._entries = found
        self._keys = sorted(found)
        keys = [
            key + b"\0\0" + (found[key].type == DIRECTORY).to_bytes(8, "big") for key in self._keys
        ]
        implied = arrange(keys, sides)[1]
        links = [(each.path, each.link) for each in found.values() if each.type == HARDLINK]
        check_links(keys, links)
        self.whiteouts, self.opaque = frozenset(sides.whiteouts), frozenset(sides.opaque)
        self.implied = frozenset(implied)
        self.files: Mapping[bytes, bytes] = dict(files or {})

    def get(self, path: bytes) -> Entry | None:
        entry = self._entries.get(key_of(path))
        return _follow(self, entry) if entry is not None and entry.type == HARDLINK else entry

    def children(self, path: bytes) -> Iterator[Entry]:
        depth = path.count(b"/") + 1 if path else 0
        return (each for each in self.subtree(path) if each.path.count(b"/") == depth)

    def subtree(self, path: bytes) -> Iterator[Entry]:
        prefix = key_of(path) + b"\0" if path else b""
        for index in range(bisect_left(self._keys, prefix or b"\1"), len(self._keys)):
            if not self._keys[index].startswith(prefix):
                return
            entry = self._entries[self._keys[index]]
            yield _follow(self, entry) if entry.type == HARDLINK else entry
