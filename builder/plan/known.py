"""What files held when they were last read: their digests, as long as lstat shows the same.

Of each tree an index is kept: the digests of each part, by the part's name. A part that looks as
it did gets them without a look at its files; those of parts that went are found by file, in the
parts themselves, which are kept as entries of their own. What was read of a file in another tree is
found in `store.digests`.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import itemgetter

from builder.errors import StoreError
from builder.oci.digest import hex_of
from builder.plan.nodes import Node, Tree
from builder.plan.packed import Index, pack_index, pack_nodes, unpack_index, unpack_nodes
from builder.store import digests as shared
from builder.store.store import Store

UNKNOWN = bytes(32)
"""In place of a digest: not known, or not of a file."""
_REGULAR = stat.S_IFREG
_TYPE = 0o170000
_state: Callable[[Node], shared.State] = itemgetter(3, 4, 2, 5, 6)
_NONE = (b"", False)  # in an index, of a part that is not there
_SHARED = 100_000
"""Nodes of a tree. Those of a larger one are known in that tree alone."""

Pieces = list[bytes]
"""Raw sha256 of the files of a tree, one string per part, 32 bytes per node; empty
when nothing is known of a part."""


def split(piece: bytes, nodes: Sequence[object]) -> list[bytes]:
    """The digest of each node, or UNKNOWN."""
    if not piece:
        return [UNKNOWN] * len(nodes)
    return [piece[at : at + 32] for at in range(0, len(piece), 32)]


class DigestCache:
    """The digests that a store keeps."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, tree: Tree) -> tuple[Pieces, list[int]]:
        """What is known of a tree, and the numbers of the parts that may hold files of which
        nothing is."""
        saved = self._load(tree)
        pieces: Pieces = []
        numbers: list[int] = []
        lookup: Callable[[tuple[int, ...], bytes], bytes] | None = None
        for number, name in enumerate(tree.names):
            piece, whole = saved.get(name, _NONE)
            if not whole and saved:
                lookup = lookup or self._by_file(tree, saved).get
                # the path is not part of what is looked for: a renamed file keeps its digest
                piece = b"".join(
                    lookup(node[1:7], UNKNOWN) if node[1] & _TYPE == _REGULAR else UNKNOWN
                    for node in tree.part(number)
                )
            if not whole:
                numbers.append(number)
            pieces.append(piece)
        if sum(tree.sizes) <= _SHARED:
            self._find_elsewhere(tree, pieces, numbers)
        return pieces, numbers

    def _find_elsewhere(self, tree: Tree, pieces: Pieces, numbers: list[int]) -> None:
        """Put in what is known of files by another tree."""
        for number in numbers:
            nodes = tree.part(number)
            digests = split(pieces[number], nodes)
            found = shared.find(
                self._store,
                (
                    _state(node)
                    for node, digest in zip(nodes, digests, strict=True)
                    if digest == UNKNOWN and node[1] & _TYPE == _REGULAR
                ),
            )
            if found:
                pieces[number] = b"".join(
                    found.get(_state(node), digest)
                    for node, digest in zip(nodes, digests, strict=True)
                )

    def meanwhile(self, tree: Tree, pieces: Pieces) -> Pieces | None:
        """All digests of a tree, if those that `pieces` lacks are known by another tree now. As a
        rule they are not, so one is asked for first."""
        if sum(tree.sizes) > _SHARED:
            return None
        first = next(
            (_state(node) for node, digest in self.files(tree, pieces) if digest == UNKNOWN)
        )
        if not shared.find(self._store, [first]):
            return None
        found, numbers = self.find(tree)
        return None if self.lacks(tree, found, numbers, 1) else found

    def files(self, tree: Tree, pieces: Pieces) -> Iterator[tuple[Node, bytes]]:
        """The regular files of a tree, each with its digest."""
        for nodes, piece in zip(tree.parts(), pieces, strict=True):
            for node, digest in zip(nodes, split(piece, nodes), strict=True):
                if node[1] & _TYPE == _REGULAR:
                    yield node, digest

    def lacks(self, tree: Tree, pieces: Pieces, numbers: list[int], many: int) -> bool:
        """Whether so many files, or more, are not known."""
        count = 0
        for number in numbers:
            nodes = tree.part(number)
            for node, digest in zip(nodes, split(pieces[number], nodes), strict=True):
                count += digest == UNKNOWN and node[1] & _TYPE == _REGULAR
            if count >= many:
                return True
        return False

    def fill(
        self,
        tree: Tree,
        pieces: Pieces,
        digest_of: Callable[[bytes, int], bytes | None],
    ) -> None:
        """Put in what `digest_of` says of a path below the context and a size, for each file that
        is not known, in order, but of those that are one file only once; and keep it all, but of
        files that are too young."""
        saved, young = self._load(tree), tree.young
        linked: dict[tuple[int, ...], bytes] = {}  # of files with several paths, as _by_file
        lacking = [n for n, name in enumerate(tree.names) if not saved.get(name, _NONE)[1]]
        if not lacking and list(saved) == tree.names:
            return
        made: Index = {}
        read: list[tuple[shared.State, bytes]] = []
        share = sum(tree.sizes) <= _SHARED
        for number in lacking:
            nodes = tree.part(number)
            digests = split(pieces[number], nodes)
            fresh: list[int] = []  # places of the files that are too young
            whole = True
            for at, node in enumerate(nodes):
                if node[1] & _TYPE == _REGULAR:
                    is_fresh = node[5] >= young or node[6] >= young
                    if digests[at] == UNKNOWN:
                        digests[at] = linked.get(node[1:7], UNKNOWN)
                        if digests[at] == UNKNOWN:
                            digests[at] = digest_of(tree.below(node[0]), node[2]) or UNKNOWN
                            if share and not is_fresh and digests[at] != UNKNOWN:
                                read.append((_state(node), digests[at]))
                        whole = whole and digests[at] != UNKNOWN
                    if node[9] > 1:
                        linked[node[1:7]] = digests[at]
                    if is_fresh:
                        fresh.append(at)
            piece = pieces[number] = b"".join(digests)
            if fresh:
                for at in fresh:
                    digests[at] = UNKNOWN
                piece, whole = b"".join(digests), False
            made[tree.names[number]] = piece, whole
        index = {name: made.get(name) or saved[name] for name in tree.names}
        if index != saved or list(index) != list(saved):
            self._save(tree, index, saved)
        shared.add(self._store, read)

    def forget(self, tree: Tree) -> None:
        with contextlib.suppress(StoreError):
            self._store.forget("trees", _name(tree))
            if sum(tree.sizes) <= _SHARED:
                shared.forget(self._store, map(_state, chain.from_iterable(tree.parts())))

    def _save(self, tree: Tree, index: Index, saved: Index) -> None:
        store = self._store
        for number, name in enumerate(tree.names):
            if name not in saved:
                store.remember("trees", name.hex(), pack_nodes(tree.part(number)))
        store.remember("trees", _name(tree), pack_index(index))
        with contextlib.suppress(StoreError):
            for name in saved.keys() - index.keys():
                store.forget("trees", name.hex())

    def _by_file(self, tree: Tree, saved: Index) -> dict[tuple[int, ...], bytes]:
        """Digests by what lstat shows, of all parts that went or are not wholly known."""
        found: dict[tuple[int, ...], bytes] = {}
        there = {name: number for number, name in enumerate(tree.names)}
        for name, (piece, whole) in saved.items():
            if name in there and whole:
                continue
            nodes = tree.part(there[name]) if name in there else self._part(name)
            for node, digest in zip(nodes, split(piece, nodes), strict=False):
                if digest != UNKNOWN:
                    found[node[1:7]] = digest
        return found

    def _part(self, name: bytes) -> list[Node]:
        return unpack_nodes(self._store.load("trees", name.hex()) or b"")

    def _load(self, tree: Tree) -> Index:
        """What was kept; of a part that is there still, only what fits it."""
        saved = unpack_index(self._store.load("trees", _name(tree)) or b"")
        sizes = dict(zip(tree.names, tree.sizes, strict=True))
        return {
            name: (piece, whole)
            for name, (piece, whole) in saved.items()
            if len(piece) in (0, 32 * sizes.get(name, len(piece) // 32))
        }


def _name(tree: Tree) -> str:
    return hex_of(b"digests\0" + tree.root)
