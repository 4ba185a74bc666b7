"""Entry: one path of a changeset, as the layer tar will hold it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from builder.layer.beneath import READ, Beneath

FILE, HARDLINK, SYMLINK, CHAR, BLOCK, DIRECTORY, FIFO = "0", "1", "2", "3", "4", "5", "6"
"""Types, as tar's type flags. A whiteout is a FILE whose last path component begins with `.wh.`."""

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"

MAX_ID = 4294967294
MAX_PATH = 4095
MAX_NAME = 255


class Entry(NamedTuple):
    """Metadata of one path.

    `path` is relative to the image's root: raw bytes without leading `/`, `./` or trailing `/`;
    b"" is the root directory. `mode` holds the 12 permission bits. `mtime` is whole seconds.
    `link` is a symlink's target as it stands, or a hard link's target path (relative to the root).
    `xattrs` are (name, value) pairs sorted by name. `device` is (major, minor) of CHAR and BLOCK.
    """

    path: bytes
    type: str
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    link: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    device: tuple[int, int] = (0, 0)


class HostFile(NamedTuple):
    """A file of the host. With `digest` (raw sha256) the bytes read must have it: they are what a
    key was made from. With `beneath` the path starts there and is reached without following a
    link; else only a final one is not followed."""

    path: str | bytes
    digest: bytes | None = None
    beneath: Beneath | None = None

    def open(self) -> int:
        """A handle to read it, of whatever stands there. Raises OSError."""
        if self.beneath is None:
            return os.open(self.path, READ)
        return self.beneath.open(os.fsencode(self.path))


Content = bytes | HostFile | Callable[[], BinaryIO] | None
"""What a FILE entry holds: its bytes, a host file, or a function that opens a stream positioned at
its first byte. None for the others. Exactly `entry.size` bytes must come."""

Change = tuple[Entry, Content]


def fits(path: bytes) -> bool:
    """Whether a file system takes a path: a whiteout stands for a name without its prefix."""
    if len(path) <= MAX_NAME:
        return True
    longest = max(len(part.removeprefix(WHITEOUT)) for part in path.split(b"/"))
    return len(path) <= MAX_PATH and longest <= MAX_NAME


def whiteout(path: bytes, mtime: int) -> Entry:
    """The entry that removes `path` from the layers below (image-spec layer.md, Whiteouts)."""
    parent, _, name = path.rpartition(b"/")
    return Entry((parent + b"/" if parent else b"") + WHITEOUT + name, FILE, 0o600, mtime=mtime)
