"""The working directory of steps, and who makes it.

The folder that `config` names is made as Docker's WORKDIR makes one: when it is missing, 0755, of
the user. Not at the start, but when the first step needs it, which is when a command runs in it or
a relative target lies in it, else at the end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.errors import BuilderError

if TYPE_CHECKING:
    from builder.layer.entry import Entry
    from builder.rootfs.view import View


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
