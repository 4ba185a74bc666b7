"""Who else may write in a store: it is as trusted as they are."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Mapping

from builder.store.files import Files

_UNKNOWN = 65534
"""Whose what belongs to nobody in our user namespace seems to be: the machine's root, mostly."""
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def tell_of_writers(
    files: Files, root: str, folders: Mapping[str, os.stat_result], warn: Callable[[str], None]
) -> None:
    """Say that others may write in the store, or put another one in its place. Its `folders` are
    closed to them, where that is possible."""
    for path, status in folders.items():
        if not status.st_mode & OTHERS_WRITE:
            continue
        mode = stat.S_IMODE(status.st_mode)
        closed = False
        with contextlib.suppress(OSError):
            files.chmod(path, mode & ~OTHERS_WRITE)
            closed = True
        warn(
            f"{path}: others could write here (mode {mode:o}), and what they put there is trusted;"
            f" {'it is closed to them now' if closed else 'it cannot be closed to them'}:"
            " remove the store if you do not trust them"
        )
    above = _movable(root)
    if above:
        warn(
            f"{root}: others may put another store in its place, by way of {above};"
            " --cache-dir names a folder elsewhere"
        )


def _movable(root: str) -> str | None:
    """The folder above in which others may rename what leads to the store."""
    own = (0, os.geteuid(), _UNKNOWN)
    path = os.path.realpath(root)
    try:
        below = os.lstat(path)
        while path != "/":
            path = os.path.dirname(path)
            status = os.lstat(path)
            sticky = status.st_mode & stat.S_ISVTX and below.st_uid in own
            if status.st_uid not in own or (_open_to_others(status) and not sticky):
                return path
            below = status
    except OSError:
        return None  # nobody gets past what cannot be looked at but root
    return None


def _open_to_others(status: os.stat_result) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    if not status.st_mode & stat.S_IWGRP or status.st_gid == 0:
        return False
    return status.st_gid != os.getegid() or not _alone(status.st_gid)


def _alone(group: int) -> bool:
    """The user's own group, with nobody else in it."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
        found = grp.getgrgid(group)
    except KeyError:
        return False
    return found.gr_name == user and set(found.gr_mem) <= {user}
