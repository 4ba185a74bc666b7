"""Changes: the entries of a file step's layer, each with a line that tells it.

Nothing is written here. A step decides its entries in a Draft; Changes are what came of it. They
hold every entry with the digest of its bytes, so that the key of a step is the content of its
layer; the bytes are read when the layer is made.
"""

from __future__ import annotations

import os
from binascii import hexlify
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from builder.errors import BuilderError
from builder.layer.entry import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FILE,
    HARDLINK,
    WHITEOUT,
    Change,
    Content,
    Entry,
    HostFile,
    whiteout,
)
from builder.layer.write import Learned, Told, sort_key
from builder.oci.digest import hasher
from builder.plan.spilled import Row, Spilled
from builder.rootfs.accounts import is_account_file
from builder.rootfs.view import View

if TYPE_CHECKING:
    from builder.plan.known import Pieces
    from builder.plan.nodes import Tree


class Ground(NamedTuple):
    """What a file step stands on."""

    view: View
    time: int  # of what it writes (clock.file_time)
    epoch: int  # what `times: content` counts from
    made: tuple[Entry, ...] = ()
    """The working directory and its parents, where they are made for this step: in `view` already,
    and the first of its changes."""


class Rows(Protocol):
    """The rows of a layer in its order, which may be told several times."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Row]: ...


class Unread(NamedTuple):
    """A tree with files whose digests are not known."""

    tree: Tree
    pieces: Pieces  # those that are


class Changes(NamedTuple):
    """What a step puts into its layer. Files of `unread` have no digest yet: they are read while
    the layer is written, which gives it (docs/decisions/0016)."""

    rows: Rows
    notes: tuple[str, ...] = ()  # what is to be said of it
    accounts: bool = False  # a file of users or groups is among them
    unread: tuple[Unread, ...] = ()
    timeless: bool = False
    """Times are no part of the key, as in Docker's cache: what is there keeps those it has."""

    def sorted(self) -> Iterator[Change]:
        return (row[:2] for row in self.rows)

    def lines(self) -> Iterator[bytes]:
        """What `line` says of each; b"" for a file that is not read yet."""
        heads: Heads = {}
        timeless = self.timeless
        return (
            line(entry, digest, heads, timeless) if digest or entry[1] != FILE else b""
            for entry, _, digest in self.rows
        )

    def told(self) -> Told:
        return Told(self.lines(), partial(line, heads={}, timeless=self.timeless))

    def read(self, learned: Learned) -> Changes:
        """The same with the digests that were learned when they were written."""
        return self._replace(rows=_Read(self.rows, learned), unread=()) if self.unread else self

    def learned(self, digests: Mapping[bytes, bytes]) -> Learned:
        """As the writer would, from digests by path below the context."""
        learned = bytearray()
        for path in self._missing():
            learned += digests[path]
        return learned

    def _missing(self) -> Iterator[bytes]:
        """The paths below the context of the files that have no digest, in the layer's order."""
        return (
            cast(bytes, cast(HostFile, content).path)
            for entry, content, digest in self.rows
            if entry[1] == FILE and not digest
        )

    def finder(self, learned: Learned) -> Callable[[bytes], bytes | None]:
        """What was learned of a file by its path below the context. Of spilled rows, it is to be
        asked in their order; one out of it is not found, which costs time alone."""
        digests = (bytes(learned[at : at + 32]) for at in range(0, len(learned), 32))
        pairs = zip(self._missing(), digests, strict=True)
        if not isinstance(self.rows, Spilled):
            return dict(pairs).get
        expected = next(pairs, None)

        def find(path: bytes) -> bytes | None:
            nonlocal expected
            if expected is None or expected[0] != path:
                return None
            digest = expected[1]
            expected = next(pairs, None)
            return digest

        return find


class _Read:
    """Rows with the digests that were missing."""

    def __init__(self, rows: Rows, learned: Learned) -> None:
        self._rows, self._learned = rows, learned

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        learned, at = self._learned, 0
        for row in self._rows:
            if row[0][1] == FILE and not row[2]:
                yield row[0], row[1], bytes(learned[at : at + 32])
                at += 32
            else:
                yield row
        assert at == len(learned)  # else a key would be another file's


