"""Unpack a layer into a folder as an overlay lower dir, jailed.

Whiteouts become character devices 0:0, opaque folders an xattr.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import StoreError
from builder.events import Warned
from builder.layer.ahead import ahead, runs_ahead
from builder.layer.compress import codec_of
from builder.layer.decompress import open_layer
from builder.layer.entry import (
    DIRECTORY,
    OPAQUE,
    WHITEOUT,
    Entry,
)
from builder.layer.read import DEFAULT, Limits, read_layer, show
from builder.layer.runs import index_name, sizes
from builder.oci import media
from builder.oci.digest import digest_of
from builder.rootfs.arrange import ancestors
from builder.rootfs.jail import FOLDER, Jail
from builder.rootfs.view import View
from builder.store import unpacked
from builder.store.files import failure

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from builder.oci.image import Descriptor, Layer
    from builder.rootfs.table import Table
    from builder.store.store import Store


def unpack_layer(
    stream: BinaryIO,
    target: str,
    *,
    privileged: bool,
    below: Callable[[bytes], Entry | None] = lambda path: None,
    hides: Callable[[bytes], bool] = lambda path: True,
    limits: Limits = DEFAULT,
) -> list[str]:
    """Unpack an uncompressed layer tar into the empty folder `target`; gives notes, a line each.

    `privileged`: real root; else root of a user namespace, which makes no devices (they are left
    out with a note) and marks opaque folders with `user.` instead of `trusted.`.
    `below` gives the folders of the layers below: folders that the layer only implies get their
    metadata, or 0755 0:0. `hides` tells whether a whiteout finds something to hide; if not it is
    left out: overlayfs would list its name in a folder that only this layer has.
    Of several entries with one path the last counts. Raises LayerError and StoreError.
    """
    jail = _Lower(target, privileged)
    try:
        for entry, content in read_layer(stream, limits):
            try:
                jail.add(entry, content)
            except OSError as error:
                raise _failure(entry, error, target) from error
        jail.finish(below, hides)
    finally:
        jail.close()
    return jail.notes


class _Lower(Jail):
    def __init__(self, target: str, privileged: bool) -> None:
        super().__init__(os.open(target, FOLDER), devices=privileged)
        self._target = target
        self._opaque_name = ("trusted" if privileged else "user") + ".overlay.opaque"
        self._opaque: set[bytes] = set()
        self._whiteouts: list[bytes] = []

    def add(self, entry: Entry, content: BinaryIO) -> None:
        parent, _, name = entry.path.rpartition(b"/")
        if not name.startswith(WHITEOUT):
            super().add(entry, content)
            return
        self._folder(parent)
        if name == OPAQUE:
            self._opaque.add(parent)
        else:
            gone = name[len(WHITEOUT) :]
            self._whiteouts.append(parent + b"/" + gone if parent else gone)

    def finish(
        self, below: Callable[[bytes], Entry | None], hides: Callable[[bytes], bool]
    ) -> None:
        """Whiteouts, then the folders' metadata, deepest first."""
        anew = [path for path in self._whiteouts if path in self._folders]
        self._opaque.update(anew)  # removed below and made anew here
        for path in self._whiteouts:
            parent, _, name = path.rpartition(b"/")
            if path in self._folders or not hides(path):
                continue
            if not self._opaque.isdisjoint(ancestors(path)):
                continue
            with contextlib.suppress(FileExistsError):  # replaced here
                os.mknod(name, stat.S_IFCHR | 0o000, 0, dir_fd=self._folder(parent))
        for path in sorted(self._folders, reverse=True):
            entry = self._folders[path] or below(path)
            if entry is None or entry.type != DIRECTORY:
                entry = Entry(path, DIRECTORY, 0o755)
            if not path:  # an engine's own folder lies over it: 0755 0:0 whatever a layer says
                entry = Entry(b"", DIRECTORY, 0o755, mtime=entry.mtime)
            try:
                if path in self._opaque:
                    os.setxattr(self._folder(path), self._opaque_name, b"y")
                self.settle(path, entry)
            except OSError as error:
                raise _failure(entry, error, self._target) from error


def _failure(entry: Entry, error: OSError, target: str) -> StoreError:
    return failure(error, f"unpack {show(entry.path)} in", target, target)


# -- in the store ---------------------------------------------------------------------------------


def lower_dirs(
    store: Store, layers: Sequence[Layer], tables: Sequence[Table], *, privileged: bool
) -> tuple[str, ...]:
    """The layers as overlay lower dirs, bottom first; what is not yet unpacked is. `tables` are the
    layers' own, in the same order. Layers that a later one hides whole are left out: overlayfs
    does not look at the opaque mark of a layer's root, and takes no folder twice."""
    start = max((at for at, table in enumerate(tables) if b"" in table.opaque), default=0)
    folders = [
        ensure_unpacked(store, layers[at], View(tuple(tables[: at + 1])), privileged=privileged)
        for at in range(start, len(layers))
    ]
    return tuple(dict.fromkeys(reversed(folders)))[::-1]


def ensure_unpacked(store: Store, layer: Layer, view: View, *, privileged: bool) -> str:
    """The folder in the store that holds the unpacked layer; `view` ends with its table.

    A layer whose implied folders get their metadata from below, or whose whiteouts do not all find
    something to hide there, is unpacked once for each such case.
    Raises CorruptBlob, LayerError and StoreError; nothing half unpacked is ever visible.
    """
    lower = View(view.tables[:-1])
    idle = {path for path in view.tables[-1].whiteouts if lower.lookup(path) is None}
    name = _tree_name(layer, view, idle)
    if unpacked.claim(store, name):
        return store.unpacked_path(name)
    with store.lock(f"unpack-{name[-64:]}"):
        if unpacked.claim(store, name):
            return store.unpacked_path(name)
        temporary = store.temporary()
        try:
            with store.reading(layer.blob) as blob, plain(store, layer.blob, blob) as stream:
                notes = unpack_layer(
                    stream,
                    temporary,
                    privileged=privileged,
                    below=lambda path: found.entry if (found := view.lookup(path)) else None,
                    hides=lambda path: path not in idle,
                )
            path = unpacked.publish(store, temporary, name, layer.diff_id)
        finally:
            if os.path.lexists(temporary):
                store.folder.session().discard(temporary)
    for note in notes:
        store.emit(Warned(note))
    return path


def plain(store: Store, blob: Descriptor, file: BinaryIO) -> AbstractContextManager[BinaryIO]:
    """The blob's uncompressed bytes: from threads, several where its runs are known."""
    codec = media.CODECS[blob.media_type]
    index = store.load("trees", index_name(blob.digest))
    runs = sizes(index) if index else []
    if len(runs) > 1 and sum(compressed for compressed, _ in runs) == blob.size:
        return runs_ahead(file, runs, codec_of(codec).decompress)
    return ahead(open_layer(file, codec))


def _tree_name(layer: Layer, view: View, idle: set[bytes]) -> str:
    """The diff_id, or a digest of it with what depends on the layers below."""
    borrowed = []
    for path in sorted(view.tables[-1].implied - {b""}):
        found = view.lookup(path)
        if found is not None and found.table >= 0:
            borrowed.append(found.entry)
    if not borrowed and not idle:
        return layer.diff_id
    return digest_of(repr((layer.diff_id, borrowed, sorted(idle))).encode())
