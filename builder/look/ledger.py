"""A ledger of an image's files: what each layer wrote, and what of it one sees no more.

The path tables of the layers are gone through once, bottom first. Sizes are those of the files, in
bytes, uncompressed; a hard link takes none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from builder.layer.entry import DIRECTORY, FILE, HARDLINK, Entry

if TYPE_CHECKING:
    from builder.oci.image import Layer
    from builder.rootfs.layers import Layers
    from builder.rootfs.table import PathTable


class How(Enum):
    """Why bytes of a layer are in an image in vain."""

    REMOVED = "removed"
    WRITTEN_AGAIN = "written again"
    ATTRIBUTES = "attributes changed"  # the same bytes: another mode, owner or time


class Waste(NamedTuple):
    """A file that a layer above hides. Layers are counted from 0, the lowest."""

    path: bytes
    size: int
    written: int
    hidden: int
    how: How


class Node:
    """A path as the image has it. `children` by name, of a folder."""

    __slots__ = ("children", "entry", "layer")

    def __init__(self, entry: Entry, layer: int) -> None:
        self.entry, self.layer = entry, layer
        self.children: dict[bytes, Node] = {}

    @property
    def size(self) -> int:
        return self.entry.size if self.entry.type == FILE else 0


class Ledger(NamedTuple):
    root: Node
    waste: tuple[Waste, ...]  # the largest first
    written: tuple[int, ...]  # bytes of the files that each layer wrote
    files: tuple[int, ...]  # paths that each layer wrote


def ledger(layers: Layers, image: Sequence[Layer]) -> Ledger:
    """Of these layers, bottom first. Raises as Layers.table; those in which files of one size stand
    over one another are read for the digests of these."""
    tables = [layers.table(layer) for layer in image]
    return ledger_of(tables, lambda index, path: layers.contents(image[index]).get(path))


def ledger_of(tables: Sequence[PathTable], digest: Callable[[int, bytes], bytes | None]) -> Ledger:
    """Of layers by their path tables; `digest` gives that of a file of one of them."""
    made = _Making(tables, digest)
    for index in range(len(tables)):
        made.put(index)
    waste = tuple(sorted(made.waste, key=lambda each: (-each.size, each.path)))
    return Ledger(made.root, waste, tuple(made.written), tuple(made.files))


class _Making:
    def __init__(
        self, tables: Sequence[PathTable], digest: Callable[[int, bytes], bytes | None]
    ) -> None:
        self._tables, self._digest = tables, digest
        self.root = Node(Entry(b"", DIRECTORY, 0o755), -1)
        self.waste: list[Waste] = []
        self.written = [0] * len(tables)
        self.files = [0] * len(tables)

    def put(self, index: int) -> None:
        """The next layer. What it removes is of those below it, in whatever order it says so."""
        table = self._tables[index]
        for path in table.opaque:
            folder = self._find(path)
            for name in list(folder.children) if folder else ():
                assert folder is not None
                self._hide(_join(path, name), folder.children.pop(name), index, How.REMOVED)
        for path in table.whiteouts:
            parent, name = self._parent_of(path)
            if parent and name in parent.children:
                self._hide(path, parent.children.pop(name), index, How.REMOVED)
        for path in table.implied:  # also where a layer says nothing of them but what it removes
            self._folder(path, index)
        for number in range(len(table)):
            self._write(table, table.entry(number), index)

    def _write(self, table: PathTable, entry: Entry, index: int) -> None:
        self.files[index] += 1
        if entry.type == HARDLINK:  # its bytes are counted where it leads
            target = table.get(entry.path)
            entry = (target or entry)._replace(path=entry.path, size=0)
        if entry.type == FILE:
            self.written[index] += entry.size
        if not entry.path:
            self.root.entry, self.root.layer = entry, index
            return
        parent = self._folder(entry.path.rpartition(b"/")[0], index)
        name = entry.path.rpartition(b"/")[2]
        old = parent.children.get(name)
        node = Node(entry, index)
        if old is not None and old.entry.type == DIRECTORY == entry.type:
            node.children = old.children
        elif old is not None:
            self._hide(entry.path, old, index, self._how(old, entry, index))
        parent.children[name] = node

    def _how(self, old: Node, new: Entry, index: int) -> How:
        if old.entry.type != FILE or new.type != FILE or old.size != new.size:
            return How.WRITTEN_AGAIN
        below, above = (self._digest(each, new.path) for each in (old.layer, index))
        return How.ATTRIBUTES if below == above else How.WRITTEN_AGAIN

    def _hide(self, path: bytes, node: Node, index: int, how: How) -> None:
        waiting = [(path, node)]
        while waiting:
            path, node = waiting.pop()
            if node.size and node.layer < index:
                self.waste.append(Waste(path, node.size, node.layer, index, how))
            waiting += [(_join(path, name), each) for name, each in node.children.items()]

    def _folder(self, path: bytes, index: int) -> Node:
        """The folder, which is made where the layer has no entry of its own for it."""
        node = self.root
        if not path:
            return node
        done = b""
        for name in path.split(b"/"):
            done = _join(done, name)
            child = node.children.get(name)
            if child is None or child.entry.type != DIRECTORY:
                if child is not None:
                    self._hide(done, child, index, How.WRITTEN_AGAIN)
                child = node.children[name] = Node(Entry(done, DIRECTORY, 0o755), index)
            node = child
        return node

    def _parent_of(self, path: bytes) -> tuple[Node | None, bytes]:
        folder, _, name = path.rpartition(b"/")
        return self._find(folder), name

    def _find(self, path: bytes) -> Node | None:
        node: Node | None = self.root
        for name in path.split(b"/") if path else ():
            if node is None:
                break
            node = node.children.get(name)
        return node


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name
