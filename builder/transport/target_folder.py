"""Folders that a user names to be filled with files. Filled beside and renamed when whole.

What stands there is looked at through a handle of the folder above before anything is written, and
only an empty folder, or one that was filled so before, is ever replaced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.store.files import Files
from builder.store.trees import remove_tree
from builder.transport.target import check_writable, kind_of, of_another, parent_of, refuse_shared

if TYPE_CHECKING:
    from builder.store.store import Store

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MARK = "user.builder.output"
"""An extended attribute of a folder that was filled here; where a file system has none such, the
folder is as any other."""


def check_folder(path: str, store: Store) -> None:
    """A folder can be filled at `path`, as far as can be seen without writing. Raises OSError with
    a text for the user."""
    if path == "/":
        raise OSError(errno.EEXIST, "it is the root of this machine")
    with parent_of(path) as (above, name):
        _is_there(above, name, store)
        check_writable(above)


@contextlib.contextmanager
def filling(path: str, store: Store) -> Iterator[int]:
    """A handle of a folder that appears at `path` when the caller is done, or not at all. What it
    replaces is gone then. Raises OSError."""
    with parent_of(path) as (above, name):
        _is_there(above, name, store)
        new = _fresh()
        os.mkdir(new, 0o700, dir_fd=above)
        try:
            handle = os.open(new, _FOLDER, dir_fd=above)
            try:
                with contextlib.suppress(OSError):
                    os.setxattr(handle, _MARK, b"1")
                yield handle
            finally:
                os.close(handle)
            if _is_there(above, name, store):
                _exchange(above, new, name)
            else:
                _rename(above, new, name)
        finally:
            _remove(above, new)


def _exchange(above: int, new: str, name: str) -> None:
    """Put one folder in the place of another, which has the other's name then."""
    old = _fresh()
    try:
        _rename(above, name, old)
        _rename(above, new, name)
        _rename(above, old, new)
    except BaseException:
        with contextlib.suppress(OSError):  # where nothing has taken its place
            _rename(above, old, name)
        raise


def _is_there(above: int, name: str, store: Store) -> bool:
    """Whether a folder is to be replaced that is not empty. Raises OSError for what may not be."""
    own = os.stat(store.root)
    _refuse_within(above, own)
    try:
        status = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return False
    expected = "expected nothing, an empty folder or one that was written so before"
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EEXIST, f"it is {kind_of(status)}, {expected}")
    refuse_shared(status)
    if of_another(above, status):
        raise OSError(errno.EPERM, f"it belongs to user {status.st_uid}, in a folder for everybody")
    handle = os.open(name, _FOLDER, dir_fd=above)
    try:
        if _mount(handle) != _mount(above):
            raise OSError(errno.EBUSY, "it is a mount point: name a folder within it")
        if not os.listdir(handle):
            return False
        if not _is_marked(handle):
            raise OSError(errno.ENOTEMPTY, f"the folder holds other files, {expected}")
    finally:
        os.close(handle)
    where = os.path.join(os.path.realpath(f"/proc/self/fd/{above}"), name, "")
    if os.path.realpath(store.root).startswith(where):
        raise OSError(errno.EEXIST, "the builder's own store is within it")
    return True


def _is_marked(handle: int) -> bool:
    if os.fstat(handle).st_uid != os.geteuid():
        return False
    try:
        return os.getxattr(handle, _MARK) == b"1"
    except OSError:
        return False


def _refuse_within(folder: int, store: os.stat_result) -> None:
    """Nothing is put in the store."""
    handle = os.dup(folder)
    try:
        while True:
            status = os.fstat(handle)
            if os.path.samestat(status, store):
                raise OSError(errno.EEXIST, "it is within the builder's own store")
            outer = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
            os.close(handle)
            handle = outer
            if os.path.samestat(os.fstat(handle), status):
                return
    finally:
        os.close(handle)


def _mount(handle: int) -> str:
    """Which mount a handle is of (proc_pid_fdinfo(5)); "" where there is no /proc."""
    with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{handle}") as lines:
        return next((line for line in lines if line.startswith("mnt_id")), "")
    return ""


def _fresh() -> str:
    return f".{os.urandom(8).hex()}.partial"


def _rename(folder: int, old: str, new: str) -> None:
    os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)


def _remove(folder: int, name: str) -> None:
    """Remove a tree, if it is there; what cannot be removed of it stays."""
    here = f"/proc/self/fd/{folder}/"
    with contextlib.suppress(OSError):
        remove_tree(Files(), here + name, lambda: here + _fresh())
