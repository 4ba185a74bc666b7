"""Tree: every path of an image at once, as its view shows them one by one."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from builder.errors import LayerError
from builder.layer.entry import DIRECTORY, FILE, Entry
from builder.rootfs.table import Table
from builder.rootfs.view import Found, View

if TYPE_CHECKING:
    from builder.oci.image import Layer
    from builder.rootfs.layers import Layers


class Merged:
    """What tables add up to, bottom first, in one walk of each. Memory grows with their paths."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.files: dict[bytes, Found] = {}
        """By path, without the root, in no order."""
        self._gone: set[bytes] = set()  # whiteouts
        self._closed: set[bytes] = set()  # folders below which nothing of further tables is seen
        self._implied: set[bytes] = set()
        for index in range(len(tables) - 1, -1, -1):
            self._enter(index, tables[index])
        for path in self._implied - self.files.keys():
            self.files[path] = Found(Entry(path, DIRECTORY, 0o755), -1)

    def _enter(self, index: int, table: Table) -> None:
        files, gone, implied = self.files, self._gone, self._implied
        known: dict[bytes, bool] = {}
        clash = []  # what are folders above and none here: none of what lies below is seen
        for entry in table.subtree(b""):
            path = entry.path
            if path in files:
                if entry.type != DIRECTORY:
                    clash.append(path)
                continue
            if path in gone or self._covered(path.rpartition(b"/")[0], known):
                continue
            if path in implied and entry.type != DIRECTORY:
                clash.append(path)
                entry, of = Entry(path, DIRECTORY, 0o755), -1
            else:
                of = index
            files[path] = Found(entry, of)
        implied |= {
            path
            for path in table.implied
            if path not in files
            and path not in gone
            and path
            and not self._covered(path.rpartition(b"/")[0], known)
        }
        gone |= table.whiteouts
        self._closed |= table.whiteouts
        self._closed |= table.opaque
        self._closed.update(clash)

    def _covered(self, folder: bytes, known: dict[bytes, bool]) -> bool:
        """Whether what lies in `folder` in a further table is hidden."""
        passed = []
        covered = False
        while True:
            before = known.get(folder)
            if before is not None:
                covered = before
                break
            passed.append(folder)
            here = self.files.get(folder)
            if folder in self._closed or (here is not None and here.entry.type != DIRECTORY):
                covered = True
                break
            if not folder:
                break
            folder = folder.rpartition(b"/")[0]
        known.update(dict.fromkeys(passed, covered))
        return covered


class Tree:
    """An image's paths, and the content of some of its files."""

    def __init__(self, layers: Layers, image: Sequence[Layer]) -> None:
        self.layers, self.image = layers, tuple(image)
        self.view: View = layers.view(self.image)
        self.files = Merged(self.view.tables).files
        """By path, without the root. Hard links are as what they link to."""

    def resolve(self, path: bytes) -> bytes | None:
        """The path with symlinks followed, where something stands there."""
        try:
            found = self.view.resolve(path, follow_last=True)
        except LayerError:  # links in a circle
            return None
        return found if found in self.files else None

    def below(self, folder: bytes) -> list[bytes]:
        """Paths directly in a folder, symlinks followed, sorted; none where there is none."""
        resolved = self.resolve(folder)
        if resolved is None:
            return []
        return [each.entry.path for each in self.view.children(resolved)]

    def read(self, paths: Iterable[bytes], limit: int) -> Iterator[tuple[bytes, bytes | None]]:
        """The bytes of regular files, in no order; None for one of more than `limit` bytes. What
        is no regular file is left out. Of each layer one read."""
        for path, place in self.extract(paths, limit):
            if place is None:
                yield path, None
                continue
            with open(place, "rb") as file:
                yield path, file.read(limit + 1)

    def extract(self, paths: Iterable[bytes], limit: int) -> Iterator[tuple[bytes, str | None]]:
        """As `read`, for each the place of a copy that is there until the next is asked for."""
        wanted: dict[int, list[bytes]] = {}
        for path in dict.fromkeys(paths):
            found = self.files.get(path)
            if found is None or found.entry.type != FILE:
                continue
            if found.entry.size > limit:
                yield path, None
            else:
                wanted.setdefault(found.table, []).append(path)
        for index, some in sorted(wanted.items()):
            with self.folder() as folder:
                places = self.layers.extract(self.image[index], some, folder)
                for path in some:
                    yield path, places[path]

    @contextlib.contextmanager
    def folder(self) -> Iterator[str]:
        """An empty one, gone afterwards."""
        folder = self.layers.store.temporary()
        try:
            yield os.fspath(folder)
        finally:
            shutil.rmtree(folder)
