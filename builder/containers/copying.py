"""`cp`: files and folders between this machine and a container, as `docker cp` has it.

Each folder on the way down is entered by handle and no link is followed, on either side: what lies
in a container is hostile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from builder.errors import CannotRun, UsageError
from builder.executor.syscalls import open_within

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_CLOEXEC
_CHUNK = 1 << 20

_T = TypeVar("_T")


class Copy(NamedTuple):
    """What is kept of what is copied."""

    owner: tuple[int, int] | None  # of all that is made; None: whoever makes it
    archive: bool  # the owners and modes as they are
    devices: bool
    note: Callable[[str], None]


def into(root: int, source: str, target: str, copy: Copy) -> None:
    """From this machine to the container whose root is `root`."""
    content, path = _split(source)
    _checked(path, lambda: os.lstat(path), "on this machine")
    folder, name = os.path.dirname(path) or ".", os.path.basename(path)
    if content or source.endswith("/") or not name:  # what a link leads to
        folder, name = path, "."
        if not os.path.isdir(path):
            raise UsageError(f"{source!r} is no folder on this machine")
    here = _checked(folder, lambda: os.open(folder, _PATH | os.O_DIRECTORY), "on this machine")
    try:
        own = os.path.basename(os.path.abspath(path))
        _to_container(root, (here, name), own, content, target, copy)
    finally:
        os.close(here)


def _to_container(
    root: int, source: tuple[int, str], own: str, content: bool, target: str, copy: Copy
) -> None:
    directory = stat.S_ISDIR(os.stat(source[1], dir_fd=source[0], follow_symlinks=False).st_mode)

    def opened(path: str) -> int:
        return open_within(root, path)

    folder, name = _place(opened, target, own, directory, content, "in the container")
    try:
        _copy(source, (folder, name), copy)
    finally:
        os.close(folder)


def out_of(root: int, source: str, target: str, copy: Copy) -> None:
    """From the container whose root is `root` to this machine."""
    content, path = _split(source)
    path = path or "/"
    parent, name = os.path.split(path.rstrip("/"))
    # `..` is for open_within alone, whose root nothing leaves
    followed = content or source.endswith("/") or name in ("", "..")
    handle = _checked(
        path, lambda: open_within(root, path if followed else parent or "/"), "in the container"
    )
    try:
        if followed:
            if not stat.S_ISDIR(os.stat(handle).st_mode):
                raise UsageError(f"{source!r} is no folder in the container")
            found = (handle, ".")
        else:
            found = (handle, name)
        status = _checked(
            path,
            lambda: os.stat(found[1], dir_fd=handle, follow_symlinks=False),
            "in the container",
        )

        def opened(place: str) -> int:
            return os.open(place, _PATH)

        directory = stat.S_ISDIR(status.st_mode)
        folder, new = _place(opened, target, name, directory, content, "on this machine")
        try:
            _copy(found, (folder, new), copy)
        finally:
            os.close(folder)
    finally:
        os.close(handle)


def _split(path: str) -> tuple[bool, str]:
    """Whether the content alone is meant (`/.` at the end), and the path without that."""
    if path == "." or path.endswith("/."):
        return True, path.removesuffix(".").rstrip("/") or ("/" if path.startswith("/") else ".")
    return False, path.rstrip("/") or "/"


def _checked(path: str, look: Callable[[], _T], where: str) -> _T:
    try:
        return look()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise UsageError(f"{path!r} is not there {where}") from None
        raise UsageError(f"{path!r} {where}: {error.strerror}") from None


def _place(
    opened: Callable[[str], int],
    target: str,
    own: str,
    directory: bool,
    content: bool,
    where: str,
) -> tuple[int, str]:
    """The folder to copy to, as a handle, and the name there, `.` for the folder itself."""
    _, path = _split(target)
    try:
        handle = opened(path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise UsageError(f"{target!r} {where}: {error.strerror}") from None
        if target.endswith("/") and not directory:
            raise UsageError(f"the folder {target!r} is not there {where}") from None
    else:
        mode = os.stat(handle).st_mode
        if stat.S_ISDIR(mode):
            if (directory and content) or not own or own == "/":
                return handle, "."
            return handle, own
        os.close(handle)
        if not stat.S_ISREG(mode):  # /dev/null, or /dev/stdout, which is a link to a pipe
            raise UsageError(f"{target!r} {where} is neither a file nor a folder")
        if directory:
            raise UsageError(f"{target!r} is a file {where}, and a folder is to be copied there")
        if target.endswith("/"):
            raise UsageError(f"{target!r} is no folder {where}")
    parent, name = os.path.split(path)
    if name in ("", "..") or "\0" in path:
        raise UsageError(f"{target!r} is not there {where}")
    try:
        return opened(parent or "."), name
    except OSError:
        raise UsageError(f"the folder {parent!r} is not there {where}") from None


def _copy(source: tuple[int, str], target: tuple[int, str], copy: Copy) -> None:
    """What is called so in one folder, to what is called so in another."""
    (here, name), (there, new) = source, target
    status = os.stat(name, dir_fd=here, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        _copy_folder(source, target, status, copy)
        return
    if kind == stat.S_IFSOCK or (kind in (stat.S_IFCHR, stat.S_IFBLK) and not copy.devices):
        copy.note(f"{name!r} is left out: a {'socket' if kind == stat.S_IFSOCK else 'device'}")
        return
    try:
        found = os.stat(new, dir_fd=there, follow_symlinks=False).st_mode
        if kind == stat.S_IFREG and (stat.S_ISCHR(found) or stat.S_ISBLK(found)):
            raise CannotRun(f"{new!r} is a device there, and a file is to be copied")
        os.unlink(new, dir_fd=there)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError) as error:
        raise CannotRun(f"{new!r} is a folder there, and no folder is to be copied") from error
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=here), new, dir_fd=there)
        _own(new, there, status, copy)
        os.utime(new, ns=_times(status), dir_fd=there, follow_symlinks=False)
        return
    if kind != stat.S_IFREG:
        os.mknod(new, status.st_mode & ~0o7000, status.st_rdev, dir_fd=there)
        _own(new, there, status, copy)
        return
    read = os.open(name, _READ, dir_fd=here)
    try:
        if not stat.S_ISREG(os.fstat(read).st_mode):
            raise CannotRun(f"{name!r} has just become something else")
        write = os.open(new, _NEW, 0o600, dir_fd=there)
        try:
            _copy_content(read, write)
            _own(write, None, status, copy)
            os.fchmod(write, _mode(status, copy))
            os.utime(write, ns=_times(status))
        finally:
            os.close(write)
    finally:
        os.close(read)


def _copy_content(read: int, write: int) -> None:
    """As much as the file has now, which may grow: what it has data of, and its holes as holes, of
    which a container can make as many as it likes."""
    size = os.fstat(read).st_size
    os.ftruncate(write, size)
    at = end = 0
    while at < size:
        if at == end:
            try:
                at = os.lseek(read, at, os.SEEK_DATA)
                end = min(size, os.lseek(read, at, os.SEEK_HOLE))
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # a hole to its end
                raise
        chunk = os.pread(read, min(_CHUNK, end - at), at)
        if not chunk:
            return  # it has just become shorter
        at += os.pwrite(write, chunk, at)


def _copy_folder(
    source: tuple[int, str], target: tuple[int, str], status: os.stat_result, copy: Copy
) -> None:
    (here, name), (there, new) = source, target
    made = False
    if new != ".":
        try:
            os.mkdir(new, 0o700, dir_fd=there)
            made = True
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(new, dir_fd=there, follow_symlinks=False).st_mode):
                raise CannotRun(
                    f"{new!r} is no folder there, and a folder is to be copied"
                ) from None
    reading = os.open(name, _LIST, dir_fd=here)
    try:
        writing = os.open(new, _LIST, dir_fd=there)
        try:
            if (status.st_dev, status.st_ino) == _identity(writing):
                raise CannotRun(f"{name!r} would be copied into itself")
            for each in sorted(os.listdir(reading)):
                if _identity_of(each, reading) == _identity(writing):
                    raise CannotRun(f"{name!r} would be copied into itself")
                _copy((reading, each), (writing, each), copy)
            if made:
                _own(writing, None, status, copy)
                os.fchmod(writing, _mode(status, copy))
                os.utime(writing, ns=_times(status))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _identity(handle: int) -> tuple[int, int]:
    status = os.fstat(handle)
    return status.st_dev, status.st_ino


def _identity_of(name: str, folder: int) -> tuple[int, int]:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return status.st_dev, status.st_ino


def _own(path: int | str, folder: int | None, status: os.stat_result, copy: Copy) -> None:
    owner = (status.st_uid, status.st_gid) if copy.archive else copy.owner
    if owner is None:
        return
    if isinstance(path, int):
        os.fchown(path, *owner)
    else:
        os.chown(path, *owner, dir_fd=folder, follow_symlinks=False)


def _mode(status: os.stat_result, copy: Copy) -> int:
    """Without set-user-ID, which another owner would be given."""
    return stat.S_IMODE(status.st_mode) if copy.archive else status.st_mode & 0o1777


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_atime_ns, status.st_mtime_ns
