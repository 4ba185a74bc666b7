"""Every file call of the store, in one place: a test passes its own and lets the Nth call fail.

Errors are OSErrors here; `failure` turns one into the StoreError that a user reads.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from builder.errors import StoreError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

LOCK_EX, LOCK_SH, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""How a file is opened that may have been replaced: a FIFO does not block, a symlink is refused."""
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK


class Files:
    """The calls themselves. Handles are numbers and are never inherited by a command."""

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

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
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def mkdir(self, path: str) -> None:
        os.mkdir(path, 0o700)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode)

    def stat(self, path: str) -> os.stat_result:
        """Follows symlinks: for the root alone, which may be one by the user's choice."""
        return os.stat(path)

    def lstat(self, path: str) -> os.stat_result:
        return os.lstat(path)

    def fstat(self, handle: int) -> os.stat_result:
        return os.fstat(handle)

    def listdir(self, path: str) -> list[str]:
        """Sorted, so that two runs do the same calls in the same order."""
        return sorted(os.listdir(path))

    def read_only(self, path: str) -> bool:
        """The file system that holds `path` is mounted read-only."""
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)

    def flock(self, handle: int, operation: int) -> None:
        fcntl.flock(handle, operation)

    def utime(self, target: int | str, seconds: float) -> None:
        if isinstance(target, int):
            os.utime(target, (seconds, seconds))
        else:
            os.utime(target, (seconds, seconds), follow_symlinks=False)


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
        hint = "`builder cache gc` frees space; --cache-dir names a folder on another disk"
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
