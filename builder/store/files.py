"""Every file call of the store, in one place: a test passes its own and lets the Nth call fail.

The store's folder is opened once, its own folders below it once each, and calls go by these
handles: no symlink within the store is followed, whatever stands there or is put there meanwhile.
Errors are OSErrors here; `failure` turns one into the StoreError that a user reads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.errors import StoreError

if TYPE_CHECKING:
    from typing import Self

    from _typeshed import ReadableBuffer, WriteableBuffer

LOCK_EX, LOCK_SH, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""How a file is opened that may have been replaced: a FIFO does not block, a symlink is refused."""
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_BLOBS = "blobs/sha256"  # the one folder of the store's own that is not directly below its root


class Files:
    """The calls themselves. Handles are numbers and are never inherited by a command.

    `path` is a whole path. What is deeper than an entry of a folder of the store's own is one of a
    tree below tmp/ or unpacked/: of such paths only the last folder is sure to be no symlink, which
    is enough where every folder of a tree is moved up to tmp/ before anything in it is changed.
    """

    owner: int  # user id of the owner of the store
    _root: str
    _handles: dict[str, int]  # by path: the root, its own folders, those of `within`
    _stale: list[int]

    def __new__(cls, *_: object) -> Self:  # not __init__: a test's class has one of its own
        made = super().__new__(cls)
        made.owner, made._root, made._handles, made._stale = 0, "", {}, []
        return made

    def __del__(self) -> None:
        for handle in (*self._handles.values(), *self._stale):
            with contextlib.suppress(OSError):
                os.close(handle)

    def enter(self, root: str) -> os.stat_result:
        """Open the folder of the store and look at it. It may be named by way of symlinks. Nothing
        but a folder is opened: the opening of some devices does something."""
        handle = self._handles.get(root)
        if handle is None:
            handle = os.open(root, _FOLDER)
            self._root = root
            self._stale += self._handles.values()
            self._handles = {root: handle}
        status = os.fstat(handle)
        self.owner = status.st_uid
        return status

    @contextlib.contextmanager
    def within(self, folder: str) -> Iterator[None]:
        """Many calls are to come on what is directly in a folder of a tree (not in one of the
        store's own): it stays open meanwhile."""
        with self._at(os.path.join(folder, ".")) as (handle, _):
            if handle is None:
                yield
                return
            self._handles[folder] = handle
            try:
                yield
            finally:
                del self._handles[folder]

    def open(self, path: str, flags: int) -> int:
        with self._at(path) as (at, name):
            if not flags & (os.O_DIRECTORY | os.O_EXCL):
                self._look(at, name, missing=bool(flags & os.O_CREAT))
            return os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=at)

    def close(self, handle: int) -> None:
        os.close(handle)

    def read(self, handle: int, size: int) -> bytes:
        return os.read(handle, size)

    def readinto(self, handle: int, buffer: WriteableBuffer) -> int:
        return os.readv(handle, [buffer])

    def write(self, handle: int, data: ReadableBuffer) -> int:
        return os.write(handle, data)

    def truncate(self, handle: int) -> None:
        os.ftruncate(handle, 0)

    def fsync(self, handle: int) -> None:
        os.fsync(handle)

    def rename(self, source: str, target: str) -> None:
        with self._at(source) as (here, name), self._at(target) as (there, new):
            os.rename(name, new, src_dir_fd=here, dst_dir_fd=there)

    def link(self, source: str, target: str) -> None:
        with self._at(source) as (here, name), self._at(target) as (there, new):
            os.link(name, new, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        with self._at(path) as (at, name):
            os.unlink(name, dir_fd=at)

    def rmdir(self, path: str) -> None:
        with self._at(path) as (at, name):
            os.rmdir(name, dir_fd=at)

    def mkdir(self, path: str) -> None:
        """A handle of the folder that was there before leads nowhere: it is opened anew."""
        if path != self._root and path in self._handles:
            self._stale.append(self._handles.pop(path))  # a thread may still be using it
        with self._at(path) as (at, name):
            os.mkdir(name, 0o700, dir_fd=at)

    def chmod(self, path: str, mode: int) -> None:
        """Of a folder. By way of /proc, because an open handle of it may need a mode it lacks."""
        with self._at(path) as (at, name):
            handle = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
            try:
                os.chmod(f"/proc/self/fd/{handle}", mode)
            finally:
                os.close(handle)

    def lstat(self, path: str) -> os.stat_result:
        with self._at(path) as (at, name):
            return os.stat(name, dir_fd=at, follow_symlinks=False)

    def fstat(self, handle: int) -> os.stat_result:
        return os.fstat(handle)

    def listdir(self, path: str) -> list[str]:
        """Sorted, so that two runs do the same calls in the same order."""
        with self._at(path) as (at, name):
            handle = os.open(name, LIST | os.O_CLOEXEC, dir_fd=at)
            try:
                return sorted(os.listdir(handle))
            finally:
                os.close(handle)

    def read_only(self, path: str) -> bool:
        """The file system that holds `path` is mounted read-only."""
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)

    def free(self, path: str) -> int:
        """Bytes that are free on the disk that holds `path`."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def disk(self, path: str) -> int:
        """Bytes of the disk that holds `path`."""
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize

    def boot_id(self) -> bytes:
        """Of the machine since it was started."""
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().strip()

    def flock(self, handle: int, operation: int) -> None:
        fcntl.flock(handle, operation)

    def utime(self, target: int | str, seconds: float) -> None:
        if isinstance(target, int):
            os.utime(target, (seconds, seconds))
        else:
            with self._at(target) as (at, name):
                os.utime(name, (seconds, seconds), dir_fd=at, follow_symlinks=False)

    # -- the handles behind paths ---------------------------------------------------------------

    @contextlib.contextmanager
    def _at(self, path: str) -> Iterator[tuple[int | None, str]]:
        """A handle of the folder that holds `path`, and the name there. Paths outside of the store
        (the folders above it, when it is made) are as they are."""
        if path == self._root:
            yield self._handles[path], "."
            return
        folder, name = os.path.split(path)
        handle = self._handles.get(folder)
        if handle is not None:
            yield handle, name
            return
        if not self._root or not folder.startswith(self._root + "/"):
            yield None, path
            return
        below = folder[len(self._root) + 1 :]
        if "/" not in below or below == _BLOBS:
            yield self._own(below), name
            return
        own, _, rest = below.partition("/")
        handle = os.open(rest, _FOLDER | os.O_NOFOLLOW, dir_fd=self._own(own))
        try:
            yield handle, name
        finally:
            os.close(handle)

    def _own(self, name: str) -> int:
        """The handle of a folder of the store's own, opened when it is first needed."""
        path = os.path.join(self._root, name)
        handle = self._handles.get(path)
        if handle is None:
            above = self._own("blobs") if name == _BLOBS else self._handles[self._root]
            fresh = os.open(os.path.basename(name), _FOLDER | os.O_NOFOLLOW, dir_fd=above)
            if not owned(self, status := os.fstat(fresh)):
                os.close(fresh)
                raise OSError(errno.ENOTDIR, f"it belongs to user {status.st_uid}", path)
            handle = self._handles.setdefault(path, fresh)
            if handle != fresh:  # another thread was faster
                os.close(fresh)
        return handle

    def _look(self, at: int | None, name: str, *, missing: bool) -> None:
        """What is opened must be a regular file: the opening of some devices does something."""
        try:
            mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
        except FileNotFoundError:
            if not missing:
                raise
            return
        if not stat.S_ISREG(mode):
            raise OSError(NOT_A_FILE, "it is not a regular file", name)


