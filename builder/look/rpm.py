"""Packages of rpm: the headers of its database, in all formats it had (rpm's docs/manual, Format of
headers; tags as its rpmtag.h numbers them)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import LayerError
from builder.layer.entry import MAX_PATH
from builder.look.packages import Owned, Package, Say, shown, text

if TYPE_CHECKING:
    from builder.look.tree import Tree

_FOLDERS = (b"var/lib/rpm", b"usr/lib/sysimage/rpm", b"usr/share/rpm")
_NAMES = {b"rpmdb.sqlite": "sqlite", b"Packages.db": "ndb", b"Packages": "bdb"}
_MAX_FILE = 1 << 30
_MAX_ENTRIES, _MAX_DATA = 0x10000, 256 << 20  # as rpm has them
_MAX_VALUES = 1 << 20  # of a tag: no package has a million files
_ENTRY = struct.Struct(">IIiI")  # tag, type, offset, count
_NAME, _VERSION, _RELEASE, _EPOCH, _SIZE, _ARCH = 1000, 1001, 1002, 1003, 1009, 1022
_INDEXES, _BASENAMES, _FOLDERNAMES, _OLDNAMES = 1116, 1117, 1118, 1027
_INT32, _STRING, _ARRAY, _I18N = 4, 6, 8, 9
_WANTED = {
    _NAME: _STRING, _VERSION: _STRING, _RELEASE: _STRING, _EPOCH: _INT32, _SIZE: _INT32,
    _ARCH: _STRING, _INDEXES: _INT32, _BASENAMES: _ARRAY, _FOLDERNAMES: _ARRAY, _OLDNAMES: _ARRAY,
}  # fmt: skip


def read(tree: Tree, say: Say, owned: Owned | None) -> Iterator[Package]:
    there = dict.fromkeys(filter(None, map(tree.resolve, _FOLDERS)))
    for path in (found for folder in there for found in _databases(tree, folder)[:1]):
        before = object()
        try:
            for blob in _headers(tree, path):
                package = _package(blob, path, owned)
                if package is None:
                    raise LayerError("a header that is none")
                before = package
                yield package
        except LayerError as error:
            more = " after some packages" if isinstance(before, Package) else ""
            say(f"{shown(path)} cannot be read{more}: {error.message}")


def _databases(tree: Tree, folder: bytes) -> list[bytes]:
    paths = (folder + b"/" + name for name in _NAMES)
    return [path for path in paths if path in tree.files]


def _headers(tree: Tree, path: bytes) -> Iterator[bytes]:
    """Raises LayerError for what is no database."""
    from builder.look import rpm_files

    read = {"sqlite": rpm_files.sqlite, "ndb": rpm_files.ndb, "bdb": rpm_files.bdb}
    with tree.folder() as folder:
        for each in (path, path + b"-wal"):
            for _, place in tree.extract([each], _MAX_FILE):
                if place is None:
                    raise LayerError(f"it has more than {_MAX_FILE >> 20} MiB")
                os.rename(place, os.path.join(folder, "db" + ("-wal" if each != path else "")))
        database = os.path.join(folder, "db")
        if os.path.exists(database):
            yield from read[_NAMES[path.rpartition(b"/")[2]]](database)


class Header(NamedTuple):
    values: dict[int, list[bytes] | list[int]]

    def text(self, tag: int) -> str:
        values = self.values.get(tag) or [b""]
        return text(values[0]) if isinstance(values[0], bytes) else ""

    def numbers(self, tag: int) -> list[int]:
        return [each for each in self.values.get(tag, ()) if isinstance(each, int)]

    def texts(self, tag: int) -> list[bytes]:
        return [each for each in self.values.get(tag, ()) if isinstance(each, bytes)]


def _package(blob: bytes, source: bytes, owned: Owned | None) -> Package | None:
    header = parse(blob)
    if header is None or not header.text(_NAME):
        return None
    version = f"{header.text(_VERSION)}-{header.text(_RELEASE)}"
    if epoch := header.numbers(_EPOCH):
        version = f"{epoch[0]}:{version}"
    files, size = None, 0
    if owned:
        files, size = owned.paths([*_paths(header), *header.texts(_OLDNAMES)])
    if not files:
        size = sum(header.numbers(_SIZE)[:1])
    name, architecture = header.text(_NAME), header.text(_ARCH)
    return Package("rpm", name, version, source, architecture, size, files)


def _paths(header: Header) -> Iterator[bytes]:
    folders = header.texts(_FOLDERNAMES)
    for at, name in zip(header.numbers(_INDEXES), header.texts(_BASENAMES), strict=False):
        if at < len(folders) and len(folders[at]) <= MAX_PATH:  # one is in all paths below it
            yield folders[at] + name


def parse(blob: bytes) -> Header | None:
    """None for what is no header."""
    if len(blob) < 8:
        return None
    entries, size = struct.unpack_from(">II", blob)
    start = 8 + entries * _ENTRY.size
    if entries > _MAX_ENTRIES or size > _MAX_DATA or start + size > len(blob):
        return None
    data = blob[start : start + size]
    values: dict[int, list[bytes] | list[int]] = {}
    for number in range(entries):
        tag, type_, at, count = _ENTRY.unpack_from(blob, 8 + number * _ENTRY.size)
        wanted = _WANTED.get(tag)
        if wanted != (_STRING if type_ == _I18N else type_) or tag in values:
            continue
        if not 0 <= at <= size or count > _MAX_VALUES:
            return None
        if type_ == _INT32:
            if count * 4 > size - at:
                return None
            values[tag] = list(struct.unpack_from(f">{count}I", data, at))
        else:
            found = _strings(data, at, 1 if wanted == _STRING else count)
            if found is None:
                return None
            values[tag] = found
    return Header(values)


def _strings(data: bytes, at: int, count: int) -> list[bytes] | None:
    if count > len(data) - at:
        return None
    found = []
    for _ in range(count):
        end = data.find(b"\0", at)
        if end < 0:
            return None
        found.append(data[at:end])
        at = end + 1
    return found
