"""Caches: folders that outlive the steps that see them, by name and platform.

    caches/ID/about       the name and the platform; its mtime is when a step last had it
    caches/ID/COPY/data   what steps see
    caches/ID/COPY/use-N  a step has it: held by flock until it ends, then removed

Steps share one copy unless they say otherwise. A `use` that nobody holds is of a step, or of a
builder, that was killed: what it was writing may be half there. Such a copy is for nobody any more,
and is removed once no other step has it. What steps wrote is hostile: nothing here follows it.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from builder.errors import BuilderError, CommandFailed, StoreError
from builder.events import Noted, Warned
from builder.oci.digest import hex_of
from builder.oci.image import encode
from builder.store.files import CREATE, LOCK_EX, LOCK_NB, NO_WRITING, READ, failure, write_all
from builder.store.store import Store
from builder.store.trees import tree_size

_USE = "use-"
_TIMED_OUT = 124  # exit status of what was ended
_SIGNALS = range(129, 129 + 64)  # and of what a signal ended
_SOON, _LATE = 0.01, 0.2  # seconds between two looks whether a copy is free, growing


class Copy(NamedTuple):
    """What a step sees of a cache."""

    data: str  # the folder
    new: bool  # it is empty, and nobody else's
    kept: bool = True  # False: it is for this step alone


class Listed(NamedTuple):
    name: str
    platform: str
    size: int  # bytes on disk
    used: float  # wall clock, seconds


def id_of(name: str, platform: str) -> str:
    return hex_of(f"{name}\0{platform}".encode())


class Use:
    """A step's use of a cache, held from the start of `held` to its end."""

    def __init__(self, store: Store, name: str, platform: str, sharing: str, what: str) -> None:
        self._store, self._files = store, store.files
        self._id, self._name, self._platform = id_of(name, platform), name, platform
        self._sharing, self._what = sharing, what
        self._folder = os.path.join(store.root, "caches", self._id)
        self._mark, self._handle = "", -1
        self._fill: Callable[[str], None] | None = None

    @contextlib.contextmanager
    def held(self, fill: Callable[[str], None] | None = None) -> Iterator[Copy]:
        """A cache that cannot be had is told of, and the step has a new folder in its place. `fill`
        puts into a new one what it begins with: nobody else has it before that is done."""
        self._fill = fill
        try:
            copy = self._take()
        except OSError as error:
            if error.errno in NO_WRITING:
                error = OSError(error.errno, "the store can only be read")
            self._store.emit(
                Warned(
                    f"the cache {self._name!r} cannot be used ({error.strerror}):"
                    " the step has a new one"
                )
            )
            copy = None
        if copy is None:
            folder = self._store.temporary()
            data = os.path.join(folder, "data")
            self._files.mkdir(data)
            try:
                if fill is not None:
                    fill(data)
                yield Copy(data, new=True, kept=False)
            finally:
                self._store.folder.session().discard(folder)
            return
        killed = True
        try:
            if copy.new and fill is not None:
                fill(copy.data)
                with contextlib.suppress(OSError):  # else others wait until the step ends
                    self._say()
            yield copy
            killed = False
        except CommandFailed as error:
            killed = error.exit_status == _TIMED_OUT or error.exit_status in _SIGNALS
            raise
        except BuilderError:
            killed = copy.new  # not the command failed; a new one may be half filled
            raise
        finally:
            self._release(killed)

    # -- taking one -------------------------------------------------------------------------------

    def _take(self) -> Copy:
        told, pause = False, _SOON
        while True:
            with self._store.lock(f"cache-{self._id}", self._what):
                copy = self._try()
            if copy is not None:
                return copy
            if not told:
                told = True
                self._store.emit(Noted(f"cache {self._name!r}: waiting for another step to end"))
            time.sleep(pause)
            pause = min(2 * pause, _LATE)

    def _try(self) -> Copy | None:
        """A copy, if one is free. Under the lock."""
        copies = self._copies()
        self._touch()
        busy = False
        for path in copies:
            living, dead = self._uses(path)
            if dead and not living:
                self._discard(path, killed=True)
            elif dead:
                continue
            elif not living or (self._sharing == "shared" and set(living) == {"shared"}):
                return self._begin(path, new=False)
            else:
                busy = True
        if busy and self._sharing != "private":
            return None
        return self._begin(os.path.join(self._folder, os.urandom(8).hex()), new=True)

    def put(self, folder: str) -> None:
        """Under the lock, where no step has it: have this copy alone. Raises OSError."""
        for path in self._copies():
            self._store.folder.move_away(path)
        self._touch()
        self._files.rename(folder, os.path.join(self._folder, os.urandom(8).hex()))

    def _copies(self) -> list[str]:
        """Those that are there and are what we made; what else lies there goes."""
        found = []
        for path in (os.path.dirname(self._folder), self._folder):
            with contextlib.suppress(FileExistsError):
                self._files.mkdir(path)
        for name in sorted(self._files.listdir(self._folder)):
            path = os.path.join(self._folder, name)
            if name == "about":
                continue
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if stat.S_ISDIR(self._files.lstat(os.path.join(path, "data")).st_mode):
                    found.append(path)
                    continue
            self._store.emit(Warned(f"the cache {self._name!r} is corrupt; it is made again"))
            self._store.folder.move_away(path)
        return found

    def _touch(self) -> None:
        """Say whose it is, and that it is in use now: where that is said already, without a byte
        more, since the disk may be full. Raises OSError."""
        path = os.path.join(self._folder, "about")
        if _about(self._store, self._folder) == (self._name, self._platform):
            self._files.utime(path, time.time())
            return
        new, handle = self._store.folder.create()
        try:
            about = encode({"name": self._name, "platform": self._platform})
            write_all(self._files, handle, about)
        finally:
            self._files.close(handle)
        self._files.rename(new, path)

    def _uses(self, path: str) -> tuple[list[str], list[str]]:
        """How the steps that have a copy share it, and the marks of those that were killed."""
        living, dead = [], []
        for name in self._files.listdir(path):
            if not name.startswith(_USE):
                continue
            try:
                handle = self._files.open(os.path.join(path, name), READ)
            except FileNotFoundError:
                continue  # the step has just ended: it takes its mark away without the lock
            try:
                self._files.flock(handle, LOCK_EX | LOCK_NB)
                if self._files.fstat(handle).st_nlink:
                    dead.append(name)
            except BlockingIOError:
                living.append(self._files.read(handle, 20).decode("ascii", "replace"))
            finally:
                self._files.close(handle)
        return living, dead

    def there(self) -> bool:
        """Whether there is a copy to be had."""
        with self._store.lock(f"cache-{self._id}"):
            return os.path.isdir(self._folder) and bool(self._copies())

    def taken(self) -> bool:
        """Under the lock: whether a step has it."""
        return any(self._uses(path)[0] for path in self._copies())

    def _begin(self, path: str, *, new: bool) -> Copy:
        if new:
            self._files.mkdir(path)
        self._mark = os.path.join(path, _USE + os.urandom(8).hex())
        self._handle = self._files.open(self._mark, CREATE)
        data = os.path.join(path, "data")
        try:
            self._files.flock(self._handle, LOCK_EX)
            if not new or self._fill is None:
                self._say()
            if new:
                self._files.mkdir(data)
        except BaseException:  # nobody is to wait for a step that has no cache
            with contextlib.suppress(OSError):
                self._files.unlink(self._mark)
            self._files.close(self._handle)
            raise
        return Copy(data, new)

    def _say(self) -> None:
        """Write how it is shared; until then it is not."""
        write_all(self._files, self._handle, self._sharing.encode())

    # -- leaving it -------------------------------------------------------------------------------

    def _release(self, killed: bool) -> None:
        """Of a step that was killed the mark stays, as if the builder had been. Another copy that
        is free now is more than one: it goes, too."""
        if not killed:
            with contextlib.suppress(OSError):
                self._files.unlink(self._mark)
        with contextlib.suppress(OSError):  # it is closed all the same
            self._files.close(self._handle)
        with contextlib.suppress(OSError, StoreError), self._store.lock(f"cache-{self._id}"):
            free = []
            for path in self._copies():
                living, dead = self._uses(path)
                if dead and not living:
                    self._discard(path, killed=True)
                elif not living:
                    free.append(path)
            for path in free[1:]:
                self._discard(path, killed=False)
            self._touch()

    def _discard(self, path: str, *, killed: bool) -> None:
        if killed:
            self._store.emit(
                Noted(f"cache {self._name!r}: a step that had it was killed; it starts empty")
            )
        self._store.folder.move_away(path)


