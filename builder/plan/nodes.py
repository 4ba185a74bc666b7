"""Trees: what lstat saw below a source, packed in parts, so that a million files fit in memory."""

from __future__ import annotations

import marshal
import os
import stat
import time
from collections.abc import Callable, Iterator
from operator import attrgetter, itemgetter
from typing import NamedTuple

from builder.layer.beneath import RACY, Beneath
from builder.layer.sorter import Pile
from builder.oci.digest import hasher, hex_of
from builder.plan.ignore import FOLDED, KEPT, LEFT_OUT, At, Rules

# A part ends behind a file whose inode number ends in so many zeros: what is put in or taken away
# moves one end, not those of all parts behind it. It ends at the second number of nodes at last.
_ENDS = (1 << 13) - 1
_MOST = 1 << 14

_NAME = attrgetter("name")
_MTIME, _CTIME = itemgetter(5), itemgetter(6)

Node = tuple[bytes, int, int, int, int, int, int, int, int, int]
"""One path as lstat saw it: path relative to the source (b"" is the source itself), mode, size,
inode, device, mtime and ctime in nanoseconds, uid, gid, links. A plain tuple, of which there are as
many as files: making named ones takes as long as lstat itself."""


class Tree(NamedTuple):
    """The nodes of a source in layer order, and a way to their bytes."""

    beneath: Beneath  # the context
    at: bytes  # the source's path below it
    packed: Pile  # the nodes, some thousands in each part
    names: list[bytes]  # of the parts: sha256 of each
    sizes: list[int]  # of the parts: nodes in each
    young: int  # what was touched since then, in nanoseconds, may change unseen
    settled: bool  # nothing in it is so young

    @property
    def root(self) -> bytes:
        """The source's path on the host."""
        return self.beneath.whole(self.at)

    @property
    def bare(self) -> bool:
        """Nothing is there but the source itself."""
        return len(self.names) == 1 and len(self.part(0)) == 1

    def part(self, number: int) -> list[Node]:
        return list(marshal.loads(self.packed[number]))  # noqa: S302  # our own, see Pile

    def parts(self) -> Iterator[list[Node]]:
        return map(self.part, range(len(self.names)))

    def below(self, path: bytes) -> bytes:
        """The path of a node below the context."""
        return self.at + b"/" + path if self.at and path else self.at or path

    def paths(self) -> Iterator[str]:
        """Host paths of all nodes."""
        for nodes in self.parts():
            for node in nodes:
                yield os.fsdecode(self.beneath.whole(self.below(node[0])))

    def fingerprint(self) -> str:
        """Identity of what lstat saw. Equal fingerprints of settled trees: equal bytes."""
        return hex_of(b"".join(self.names))


IsStore = Callable[[bytes, list[tuple[bytes, bool]]], bool]
"""Whether a folder, by its path below the context and what it holds, is to be left out as a store
of the builder's."""


def look(
    beneath: Beneath, at: bytes, is_store: IsStore, rules: tuple[Rules, At] | None, *, full: bool
) -> Tree:
    """Everything at and below the path `at`, what the rules leave out left out. Raises OSError."""
    young = time.time_ns() - RACY
    packer = _Packer()
    first = _node(b"", beneath.stat(at), full)
    packer.nodes.append(first)
    if stat.S_ISDIR(first[1]):
        _walk(beneath, at, packer, is_store, rules, full)
    packer.pack()
    return Tree(
        beneath, at, packer.packed, packer.names, packer.sizes, young, packer.newest < young
    )


class _Packer:
    def __init__(self) -> None:
        self.nodes: list[Node] = []  # of the part that is open
        self.packed = Pile()
        self.names: list[bytes] = []
        self.sizes: list[int] = []
        self.newest = 0

    def pack(self) -> None:
        nodes = self.nodes
        if nodes:
            self.newest = max(self.newest, max(map(_MTIME, nodes)), max(map(_CTIME, nodes)))
            data = marshal.dumps(nodes, 2)
            self.sizes.append(len(nodes))
            nodes.clear()
            self.names.append(hasher(data).digest())
            self.packed.append(data)


def _walk(
    beneath: Beneath,
    root: bytes,
    packer: _Packer,
    is_store: IsStore,
    rules: tuple[Rules, At] | None,
    full: bool,
) -> None:
    """Add what is below `root`, sorted. A directory that is left out comes along only when
    something below it is kept. Not recursive: a tree may be deeper than Python's stack."""
    nodes, append, pack = packer.nodes, packer.nodes.append, packer.pack
    enter, at = (rules[0].enter, rules[1]) if rules else (None, None)
    prefix = root + b"/" if root else b""
    verdict, below = KEPT, at
    # of each open directory: its entries to come, its path, its node if it goes again when nothing
    # follows, and where it is for the rules
    stack: list[tuple[Iterator[tuple[bytes, bool]], bytes, Node | None, At | None]]
    stack = [(iter(beneath.listed(root)), b"", None, at)]
    while stack:
        entries, folder, doubtful, at = stack[-1]
        handle = beneath.folder((prefix + folder)[:-1])
        for name, is_dir in entries:
            path = folder + name
            if enter and at:
                verdict, below = enter(at, name, is_dir)
                if verdict == LEFT_OUT:
                    continue
            if is_dir:
                node = _node(path, beneath.stat(prefix + path), full)
                listed = beneath.listed(prefix + path)
                if not is_store(prefix + path, listed):
                    append(node)
                    doubtful = node if verdict == FOLDED else None
                    stack.append((iter(listed), path + b"/", doubtful, below))
                break
            try:
                state = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except OSError as error:
                error.filename = beneath.whole(prefix + path)
                raise
            inode = state.st_ino
            append(
                (
                    path,
                    state.st_mode,
                    state.st_size,
                    inode,
                    state.st_dev,
                    state.st_mtime_ns,
                    state.st_ctime_ns,
                    state.st_uid,
                    state.st_gid,
                    state.st_nlink,
                )
            )
            if not inode & _ENDS or len(nodes) >= _MOST:
                pack()  # this file is kept, and so are the folders around it: no node goes again
        else:
            stack.pop()
            if doubtful and nodes and nodes[-1] is doubtful:
                nodes.pop()
            elif len(nodes) >= _MOST and not any(each[2] for each in stack):
                pack()


def _node(path: bytes, state: os.stat_result, full: bool) -> Node:
    if stat.S_ISDIR(state.st_mode) and not full:
        # what else lstat tells of a directory changes with its children, which are looked at anyway
        return (path, state.st_mode, 0, 0, 0, 0, 0, 0, 0, 0)
    return (
        path,
        state.st_mode,
        state.st_size,
        state.st_ino,
        state.st_dev,
        state.st_mtime_ns,
        state.st_ctime_ns,
        state.st_uid,
        state.st_gid,
        state.st_nlink,
    )
