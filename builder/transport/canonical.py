"""The canonical layer of a root file system: what extracting any tar of it would make.

Sorted, one entry per path (the last one counts, as tar extracts it), missing parents added, of
hard-linked paths the first is the file, overlay's own attributes dropped. Two tars of equal trees
give the same layer, whatever wrote them.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from builder.errors import LayerError
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, WHITEOUT, Change, Entry
from builder.layer.read import read_tar, show
from builder.layer.write import sort_key, write_layer
from builder.oci.image import Layer
from builder.rootfs.table import write_table
from builder.transport.importing import CHUNK, place_table, remember

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from builder.store.store import Store

_OVERLAY = (b"trusted.overlay.", b"user.overlay.")


class _Node(NamedTuple):
    """What hard-linked paths share: the metadata, and where the content begins in the spool."""

    entry: Entry
    offset: int


def canonical_layer(
    store: Store, tar: BinaryIO, keep: Callable[[bytes], bool] = lambda path: True
) -> Layer:
    """Write the tree that extracting `tar` would make as one layer, with its path table. Paths for
    which `keep` is false are left out. Raises LayerError.

    Contents go through a file in the store's tmp/, since a tar's order is not the layer's; memory
    grows with the number of paths only.
    """
    folder = store.temporary()
    try:
        nodes: dict[bytes, _Node] = {}
        with open(os.path.join(folder, "contents"), "w+b") as spool:
            for entry, content in read_tar(tar):
                if b"/" + WHITEOUT in b"/" + entry.path:
                    raise LayerError(f"{show(entry.path)} would be read as a whiteout in a layer")
                if entry.type == HARDLINK:
                    if entry.link not in nodes:
                        raise LayerError(
                            f"hard link {show(entry.path)}: no {show(entry.link)} before it"
                        )
                    nodes[entry.path] = nodes[entry.link]
                    continue
                xattrs = tuple(each for each in entry.xattrs if not each[0].startswith(_OVERLAY))
                nodes[entry.path] = _Node(entry._replace(xattrs=xattrs), spool.tell())
                if entry.type == FILE:
                    shutil.copyfileobj(content, spool, CHUNK)
            spool.flush()
            nodes = {path: node for path, node in nodes.items() if keep(path)}
            _add_parents(nodes)
            return _write(store, nodes, spool, os.path.join(folder, "table"))
    finally:
        shutil.rmtree(folder)


def _write(store: Store, nodes: dict[bytes, _Node], spool: BinaryIO, table: str) -> Layer:
    files: dict[bytes, bytes] = {}
    for path in (b"etc/passwd", b"etc/group"):
        if path in nodes and nodes[path].entry.type == FILE:
            files[path] = os.pread(spool.fileno(), nodes[path].entry.size, nodes[path].offset)
    write_table(table, (entry for entry, _ in _changes(nodes, spool)), files)
    written = write_layer(_changes(nodes, spool), store)
    if written is None:
        raise LayerError("the archive holds nothing")
    place_table(store, table, written.layer.diff_id)
    remember(store, written.layer, written.size)
    return written.layer


def _changes(nodes: dict[bytes, _Node], spool: BinaryIO) -> Iterator[Change]:
    first: dict[int, bytes] = {}  # id of a node -> the first of its paths
    for path in sorted(nodes, key=sort_key):
        node = nodes[path]
        entry = node.entry._replace(path=path)
        target = first.setdefault(id(node), path)
        if target != path:
            yield entry._replace(type=HARDLINK, link=target, size=0), None
        elif entry.type == FILE:
            yield entry, _opener(spool, node.offset)
        else:
            yield entry, None


def _add_parents(nodes: dict[bytes, _Node]) -> None:
    for path in list(nodes):
        while path := path.rpartition(b"/")[0]:
            if path in nodes:
                break
            nodes[path] = _Node(Entry(path, DIRECTORY, 0o755), 0)


def _opener(spool: BinaryIO, offset: int) -> Callable[[], BinaryIO]:
    return lambda: cast(BinaryIO, _Part(spool.fileno(), offset))


class _Part(io.RawIOBase):
    """The spool from an offset on; closing it leaves the spool open."""

    def __init__(self, handle: int, offset: int) -> None:
        self._handle, self._offset = handle, offset

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        size = os.preadv(self._handle, [buffer], self._offset)
        self._offset += size
        return size
