"""What lies below a folder, reached by handles: from the folder on no link is followed, whatever is
put in a path's place meanwhile. Paths are relative to the folder; b"" is the folder itself."""

from __future__ import annotations

import errno
import os
import stat
import threading

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: a FIFO that took a file's place must not block."""
_PASS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEAR = 32  # so many open folders stay open, of those further up every 32nd
_MAX_LINKS = 40  # as in the kernel

RACY = 2_000_000_000
"""Nanoseconds. A file younger than this when it was read may change again within its time stamp's
grain, so what was read of it is not remembered (git's racy rule)."""


class LeadsOut(Exception):
    """A link leads out of the folder."""


class Beneath:
    """A folder, held open; several threads may use it. All methods raise OSError with the whole
    path as `filename`, also for a link that stands where a folder should."""

    def __init__(self, root: str) -> None:
        self._root = os.fsencode(root)
        self._handle = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._ways = threading.local()  # a thread's, as `way`

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def open(self, path: bytes) -> int:
        """A handle to read a file. The caller looks what it is, and closes it."""
        folder, _, name = path.rpartition(b"/")
        try:
            return os.open(name or b".", READ, dir_fd=self._to(folder))
        except OSError as error:
            raise self._named(error, path) from None

    def folder(self, path: bytes) -> int:
        """A handle to go by, this thread's until its next call of any method. Not to be closed."""
        try:
            return self._to(path)
        except OSError as error:
            raise self._named(error, path) from None

    def listed(self, path: bytes) -> list[tuple[bytes, bool]]:
        """The names in a folder, sorted, and whether each is that of a folder."""
        try:
            handle = os.open(".", _LIST, dir_fd=self._to(path))
            try:
                with os.scandir(handle) as entries:
                    found = [
                        (
                            entry.name.encode("utf-8", "surrogateescape"),
                            entry.is_dir(follow_symlinks=False),
                        )
                        for entry in entries
                    ]
            finally:
                os.close(handle)
        except OSError as error:
            raise self._named(error, path) from None
        found.sort()
        return found

    def stat(self, path: bytes) -> os.stat_result:
        """Of what stands there itself, link or not."""
        folder, _, name = path.rpartition(b"/")
        try:
            return os.stat(name or b".", dir_fd=self._to(folder), follow_symlinks=False)
        except OSError as error:
            raise self._named(error, path) from None

    def readlink(self, path: bytes) -> bytes:
        folder, _, name = path.rpartition(b"/")
        try:
            return os.readlink(name, dir_fd=self._to(folder))
        except OSError as error:
            raise self._named(error, path) from None

    def resolve(self, path: bytes) -> tuple[bytes, int]:
        """`path` with its links followed, as long as they stay below the folder, and the mode of
        what stands there. Raises LeadsOut; of OSError ELOOP for a circle."""
        todo = path.split(b"/")[::-1]
        done: list[bytes] = []
        links = 0
        mode = stat.S_IFDIR
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if not done:
                    raise LeadsOut
                done.pop()
                mode = stat.S_IFDIR
                continue
            here = b"/".join((*done, part))
            mode = self.stat(here).st_mode
            if not stat.S_ISLNK(mode):
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise self._named(OSError(errno.ELOOP, os.strerror(errno.ELOOP)), path)
            target = self.readlink(here)
            if target.startswith(b"/"):
                # where it leads is a guess as everything is by path; its parts are looked at next
                target = os.path.relpath(_real(target), self._root)
                done.clear()
            todo += target.split(b"/")[::-1]
            mode = stat.S_IFDIR
        return b"/".join(done), mode

    def whole(self, path: bytes) -> bytes:
        """The path on the host, for people."""
        return os.path.join(self._root, path) if path else self._root

    def _to(self, path: bytes) -> int:
        try:
            way: _Way = self._ways.way
        except AttributeError:
            way = self._ways.way = _Way(self._handle)
        return way.last if path == way.path else way.to(path)

    def _named(self, error: OSError, path: bytes) -> OSError:
        return OSError(error.errno, error.strerror, self.whole(path))


def _real(path: bytes) -> bytes:
    """An absolute path without the links in the folders above it."""
    folder, name = os.path.split(path.rstrip(b"/"))
    return os.path.join(os.path.realpath(folder or b"/"), name)


class _Way:
    """The folders that one thread has open, from the top to `path`, whose handle is `last`."""

    def __init__(self, root: int) -> None:
        self.path, self.last = b"", root
        self._names: list[bytes] = []
        self._handles: list[int | None] = [
            root
        ]  # None: closed again, to be opened by the one above

    def to(self, path: bytes) -> int:
        names = path.split(b"/") if path else []
        same = 0
        for here, there in zip(self._names, names, strict=False):
            if here != there:
                break
            same += 1
        self._back(same)
        while self._handles[-1] is None:
            self._back(len(self._names) - 1)
        for name in names[len(self._names) :]:
            above = self._handles[-1]
            assert above is not None
            self._handles.append(os.open(name, _PASS, dir_fd=above))
            self._names.append(name)
            far = len(self._names) - _NEAR
            if far > 0 and far % _NEAR:
                handle, self._handles[far] = self._handles[far], None
                if handle is not None:
                    os.close(handle)
        self.path = path
        last = self._handles[-1]
        assert last is not None
        self.last = last
        return last

    def _back(self, depth: int) -> None:
        """Close what is below a depth; the way ends there, until it is led on."""
        while len(self._names) > depth:
            self._names.pop()
            handle = self._handles.pop()
            if handle is not None:
                os.close(handle)
        self.path = b"\0"  # no path, if what follows fails

    def __del__(self) -> None:
        self._back(0)
