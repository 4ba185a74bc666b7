"""Trees below the store: removing one, and how large it is."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from builder.store.files import Files


def remove_tree(files: Files, path: str, name: Callable[[], str]) -> bool:
    """Remove a folder of tmp/ with all that is in it; False if something could not be removed.

    Never follows a symlink, opens modes such as 0000, and moves each inner folder up to a fresh
    `name()` first: no path grows beyond PATH_MAX, no depth exhausts stack or handles, and what is
    mounted there, which cannot be moved, is left alone.
    """
    waiting, empty = [path], []
    complete = True
    while waiting:
        folder = waiting.pop()
        try:
            with files.within(folder):
                moved, whole = _empty(files, folder, name)
        except OSError:
            complete = False
            continue
        waiting += moved
        complete = complete and whole
        empty.append(folder)
    for folder in empty:
        try:
            files.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError:
            complete = False
    return complete


def _empty(files: Files, folder: str, name: Callable[[], str]) -> tuple[list[str], bool]:
    """Remove the files of a folder and move its folders; gives their new paths, and whether the
    folder is empty now."""
    moved, complete = [], True
    for entry in _entries(files, folder):
        inner = os.path.join(folder, entry)
        try:
            if stat.S_ISDIR(files.lstat(inner).st_mode):
                with contextlib.suppress(PermissionError):
                    files.chmod(inner, 0o700)  # moving a folder rewrites its ..
                fresh = name()
                files.rename(inner, fresh)
                moved.append(fresh)
            else:
                files.unlink(inner)
        except FileNotFoundError:
            pass
        except OSError:
            complete = False
    return moved, complete


def tree_size(files: Files, path: str) -> int:
    """Bytes on disk below a folder, hard links counted once; unreadable parts count as nothing."""
    total, waiting = 0, [path]
    seen: set[tuple[int, int]] = set()
    while waiting:
        folder = waiting.pop()
        for inner, status in _looked_at(files, folder):
            if stat.S_ISDIR(status.st_mode):
                waiting.append(inner)
            elif status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    return total


def _looked_at(files: Files, folder: str) -> list[tuple[str, os.stat_result]]:
    found = []
    with contextlib.suppress(OSError), files.within(folder):
        for entry in files.listdir(folder):
            inner = os.path.join(folder, entry)
            with contextlib.suppress(OSError):
                found.append((inner, files.lstat(inner)))
    return found


def _entries(files: Files, folder: str) -> list[str]:
    try:
        return files.listdir(folder)
    except PermissionError:
        files.chmod(folder, 0o700)
        return files.listdir(folder)
