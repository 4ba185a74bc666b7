"""Layers: the one way to a layer's bytes, its path table, its view and its unpacked folder.

What is asked of a layer brings it, when that is not in the store: out of the store where another
blob holds the same layer, else by the providers that were offered for it, in their order. One
object serves a session, from any thread; what one thread makes or brings, others wait for.
"""

from __future__ import annotations

import contextlib
import os
import threading
from _weakref import proxy  # without weakref, which a build with nothing to do would import
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar, assert_never

from builder.errors import CorruptBlob, LayerError, TransportError
from builder.oci.image import Descriptor, Image, Layer
from builder.rootfs.stack import Known, Promised
from builder.store.records import is_imported, labelled, load_layer, verified

if TYPE_CHECKING:
    from builder.rootfs.base import Listing, Provider
    from builder.rootfs.contents import Contents
    from builder.rootfs.table import PathTable, Table
    from builder.rootfs.view import View
    from builder.store.store import Store

_K = TypeVar("_K")
_T = TypeVar("_T")
_TABLES = 256  # open at once, each a file
_VIEWS = 8  # each remembers what it was asked


class Layers:
    """The layers of a session. `providers` are asked for those that no offered one brings."""

    def __init__(self, store: Store, *providers: Provider) -> None:
        self.store = store
        self._providers = providers
        self._offers: dict[str, tuple[str, tuple[Provider, ...]]] = {}  # by the blob's digest
        self._turn = threading.Lock()
        self._locks: dict[str, threading.RLock] = {}  # by diff_id or key
        self._tables: dict[str, Table] = {}  # by diff_id or key, least recently used first
        self._views: dict[tuple[str, ...], View] = {}  # alike

    def offer(self, of: str, layers: Iterable[Layer], *providers: Provider) -> None:
        """Ask these for these layers, after those offered before. `of` names the base whose layers
        they are, for errors."""
        with self._turn:
            for layer in layers:
                _, before = self._offers.get(layer.blob.digest, ("", ()))
                more = tuple(each for each in providers if each not in before)
                self._offers[layer.blob.digest] = (of, before + more)

    # -- bytes ------------------------------------------------------------------------------------

    def bring(self, layer: Layer) -> None:
        """Have the layer's blob in the store, known to be this layer. Raises TransportError, and
        CorruptBlob when nobody has it."""
        if is_imported(self.store, layer):
            return
        with self._lock(layer.diff_id):
            if is_imported(self.store, layer):
                return
            of, offered = self._offers.get(layer.blob.digest, ("", ()))
            fault: TransportError | None = None
            for provider in (*offered, *self._providers):
                try:
                    if provider.bring(layer):
                        return
                except TransportError as error:
                    fault = error
            if fault:
                raise fault
            if self._recognised(layer):
                return
            where = f"layer {layer.blob.digest}" + (f" of {of}" if of else "")
            raise CorruptBlob(
                f"{where} is neither in the store nor at a registry known to have it",
                "build or pull the image again",
            )

    def _recognised(self, layer: Layer) -> bool:
        """The blob is there, and not known to be this layer: read whole, it is. Raises
        TransportError when it is another."""
        from builder.transport.importing import import_layer

        if self.store.claim(layer.blob):
            of, _ = self._offers.get(layer.blob.digest, ("", ()))
            where = f"{of}: {layer.blob.digest}" if of else layer.blob.digest
            with contextlib.suppress(CorruptBlob), self.store.open(layer.blob) as blob:
                import_layer(self.store, layer, blob, where)
                return True
        return False

    def settle(self, image: Image) -> Image:
        """A base to build on: of every layer it is known that its blob is what the config says, and
        how it is compressed. What is not known is brought for it. Raises as `bring`."""
        for layer in image.layers:
            if not verified(self.store, layer):
                self.bring(layer)
        return labelled(self.store, image)

    @contextlib.contextmanager
    def open(self, layer: Layer) -> Iterator[BinaryIO]:
        """The layer's uncompressed tar, read ahead by a thread. Read to its end it is as its digest
        says, else CorruptBlob is raised there."""
        from builder.rootfs.unpack import plain

        blob = self._blob(layer)
        with self.store.reading(blob) as file, plain(self.store, blob, file) as stream:
            yield stream

    def _blob(self, layer: Layer) -> Descriptor:
        """A blob of the layer that is in the store, this or another; it is brought if need be."""
        blob = (verified(self.store, layer) or layer).blob
        if self.store.claim(blob):
            return blob
        info = load_layer(self.store, layer.diff_id)
        for other in info.blobs.values() if info else ():
            if self.store.claim(other):
                return other
        self.bring(layer)
        return (verified(self.store, layer) or layer).blob

    # -- paths ------------------------------------------------------------------------------------

    def table(self, layer: Layer, listing: Listing | None = None) -> PathTable:
        """A layer's path table. When it is not there it is made: from `listing`, which holds no
        account file, or from the blob."""
        from builder.rootfs.table import PathTable

        own = proxy(self)  # no circle: the store is closed when the last of us goes

        def make() -> PathTable:
            if layer.blob.digest in self._offers and not verified(self.store, layer):
                self.bring(layer)
            table = self._open_table(layer, listing)
            table.read = partial(Layers._read_small, own, layer)
            return table

        table = self._kept(layer.diff_id, make)
        assert isinstance(table, PathTable)
        return table

    def _open_table(self, layer: Layer, listing: Listing | None) -> PathTable:
        from builder.rootfs.table import PathTable, make_table

        store, diff_id = self.store, layer.diff_id
        try:
            return PathTable.open(store.table_path(diff_id), diff_id)
        except CorruptBlob:
            if listing is not None:
                return make_table(store, diff_id, (entry for entry, _ in listing.sorted()), {})
        from builder.rootfs.making import table_of_tar

        with self.open(layer) as plain:
            return table_of_tar(store, diff_id, plain)

    def _promised(self, each: Promised) -> Table:
        from builder.rootfs.making import table_of

        return self._kept(each.identity, lambda: table_of(each.listing))

    def _read_small(self, layer: Layer, path: bytes) -> bytes | None:
        """The bytes of a small file of a layer; None for one that is too large."""
        from builder.rootfs.accounts import ACCOUNT_FILE

        entry = self.table(layer).get(path)
        if entry is None or entry.size > ACCOUNT_FILE:
            return None
        with self._extracted(layer, path) as file:
            return file.read()

    def view(self, layers: Iterable[Layer | Known | Promised]) -> View:
        """What the layers add up to, bottom first. The same for the same layers, and for any
        thread: it remembers what it was asked."""
        wanted = [Known(each) if isinstance(each, Layer) else each for each in layers]
        name = tuple(each.identity for each in wanted)
        with self._turn:
            view = self._views.pop(name, None)
            if view is not None:
                self._views[name] = view
                return view
        from builder.rootfs.view import View

        tables: list[Table] = []
        for each in wanted:
            match each:
                case Known(layer, listing):
                    tables.append(self.table(layer, listing))
                case Promised():
                    tables.append(self._promised(each))
                case other:
                    assert_never(other)
        return self._remember(self._views, name, View(tuple(tables)), _VIEWS)

    def _kept(self, name: str, make: Callable[[], Table]) -> Table:
        """The table of this name, made once."""
        with self._lock(name):
            with self._turn:
                table = self._tables.pop(name, None)
                if table is not None:
                    self._tables[name] = table
                    return table
            return self._remember(self._tables, name, make(), _TABLES)

    def _remember(self, memo: dict[_K, _T], name: _K, value: _T, most: int) -> _T:
        with self._turn:
            memo[name] = value
            if len(memo) > most:
                del memo[next(iter(memo))]
            return value

    def renew(self) -> None:
        """Begin anew after something in the store was found corrupt: path tables that are damaged
        go out of it, to be made again when they are asked for."""
        from builder.rootfs.table import PathTable

        with self._turn:
            tables = list(self._tables.items())
            self._tables.clear()
            self._views.clear()
        for name, table in tables:
            if isinstance(table, PathTable) and not table.whole():
                with contextlib.suppress(OSError):
                    self.store.folder.move_away(self.store.table_path(name))

    # -- contents ---------------------------------------------------------------------------------

    def contents(self, layer: Layer) -> Contents:
        """The SHA-256 of every regular file of the layer by its path, a hard link's target's. Made
        at the first ask, in one read of the layer; kept in the store by its diff_id."""
        from builder.rootfs.contents import Contents, write_contents

        path, table = self.store.contents_path(layer.diff_id), self.table(layer)
        with self._lock(layer.diff_id):
            with contextlib.suppress(CorruptBlob):
                return Contents.open(path, layer.diff_id, table)
            with self.open(layer) as plain:
                write_contents(self.store, layer.diff_id, table, plain)
            return Contents.open(path, layer.diff_id, table)

    def extract(self, layer: Layer, paths: Iterable[bytes], folder: str) -> dict[bytes, str]:
        """Write the content of regular files of a layer, hard links among them, to new files in
        `folder`, in one read of the layer; gives where each is. Raises CorruptBlob for a layer
        whose bytes are others than they were, LayerError for a path that is no regular file."""
        import shutil

        from builder.layer.read import show
        from builder.rootfs.contents import extract, names_of

        wanted, table = list(paths), self.table(layer)
        needed = {name for path in wanted for name in names_of(table, path)}
        inner = os.path.join(folder, layer.diff_id[7:])
        while needed:  # again for names that links had and the table does not know
            os.mkdir(inner)
            places = {path: os.path.join(inner, str(n)) for n, path in enumerate(needed)}
            with self.open(layer) as plain:
                more = extract(plain, places)
            if not more:
                break
            needed |= more
            shutil.rmtree(inner)
        for path in wanted:
            if not os.path.exists(places[path]):
                raise LayerError(f"{show(path)} is no regular file of the layer")
        return {path: places[path] for path in wanted}

    @contextlib.contextmanager
    def read(self, layers: Sequence[Layer], path: bytes) -> Iterator[BinaryIO]:
        """The content of the regular file that stands at `path` in an image, symlinks not followed.
        Of its layers only the one that the file is in is read. Raises LayerError where no regular
        file stands there."""
        from builder.layer.entry import FILE
        from builder.layer.read import show

        found = self.view(layers).lookup(path)
        if found is None or found.entry.type != FILE:
            raise LayerError(f"{show(path)} is no regular file in the image")
        with self._extracted(layers[found.table], path) as file:
            yield file

    @contextlib.contextmanager
    def _extracted(self, layer: Layer, path: bytes) -> Iterator[BinaryIO]:
        import shutil

        folder = self.store.temporary()
        try:
            place = self.extract(layer, [path], folder)[path]
            with open(place, "rb") as file:
                yield file
        finally:
            shutil.rmtree(folder)

    # -- folders ----------------------------------------------------------------------------------

    def lowers(self, layers: Sequence[Layer], *, privileged: bool) -> tuple[str, ...]:
        """The layers unpacked, as folders for an overlay, bottom first; what is not yet unpacked
        is. `privileged` as rootfs.unpack has it."""
        from builder.rootfs.unpack import lower_dirs

        tables = [self.table(layer) for layer in layers]
        here = [layer._replace(blob=self._blob(layer)) for layer in layers]
        return lower_dirs(self.store, here, tables, privileged=privileged)

    def _lock(self, name: str) -> threading.RLock:
        return self._locks.setdefault(name, threading.RLock())
