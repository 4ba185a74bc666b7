"""Contents: the SHA-256 of every regular file of one layer; and files taken out of one.

One file per diff_id, little-endian: a header (magic, count of paths); 32 bytes for each path of the
layer's path table, in its order, zeros where no regular file stands; the CRC of all that; 64 hex
digits of the diff_id. A cache as path tables are: placed without fsync, checked when it is opened.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import struct
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import CorruptBlob
from builder.layer.entry import FILE, HARDLINK
from builder.layer.read import read_layer, room
from builder.layer.sparse import skip_hole
from builder.oci.digest import hasher
from builder.rootfs.format import NAME
from builder.store.files import READ, Files, failure

if TYPE_CHECKING:
    from builder.rootfs.reading import PathTable
    from builder.store.store import Store

_HEAD = struct.Struct("<8sQ")
_MAGIC = b"bldsums\x01"
_CRC = struct.Struct("<I")
_DIGEST = 32
_NONE = bytes(_DIGEST)
_CHUNK = 1 << 20


class Contents:
    """What `Layers.contents` gives."""

    def __init__(self, table: PathTable, data: mmap.mmap) -> None:
        self._table, self._data = table, data

    @classmethod
    def open(cls, path: str, diff_id: str, table: PathTable) -> Contents:
        """Raises CorruptBlob when there is none of this layer or it is damaged."""
        try:
            handle = Files().open(path, READ)  # a FIFO in its place does not block
            try:
                data = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
            finally:
                os.close(handle)
        except (OSError, ValueError) as error:
            raise CorruptBlob(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        end = _HEAD.size + _DIGEST * len(table)
        if data[: _HEAD.size] != _HEAD.pack(_MAGIC, len(table)):
            raise CorruptBlob(f"{path}: not the contents of this layer")
        tail = _CRC.pack(zlib.crc32(memoryview(data)[:end])) + diff_id[-NAME:].encode()
        if data[end:] != tail:
            raise CorruptBlob(f"{path}: damaged, or another layer's")
        return cls(table, data)

    def get(self, path: bytes) -> bytes | None:
        """32 bytes; None when the layer has no regular file of this path."""
        for index in self._table.chain(path):
            at = _HEAD.size + _DIGEST * index
            digest = self._data[at : at + _DIGEST]
            if digest != _NONE:
                return digest
        return None

    def all(self) -> dict[bytes, bytes]:
        """What `get` gives, by path, in one walk; without links that come before their targets."""
        places = range(_HEAD.size, _HEAD.size + _DIGEST * len(self._table), _DIGEST)
        digests = (self._data[at : at + _DIGEST] for at in places)
        pairs = zip(self._table.paths(), digests, strict=True)
        return {path: digest for path, digest in pairs if digest != _NONE}


def write_contents(store: Store, diff_id: str, table: PathTable, plain: BinaryIO) -> None:
    """Hash the files of a layer's tar into the store. Memory does not grow with them."""
    folder, target = store.temporary(), store.contents_path(diff_id)
    path = os.path.join(folder, "contents")
    try:
        with open(path, "w+b", buffering=0) as file:
            _fill(file.fileno(), table, plain, folder)
            file.seek(0)
            crc = 0
            while data := file.read(_CHUNK):
                crc = zlib.crc32(data, crc)
            file.write(_CRC.pack(crc) + diff_id[-NAME:].encode())
        store.folder.place(path, target)
    except OSError as error:
        raise failure(error, "write", target, store.root) from error
    finally:
        shutil.rmtree(folder)


def _fill(file: int, table: PathTable, plain: BinaryIO, folder: str) -> None:
    os.pwrite(file, _HEAD.pack(_MAGIC, len(table)), 0)
    os.truncate(file, _HEAD.size + _DIGEST * len(table))
    for entry, content in read_layer(plain, room(folder)):
        index = table.index(entry.path)
        if index is None:
            continue  # a whiteout
        digest = _NONE
        if entry.type == FILE:
            running = hasher()
            while data := content.read(_CHUNK):
                running.update(data)
            digest = running.digest()
        elif entry.type == HARDLINK:  # what the target is now: a later entry may replace it
            target = table.index(entry.link)
            if target is not None:
                digest = os.pread(file, _DIGEST, _HEAD.size + _DIGEST * target)
        os.pwrite(file, digest, _HEAD.size + _DIGEST * index)


def names_of(table: PathTable, path: bytes) -> list[bytes]:
    """The path, and those of the files that it is a hard link to."""
    return [path, *(table.entry(index).path for index in table.chain(path)[1:])]


def extract(plain: BinaryIO, places: Mapping[bytes, str]) -> set[bytes]:
    """Write what stands at these paths in a layer's tar to the places, if they are regular files or
    hard links to such; nothing stands at a place yet. Gives other paths that they were links to:
    with those as well it is to be done anew."""
    more: set[bytes] = set()
    for entry, content in read_layer(plain, room(os.path.dirname(next(iter(places.values()))))):
        place = places.get(entry.path)
        if place is None:
            continue
        with contextlib.suppress(FileNotFoundError):  # of several with one path the last counts
            os.unlink(place)
        if entry.type == FILE:
            _copy(content, place, entry.size)
        elif entry.type == HARDLINK and entry.link in places:
            with contextlib.suppress(FileNotFoundError):
                os.link(places[entry.link], place)
        elif entry.type == HARDLINK:
            more.add(entry.link)
    return more


def _copy(content: BinaryIO, place: str, size: int) -> None:
    with open(place, "xb", buffering=0) as file:
        while True:
            if hole := skip_hole(content):
                file.seek(hole, os.SEEK_CUR)
            elif data := content.read(_CHUNK):
                file.write(data)
            else:
                break
        file.truncate(size)
