"""A jail: a new folder that is filled with what hostile layers say.

The folder is new and nobody else's; every name is one component, used with the handle of its
folder, which was opened without following a symlink: nothing outside can be named, whatever the
entries say.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from builder.errors import LayerError
from builder.layer.entry import CHAR, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Entry
from builder.layer.read import show
from builder.layer.sparse import skip_hole

_T = TypeVar("_T")

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FOLDERS = 64
_CHUNK = 1 << 20
_KEPT = (b"user.", b"security.capability")
_DROPPED = b"user.overlay."
_SET_ID = stat.S_ISUID | stat.S_ISGID


class Jail:
    """Fills the folder that `root` is a handle of; it is closed with the jail.

    `devices`: they can be made; else they are left out with a note. `owners`: everything gets the
    owner that its entry names; else all stays the user's, without set-id bits, which would give
    others the user's rights. Of several entries with one path the last counts. Methods raise
    OSError, and LayerError for what does not fit together.
    """

    def __init__(self, root: int, *, devices: bool, owners: bool = True) -> None:
        self.notes: list[str] = []
        self.left_out: dict[str, int] = {}
        """How often it was what: device, extended attribute, set-id bit."""
        self._devices, self._owners = devices, owners
        self._root = root
        os.fchmod(root, 0o700)  # no set-group-id to be inherited
        self._open: dict[bytes, int] = {}  # folders, least recently used first
        self._folders: dict[bytes, Entry | None] = {b"": None}  # None: implied so far
        status = os.fstat(root)
        self._own = (status.st_uid, status.st_gid)

    def close(self) -> None:
        for handle in self._open.values():
            os.close(handle)
        os.close(self._root)

    def add(self, entry: Entry, content: BinaryIO) -> None:
        path = entry.path
        if not path:
            self._folders[b""] = entry
            return
        parent, _, name = path.rpartition(b"/")
        folder = self._folder(parent)
        if entry.type == DIRECTORY:
            if path not in self._folders:
                self._make(entry, name, lambda: os.mkdir(name, 0o700, dir_fd=folder), folder)
            self._folders[path] = entry
        elif entry.type == FILE:
            handle = self._make(
                entry, name, lambda: os.open(name, _NEW, 0o600, dir_fd=folder), folder
            )
            try:
                self._fill(handle, entry, content)
            finally:
                os.close(handle)
        elif entry.type == SYMLINK:
            self._make(entry, name, lambda: os.symlink(entry.link, name, dir_fd=folder), folder)
            self._settle_name(entry, name, folder)
        elif entry.type == HARDLINK:
            self._link(entry, name, folder)
        else:
            self._special(entry, name, folder)

    def _make(self, entry: Entry, name: bytes, make: Callable[[], _T], folder: int) -> _T:
        """Make something new; what an earlier entry put there goes."""
        try:
            return make()
        except FileExistsError:
            self._remove(entry.path, name, folder)
            return make()

    def _remove(self, path: bytes, name: bytes, folder: int) -> None:
        if path in self._folders:
            self._forget(path)
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise LayerError(
                    f"entry {show(path)} replaces a folder that holds entries of the same layer"
                ) from error
            del self._folders[path]
        else:
            os.unlink(name, dir_fd=folder)

    def _fill(self, handle: int, entry: Entry, content: BinaryIO) -> None:
        left = entry.size
        while left:
            if hole := skip_hole(content):
                left -= hole
                os.lseek(handle, hole, os.SEEK_CUR)
                if not left:
                    os.ftruncate(handle, entry.size)
                    break
            data = content.read(min(left, _CHUNK))
            if not data:
                raise LayerError(f"entry {show(entry.path)} is cut short")
            left -= len(data)
            while data:
                data = data[os.write(handle, data) :]
        self._settle(handle, entry)

    def _settle(self, handle: int, entry: Entry) -> None:
        """Owner before mode and xattrs: chown clears set-id bits and capabilities."""
        if self._owners and (entry.uid, entry.gid) != self._own:
            os.fchown(handle, entry.uid, entry.gid)
        os.fchmod(handle, self._mode(entry))
        for key, value in entry.xattrs:
            self._set_xattr(handle, entry, key, value)
        os.utime(handle, ns=(entry.mtime * 10**9,) * 2)

    def _mode(self, entry: Entry) -> int:
        if self._owners or not entry.mode & _SET_ID:
            return entry.mode
        self._count("set-id bit")
        return entry.mode & ~_SET_ID

    def _set_xattr(self, handle: int, entry: Entry, key: bytes, value: bytes) -> None:
        if not is_kept(key):
            return
        try:
            os.setxattr(handle, key, value)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.ENODATA):
                raise
            self._count("extended attribute")
            self._note(entry, f"cannot have the extended attribute {key.decode(errors='replace')}")

    def _link(self, entry: Entry, name: bytes, folder: int) -> None:
        parent, _, source = entry.link.rpartition(b"/")
        if entry.link == entry.path:
            return
        missing = LayerError(
            f"hard link {show(entry.path)} points at {show(entry.link)}, "
            "which is no file before it in the same layer"
        )
        if entry.link in self._folders or parent not in self._folders:
            raise missing
        folder = os.dup(folder)  # the way to the other folder may close it
        try:
            handle = self._folder(parent)

            def make() -> None:
                os.link(source, name, src_dir_fd=handle, dst_dir_fd=folder, follow_symlinks=False)

            self._make(entry, name, make, folder)
        except FileNotFoundError as error:
            raise missing from error
        finally:
            os.close(folder)

    def _special(self, entry: Entry, name: bytes, folder: int) -> None:
        if entry.type == FIFO:
            self._make(entry, name, lambda: os.mkfifo(name, 0o600, dir_fd=folder), folder)
        elif not self._devices:
            self._count("device")
            self._note(entry, "is a device, which only root can make; it is left out")
            return
        else:
            kind = stat.S_IFCHR if entry.type == CHAR else stat.S_IFBLK
            number = os.makedev(*entry.device)
            self._make(
                entry, name, lambda: os.mknod(name, kind | 0o600, number, dir_fd=folder), folder
            )
        self._settle_name(entry, name, folder)

    def _settle_name(self, entry: Entry, name: bytes, folder: int) -> None:
        if self._owners and (entry.uid, entry.gid) != self._own:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        if entry.type != SYMLINK:
            os.chmod(name, self._mode(entry), dir_fd=folder)  # just made by us: not a symlink
        os.utime(name, ns=(entry.mtime * 10**9,) * 2, dir_fd=folder, follow_symlinks=False)

    # -- folders ----------------------------------------------------------------------------------

    def _folder(self, path: bytes) -> int:
        """A handle of the folder, made (as implied) with its parents where it is missing. Good
        until the next call but one."""
        if not path:
            return self._root
        handle = self._open.pop(path, None)
        if handle is not None:
            self._open[path] = handle
            return handle
        # From the nearest open ancestor down.
        parts = path.split(b"/")
        depth = len(parts)
        handle = self._root
        while depth := depth - 1:
            known = self._open.get(b"/".join(parts[:depth]))
            if known is not None:
                handle = known
                break
        for end in range(depth + 1, len(parts) + 1):
            here = b"/".join(parts[:end])
            if here not in self._folders:
                try:
                    os.mkdir(parts[end - 1], 0o700, dir_fd=handle)
                except FileExistsError:
                    raise LayerError(
                        f"entries lie below {show(here)}, "
                        "which is not a directory in the same layer"
                    ) from None
                self._folders[here] = None
            handle = self._open[here] = os.open(parts[end - 1], FOLDER, dir_fd=handle)
            if len(self._open) > _OPEN_FOLDERS:
                oldest = next(iter(self._open))
                os.close(self._open.pop(oldest))
        return handle

    def _forget(self, path: bytes) -> None:
        handle = self._open.pop(path, None)
        if handle is not None:
            os.close(handle)

    def settle(self, path: bytes, entry: Entry) -> None:
        """Give a folder its metadata; those in it come first: then mtimes are right at the end, and
        one that the user may not enter is entered no more."""
        self._settle(self._folder(path), entry)
        if path:
            self._forget(path)

    def _count(self, what: str) -> None:
        self.left_out[what] = self.left_out.get(what, 0) + 1

    def _note(self, entry: Entry, what: str) -> None:
        if len(self.notes) < 20:
            self.notes.append(f"{show(entry.path)} {what}")


def is_kept(xattr: bytes) -> bool:
    """Whether an extended attribute of a layer is one of the image's."""
    return xattr.startswith(_KEPT) and not xattr.startswith(_DROPPED)
