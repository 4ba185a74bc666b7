"""Folder: files that are written whole or not at all, and read with suspicion.

A file's mtime is when it was last used, to the hour. Writing goes below tmp/ and is published by
rename; what stands in a file's place is never trusted to be one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from builder.events import Emit, Warned
from builder.store import locks
from builder.store.files import CREATE, LIST, OWN_TROUBLE, READ, Files, failure, owned
from builder.store.session import Session

HOUR = 3600.0
_IN_THE_WAY = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST})

_T = TypeVar("_T")


class Folder:
    """`root` as the files below it. Methods raise StoreError unless they say OSError."""

    def __init__(self, root: str, emit: Emit, files: Files) -> None:
        self.root, self.emit, self.files = root, emit, files
        self.marks = True  # False: what is looked at does not count as used
        self._told: set[str] = set()
        self._session: Session | None = None
        self._guard = threading.Lock()

    def warn(self, text: str) -> None:
        """Tell something once."""
        if text not in self._told:
            self._told.add(text)
            self.emit(Warned(text))

    # -- who we are -----------------------------------------------------------------------------

    def session(self) -> Session:
        """This builder's mark among the living, made when it is first needed. Raises OSError."""
        with self._guard:
            if self._session is None:
                self._session = Session(self.files, self.root)
            return self._session

    @property
    def registered(self) -> bool:
        return self._session is not None

    def close(self) -> None:
        with self._guard:
            session, self._session = self._session, None
        if session:
            session.close()

    @contextlib.contextmanager
    def beside_collector(self) -> Iterator[None]:
        """gc removes nothing meanwhile, and knows us afterwards. A store that cannot be written
        has no gc."""
        path = os.path.join(self.root, "locks", locks.COLLECTOR)
        try:
            handle = locks.hold_collector(self.files, self.root, exclusive=False)
        except OSError as error:
            raise failure(error, "lock", path, self.root) from error
        try:
            if handle is not None:
                with contextlib.suppress(OSError):  # a full disk: what it holds can still be used
                    self.session()
            yield
        finally:
            if handle is not None:
                self.close_quietly(handle)

    # -- reading ----------------------------------------------------------------------------------

    def read(self, path: str, label: str, limit: int) -> bytes | None:
        """A regular file of at most `limit` bytes, whole, marked as used.

        None: there is none, or something else is in its place (one Warned with `label`)."""
        try:
            handle = self.files.open(path, READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._unreadable(error, path, label)
            return None
        try:
            status = self.files.fstat(handle)
            # the owner of a file may write to it, and may have it under a name elsewhere
            if status.st_size > limit or not owned(self.files, status):
                self.warn(f"{label} is corrupt; it is made again")
                return None
            parts = []
            left = status.st_size
            while left:
                part = self.files.read(handle, left)
                if not part:
                    break
                parts.append(part)
                left -= len(part)
            self.touch(handle, status)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        except OSError as error:
            self._unreadable(error, path, label)
            return None
        finally:
            self.close_quietly(handle)

    def _unreadable(self, error: OSError, path: str, label: str) -> None:
        if error.errno in OWN_TROUBLE:
            raise failure(error, "read", path, self.root) from error
        self.warn(f"{label} cannot be read ({error.strerror}); it is made again")

    @contextlib.contextmanager
    def unmarked(self) -> Iterator[None]:
        """Look around without using anything: for gc, usage and check."""
        before, self.marks = self.marks, False
        try:
            yield
        finally:
            self.marks = before

    def touch(self, target: int | str, status: os.stat_result) -> None:
        """Mark as used, at most once an hour. Also brings a time from the future back to now; after
        the clock went back, our own start stands for now, so that gc sees it as used since then.
        A file that has another name is left as it is: it may be somebody's elsewhere."""
        mtime = status.st_mtime
        if not self.marks or status.st_nlink > 1:
            return
        now = time.time()
        if self._session:
            now = max(now, self._session.start)
        if now - HOUR < mtime <= now + HOUR:
            return
        with contextlib.suppress(OSError):
            self.files.utime(target, now)

    # -- writing ----------------------------------------------------------------------------------

    def create(self) -> tuple[str, int]:
        """A new file below tmp/: its path and handle. Raises OSError."""
        return self._fresh(lambda path: self.files.open(path, CREATE))

    def temporary(self, suffix: str) -> str:
        """A new folder below tmp/."""
        try:
            return self._fresh(self.files.mkdir, suffix)[0]
        except OSError as error:
            raise failure(error, "write in", os.path.join(self.root, "tmp"), self.root) from error

    def _fresh(self, make: Callable[[str], _T], suffix: str = "") -> tuple[str, _T]:
        while True:
            path = self.session().name(suffix)
            with contextlib.suppress(FileExistsError):  # a forked child counts as we do
                return path, self._with_folder(path, partial(make, path))

    def place(self, temporary: str, path: str) -> None:
        """Rename what was written below tmp/ to its place and sync the folder. Raises OSError."""
        session = self._session
        if session and time.time() < session.start:  # the clock went back: used now, not then
            self.files.utime(temporary, session.start)
        try:
            self._with_folder(path, lambda: self.files.rename(temporary, path))
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            self.move_away(path)
            self.files.rename(temporary, path)
        handle = self.files.open(os.path.dirname(path), LIST)
        try:
            self.files.fsync(handle)
        finally:
            self.files.close(handle)

    def move_away(self, path: str) -> bool:
        """Remove whatever stands at `path`, at once for whoever looks; False if some of it stays in
        tmp/. Raises OSError."""
        try:
            target, _ = self._fresh(lambda target: self.files.rename(path, target))
        except FileNotFoundError:
            return True
        return self.session().discard(target)

    def close_quietly(self, handle: int) -> None:
        """Of a file that was read, or after an error: nothing can be lost any more."""
        with contextlib.suppress(OSError):
            self.files.close(handle)

    def open(self, path: str, flags: int) -> int:
        """A file below one of the store's own folders, which is made where it is missed. Raises
        OSError."""
        return self._with_folder(path, partial(self.files.open, path, flags))

    def _with_folder(self, path: str, call: Callable[[], _T]) -> _T:
        """Folders below the root are made when they are missed."""
        try:
            return call()
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                self.files.mkdir(os.path.dirname(path))
            return call()
