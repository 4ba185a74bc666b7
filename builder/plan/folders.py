"""The working directory of steps: what is relative to it, and who makes it.

The folder that `config` names is made as Docker's WORKDIR makes one: when it is missing, 0755, of
the user. Not at the start, but when the first step needs it, which is when a command runs in it or
a relative target lies in it, else at the end.
"""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

from builder.errors import BuilderError
from builder.spec.model import MAX_PATH

if TYPE_CHECKING:
    from builder.layer.entry import Entry
    from builder.rootfs.view import View


def in_image(path: str, folder: str) -> str:
    """A target as an absolute path; a relative one is taken from `folder`. A slash at its end
    stays, as it says that a directory is meant."""
    whole = "/" + posixpath.normpath(posixpath.join(folder, path)).lstrip("/")
    if len(whole.encode("utf-8", "surrogateescape")) > MAX_PATH:
        raise BuilderError(f"{path!r} is longer than {MAX_PATH} bytes from {folder[:60]!r} on")
    return whole + "/" if path.endswith("/") and whole != "/" else whole


def made_in(folder: str, view: View, user: str, time: int) -> tuple[Entry, ...]:
    """What is made of the working directory for a file step in it. While its user does not exist
    yet, it is root's."""
    from builder.layer.entry import DIRECTORY, Entry
    from builder.rootfs.accounts import resolve_owner

    missing = view.missing(os.fsencode(folder))
    if not missing:
        return ()
    try:
        owner = resolve_owner(user, view)
    except BuilderError:
        owner = (0, 0)
    return tuple(Entry(each, DIRECTORY, 0o755, *owner, time) for each in missing)