def names(store: Store) -> list[str]:
    """Of all caches, each once."""
    found = (_about(store, os.path.join(store.root, "caches", each)) for each in _ids(store))
    return sorted({about[0] for about in found if about})


def listed(store: Store) -> list[Listed]:
    """All caches by name and platform. Sizes take a walk."""
    found = []
    for name in _ids(store):
        folder = os.path.join(store.root, "caches", name)
        about = _about(store, folder)
        if about is not None:
            used = store.files.lstat(os.path.join(folder, "about")).st_mtime
            found.append(Listed(*about, tree_size(store.files, folder), used))
    return sorted(found)


def remove(store: Store, name: str, platform: str | None = None) -> int:
    """Remove the caches of a name, of all platforms if none is given; how many there were. Raises
    StoreError where a step has one."""
    removed = 0
    for each in _ids(store):
        folder = os.path.join(store.root, "caches", each)
        about = _about(store, folder)
        if about and about[0] == name and platform in (None, about[1]):
            with store.lock(f"cache-{each}"):
                check_free(store, *about)
                try:
                    store.folder.move_away(folder)
                except OSError as error:
                    raise failure(error, "remove", folder, store.root) from error
            removed += 1
    return removed


def replace(store: Store, name: str, platform: str, folder: str) -> None:
    """Let a folder of tmp/, which holds `data`, be the cache's one copy. Raises StoreError where a
    step has another one."""
    with store.lock(f"cache-{id_of(name, platform)}", f"cache import {name}"):
        check_free(store, name, platform)
        Use(store, name, platform, "locked", "").put(folder)


def check_free(store: Store, name: str, platform: str) -> None:
    """Under its lock. Raises StoreError where a step has it."""
    if Use(store, name, platform, "locked", "").taken():
        raise StoreError(f"the cache {name!r} is in use by a step", "try again when it has ended")


def _ids(store: Store) -> list[str]:
    try:
        return store.files.listdir(os.path.join(store.root, "caches"))
    except FileNotFoundError:
        return []
    except OSError as error:
        path = os.path.join(store.root, "caches")
        raise failure(error, "read", path, store.root) from error


def _about(store: Store, folder: str) -> tuple[str, str] | None:
    try:
        handle = store.files.open(os.path.join(folder, "about"), READ)
        try:
            document = json.loads(store.files.read(handle, 1000))
        finally:
            store.files.close(handle)
        name, platform = document["name"], document["platform"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    found = isinstance(name, str) and isinstance(platform, str)
    return (name, platform) if found and id_of(name, platform) == os.path.basename(folder) else None
