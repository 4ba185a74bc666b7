"""The canonical layer of a root file system: what extracting any tar of it would make.

Sorted, one entry per path (the last one counts, as tar extracts it), missing parents added, of
hard-linked paths the first is the file, overlay's own attributes dropped. Two tars of equal trees
give the same layer, whatever wrote them.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import LayerError
from builder.layer.entry import DIRECTORY, FILE, WHITEOUT, Change, Entry
from builder.layer.read import read_tar, room, show
from builder.layer.spool import Spool
from builder.layer.tree import Tree
from builder.layer.write import write_layer
from builder.oci.image import Layer
from builder.rootfs.accounts import ACCOUNT_FILE
from builder.rootfs.table import TableWriter
from builder.transport.importing import place_table, remember

if TYPE_CHECKING:
    from builder.store.store import Store

_OVERLAY = (b"trusted.overlay.", b"user.overlay.")
_ACCOUNTS = (b"etc/passwd", b"etc/group")
_PLACE = struct.Struct("<QQ")  # where a file's bytes are in the spool: offset and size


def canonical_layer(
    store: Store,
    tar: BinaryIO,
    keep: Callable[[bytes], bool] | None = None,
    progress: Callable[[int], object] = lambda size: None,
) -> Layer:
    """Write the tree that extracting `tar` would make as one layer, with its path table. Paths for
    which `keep` is false are left out; `progress` is told the layer's bytes so far. Raises
    LayerError, also where the files are more than the store's disk has room for.

    Contents go through a file in the store's tmp/, since a tar's order is not the layer's, and so
    do entries that are more than fit in memory.
    """
    folder = store.temporary()
    tree, table, spool = Tree(folder, keep=keep), TableWriter(folder), Spool(folder)
    try:
        for entry, content in read_tar(tar, room(folder)):
            if WHITEOUT in entry.path and b"/" + WHITEOUT in b"/" + entry.path:
                raise LayerError(f"{show(entry.path)} would be read as a whiteout in a layer")
            if entry.xattrs:
                kept = tuple(each for each in entry.xattrs if not each[0].startswith(_OVERLAY))
                entry = entry._replace(xattrs=kept)
            if not entry.path:  # as engines have it, whatever folder the tar was made of
                entry = Entry(b"", DIRECTORY, 0o755, mtime=entry.mtime)
            offset = spool.add(content, entry.size) if entry.size else 0
            tree.add(entry, _PLACE.pack(offset, entry.size))
        files: dict[bytes, bytes] = {}
        written = write_layer(
            _changes(tree, spool, files), store, seen=table.add, progress=progress
        )
        if written is None:
            raise LayerError("the archive holds nothing")
        path = os.path.join(folder, "table")
        table.write(path, files)
        place_table(store, path, written.layer.diff_id)
    finally:
        for each in (tree, table, spool):
            each.close()
        shutil.rmtree(folder)
    remember(store, written.layer, written.size)
    return written.layer


def _changes(tree: Tree, spool: Spool, files: dict[bytes, bytes]) -> Iterator[Change]:
    """The layer's changes; the contents of account files are put into `files`."""
    for entry, more in tree.entries(lambda path: Entry(path, DIRECTORY, 0o755)):
        if entry.path in _ACCOUNTS and more:
            offset, size = _PLACE.unpack(more)
            if size <= ACCOUNT_FILE:
                files[entry.path] = spool.read(offset, size)
        if entry.type != FILE:
            yield entry, None
        elif entry.size:
            yield entry, spool.content(*_PLACE.unpack(more))
        else:
            yield entry, b""
