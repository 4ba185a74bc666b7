"""Trees: what lstat saw below a source, packed in parts, so that a million files fit in memory."""

from __future__ import annotations

import marshal
import os
import stat
import time
from collections.abc import Iterator
from operator import attrgetter, itemgetter
from typing import NamedTuple

from builder.layer.sorter import Pile
from builder.oci.digest import hasher, hex_of
from builder.plan.ignore import Rules

RACY = 2_000_000_000
"""Nanoseconds. A file younger than this when it was read may change again within its time stamp's
grain, so what was read of it is not remembered (git's racy rule)."""

# A part ends behind a file whose inode number ends in so many zeros: what is put in or taken away
# moves one end, not those of all parts behind it. It ends at the second number of nodes at last.
_ENDS = (1 << 13) - 1
_MOST = 1 << 14

_NAME = attrgetter("name")
_MTIME, _CTIME = itemgetter(5), itemgetter(6)

Node = tuple[bytes, int, int, int, int, int, int, int, int]
"""One path as lstat saw it: path relative to the source (b"" is the source itself), mode, size,
inode, device, mtime and ctime in nanoseconds, uid, gid. A plain tuple, of which there are as many
as files: making named ones takes as long as lstat itself."""


class Tree(NamedTuple):
    """The nodes of a source in layer order, and a way to their bytes."""

    root: bytes  # host path
    packed: Pile  # the nodes, some thousands in each part
    names: list[bytes]  # of the parts: sha256 of each
    sizes: list[int]  # of the parts: nodes in each
    young: int  # what was touched since then, in nanoseconds, may change unseen
    settled: bool  # nothing in it is so young

    def part(self, number: int) -> list[Node]:
        return list(marshal.loads(self.packed[number]))  # noqa: S302  # our own, see Pile

    def parts(self) -> Iterator[list[Node]]:
        return map(self.part, range(len(self.names)))

    def host_path(self, path: bytes) -> bytes:
        return self.root + b"/" + path if path else self.root

    def paths(self) -> Iterator[str]:
        """Host paths of all nodes."""
        for nodes in self.parts():
            for node in nodes:
                yield os.fsdecode(self.host_path(node[0]))

    def fingerprint(self) -> str:
        """Identity of what lstat saw. Equal fingerprints of settled trees: equal bytes."""
        return hex_of(b"".join(self.names))


def look(host: bytes, rules: Rules | None, *, full: bool) -> Tree:
    """Everything at and below `host`, what the rules leave out left out. Raises OSError."""
    young = time.time_ns() - RACY
    packer = _Packer()
    first = _node(b"", os.lstat(host), full)
    packer.nodes.append(first)
    if stat.S_ISDIR(first[1]):
        _walk(host, packer, rules, full)
    packer.pack()
    return Tree(host, packer.packed, packer.names, packer.sizes, young, packer.newest < young)


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


def _walk(root: bytes, packer: _Packer, rules: Rules | None, full: bool) -> None:
    """Add what is below `root`, sorted. A directory that is left out comes along only when
    something below it is kept. Not recursive: a tree may be deeper than Python's stack."""
    nodes, append, pack = packer.nodes, packer.nodes.append, packer.pack
    # of each open directory: its entries to come, its path, and its node if it goes again when
    # nothing follows
    stack: list[tuple[Iterator[os.DirEntry[bytes]], bytes, Node | None]]
    stack = [(iter(_listed(root)), b"", None)]
    while stack:
        entries, prefix, doubtful = stack[-1]
        for entry in entries:
            path = prefix + entry.name
            is_dir = entry.is_dir(follow_symlinks=False)
            verdict = rules(path, is_dir) if rules else 0
            if verdict == 2 or (verdict and not is_dir):
                continue
            state = entry.stat(follow_symlinks=False)
            if is_dir:
                node = _node(path, state, full)
                append(node)
                stack.append((iter(_listed(entry.path)), path + b"/", node if verdict else None))
                break
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


def _listed(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=_NAME)


def _node(path: bytes, state: os.stat_result, full: bool) -> Node:
    if stat.S_ISDIR(state.st_mode) and not full:
        # what else lstat tells of a directory changes with its children, which are looked at anyway
        return (path, state.st_mode, 0, 0, 0, 0, 0, 0, 0)
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
    )
