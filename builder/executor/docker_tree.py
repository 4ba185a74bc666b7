"""What a container changed, as a tree: the engine's layer tar, compared with the image's view.

Neither needs a file system that can hold owners, devices or capabilities, so that an ordinary user
gets the same layer as root. The tar is spooled to one file, its paths are listed in a path table.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.errors import ExecutorError
from builder.executor.changes import Tree, Xattrs, kept_xattr
from builder.layer.entry import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    Content,
    Entry,
)
from builder.rootfs.table import PathTable, write_table

if TYPE_CHECKING:
    from builder.oci.image import Layer
    from builder.rootfs.layers import Layers
    from builder.rootfs.view import View

_CHUNK = 1 << 20
_KINDS = {
    FILE: stat.S_IFREG,
    SYMLINK: stat.S_IFLNK,
    CHAR: stat.S_IFCHR,
    BLOCK: stat.S_IFBLK,
    DIRECTORY: stat.S_IFDIR,
    FIFO: stat.S_IFIFO,
}
_WHITEOUT = Entry(b"", CHAR, 0)  # as overlayfs writes it: device 0:0


class LayerTree(Tree):
    """A layer's entries with their contents as an overlay's upper directory would show them. They
    are read at once; `folder` stays until `close`."""

    def __init__(self, members: Iterable[tuple[Entry, BinaryIO]], folder: str) -> None:
        self._spool = open(os.path.join(folder, "files"), "w+b")  # noqa: SIM115  # see close
        try:
            self._places: dict[bytes, int] = {}  # of files' bytes in the spool
            self._links: dict[bytes, bytes] = {}
            self.told: Mapping[bytes, Xattrs] | None = None
            """What `attributed` paths really have, where the members did not say it."""
            path = os.path.join(folder, "table")
            write_table(path, self._spooled(members), {})
            self._table = PathTable.open(path)
        except BaseException:
            self._spool.close()
            raise
        self._first: dict[bytes, int] = {}  # files with several names, numbered
        self._count: dict[bytes, int] = {}
        for target in self._links.values():
            self._first.setdefault(target, len(self._first) + 1)
            self._count[target] = self._count.get(target, 1) + 1
        self._removed: dict[bytes, list[bytes]] = {}
        for each in self._table.whiteouts:
            parent, _, name = each.rpartition(b"/")
            self._removed.setdefault(parent, []).append(name)
        self._sockets: set[bytes] = set()

    def add_socket(self, path: bytes) -> None:
        """No tar holds one: it is told."""
        parent, _, name = path.rpartition(b"/")
        self._sockets.add(path)
        self._removed.setdefault(parent, []).append(name)

    def close(self) -> None:
        self._spool.close()

    def _spooled(self, members: Iterable[tuple[Entry, BinaryIO]]) -> Iterator[Entry]:
        for entry, content in members:
            if entry.type == FILE:
                self._places[entry.path] = self._spool.tell()
                self._links.pop(entry.path, None)
                while chunk := content.read(_CHUNK):
                    self._spool.write(chunk)
            elif entry.type == HARDLINK:
                self._links[entry.path] = self._links.get(entry.link, entry.link)
            yield entry
        self._spool.flush()

    @property
    def whiteouts(self) -> Collection[bytes]:
        return self._table.whiteouts

    def has(self, path: bytes) -> bool:
        """Whether a member told of it itself, not only of what lies below."""
        return self._table.get(path) is not None or path in self._table.whiteouts

    def files(self) -> Iterator[Entry]:
        """Regular files with one name."""
        for path in self._places:
            entry = self._table.get(path)
            if entry is not None and entry.type == FILE and path not in self._first:
                yield entry

    def attributed(self) -> list[bytes]:
        """Paths that may have xattrs, each file by one of its names."""
        entries = self._table.subtree(b"")
        return [
            entry.path
            for entry in entries
            if entry.type in (FILE, DIRECTORY) and entry.path not in self._links
        ]

    def lstat(self, path: bytes) -> os.stat_result | None:
        path = b"" if path == b"." else path
        entry = self._table.get(path)
        if path in self._sockets:
            return _SOCKET
        if entry is None:
            if path in self._table.whiteouts:
                return status_of(_WHITEOUT)
            if path and path not in self._table.implied:
                return None
            entry = Entry(path, DIRECTORY, 0o755)
        target = self._links.get(path, path)
        return status_of(entry, self._first.get(target, 0), self._count.get(target, 1))

    def names(self, path: bytes) -> list[bytes]:
        depth = len(path) + 1 if path else 0
        names = [entry.path[depth:] for entry in self._table.children(path)]
        return names + [
            name
            for name in self._removed.get(path, ())
            if self._table.get(path + b"/" + name if path else name) is None
        ]

    def xattrs(self, path: bytes) -> Xattrs:
        if self.told is not None:
            return self.told.get(self._links.get(path, path), ())
        return xattrs_of(self._table.get(path))

    def opaque(self, path: bytes) -> bool:
        return path in self._table.opaque

    def readlink(self, path: bytes) -> bytes:
        entry = self._table.get(path)
        return entry.link if entry else b""

    def open(self, path: bytes) -> BinaryIO:
        entry = self._table.get(path)
        place = self._places.get(self._links.get(path, path))
        if entry is None or place is None:
            raise ExecutorError(f"/{os.fsdecode(path)}: the engine's layer has no bytes of it")
        piece = _Slice(self._spool.fileno(), place, entry.size)
        return cast(BinaryIO, io.BufferedReader(piece, _CHUNK))

    def content(self, path: bytes) -> Content:
        return partial(self.open, path)


class LowerTree:
    """The image below, from the path tables of its layers. Bytes are there for the files that were
    asked for with `extract`, as files in `folder`."""

    def __init__(self, view: View, folder: str) -> None:
        self._view, self._folder = view, folder
        self._extracted: dict[bytes, str] = {}

    def lstat(self, path: bytes) -> os.stat_result | None:
        found = self._view.lookup(path)
        return status_of(found.entry) if found else None

    def names(self, path: bytes) -> list[bytes]:
        return [found.entry.path.rpartition(b"/")[2] for found in self._view.children(path)]

    def xattrs(self, path: bytes) -> Xattrs:
        found = self._view.lookup(path)
        return xattrs_of(found.entry if found else None)

    def readlink(self, path: bytes) -> bytes:
        found = self._view.lookup(path)
        return found.entry.link if found else b""

    def open(self, path: bytes) -> BinaryIO:
        return open(self._extracted[path], "rb")

    def extract(
        self, upper: LayerTree, epoch: int, image: tuple[Layer, ...], layers: Layers
    ) -> None:
        """Bring the bytes here of every file that differs from its new self in bytes, if at all.
        Few files do: a new one has a new mtime."""
        wanted: dict[int, set[bytes]] = {}
        for entry in upper.files():
            found = self._view.lookup(entry.path)
            if found is not None and _may_be_same(entry, found.entry, epoch):
                wanted.setdefault(found.table, set()).add(entry.path)
        for index, paths in wanted.items():
            folder = os.path.join(self._folder, f"below{index}")
            os.mkdir(folder)
            self._extracted.update(layers.extract(image[index], paths, folder))


def _may_be_same(entry: Entry, below: Entry, epoch: int) -> bool:
    """Whether only the bytes can tell that a file changed."""
    return (
        below.type == FILE
        and (entry.size, entry.mode, entry.uid, entry.gid)
        == (below.size, below.mode, below.uid, below.gid)
        and below.mtime in (entry.mtime, min(entry.mtime, epoch))
    )


def status_of(entry: Entry, number: int = 0, names: int = 1) -> os.stat_result:
    """An entry as lstat would tell it. `number` is the inode's where a file has several `names`."""
    mode = _KINDS[entry.type] | entry.mode
    fields = (mode, number, 0, names, entry.uid, entry.gid, entry.size, 0, entry.mtime, 0)
    more = {"st_mtime_ns": entry.mtime * 10**9, "st_rdev": os.makedev(*entry.device)}
    return os.stat_result(fields, more)


_SOCKET = os.stat_result((stat.S_IFSOCK, 0, 0, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": 0})


def xattrs_of(entry: Entry | None) -> Xattrs:
    kept = entry.xattrs if entry else ()
    return tuple((name, value) for name, value in kept if kept_xattr(os.fsdecode(name)))


class _Slice(io.RawIOBase):
    """Some bytes of an open file."""

    def __init__(self, handle: int, start: int, size: int) -> None:
        self._handle, self._at, self._end = handle, start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # no other
        size = min(len(buffer), self._end - self._at)
        data = os.pread(self._handle, size, self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