class Draft:
    """The entries of one layer by path, while a step decides them: `done` makes the Changes.

    Parents that do not exist below are added when the step is done: 0755 and the step's owner. A
    parent that exists is left out, unless it is not plainly 0755 0:0: Docker's overlay2 makes a
    parent that a layer does not name as 0755 0:0, over the one below.
    """

    def __init__(self, ground: Ground, owner: tuple[int, int] | None) -> None:
        self.ground = ground
        self.view = ground.view
        self.time = ground.time
        self.owner = owner or (0, 0)
        self.entries: dict[bytes, Row] = {each.path: (each, None, b"") for each in ground.made}
        self.notes: list[str] = []
        # path -> the file it is another path of, as placed first
        self.linked: dict[bytes, Row] = {}
        self.unread: list[Unread] = []
        self._spilled = Spilled()
        self._accounts = False  # of those that are spilled

    def add(self, entry: Entry, content: Content = None, digest: bytes = b"") -> None:
        if entry.path.rpartition(b"/")[2].startswith(WHITEOUT):
            raise reserved(entry.path)
        self.entries[entry.path] = (entry, content, digest)

    def link(self, first: Row, path: bytes) -> None:
        """Add another path of the file that was placed as `first`; it may be that one again, where
        sources overlap."""
        if path == first[0].path:
            self.entries[path] = first
        else:
            self.add(link_to(first[0], path))
        self.linked[path] = first

    def remove(self, path: bytes) -> None:
        entry = whiteout(path, self.time)
        self.entries[entry.path] = (entry, b"", hasher().digest())

    def directory(self, path: bytes) -> bool:
        """Whether `path` is a directory in the image or will be."""
        if path in self.entries:
            return self.entries[path][0].type == DIRECTORY
        found = self.view.lookup(path)
        return not path or (found is not None and found.entry.type == DIRECTORY)

    def holds(self, folder: bytes) -> bool:
        """Whether a folder has an entry already: one that what comes next may lie in."""
        return folder in self.entries or folder in self._spilled.around

    def done(self) -> Changes:
        if len(self._spilled):
            self.spill()
        if not len(self._spilled):  # what is spilled is in order, and no two rows are of one path
            self._settle_links()
        self.make_parents()
        rows: Rows = self._spilled if len(self._spilled) else self._in_order()
        accounts = self._accounts or any(map(is_account_file, self.entries))
        return Changes(rows, tuple(self.notes), accounts, tuple(self.unread))

    def make_parents(self) -> None:
        for parent in {path.rpartition(b"/")[0] for path in self.entries}:
            while parent and not self.holds(parent):
                found = self.view.lookup(parent)
                if found is None:
                    uid, gid = self.owner
                    self.add(Entry(parent, DIRECTORY, 0o755, uid, gid, self.time))
                elif found.entry.type != DIRECTORY:
                    raise BuilderError(
                        f"'/{os.fsdecode(parent)}' is not a directory in the image, so nothing can"
                        " stand below it"
                    )
                elif not plain(found.entry):
                    self.add(found.entry._replace(path=parent, mtime=self.time))
                parent = parent.rpartition(b"/")[0]

    def spill(self) -> None:
        """Let what was added so far, all from the host, wait on disk. That which does not come in
        the layer's order, such as two sources that overlap, stays in memory, all of it."""
        if self._spilled.closed:
            return
        self.make_parents()
        if self._spilled.take(self._in_order()):
            self._accounts = self._accounts or any(map(is_account_file, self.entries))
            self.entries = {}
        else:
            self.entries = {row[0][0]: row for row in (*self._spilled, *self.entries.values())}
            self._spilled = Spilled(closed=True)
            self._accounts = False

    def _settle_links(self) -> None:
        """Of the paths of one file the first in the layer's order is the file, the others are links
        to it. They were placed so in the order of their source, which is another where the image's
        symlinks lead elsewhere, and not all are theirs still where sources overlap."""
        files: dict[int, list[bytes]] = {}  # paths, by which row they belong to
        for path, row in self.linked.items():
            entry, content, _ = self.entries[path]
            if entry.type == HARDLINK or (entry.type == FILE and _same(content, row[1])):
                files.setdefault(id(row), []).append(path)
        for paths in files.values():
            entry, content, digest = self.linked[paths[0]]
            first = min(paths, key=sort_key)
            if first != entry.path:
                entry = entry._replace(path=first)
                self.entries[first] = (entry, content, digest)
                for path in paths:
                    if path != first:
                        self.entries[path] = (link_to(entry, path), None, b"")

    def _in_order(self) -> list[Row]:
        return [self.entries[path] for path in sorted(self.entries, key=sort_key)]


def link_to(entry: Entry, path: bytes) -> Entry:
    """Another path of a file."""
    return entry._replace(path=path, type=HARDLINK, size=0, link=entry.path)


def _same(content: Content, other: Content) -> bool:
    """Whether two are one file."""
    if isinstance(content, HostFile) and isinstance(other, HostFile):
        return content.path == other.path
    return content is other


Heads = dict[tuple[str, int, int, int, int], bytes]


def line(entry: Entry, digest: bytes, heads: Heads, timeless: bool = False) -> bytes:
    """All that decides an entry's header and bytes, for the key and for `why`: two fields, each
    with a NUL behind it, the path and "type mode uid gid mtime xattrs what". `what` is the digest
    of a file, the target of a link or the numbers of a device; xattrs are "-" or hex name=value,
    with commas. `heads` keeps what most entries share; give the same one with each. `timeless`: the
    time is -1 in all."""
    path, type_, _, _, _, _, _, link, xattrs, device = entry
    of = (*entry[1:5], -1) if timeless else entry[1:6]
    head = heads.get(of)
    if head is None:
        head = heads[of] = b"\0%b %04o %d %d %d " % (type_.encode(), *of[1:])
    told = b"- "
    if xattrs:
        told = b",".join(b"%b=%b" % (hexlify(key), hexlify(each)) for key, each in xattrs) + b" "
    if type_ == FILE:
        return b"%b%b%b%b\0" % (path, head, told, hexlify(digest))
    what = b"%d:%d" % device if type_ in (CHAR, BLOCK) else link
    return b"%b%b%b%b\0" % (path, head, told, what)


def reserved(path: bytes) -> BuilderError:
    return BuilderError(
        f"{os.fsdecode(path)!r} cannot be in an image: '.wh.' means a removal", "rename the file"
    )


def plain(entry: Entry) -> bool:
    return (entry.mode, entry.uid, entry.gid, entry.xattrs) == (0o755, 0, 0, ())
