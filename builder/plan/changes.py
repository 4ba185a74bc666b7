"""Changes: the entries of a file step's layer, each with a line that tells it.

Nothing is written here. A `Changes` holds every entry with the digest of its bytes, so that the key
of a step is the content of its layer; the bytes are read when the layer is made.
"""

from __future__ import annotations

import os
from binascii import hexlify
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, cast

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
from builder.layer.write import sort_key
from builder.oci.digest import hasher
from builder.plan.away import Away, Row
from builder.plan.context import Context
from builder.plan.nodes import Tree
from builder.rootfs.accounts import is_account_file
from builder.rootfs.view import View


class Ground(NamedTuple):
    """What a file step stands on."""

    view: View
    time: int  # of what it writes (clock.file_time)
    epoch: int  # what `times: content` counts from
    made: tuple[Entry, ...] = ()
    """The working directory and its parents, where they are made for this step: in `view` already,
    and the first of its changes."""


class Changes:
    """The entries of one layer by path, while a step decides them.

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
        self.linked: dict[
            bytes, Row
        ] = {}  # path -> the file it is another path of, as placed first
        self.unread: list[Tree] = []  # those with files whose digests are not known yet
        self._learned = bytearray()  # the digests of those files, in the layer's order
        self._said: list[bytes] = []  # their lines
        self._heads: Heads = {}
        self._sorted: list[Row] | None = None
        self._lines: list[bytes] | None = None
        self._accounts: bool | None = None
        self._away = Away()
        self._settled = False

    def __len__(self) -> int:
        return len(self._away) + len(self.entries)

    def add(self, entry: Entry, content: Content = None, digest: bytes = b"") -> None:
        if entry.path.rpartition(b"/")[2].startswith(WHITEOUT):
            raise reserved(entry.path)
        self.entries[entry.path] = (entry, content, digest)

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
        return folder in self.entries or folder in self._away.around

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

    def put_away(self) -> None:
        """Let what was added so far, all from the host, wait on disk. That which does not come in
        the layer's order, such as two sources that overlap, stays in memory, all of it."""
        if self._away.closed:
            return
        self.make_parents()
        if self._away.take(self._in_order(self.entries)):
            self._accounts = bool(self._accounts) or any(map(is_account_file, self.entries))
            self.entries = {}
        else:
            self.entries = {row[0][0]: row for row in (*self._away, *self.entries.values())}
            self._away = Away(closed=True)
            self._accounts = None

    def settle_links(self) -> None:
        """Of the paths of one file the first in the layer's order is the file, the others are links
        to it. They were placed so in the order of their source, which is another where the image's
        symlinks lead elsewhere, and not all are theirs still where sources overlap. What waits on
        disk is in order and overlaps with nothing."""
        if len(self._away):
            return
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

    def sorted(self) -> Iterable[Change]:
        """In the layer's order; may be asked for several times, once all are there."""
        return (row[:2] for row in self._rows())

    def lines(self) -> Iterable[bytes]:
        """What `line` says of each, in the same order; b"" for a file that is not read yet."""
        if self._lines is not None:
            return self._lines
        heads = self._heads
        lines = (
            line(entry, digest, heads) if digest or entry[1] != FILE else b""
            for entry, _, digest in self._rows()
        )
        if len(self._away):
            return lines
        self._lines = list(lines)
        return self._lines

    def learn(self, entry: Entry, digest: bytes) -> bytes:
        """The line of a file that was not read yet, whose digest is known now. They come in the
        layer's order, each once."""
        said = line(entry, digest, self._heads)
        self._learned += digest
        if not len(self._away):
            self._said.append(said)
        return said

    def settle(self, context: Context) -> None:
        """All files were read: from here on every line is known, and so is each digest the next
        time."""
        if not len(self._away):
            said = iter(self._said)
            self._lines = [told or next(said) for told in self.lines()]
        find = self._finder()
        for tree in self.unread:
            context.learn(tree, find)
        self.unread, self._settled = [], True

    def _finder(self) -> Callable[[bytes], bytes | None]:
        """The digest of a file by its path below the context, where it was learned. When the rows
        are on disk, they are asked for in their order; one out of it is not found, which costs time
        alone."""
        learned = self._learned
        unread = (
            cast(bytes, cast(HostFile, content).path)
            for entry, content, digest in self._rows()
            if entry[1] == FILE and not digest
        )
        rows = (
            (path, bytes(learned[at : at + 32]))
            for at, path in zip(range(0, len(learned), 32), unread, strict=True)
        )
        if not len(self._away):
            return dict(rows).get
        expected = next(rows, None)

        def find(path: bytes) -> bytes | None:
            nonlocal expected
            if expected is None or expected[0] != path:
                return None
            digest = expected[1]
            expected = next(rows, None)
            return digest

        return find

    def _rows(self) -> Iterable[Row]:
        if len(self._away):
            return self._known(self._away) if self._settled else self._away
        if self._sorted is None:
            self._sorted = self._in_order(self.entries)
        return self._sorted

    def _known(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same, with the digests that were learned."""
        at = 0
        for row in rows:
            if row[0][1] == FILE and not row[2]:
                yield row[0], row[1], bytes(self._learned[at : at + 32])
                at += 32
            else:
                yield row
        assert at == len(self._learned)  # else a key would be another file's

    @staticmethod
    def _in_order(entries: dict[bytes, Row]) -> list[Row]:
        return [entries[path] for path in sorted(entries, key=sort_key)]

    @property
    def accounts(self) -> bool:
        """Whether a file of users or groups is among them."""
        if self._accounts is None:
            self._accounts = any(is_account_file(entry[0]) for entry, _ in self.sorted())
        return self._accounts


def link_to(entry: Entry, path: bytes) -> Entry:
    """Another path of a file."""
    return entry._replace(path=path, type=HARDLINK, size=0, link=entry.path)


def _same(content: Content, other: Content) -> bool:
    """Whether two are one host file."""
    return cast(HostFile, content).path == cast(HostFile, other).path


Heads = dict[tuple[str, int, int, int, int], bytes]


def line(entry: Entry, digest: bytes, heads: Heads) -> bytes:
    """All that decides an entry's header and bytes, for the key and for `why`: two fields, each
    with a NUL behind it, the path and "type mode uid gid mtime xattrs what". `what` is the digest
    of a file, the target of a link or the numbers of a device; xattrs are "-" or hex name=value,
    with commas. `heads` keeps what most entries share; give the same one with each."""
    path, type_, _, _, _, _, _, link, xattrs, device = entry
    of = entry[1:6]
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
