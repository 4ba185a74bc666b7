"""Tables: one layer's paths with their metadata, on disk or in memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from builder.layer.entry import HARDLINK, Entry
from builder.layer.record import key_of
from builder.layer.sorter import Sorter
from builder.rootfs.arrange import Sides, check_links, follow, link_item
from builder.rootfs.reading import PathTable, Read
from builder.rootfs.writing import (
    TableWriter,
    name_table,
    table_writer,
    write_table,
)
from builder.store.files import failure

if TYPE_CHECKING:
    from builder.store.store import Store

__all__ = [
    "MemoryTable",
    "PathTable",
    "Table",
    "TableWriter",
    "make_table",
    "name_table",
    "table_writer",
    "write_table",
]


class Table(Protocol):
    """One layer's paths. Whiteouts are not among the entries."""

    @property
    def whiteouts(self) -> frozenset[bytes]:
        """Paths that the layer removes from the layers below it."""
        ...

    @property
    def opaque(self) -> frozenset[bytes]:
        """Folders whose contents in the layers below are hidden."""
        ...

    @property
    def implied(self) -> frozenset[bytes]:
        """Folders that have something below them in this layer but no entry of their own."""
        ...

    @property
    def files(self) -> Mapping[bytes, bytes]:
        """Contents of account files, by path."""
        ...

    @property
    def read(self) -> Read | None:
        """Reads the bytes of a small file that is not among them."""
        ...

    def get(self, path: bytes) -> Entry | None:
        """The entry of `path`; a hard link has the type and metadata of what it links to."""
        ...

    def children(self, path: bytes) -> Iterator[Entry]:
        """Entries directly below, sorted by name; implied folders are not among them."""
        ...

    def subtree(self, path: bytes) -> Iterator[Entry]:
        """Entries below `path` at any depth, without its own, parents first."""
        ...


class MemoryTable:
    """The table of a layer that is planned but not built. Same rules as write_table."""

    def __init__(
        self, entries: Iterable[Entry], files: Mapping[bytes, bytes] | None = None
    ) -> None:
        sides = Sides()
        found: dict[bytes, Entry] = {}
        links = Sorter()
        for entry in entries:
            if not sides.take(entry.path):
                found[key_of(entry.path)] = entry
                if entry.type == HARDLINK:
                    links.add(link_item(entry.path, entry.link))
        self._entries = found
        self._keys = sorted(found)
        for key in self._keys:
            sides.sorted(key, found[key].type)
        sides.finish()
        if links:
            check_links(links, lambda: ((k, found[k].type, found[k].link) for k in self._keys))
        self.whiteouts, self.opaque = frozenset(sides.whiteouts), frozenset(sides.opaque)
        self.implied = frozenset(sides.implied)
        self.files: Mapping[bytes, bytes] = dict(files or {})
        self.read: Read | None = None

    def get(self, path: bytes) -> Entry | None:
        entry = self._entries.get(key_of(path))
        return follow(entry, self.get) if entry is not None and entry.type == HARDLINK else entry

    def children(self, path: bytes) -> Iterator[Entry]:
        depth = path.count(b"/") + 1 if path else 0
        return (each for each in self.subtree(path) if each.path.count(b"/") == depth)

    def subtree(self, path: bytes) -> Iterator[Entry]:
        prefix = key_of(path) + b"\0" if path else b""
        for index in range(bisect_left(self._keys, prefix or b"\1"), len(self._keys)):
            if not self._keys[index].startswith(prefix):
                return
            entry = self._entries[self._keys[index]]
            yield follow(entry, self.get) if entry.type == HARDLINK else entry


def make_table(
    store: Store, diff_id: str, entries: Iterable[Entry], files: Mapping[bytes, bytes]
) -> PathTable:
    """Write the table of a layer into the store and open it. See write_table."""
    with table_writer(store) as writer:
        try:
            for entry in entries:
                writer.add(entry)
        except OSError as error:
            raise failure(error, "write", store.table_path(diff_id), store.root) from error
        writer.publish(store, diff_id, files)
    return PathTable.open(store.table_path(diff_id), diff_id)
