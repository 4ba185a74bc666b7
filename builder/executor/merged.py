"""Layers merged without the kernel's help: for hosts where nothing can be mounted."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Sequence
from typing import BinaryIO

from builder.executor.changes import Xattrs, is_opaque, kept_xattr

_FICLONE = 0x40049409


class MergedNode:
    """A path of the merged tree: the layer's file that it comes from."""

    __slots__ = ("children", "copied", "source", "status")

    def __init__(self, source: bytes, status: os.stat_result) -> None:
        self.source, self.status = source, status
        self.children: dict[bytes, MergedNode] = {}
        self.copied = (0, 0)  # inode and ctime of the copy


class Merged:
    """Overlay lower dirs, bottom first, one at least, as a tree to copy and to compare with
    (changes.Below)."""

    def __init__(self, lowers: Sequence[bytes]) -> None:
        self._root = MergedNode(b"", os.lstat(lowers[-1]))
        for lower in lowers:
            self._root.source, self._root.status = lower, os.lstat(lower)
            _merge(self._root, lower)

    def lstat(self, path: bytes) -> os.stat_result | None:
        node = self._find(path)
        return node.status if node else None

    def names(self, path: bytes) -> list[bytes]:
        node = self._find(path)
        return list(node.children) if node else []

    def xattrs(self, path: bytes) -> Xattrs:
        source = self._source(path)
        return tuple(
            sorted(
                (os.fsencode(name), os.getxattr(source, name, follow_symlinks=False))
                for name in os.listxattr(source, follow_symlinks=False)
                if kept_xattr(name)
            )
        )

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(self._source(path))

    def open(self, path: bytes) -> BinaryIO:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return open(os.open(self._source(path), flags), "rb")

    def copy(self, target: bytes, note: Callable[[str], None]) -> None:
        """Copy everything into the empty directory `target`: hard links come apart, as they do when
        an overlay copies a file up, so that writing to one name never changes another."""
        _attributes(self._root.source, self._root.status, target)
        folders = [(self._root, target)]
        for node, where in folders:  # grows while it is read
            for name, child in node.children.items():
                path = where + b"/" + name
                try:
                    _copy(child, path)
                except PermissionError:
                    if not stat.S_ISCHR(child.status.st_mode) | stat.S_ISBLK(child.status.st_mode):
                        raise
                    note(f"{os.fsdecode(path[len(target) :])}: devices cannot be made here")
                    continue
                if stat.S_ISDIR(child.status.st_mode):
                    folders.append((child, path))
        for node, where in reversed(folders):  # what was made within touched their mtimes
            os.utime(where, ns=(node.status.st_mtime_ns, node.status.st_mtime_ns))
        for node, where in folders:
            for name, child in node.children.items():
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(where + b"/" + name)
                    child.copied = (status.st_ino, status.st_ctime_ns)

    def untouched(self, path: bytes, status: os.stat_result) -> bool:
        """Whether the copy is certainly as it was made."""
        node = self._find(path)
        return node is not None and node.copied == (status.st_ino, status.st_ctime_ns)

    def _find(self, path: bytes) -> MergedNode | None:
        node: MergedNode | None = self._root
        for part in path.split(b"/"):
            if node is not None and part not in (b"", b"."):
                node = node.children.get(part)
        return node

    def _source(self, path: bytes) -> bytes:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node.source


def _merge(root: MergedNode, lower: bytes) -> None:
    waiting = [(root, lower)]
    while waiting:
        node, folder = waiting.pop()
        with os.scandir(folder) as found:
            entries = list(found)
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                node.children.pop(entry.name, None)
                continue
            child = MergedNode(entry.path, status)
            if stat.S_ISDIR(status.st_mode):
                before = node.children.get(entry.name)
                if before and stat.S_ISDIR(before.status.st_mode) and not is_opaque(entry.path):
                    child.children = before.children
                waiting.append((child, entry.path))
            node.children[entry.name] = child


def _copy(node: MergedNode, path: bytes) -> None:
    mode = node.status.st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(node.source), path)
        os.lchown(path, node.status.st_uid, node.status.st_gid)
        times = (node.status.st_mtime_ns, node.status.st_mtime_ns)
        os.utime(path, ns=times, follow_symlinks=False)
        return
    if stat.S_ISDIR(mode):
        os.mkdir(path)
    elif stat.S_ISREG(mode):
        _copy_content(node.source, path)
    elif stat.S_ISFIFO(mode):
        os.mkfifo(path)
    else:
        os.mknod(path, stat.S_IFMT(mode) | 0o600, node.status.st_rdev)
    _attributes(node.source, node.status, path)


def _copy_content(source: bytes, path: bytes) -> None:
    """Share the blocks where the file system can, else copy them."""
    with open(source, "rb") as old, open(path, "xb") as new:
        try:
            fcntl.ioctl(new, _FICLONE, old.fileno())
            return
        except OSError:
            pass
        while os.sendfile(new.fileno(), old.fileno(), None, 1 << 24):
            pass


def _attributes(source: bytes, status: os.stat_result, path: bytes) -> None:
    os.chown(path, status.st_uid, status.st_gid)
    os.chmod(path, stat.S_IMODE(status.st_mode))
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        for name in os.listxattr(source):
            if kept_xattr(name):
                os.setxattr(path, name, os.getxattr(source, name))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
