"""Locks among builders: flock on files below locks/, gone with the process that held them.

Order, outermost first: one step's key, what it mounts (caches by name, each bind), then "index",
then the collector's. Nobody waits for a lock
on the left while holding one on the right, so nobody waits in a circle.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable

from builder.store.files import (
    LOCK,
    LOCK_EX,
    LOCK_NB,
    LOCK_SH,
    NO_WRITING,
    NOT_A_FILE,
    READ,
    Files,
    write_all,
)

COLLECTOR = "collector"
"""Shared by builders for the instant of a claim, exclusive to gc for the instant of a removal."""
_SOON, _LATE = 0.001, 0.05  # seconds between two tries to hold a lock, growing
_HOLDER = re.compile(rb"(\d{1,10}) (\d{1,12}) ([^\n]{0,200})\n")


def take(files: Files, path: str, what: str, waiting: Callable[[str], None]) -> int:
    """Hold the lock file exclusively; gives its handle, for `release`. Raises OSError.

    Lock files are removed by their holder: whoever waited for a removed one starts again.
    `waiting` is told, once per holder, whom we wait for.
    """
    told: bytes | None = None
    while True:
        handle = _open(files, path)
        try:
            holder, pause = b"", _SOON
            while not _held(files, handle):
                # who has only just taken it has not written yet who it is
                holder = holder or files.read(handle, 300)
                if holder != told and (holder or pause == _LATE):
                    told = holder
                    if not holder.startswith(b"%d " % os.getpid()):  # another thread of ours
                        waiting(_describe(holder))
                time.sleep(pause)
                pause = min(2 * pause, _LATE)
            if _stands(files, path, handle):
                files.truncate(handle)
                with contextlib.suppress(OSError):  # a full disk: only the waiters' text is lost
                    text = f"{os.getpid()} {int(time.time())} {what}".replace("\n", " ")
                    write_all(files, handle, text.encode("utf-8", "replace")[:280] + b"\n")
                return handle
        except BaseException:
            files.close(handle)
            raise
        files.close(handle)


def _held(files: Files, handle: int) -> bool:
    """Try to hold it. Nobody blocks here: only the main thread could be interrupted then."""
    try:
        files.flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def release(files: Files, path: str, handle: int) -> None:
    """Removed while it is still held, so that nobody else's can be meant."""
    with contextlib.suppress(OSError):
        try:
            files.unlink(path)
        finally:
            files.close(handle)


def remove_dead(files: Files, path: str) -> bool:
    """Remove a lock file that nobody holds."""
    try:
        handle = files.open(path, READ)
    except OSError:
        return False
    try:
        files.flock(handle, LOCK_EX | LOCK_NB)
        if not _stands(files, path, handle):
            return False
        files.unlink(path)
    except OSError:
        return False
    finally:
        files.close(handle)
    return True


def hold_collector(files: Files, root: str, *, exclusive: bool) -> int | None:
    """A handle that holds the collector's lock until it is closed; this file is never removed.

    None where the store can only be read: nobody collects there. Raises OSError.
    """
    path = os.path.join(root, "locks", COLLECTOR)
    try:
        handle = _open(files, path)
    except OSError as error:
        if error.errno in NO_WRITING and not exclusive:
            return None
        raise
    try:
        files.flock(handle, LOCK_EX if exclusive else LOCK_SH)
    except BaseException:
        files.close(handle)
        raise
    return handle


def _open(files: Files, path: str) -> int:
    """The lock file, made when it is missed. What else stands in its place is moved to tmp/, where
    the next sweep finds it: also a file that has another name, which may be somebody's elsewhere
    and is not to be written to."""
    try:
        handle = files.open(path, LOCK)
    except OSError as error:
        if error.errno not in (errno.ELOOP, NOT_A_FILE):
            raise
    else:
        try:
            alone = files.fstat(handle).st_nlink <= 1
            if alone or not _stands(files, path, handle):
                return handle
        except BaseException:
            files.close(handle)
            raise
        files.close(handle)
    root = os.path.dirname(os.path.dirname(path))
    files.rename(path, os.path.join(root, "tmp", os.urandom(8).hex()))
    return files.open(path, LOCK)


def _stands(files: Files, path: str, handle: int) -> bool:
    ours = files.fstat(handle)
    try:
        standing = files.lstat(path)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (standing.st_dev, standing.st_ino)


def _describe(holder: bytes) -> str:
    found = _HOLDER.match(holder)
    if not found:
        return "another builder"
    pid, since, what = found.groups()
    seconds = max(0, int(time.time()) - int(since))
    text = f"builder {int(pid)}"
    if what:
        text += f", which does {what.decode('utf-8', 'replace')!r}"
    return f"{text} since {seconds} s"
