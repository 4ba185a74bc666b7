"""Flat: all that an image's file system holds, as its view shows it, to be written elsewhere.

First every entry, sorted; then the bytes of the files, in one read of each layer that has some of
them, in the order that they have there. Memory grows by a byte for each path of a layer, and with
hard links.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from builder.layer.entry import FILE, HARDLINK, Entry
from builder.layer.read import Limits, read_layer
from builder.rootfs.jail import is_kept

if TYPE_CHECKING:
    from builder.oci.image import Layer
    from builder.rootfs.layers import Layers
    from builder.rootfs.reading import PathTable

_WANTED, _READ, _LINK = 1, 2, 3


class Source(NamedTuple):
    """Where the bytes of a file are: a layer by its number, bottom 0, and which of the paths of its
    table."""

    layer: int
    place: int


class Flat:
    """Ask for `entries` to their end, then for `files`."""

    def __init__(self, layers: Layers, image: Sequence[Layer]) -> None:
        self._layers, self._image = layers, image
        self._view = layers.view(image)
        self._tables = [layers.table(layer) for layer in image]
        self._state = [bytearray(len(table)) for table in self._tables]
        self._links: list[dict[int, int]] = []  # by paths of files with several, the one they share
        self._names: list[dict[int, bytes]] = [{} for _ in image]  # by that, the first that is seen

    def paths(self, layer: int) -> int:
        """How many paths a layer's table has."""
        return len(self._tables[layer])

    def entries(self) -> Iterator[tuple[Entry, Source | None]]:
        """What stands below the root, parents before their children, sorted as layers are; with
        regular files where their bytes are. Of paths that are one file the first is it, the others
        are hard links to that."""
        self._links = [_links(table) for table in self._tables]
        near = [0] * len(self._image)
        for entry, layer in self._view.subtree(b""):
            if entry.xattrs:
                entry = entry._replace(xattrs=tuple(x for x in entry.xattrs if is_kept(x[0])))
            index = self._tables[layer].index(entry.path, near[layer]) if layer >= 0 else None
            if index is None:  # a folder that is only implied
                yield entry, None
                continue
            near[layer] = index + 1
            last = self._links[layer].get(index)
            if last is not None:
                index, names = last, self._names[layer]
                first = names.setdefault(index, entry.path)
                if first != entry.path:
                    yield entry._replace(type=HARDLINK, size=0, link=first), None
                    continue
            if entry.type == FILE:
                self._state[layer][index] = _WANTED
                yield entry, Source(layer, index)
            else:
                yield entry, None

    def files(self, limits: Limits) -> Iterator[tuple[Source, Entry, BinaryIO, bool]]:
        """The regular files, each under the path that `entries` had it under, its bytes, and
        whether it came before: one that a layer has several times comes as often, and the last
        counts. Raises LayerError, and CorruptBlob for a layer whose bytes are others than they
        were."""
        for layer, state in enumerate(self._state):
            if any(state):
                yield from self._files(layer, state, limits)

    def _files(
        self, layer: int, state: bytearray, limits: Limits
    ) -> Iterator[tuple[Source, Entry, BinaryIO, bool]]:
        table, names = self._tables[layer], self._names[layer]
        near = 0
        with self._layers.open(self._image[layer]) as plain:
            for entry, content in read_layer(plain, limits):
                if entry.type not in (FILE, HARDLINK):
                    continue
                index = table.index(entry.path, near)
                if index is None:
                    continue  # a whiteout
                near = index + 1
                if not state[index]:
                    continue
                again = state[index] != _WANTED
                state[index] = _READ if entry.type == FILE else _LINK
                if entry.type == FILE:
                    path = names.get(index, entry.path)
                    yield Source(layer, index), entry._replace(path=path), content, again
        left = [index for index, here in enumerate(state) if here in (_WANTED, _LINK)]
        if left:
            yield from self._extracted(layer, left)

    def _extracted(
        self, layer: int, left: list[int]
    ) -> Iterator[tuple[Source, Entry, BinaryIO, bool]]:
        """Files that came as hard links to what their targets were then: in one more read."""
        entries = {index: self._tables[layer].entry(index) for index in left}
        folder = self._layers.store.temporary()
        try:
            paths = [entry.path for entry in entries.values()]
            places = self._layers.extract(self._image[layer], paths, folder)
            for index, entry in entries.items():
                path = self._names[layer].get(index, entry.path)
                with open(places[entry.path], "rb") as file:
                    yield Source(layer, index), entry._replace(path=path), file, True
        finally:
            shutil.rmtree(folder)


def _links(table: PathTable) -> dict[int, int]:
    found: dict[int, int] = {}
    for index in table.links():
        chain = table.chain(table.entry(index).path)
        found.update(dict.fromkeys(chain, chain[-1]))
    return found
