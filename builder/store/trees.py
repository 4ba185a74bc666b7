"""Trees below the store: removing one, and how large it is."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from builder.store.files import Files


def remove_tree(files: Files, path: str, name: Callable[[], str]) -> bool:
    """Remove a folder with all that is in it; False if something could not be removed.

    Never follows a symlink, opens modes such as 0000, and moves each inner folder up to a fresh
    `name()` first: no path grows beyond PATH_MAX and no depth exhausts stack or handles.
    """
    waiting, empty = [path], []
    complete = True
    while waiting:
        folder = waiting.pop()
        try:
            entries = _entries(files, folder)
        except OSError:
            complete = False
            continue
        for entry in entries:
            inner = os.path.join(folder, entry)
            try:
                if stat.S_ISDIR(files.lstat(inner).st_mode):
                    with contextlib.suppress(PermissionError):
                        files.chmod(inner, 0o700)  # moving a folder rewrites its ..
                    moved = name()
                    files.rename(inner, moved)
                    waiting.append(moved)
                else:
                    files.unlink(inner)
            except FileNotFoundError:
                pass
            except OSError:
                complete = False
        empty.append(folder)
    for folder in empty:
        try:
            files.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError:
            complete = False
    return complete


def tree_size(files: Files, path: str) -> int:
    """Bytes on disk below a folder, hard links counted once; unreadable parts count as nothing."""
    total, waiting = 0, [path]
    seen: set[tuple[int, int]] = set()
    while waiting:
        folder = waiting.pop()
        try:
            entries = files.listdir(folder)
        except OSError:
            continue
        for entry in entries:
            inner = os.path.join(folder, entry)
            try:
                status = files.lstat(inner)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                waiting.append(inner)
            elif status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    return total


def _entries(files: Files, folder: str) -> list[str]:
    try:
        return files.listdir(folder)
    except PermissionError:
        files.chmod(folder, 0o700)
        return files.listdir(folder)
