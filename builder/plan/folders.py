"""The working directory of steps: what is relative to it, and who makes it.

The folder that `config` names is made as Docker's WORKDIR makes one: when it is missing, 0755, of
the user. Not at the start, but when the first step needs it, which is when a command runs in it or
a relative target lies in it, else at the end.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import TYPE_CHECKING

from builder.errors import BuilderError
from builder.spec.model import MAX_PATH, Remove, Run, Step

if TYPE_CHECKING:
    from builder.layer.entry import Entry
    from builder.plan.state import State


def in_image(path: str, folder: str) -> str:
    """A target as an absolute path; a relative one is taken from `folder`. A slash at its end
    stays, as it says that a directory is meant."""
    whole = "/" + posixpath.normpath(posixpath.join(folder, path)).lstrip("/")
    if len(whole.encode("utf-8", "surrogateescape")) > MAX_PATH:
        raise BuilderError(f"{path!r} is longer than {MAX_PATH} bytes from {folder[:60]!r} on")
    return whole + "/" if path.endswith("/") and whole != "/" else whole


def in_folder(step: Step, folder: str) -> Step:
    """The step with its targets absolute."""
    if isinstance(step, Run):
        return step
    if isinstance(step, Remove):
        return step._replace(paths=tuple(in_image(path, folder) for path in step.paths))
    return step._replace(dest=in_image(step.dest, folder))


def lies_in_it(step: Step) -> bool:
    """Whether a file step needs the working directory. To remove something nothing is made."""
    return not isinstance(step, (Run, Remove)) and not step.dest.startswith("/")


def made_for(step: Step, state: State, folder: str, user: str, time: int) -> tuple[Entry, ...]:
    """What is made of the working directory for a file step. While its user does not exist yet, it
    is root's."""
    from builder.layer.entry import DIRECTORY, Entry
    from builder.rootfs.accounts import resolve_owner

    missing = state.view.missing(os.fsencode(folder)) if lies_in_it(step) else []
    if not missing:
        return ()
    try:
        owner = resolve_owner(user, state.view)
    except BuilderError:
        owner = (0, 0)
    return tuple(Entry(each, DIRECTORY, 0o755, *owner, time) for each in missing)


def makes_it(command: str | tuple[str, ...], folder: str) -> bool:
    """Whether a command, by what it says, makes `folder` itself in a way that works only where it
    is not there yet: mkdir fails then, and a new account's home stays root's."""
    text = command if isinstance(command, str) else " ".join(command)
    parent, name = posixpath.split(folder)
    for part in re.split(r"[;&|\n()]+", text):
        program, *words = [word.strip("'\"") for word in part.split()] or [""]
        paths = {word.rpartition("=")[2].rstrip("/") for word in words}
        program = program.rpartition("/")[2]
        if program == "mkdir" and folder in paths:
            return not any(re.fullmatch("-[a-zA-Z]*p[a-zA-Z]*|--parents", word) for word in words)
        home = folder in paths or (parent == "/home" and name in words)
        if home and program in ("useradd", "adduser"):
            return True
    return False
