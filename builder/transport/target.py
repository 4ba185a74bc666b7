"""Targets: files that a user names to be written. Written beside and renamed when whole.

What stands at a target is looked at through a handle of its folder before anything is written, and
only a regular file is ever replaced: a link is not followed, a device does not become a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from typing import BinaryIO

PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial")
"""Names of what is being written; a killed builder leaves it."""
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISLNK, "a symlink"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


def check_target(path: str) -> None:
    """A file can be written at `path`, as far as can be seen without writing. Raises OSError with a
    text for the user."""
    with parent_of(path) as (folder, name):
        _look(folder, name)
        check_writable(folder)


def check_writable(folder: int) -> None:
    """Names can be made in the folder. Raises OSError."""
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder):
        read_only = os.fstatvfs(folder).f_flag & os.ST_RDONLY
        why = "its file system is read-only" if read_only else "no permission in its folder"
        raise OSError(errno.EACCES, why)
    if not os.fstatvfs(folder).f_blocks:  # /proc, /sys: what they allow is not what can be done
        partial = f".{os.urandom(8).hex()}.partial"
        os.close(os.open(partial, _NEW, 0o666, dir_fd=folder))
        os.unlink(partial, dir_fd=folder)


@contextlib.contextmanager
def writing(path: str, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A file that appears at `path` when all is written (on the disk, with `sync`), or not at all.
    Raises OSError."""
    with parent_of(path) as (folder, name), writing_in(folder, name, sync=sync) as file:
        yield file


@contextlib.contextmanager
def writing_in(folder: int, name: str, *, sync: bool = True) -> Iterator[BinaryIO]:
    """As `writing`, in an open folder."""
    _look(folder, name)
    partial = f".{os.urandom(8).hex()}.partial"
    handle = os.open(partial, _NEW, 0o666, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        _look(folder, name)
        os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise


def refuse_shared(status: os.stat_result) -> None:
    """Of a folder that is to be filled. Raises OSError."""
    if _shared(status):
        raise OSError(errno.EPERM, "it is a folder for everybody's files")


@contextlib.contextmanager
def parent_of(path: str) -> Iterator[tuple[int, str]]:
    """A handle of the folder that `path` is in, for names in it, and its last name."""
    folder, name = os.path.split(path)
    if not name:
        raise OSError(errno.EISDIR, "it names a folder, not a file")
    try:
        handle = os.open(folder or ".", _FOLDER)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise OSError(error.errno, f"there is no folder {folder!r}") from None
    try:
        yield handle, name
    finally:
        os.close(handle)


def _look(folder: int, name: str) -> None:
    """Only a regular file may be replaced; where everybody may have files, only one's own, as the
    kernel rules it for files that are opened there (fs.protected_regular)."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        what = kind_of(status)
        raise OSError(errno.EEXIST, f"it is {what}, expected a regular file or nothing")
    if of_another(folder, status):
        raise OSError(errno.EPERM, f"it belongs to user {status.st_uid}, in a folder for everybody")


def kind_of(status: os.stat_result) -> str:
    """What stands in the way, in words."""
    return next((text for is_kind, text in _KINDS if is_kind(status.st_mode)), "a device")


def of_another(folder: int, status: os.stat_result) -> bool:
    """Whether something belongs to another user and is in a folder for everybody's files."""
    above = os.fstat(folder)
    return _shared(above) and status.st_uid not in (os.geteuid(), above.st_uid)


def _shared(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_ISVTX and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
