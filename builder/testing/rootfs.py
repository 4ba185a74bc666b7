"""Rootfs: the files of an image as a test reads them. Nothing runs, and nothing is unpacked."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.layer.entry import BLOCK, CHAR, DIRECTORY, FIFO, FILE, SYMLINK

if TYPE_CHECKING:
    from builder.layer.entry import Entry
    from builder.oci.image import Layer
    from builder.rootfs.layers import Layers

_KINDS = {
    FILE: "file", DIRECTORY: "directory", SYMLINK: "symlink", CHAR: "device", BLOCK: "device",
    FIFO: "pipe",
}  # fmt: skip


class Status(NamedTuple):
    """What stands at a path."""

    kind: str  # file | directory | symlink | device | pipe
    mode: int  # the 12 permission bits
    uid: int
    gid: int
    size: int  # bytes, of a file
    mtime: int  # seconds since 1970
    link: str  # what a symlink says


class Rootfs:
    """Paths are absolute; symlinks are followed within the image."""

    def __init__(self, layers: Layers, image: Sequence[Layer]) -> None:
        self._layers, self._image = layers, image

    def exists(self, path: str) -> bool:
        return self._find(path, follow=True) is not None

    def stat(self, path: str, *, follow: bool = True) -> Status:
        """Without `follow` of a symlink itself. Raises FileNotFoundError."""
        entry = self._entry(path, follow=follow)
        return Status(
            _KINDS[entry.type], entry.mode, entry.uid, entry.gid, entry.size, entry.mtime,
            os.fsdecode(entry.link) if entry.type == SYMLINK else "",
        )  # fmt: skip

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError, IsADirectoryError, LayerError for what is no file."""
        entry = self._entry(path, follow=True)
        if entry.type == DIRECTORY:
            raise IsADirectoryError(f"{path} is a directory in the image")
        with self._layers.read(self._image, entry.path) as file:
            return file.read()

    def text(self, path: str) -> str:
        """As `read`, of a file in UTF-8."""
        return self.read(path).decode()

    def names(self, path: str) -> list[str]:
        """What lies directly in a folder, sorted."""
        entry = self._entry(path, follow=True)
        if entry.type != DIRECTORY:
            raise NotADirectoryError(f"{path} is no directory in the image")
        children = self._layers.view(self._image).children(entry.path)
        return [os.fsdecode(each.entry.path.rpartition(b"/")[2]) for each in children]

    def glob(self, pattern: str) -> list[str]:
        """Absolute paths that a pattern matches whole, sorted: `*` and `?` within a name, `**` over
        any number of them."""
        matches = re.compile(os.fsencode(_expression(pattern.strip("/"))), re.DOTALL).fullmatch
        found = self._layers.view(self._image).subtree(b"")
        return sorted("/" + os.fsdecode(e.path) for e, _ in found if matches(e.path))

    def _find(self, path: str, *, follow: bool) -> Entry | None:
        view = self._layers.view(self._image)
        found = view.find(os.fsencode(path), follow_last=follow)
        return found.entry if found else None

    def _entry(self, path: str, *, follow: bool) -> Entry:
        entry = self._find(path, follow=follow)
        if entry is None:
            raise FileNotFoundError(f"{path} is not in the image")
        return entry


def _expression(pattern: str) -> str:
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    words = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(parts.get(word) or re.escape(word) for word in words)
