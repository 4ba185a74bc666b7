"""Origins: images that steps copy from, as their view shows them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from builder.oci.image import Layer
from builder.rootfs.view import Found, View

if TYPE_CHECKING:
    from builder.rootfs.contents import Contents
    from builder.rootfs.layers import Layers


class Stored(NamedTuple):
    """Where a file's bytes are: a layer of the image by its number, bottom 0, and the path that
    holds them there. Equal for paths that are one file."""

    layer: int
    path: bytes


class SourceImage:
    """An image whose layers are all known. `name` is for messages: "stage:build"."""

    def __init__(self, name: str, layers: Layers, image: tuple[Layer, ...]) -> None:
        self.name = name
        self._layers, self._image = layers, image
        self._contents: dict[int, Contents] = {}
        self._wanted: dict[int, set[bytes]] = {}
        self._places: dict[int, dict[bytes, str]] = {}  # of what is taken out
        self._lock = threading.Lock()

    @property
    def view(self) -> View:
        return self._layers.view(self._image)

    def stored(self, found: Found) -> Stored:
        """Of a regular file in the view."""
        table = self._layers.table(self._image[found.table])
        return Stored(found.table, table.file(found.entry.path))

    def digest(self, stored: Stored) -> bytes:
        """Raw sha256 of a file. The first of a layer reads the layer, unless it is known."""
        contents = self._contents.get(stored.layer)
        if contents is None:
            contents = self._layers.contents(self._image[stored.layer])
            self._contents[stored.layer] = contents
        digest = contents.get(stored.path)
        assert digest is not None, "it is a regular file"
        return digest

    def content(self, stored: Stored) -> Callable[[], BinaryIO]:
        """What opens a file. The first that is opened of a layer takes all out of it that this was
        asked for, in one read; so does the first that is opened once more."""
        self._wanted.setdefault(stored.layer, set()).add(stored.path)
        return lambda: self._open(stored)

    def _open(self, stored: Stored) -> BinaryIO:
        with self._lock:
            places = self._places.setdefault(stored.layer, {})
            if stored.path not in places:
                folder, layer = self._layers.store.temporary(), self._image[stored.layer]
                places.update(self._layers.extract(layer, self._wanted[stored.layer], folder))
            place = places.pop(stored.path)
            file = open(place, "rb")  # noqa: SIM115  # whoever reads it closes it
            os.unlink(place)  # what is taken out does not outlast its use
            return file
