"""State: what lies below a step, as far as it is known before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from builder.errors import CorruptBlob
from builder.oci import media
from builder.oci.image import Layer
from builder.store.records import load_layer, verified

if TYPE_CHECKING:
    from builder.layer.entry import Content, Entry
    from builder.oci.digest import DiffID
    from builder.oci.image import Descriptor, Document, Image
    from builder.plan.changes import Changes
    from builder.rootfs.table import PathTable, Table
    from builder.rootfs.view import View
    from builder.store.store import Store

Fetch = Callable[[Layer], None] | None


class State:
    """A stack of layers.

    `image` is None from the first layer on whose bytes are not known yet (a miss); `identities` and
    the view stay known above a file step that will be built, since its content is known, and end
    at a command that will run. `undecided` says in words what has to be built first. `commands`
    counts the command steps below, of the specs that stand on one another (plan.clock).
    """

    def __init__(
        self,
        image: Image | None,
        config: Document,
        identities: tuple[str, ...] | None,
        view: Callable[[], View],
        undecided: str = "",
        commands: int = 0,
    ) -> None:
        self.image = image
        self.config = config
        self.identities = identities
        self.undecided = undecided
        self.commands = commands
        self._make_view = view
        self._view: View | None = None

    @property
    def view(self) -> View:
        """Made when first asked for: a build in which nothing changed never asks."""
        if self._view is None:
            self._view = self._make_view()
        return self._view

    def with_layer(
        self,
        layer: Layer | None,
        image: Image | None,
        table: Callable[[], Table],
        *,
        command: bool,
    ) -> State:
        """One step further, its layer known (None: it was empty)."""
        below, commands = self, self.commands + command
        if layer is None or self.identities is None:
            return State(
                image, self.config, self.identities, lambda: self.view, self.undecided, commands
            )
        return State(
            image,
            self.config,
            (*self.identities, layer.diff_id),
            lambda: below.view.push(table()),
            self.undecided,
            commands,
        )

    def with_files(self, key: str, table: Callable[[], Table], undecided: str) -> State:
        """One file step further that will be built: its paths are known, its diff_id is not."""
        below = self
        assert self.identities is not None
        return State(
            None,
            self.config,
            (*self.identities, key),
            lambda: below.view.push(table()),
            self.undecided or undecided,
            self.commands,
        )

    def finished(self, image: Image) -> State:
        """The same layers, as the image over them is published: what stands on it begins here."""
        return State(
            image,
            image.config,
            self.identities,
            lambda: self.view,
            self.undecided,
            self.commands,
        )

    def unknown(self, undecided: str, *, command: bool) -> State:
        """One step further whose layer is not known before it is made."""
        undecided = self.undecided or undecided
        return State(None, self.config, None, no_view, undecided, self.commands + command)


def no_view() -> View:
    raise AssertionError("what these layers hold is not known before they are built")


def open_table(
    store: Store,
    layer: Layer,
    fetch: Fetch,
    entries: Callable[[], Iterable[Entry]] | None = None,
) -> PathTable:
    """A layer's path table. When it is not there it is made: from `entries`, which hold no account
    file, or from the blob."""
    table = _open_table(store, layer, fetch, entries)
    table.read = partial(_read_layer_file, store, layer, fetch)
    return table


def _open_table(
    store: Store,
    layer: Layer,
    fetch: Fetch,
    entries: Callable[[], Iterable[Entry]] | None,
) -> PathTable:
    from builder.rootfs.table import PathTable, make_table

    if fetch and not verified(store, layer):
        fetch(layer)
    try:
        return PathTable.open(store.table_path(layer.diff_id), layer.diff_id)
    except CorruptBlob:
        if entries:
            return make_table(store, layer.diff_id, entries(), {})
        return _table_of_blob(store, layer.diff_id, _blob(store, layer, fetch))


def _blob(store: Store, layer: Layer, fetch: Fetch) -> Descriptor:
    """A blob of a layer that is in the store; it is brought if need be."""
    blob = (verified(store, layer) or layer).blob
    if not store.has(blob):
        info = load_layer(store, layer.diff_id)
        here = [each for each in info.blobs.values() if store.has(each)] if info else []
        if here:
            blob = here[0]
        elif fetch:
            fetch(layer)
    return blob


def _read_layer_file(store: Store, layer: Layer, fetch: Fetch, path: bytes) -> bytes | None:
    """The bytes of a small file in a layer, read once more; None for one that is too large."""
    from builder.layer.decompress import open_layer
    from builder.layer.entry import HARDLINK
    from builder.layer.read import read_layer
    from builder.rootfs.accounts import ACCOUNT_FILE

    blob = _blob(store, layer, fetch)
    with store.reading(blob) as stream:
        found: bytes | None = None
        link = b""
        for entry, content in read_layer(open_layer(stream, media.CODECS[blob.media_type])):
            if entry.path == path:
                link = entry.link if entry.type == HARDLINK else b""
                small = not link and entry.size <= ACCOUNT_FILE
                found = b"".join(iter(partial(content.read, 1 << 16), b"")) if small else None
    return _read_layer_file(store, layer, fetch, link) if link else found


def _table_of_blob(store: Store, diff_id: DiffID, blob: Descriptor) -> PathTable:
    """Read a layer once more to list its paths."""
    from builder.layer.decompress import open_layer
    from builder.layer.entry import FILE
    from builder.layer.read import read_layer
    from builder.rootfs.accounts import ACCOUNT_FILE, is_account_file
    from builder.rootfs.table import make_table

    files: dict[bytes, bytes] = {}
    with store.reading(blob) as stream:

        def entries() -> Iterator[Entry]:
            for entry, content in read_layer(open_layer(stream, media.CODECS[blob.media_type])):
                small = entry.type == FILE and entry.size <= ACCOUNT_FILE
                if small and is_account_file(entry.path):
                    files[entry.path] = b"".join(iter(partial(content.read, 1 << 16), b""))
                yield entry

        return make_table(store, diff_id, entries(), files)


def base_state(store: Store, image: Image, fetch: Fetch, commands: int = 0) -> State:
    def view() -> View:
        from builder.rootfs.view import View

        return View(tuple(open_table(store, layer, fetch) for layer in image.layers))

    identities = tuple(str(layer.diff_id) for layer in image.layers)
    return State(image, image.config, identities, view, commands=commands)


def table_of(changes: Changes) -> Table:
    """The paths of a layer that is planned."""
    from builder.rootfs.table import MemoryTable

    table = MemoryTable((entry for entry, _ in changes.sorted()), accounts(changes))
    table.read = partial(_read_planned_file, changes)
    return table


def _read_planned_file(changes: Changes, path: bytes) -> bytes | None:
    from builder.layer.entry import HARDLINK

    for entry, content in changes.sorted():
        if entry.path == path:
            if entry.type == HARDLINK:
                return _read_planned_file(changes, entry.link)
            return read_account(content)
    return None


def accounts(changes: Changes) -> dict[bytes, bytes]:
    """The contents of account files that a step writes, for owners named in later steps."""
    from builder.layer.entry import FILE
    from builder.rootfs.accounts import is_account_file

    if not changes.accounts:
        return {}
    return {
        entry.path: read_account(content)
        for entry, content in changes.sorted()
        if entry.type == FILE and is_account_file(entry.path)
    }


def read_account(content: Content) -> bytes:
    """An account file's bytes; only the first of one that is too large to be one."""
    from builder.layer.entry import HostFile
    from builder.rootfs.accounts import ACCOUNT_FILE

    if isinstance(content, bytes):
        return content[:ACCOUNT_FILE]
    if isinstance(content, HostFile):
        with open(content.open(), "rb") as file:
            return file.read(ACCOUNT_FILE)
    if content is None:
        return b""
    with content() as stream:
        return stream.read(ACCOUNT_FILE)