def owned(files: Files, status: os.stat_result) -> bool:
    """It belongs to the user who runs this, to root, or to whom the store belongs."""
    return status.st_uid in (0, os.geteuid(), files.owner)


def write_all(files: Files, handle: int, data: ReadableBuffer) -> None:
    """A write may be short: a signal, a full disk."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[files.write(handle, rest) :]


OWN_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.ENOLCK})
"""Says nothing about the file that was being read: an error, where others are a miss."""
NO_WRITING = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""The store can be read, not written."""
_ELSEWHERE = "--cache-dir names a folder that can be written"
_REASONS = {
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.EACCES: ("permission denied", _ELSEWHERE),
    errno.EPERM: ("permission denied", _ELSEWHERE),
    errno.EMFILE: ("too many open files", "raise the limit with `ulimit -n`"),
    errno.ENFILE: ("the system has too many open files", None),
    errno.EIO: ("input/output error", "check the disk; --cache-dir names another"),
}
NOT_A_FILE = errno.ENXIO
"""Something else stands in a file's place: what opening a FIFO or a socket fails with, too."""
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""What writing anywhere below the root may end with, whatever it was that was written."""


def failure(
    error: OSError, doing: str, path: str, root: str, needed: int | None = None
) -> StoreError:
    """`cannot <doing> <path>: <reason>`; `needed` is how many bytes were to be written."""
    code = error.errno
    hint: str | None
    if code in (errno.ENOSPC, errno.EDQUOT):
        what = (
            "no space left on the device" if code == errno.ENOSPC else "quota used up on the disk"
        )
        reason = f"{what} that holds {root}" + (f": {readable(needed)} needed" if needed else "")
        hint = "`builder cache gc` frees space; --cache-dir takes another disk"
    elif code == errno.ENOLCK or (doing == "lock" and code in NO_LOCKS):
        reason = "the file system has no locks (NFS without lockd?)"
        hint = "--cache-dir names a folder on a local disk"
    else:
        reason, hint = _REASONS.get(code or 0, (error.strerror or str(error), None))
    return StoreError(f"cannot {doing} {path}: {reason}", hint)


def readable(size: int) -> str:
    """Bytes for a message: 1.2 GB."""
    if size < 1000:
        return f"{size} bytes"
    number = float(size)
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 1000:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:.1f} TB"
