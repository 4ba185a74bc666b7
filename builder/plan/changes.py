"""Changes: the entries of a file step's layer, each with a line that tells it.

Nothing is written here. A `Changes` holds every entry with the digest of its bytes, so that the key
of a step is the content of its layer; the bytes are read when the layer is made.
"""

from __future__ import annotations

import os
from binascii import hexlify
from collections.abc import Iterable
from typing import cast

from builder.errors import BuilderError
from builder.layer.entry import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FILE,
    WHITEOUT,
    Change,
    Content,
    Entry,
    HostFile,
    whiteout,
)
from builder.layer.write import sort_key
from builder.oci.digest import hasher
from builder.plan.context import Context, Tree
from builder.rootfs.accounts import is_account_file
from builder.rootfs.view import View


class Changes:
    """The entries of one layer by path, while a step decides them.

    Parents that do not exist below are added when the step is done: 0755 and the step's owner. A
    parent that exists is left out, unless it is not plainly 0755 0:0: Docker's overlay2 makes a
    parent that a layer does not name as 0755 0:0, over the one below.
    """

    def __init__(self, view: View, epoch: int, owner: tuple[int, int] | None) -> None:
        self.view = view
        self.epoch = epoch
        self.owner = owner or (0, 0)
        self.entries: dict[bytes, tuple[Entry, Content, bytes]] = {}  # with the digest of a FILE
        self.notes: list[str] = []
        self.unread: list[Tree] = []  # those with files whose digests are not known yet
        self._said: dict[bytes, tuple[bytes, bytes]] = {}  # their digests and lines, once known
        self._heads: Heads = {}
        self._sorted: list[tuple[Entry, Content, bytes]] | None = None
        self._lines: list[bytes] | None = None
        self._accounts: bool | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Entry, content: Content = None, digest: bytes = b"") -> None:
        if entry.path.rpartition(b"/")[2].startswith(WHITEOUT):
            raise reserved(entry.path)
        self.entries[entry.path] = (entry, content, digest)

    def remove(self, path: bytes) -> None:
        entry = whiteout(path, self.epoch)
        self.entries[entry.path] = (entry, b"", hasher().digest())

    def directory(self, path: bytes) -> bool:
        """Whether `path` is a directory in the image or will be."""
        if path in self.entries:
            return self.entries[path][0].type == DIRECTORY
        found = self.view.lookup(path)
        return not path or (found is not None and found.entry.type == DIRECTORY)

    def make_parents(self) -> None:
        for parent in {path.rpartition(b"/")[0] for path in self.entries}:
            while parent and parent not in self.entries:
                found = self.view.lookup(parent)
                if found is None:
                    uid, gid = self.owner
                    self.add(Entry(parent, DIRECTORY, 0o755, uid, gid, self.epoch))
                elif found.entry.type != DIRECTORY:
                    raise BuilderError(
                        f"'/{os.fsdecode(parent)}' is not a directory in the image, so nothing can"
                        " stand below it"
                    )
                elif not plain(found.entry):
                    self.add(found.entry._replace(path=parent, mtime=self.epoch))
                parent = parent.rpartition(b"/")[0]

    def sorted(self) -> Iterable[Change]:
        """In the layer's order; may be asked for several times, once all are there."""
        return [row[:2] for row in self._rows()]

    def lines(self) -> Iterable[bytes]:
        """What `line` says of each, in the same order; b"" for a file that is not read yet."""
        if self._lines is None:
            heads = self._heads
            self._lines = [
                line(entry, digest, heads) if digest or entry[1] != FILE else b""
                for entry, _, digest in self._rows()
            ]
        return self._lines

    def learn(self, entry: Entry, digest: bytes) -> bytes:
        """The line of a file that was not read yet, whose digest is known now."""
        said = line(entry, digest, self._heads)
        self._said[entry[0]] = digest, said
        return said

    def settle(self, context: Context) -> None:
        """All files were read: from here on every line is known, and so is each digest the next
        time."""
        said, rows = self._said, self._rows()
        pairs = zip(self.lines(), rows, strict=True)
        self._lines = [told or said[entry[0]][1] for told, (entry, _, _) in pairs]
        digests = {
            cast(HostFile, content).path: said[entry[0]][0]
            for entry, content, _ in rows
            if entry[0] in said
        }
        for tree in self.unread:
            found = context.digests(tree, leave=True)
            for node in tree.nodes:
                digest = digests.get(tree.host_path(node[0]))
                if digest is not None:
                    found[node[0]] = digest
            context.learn(tree, found)
        self.unread = []

    def _rows(self) -> list[tuple[Entry, Content, bytes]]:
        if self._sorted is None:
            entries = self.entries
            self._sorted = [entries[path] for path in sorted(entries, key=sort_key)]
        return self._sorted

    @property
    def accounts(self) -> bool:
        """Whether a file of users or groups is among them."""
        if self._accounts is None:
            self._accounts = any(is_account_file(entry[0]) for entry, _ in self.sorted())
        return self._accounts


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
