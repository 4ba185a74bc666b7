"""Writing path tables; see format.py for their layout."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from builder.layer.entry import HARDLINK, WHITEOUT, Entry
from builder.layer.record import SEPARATOR, TYPE_AT, pack, unpack
from builder.layer.sorter import Sorter
from builder.rootfs.arrange import Sides, check_links, link_item, outlived
from builder.rootfs.format import HEADER, MAGIC, NAME, PAGE
from builder.store.files import failure

if TYPE_CHECKING:
    from builder.store.store import Store

_CHUNK = 256 * PAGE
_LAST = (1 << 64) - 1
_BITS = (1 << 20) - 1
_TYPES = {code: chr(code) for code in b"0123456"}


class TableWriter:
    """Takes a layer's entries in any order; of several with one path the last counts, but a hard
    link stays what its target was when the link came. Memory does not grow with them, but for
    whiteouts, opaque and implied folders, and such links. Close it."""

    def __init__(self, folder: str) -> None:
        """`folder`: where entries wait that do not fit in memory."""
        self._folder = folder
        self._sorter = Sorter(folder)
        self._links = Sorter(folder)
        self._sides = Sides()
        self._next = _LAST  # counts down: the last of several with one path comes first
        self._targets = bytearray()  # a bit for each that links had so far, by its hash
        self._replaced = False  # perhaps one of them was
        self._outlived: Mapping[bytes, bytes] = {}  # records by their keys

    def add(self, entry: Entry) -> None:
        path = entry[0]
        if WHITEOUT in path and self._sides.take(path):
            return
        key = path.replace(b"/", b"\0")
        self._sorter.add(key + SEPARATOR + self._next.to_bytes(8, "big") + pack(entry))
        targets = self._targets
        if targets and not self._replaced:
            at = hash(path) & _BITS
            self._replaced = bool(targets[at >> 3] & 1 << (at & 7))
        if entry[1] == HARDLINK:
            self._links.add(link_item(path, entry[7]) + SEPARATOR + self._next.to_bytes(8, "big"))
            if not targets:
                targets += bytes((_BITS >> 3) + 1)
            at = hash(entry[7]) & _BITS
            targets[at >> 3] |= 1 << (at & 7)
        self._next -= 1

    def write(self, path: str, files: Mapping[bytes, bytes]) -> None:
        """Write the table whole. Raises LayerError for an entry below something that is no folder
        and for a hard link to nothing in this layer."""
        if self._links:
            if self._replaced:
                self._outlived = outlived(self._links, self._sorter)
            check_links(self._links, self._listed, self._outlived)
        order = array("Q")
        sides = self._sides
        with open(path, "wb", buffering=1 << 20) as out:
            out.write(bytes(HEADER.size))
            position = HEADER.size
            for key, record in self._records():
                sides.sorted(key, _TYPES[record[TYPE_AT]])
                out.write(record)
                order.append(position)
                position += len(record)
            sides.finish()
            out.write(order.tobytes())
            side_at = position + 8 * len(order)
            side = _pack_side(sides, files)
            out.write(side)
        _seal(path, HEADER.pack(MAGIC, side_at + len(side), position, len(order), side_at))

    def publish(self, store: Store, diff_id: str, files: Mapping[bytes, bytes]) -> None:
        """Write the table of a layer into the store, by way of the folder given. As `write`."""
        path = os.path.join(self._folder, "table")
        try:
            self.write(path, files)
            name_table(path, diff_id)
            store.folder.place(path, store.table_path(diff_id))
        except OSError as error:
            raise failure(error, "write", store.table_path(diff_id), store.root) from error

    def _records(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and records, sorted, each path once."""
        previous = None
        for item in self._sorter:
            key, _, rest = item.partition(SEPARATOR)
            if key != previous:
                previous = key
                yield key, self._outlived.get(key + rest[:8]) or rest[8:]

    def _listed(self) -> Iterator[tuple[bytes, str, bytes]]:
        for key, record in self._records():
            type_ = _TYPES[record[TYPE_AT]]
            yield key, type_, unpack(record)[0].link if type_ == HARDLINK else b""

    def close(self) -> None:
        self._sorter.close()
        self._links.close()


def write_table(path: str, entries: Iterable[Entry], files: Mapping[bytes, bytes]) -> None:
    """Write a layer's table to `path`, as TableWriter does. `files` is read after the last entry,
    so it may be filled on the way."""
    writer = TableWriter(os.path.dirname(path) or ".")
    try:
        add = writer.add
        for entry in entries:
            add(entry)
        writer.write(path, files)
    finally:
        writer.close()


def _pack_side(sides: Sides, files: Mapping[bytes, bytes]) -> bytes:
    out = bytearray()
    for names in (sides.whiteouts, sides.opaque, sides.implied):
        out += struct.pack("<I", len(names))
        for name in sorted(names):
            out += struct.pack("<I", len(name)) + name
    out += struct.pack("<I", len(files))
    for name in sorted(files):
        out += struct.pack("<II", len(name), len(files[name])) + name + files[name]
    return bytes(out)


def _seal(path: str, header: bytes) -> None:
    """Put the header in place and the CRCs behind the pages."""
    crcs = array("I")
    with open(path, "r+b", buffering=0) as file:
        file.write(header)
        file.seek(0)
        while data := memoryview(file.read(_CHUNK)):
            crcs.extend(zlib.crc32(data[at : at + PAGE]) for at in range(0, len(data), PAGE))
        raw = crcs.tobytes()
        with open(file.fileno(), "ab", closefd=False) as end:
            end.write(raw + struct.pack("<I", zlib.crc32(raw)))


def name_table(path: str, diff_id: str) -> None:
    """Say at the end of a table whose it is."""
    with open(path, "ab") as file:
        file.write(diff_id[-NAME:].encode())


@contextlib.contextmanager
def table_writer(store: Store) -> Iterator[TableWriter]:
    """For a layer of the store; see TableWriter.publish."""
    folder = store.temporary()
    writer = TableWriter(folder)
    try:
        yield writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, "table"))
        os.rmdir(folder)
