"""Builders that live: each holds a flock on live/<id>, and its temporary names begin with <id>.

A dead builder's lock falls with it, also after kill -9 and in another pid namespace; the next one
to start removes what it left.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
from collections.abc import Callable

from builder.errors import StoreError
from builder.store import locks
from builder.store.files import CREATE, LOCK_EX, LOCK_NB, NO_LOCKS, READ, Files
from builder.store.trees import remove_tree

_ID = re.compile(r"[0-9a-f]{16}")
_OURS = {
    "live": _ID,
    "tmp": re.compile(r"[0-9a-f]{16}(\.[0-9]+.*)?", re.DOTALL),
    "locks": re.compile(r"index|([a-z]+-)*[0-9a-f]{64}"),
}
"""The names that builders give. What has another name is not ours to remove."""


class Session:
    """One living builder. `start`: wall clock seconds, as the store's file system stamped it."""

    _handle = -1

    def __init__(self, files: Files, root: str) -> None:
        self.files, self.root = files, root
        live = os.path.join(root, "live")
        with contextlib.suppress(FileExistsError):
            files.mkdir(live)
        self._numbers = itertools.count()
        while not self._mark(live):
            pass

    def _mark(self, live: str) -> bool:
        """Make and hold the mark; False when a sweep took it for a dead builder's in between."""
        files = self.files
        self.id = os.urandom(8).hex()
        self.path = os.path.join(live, self.id)
        self._handle = files.open(self.path, CREATE)
        try:
            files.flock(self._handle, LOCK_EX)
            status = files.fstat(self._handle)
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in NO_LOCKS:
                error.errno = errno.ENOLCK  # of what it may be called, the plainest
            with contextlib.suppress(OSError):
                files.unlink(self.path)
            self._let_go()
            raise
        self.start = status.st_mtime
        if status.st_nlink == 0:
            self._let_go()
        return status.st_nlink > 0

    def __del__(self) -> None:
        self._let_go()

    def _let_go(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with contextlib.suppress(OSError):
                self.files.close(handle)

    def name(self, suffix: str = "") -> str:
        """A path below tmp/ that nothing has yet."""
        return os.path.join(self.root, "tmp", f"{self.id}.{next(self._numbers)}{suffix}")

    def close(self) -> None:
        """Remove what is left below tmp/, and the mark. Errors are left to the next sweep."""
        with contextlib.suppress(OSError):
            try:
                self._remove(self.id)
                self.files.unlink(self.path)
            finally:
                self._let_go()

    def sweep(self, mend: Callable[[], object]) -> list[str]:
        """Remove what dead builders left; gives the paths that could not be removed. `mend` ends
        what they had begun, before they are forgotten; when it raises StoreError they are not.

        Listing tmp/ before live/ is what makes it safe: a builder marks itself before it writes.
        """
        owners = {name.partition(".")[0] for name in self._list("tmp")}
        stuck: list[str] = []
        living = set()
        mended = None
        for name in self._list("live"):
            handle = None if name == self.id else self._take(name)
            if handle is None:
                living.add(name)
                continue
            try:
                left = self._remove(name)
                stuck += left
                if mended is None:
                    mended = _succeeds(mend)
                if mended and not left:
                    self.files.unlink(os.path.join(self.root, "live", name))
            except OSError:
                stuck.append(os.path.join(self.root, "live", name))
            finally:
                self.files.close(handle)
            owners.discard(name)
        for orphan in sorted(owners - living):
            stuck += self._remove(orphan)
        for name in self._list("locks"):
            locks.remove_dead(self.files, os.path.join(self.root, "locks", name))
        return stuck

    def oldest_other(self) -> float | None:
        """When the oldest other living builder began; None when there is none."""
        starts = []
        for name in self._list("live"):
            if name == self.id:
                continue
            path = os.path.join(self.root, "live", name)
            handle = self._take(name)
            if handle is not None:
                self.files.close(handle)
                continue
            with contextlib.suppress(FileNotFoundError):
                starts.append(self.files.lstat(path).st_mtime)
        return min(starts, default=None)

    def _take(self, name: str) -> int | None:
        """A handle that holds the dead builder's lock, or None: it lives, or is gone."""
        path = os.path.join(self.root, "live", name)
        try:
            handle = self.files.open(path, READ)
        except OSError:
            return None
        try:
            self.files.flock(handle, LOCK_EX | LOCK_NB)
        except OSError:
            self.files.close(handle)
            return None
        return handle

    def _list(self, folder: str) -> list[str]:
        """What builders put there; a mark of the living is a file."""
        path = os.path.join(self.root, folder)
        try:
            found = self.files.listdir(path)
        except FileNotFoundError:
            return []
        ours = [name for name in found if _OURS[folder].fullmatch(name)]
        return ours if folder != "live" else [name for name in ours if self._is_file(path, name)]

    def _is_file(self, folder: str, name: str) -> bool:
        try:
            return stat.S_ISREG(self.files.lstat(os.path.join(folder, name)).st_mode)
        except FileNotFoundError:
            return False

    def _remove(self, owner: str) -> list[str]:
        """Remove tmp/<owner>.*; gives what could not be removed."""
        stuck = []
        for name in self._list("tmp"):
            if name.partition(".")[0] != owner:
                continue
            path = os.path.join(self.root, "tmp", name)
            if not self.discard(path):
                stuck.append(path)
        return stuck

    def discard(self, path: str) -> bool:
        """Remove a file or a tree below tmp/; False if something of it could not be removed."""
        try:
            if stat.S_ISDIR(self.files.lstat(path).st_mode):
                return remove_tree(self.files, path, self.name)
            self.files.unlink(path)
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return True


def _succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except StoreError:
        return False
    return True
