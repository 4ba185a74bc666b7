"""Applying a layer's tar: its entries as a layer of ours, which says the same above what is there.

What it removes is removed by name: an opaque folder (image-spec layer.md, Opaque Whiteout), and one
that was removed and made anew, become removals of all that lies in it below, since engines differ
in what they make of the others. What there is nothing to remove of is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from builder.errors import LayerError
from builder.layer.decompress import open_layer
from builder.layer.entry import DIRECTORY, HARDLINK, OPAQUE, SYMLINK, WHITEOUT, Entry, whiteout
from builder.layer.read import Limits, read_layer, show
from builder.layer.record import pack, unpack
from builder.layer.sorter import Sorter
from builder.layer.tree import Tree as Members
from builder.layer.write import sort_key
from builder.plan.changes import Changes, Ground, plain
from builder.plan.nodes import Tree
from builder.rootfs.arrange import ancestors
from builder.rootfs.jail import is_kept
from builder.steps.unpacking import NOTHING, Archive, Contents, changes_of

_END = b"\0\0\0"  # of a sort key, which holds at most two NULs in a row
_NOTES = 5  # of links that become folders


def apply(tree: Tree, ground: Ground) -> Changes:
    """The file at `tree` as changes. Owners, modes, times, links and devices are the tar's, and the
    extended attributes that layers keep. Raises LayerError for what no layer may hold."""

    def open_it() -> BinaryIO:
        return open(tree.beneath.open(tree.at), "rb")

    contents = Contents([Archive(open_it, os.fsdecode(tree.root), members=_read)])
    applied = _Applied(contents, ground)
    changes = changes_of(applied.rows, contents)
    return changes._replace(notes=tuple(applied.notes))


def _read(file: BinaryIO, limits: Limits) -> Iterator[tuple[Entry, BinaryIO]]:
    size = limits.size + 4096 * limits.entries  # the tar's own bytes: headers and padding
    return read_layer(open_layer(file, limit=size), limits)


class _Applied:
    """A changeset over what is there."""

    def __init__(self, contents: Contents, ground: Ground) -> None:
        self._view, self._time = ground.view, ground.time
        self._gone: set[bytes] = set()  # paths that it removes from below
        self._opaque: set[bytes] = set()  # folders whose contents below it hides
        self._left: set[bytes] = set()  # folders that it has something in and leaves as they are
        self._rows = Sorter()
        self.notes: list[str] = []
        members = Members()
        for entry, more in contents.listed():
            folder, slash, name = entry.path.rpartition(b"/")
            if not entry.path:
                continue  # an engine's own folder lies over the root
            if name == OPAQUE:
                self._opaque.add(folder)
            elif name.startswith(WHITEOUT):
                self._gone.add(folder + slash + name.removeprefix(WHITEOUT))
            elif entry.type == HARDLINK and WHITEOUT in entry.link:
                _check_target(entry)
            if entry.xattrs:
                kept = tuple(each for each in entry.xattrs if is_kept(each[0]))
                entry = entry._replace(xattrs=kept)
            members.add(entry, more)
        self._removing = {path.rpartition(b"/")[0] for path in self._gone}
        self._walk(members)
        members.close()

    def rows(self) -> Iterator[tuple[Entry, bytes]]:
        """In a layer's order, each with what `contents` knows of its bytes."""
        for item in self._rows:
            record = item.partition(_END)[2]
            entry, end = unpack(record)
            yield entry, record[end:]

    def _walk(self, members: Members) -> None:
        """All that it holds, folder by folder; of what each removes."""
        way = [self._folder(b"", hidden=False)]
        for entry, more in members.entries(self._parent):
            folder, _, name = entry.path.rpartition(b"/")
            while way[-1].path != folder:
                self._leave(way.pop())
            if name.startswith(WHITEOUT):
                continue
            if way[-1].names is not None:
                way[-1].names.add(name)
            if entry.type == DIRECTORY:
                way.append(self._folder(entry.path, hidden=way[-1].hides))
                self._look_at(entry.path)
            if entry.path not in self._left:
                self._add(entry, more)
        while way:
            self._leave(way.pop())

    def _folder(self, path: bytes, *, hidden: bool) -> _Folder:
        hides = hidden or path in self._opaque or path in self._gone
        return _Folder(path, hides, set() if hides or path in self._removing else None)

    def _leave(self, folder: _Folder) -> None:
        """Remove what stands below in a folder all of whose own names are known by now."""
        path, hides, names = folder
        if names is None:
            return
        for found in self._view.children(path):
            there = found.entry.path
            name = there.rpartition(b"/")[2]
            if name not in names and (hides or there in self._gone):
                self._add(whiteout(there, self._time), NOTHING)

    def _parent(self, path: bytes) -> Entry:
        """A folder that it names nowhere and has something in: that of below, or a new one."""
        found = self._view.lookup(path)
        hidden = path in self._gone or any(
            each in self._gone or each in self._opaque for each in ancestors(path)
        )
        if hidden or found is None or found.entry.type != DIRECTORY:
            return Entry(path, DIRECTORY, 0o755, mtime=self._time)
        if plain(found.entry):  # others are written: see Draft
            self._left.add(path)
        return found.entry._replace(path=path)

    def _look_at(self, path: bytes) -> None:
        """Note a folder in the place of a link to one: a layer of another base, most likely."""
        found = self._view.lookup(path)
        if found is None or found.entry.type != SYMLINK or len(self.notes) == _NOTES:
            return
        try:
            to = self._view.lookup(self._view.resolve(path, follow_last=True))
        except LayerError:  # a circle
            return
        if to is not None and to.entry.type == DIRECTORY:
            self.notes.append(
                f"{show(b'/' + path)} is a symlink to {show(found.entry.link)} in the image, and a"
                " folder after this layer, as an engine would have it: was it made on another base?"
            )

    def _add(self, entry: Entry, more: bytes) -> None:
        self._rows.add(sort_key(entry.path) + _END + pack(entry) + more)


class _Folder(NamedTuple):
    path: bytes
    hides: bool  # all that it holds below
    names: set[bytes] | None  # of the changeset's in it; None: nothing is removed there


def _check_target(entry: Entry) -> None:
    if entry.link.rpartition(b"/")[2].startswith(WHITEOUT):
        raise LayerError(
            f"hard link {show(entry.path)} points at {show(entry.link)}, which is no file of the"
            " same layer"
        )
