"""Entries as bytes, and the keys they are sorted by."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from builder.errors import LayerError
from builder.layer.entry import DIRECTORY, Entry

# lengths of path and link, mode, type, uid, gid, device, length of xattrs, mtime, size; behind it
# stand the path's key, link, xattrs
HEAD = struct.Struct("<HHHcxIIIIIqQ")
TYPE_AT = 6  # of the type within a record
_XATTR = struct.Struct("<HI")
_NO_DEVICE = (0, 0)

SEPARATOR = b"\0\0"
"""Behind a key, so that what follows it does not count before the key's end (a path has no empty
part, so no key holds two NULs)."""


def key_of(path: bytes) -> bytes:
    """Sorting by this puts a folder's subtree directly behind it (NUL is in no path)."""
    return path.replace(b"/", b"\0")


def path_of(key: bytes) -> bytes:
    return key.replace(b"\0", b"/")


def pack(entry: Entry) -> bytes:
    path, type_, mode, uid, gid, mtime, size, link, xattrs, device = entry
    tail = b"".join(_XATTR.pack(len(k), len(v)) + k + v for k, v in xattrs) if xattrs else b""
    head = HEAD.pack(
        len(path), len(link), mode, type_.encode(), uid, gid, device[0], device[1], len(tail),
        mtime, size,
    )  # fmt: skip
    return head + path.replace(b"/", b"\0") + link + tail


def unpack(data: bytes, at: int = 0) -> tuple[Entry, int]:
    """The entry whose record begins at `at`, and where the record ends."""
    name, links, mode, type_, uid, gid, major, minor, size_of_xattrs, mtime, size = (
        HEAD.unpack_from(data, at)
    )
    start = at + HEAD.size
    middle = start + name
    end = middle + links
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    link = data[middle:end]
    if size_of_xattrs:
        xattrs = _unpack_xattrs(data[end : end + size_of_xattrs])
    device = (major, minor) if major or minor else _NO_DEVICE
    path = data[start:middle].replace(b"\0", b"/")
    entry = Entry(path, type_.decode(), mode, uid, gid, mtime, size, link, xattrs, device)
    return entry, end + size_of_xattrs


def _unpack_xattrs(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    found, at = [], 0
    while at < len(data):
        name, value = _XATTR.unpack_from(data, at)
        at += _XATTR.size
        found.append((data[at : at + name], data[at + name : at + name + value]))
        at += name + value
    return tuple(found)


class Folders:
    """Goes along with the sorted keys of a layer, each once: tells which folders lie above."""

    def __init__(self) -> None:
        self._open: list[bytes] = []  # keys of the open folders, each with a trailing NUL
        self._top = b""  # the last of them; the root's
        self._previous = b""

    def enter(self, key: bytes, type_: str) -> Sequence[bytes]:
        """Keys of the folders above `key` that did not come, each told once, topmost first. Raises
        LayerError when it lies below something that is no folder."""
        top = self._top
        while not key.startswith(top):
            self._open.pop()
            top = self._top = self._open[-1] if self._open else b""
        missing: Sequence[bytes] = ()
        if key.find(b"\0", len(top)) >= 0:
            missing = self._missing(key, top)
        if type_ == DIRECTORY and key:
            self._top = key + b"\0"
            self._open.append(self._top)
        self._previous = key
        return missing

    def _missing(self, key: bytes, top: bytes) -> list[bytes]:
        missing = []
        for part in key[len(top) :].split(b"\0")[:-1]:
            top += part + b"\0"
            folder = top[:-1]
            if folder == self._previous:
                raise LayerError(
                    f"entry {shown(key)} lies below {shown(folder)}, "
                    "which is not a directory in the same layer"
                )
            missing.append(folder)
            self._open.append(top)
        self._top = top
        return missing


def shown(key: bytes) -> str:
    return repr(path_of(key).decode("utf-8", "surrogateescape"))
