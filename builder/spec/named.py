"""Files that a user names to be read: specs, variables, credentials."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO


def open_named(path: str) -> BinaryIO:
    """A regular file, or a pipe that a shell hands over as /dev/fd/63. A FIFO in a folder may have
    nobody at its other end, and the opening of some devices does something. Raises OSError."""
    status = os.stat(path)
    pipe = stat.S_ISFIFO(status.st_mode) and not os.path.exists(os.path.realpath(path))
    if not (stat.S_ISREG(status.st_mode) or pipe):
        kind = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.ENXIO
        raise OSError(kind, "it is not a regular file", path)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(handle, pipe)
    return os.fdopen(handle, "rb")
