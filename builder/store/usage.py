"""What the store's bytes are spent on."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from builder.oci.digest import Digest
from builder.store.gc import items
from builder.store.names import ImageName
from builder.store.reach import containers, reach
from builder.store.store import Store
from builder.store.trees import tree_size


class KindUsage(NamedTuple):
    kind: str
    number: int
    size: int  # bytes on disk


class ImageUsage(NamedTuple):
    name: ImageName
    size: int  # bytes of its blobs
    shared: int  # of these, bytes that another name holds too
    used: float  # wall clock seconds of the last use of its manifest; 0: it is missing


class LayerUsage(NamedTuple):
    digest: Digest
    size: int
    images: tuple[str, ...]


class Usage(NamedTuple):
    kinds: tuple[KindUsage, ...]
    images: tuple[ImageUsage, ...]
    layers: tuple[LayerUsage, ...]  # largest first
    total: int  # bytes on disk


def usage(store: Store, *, largest: int = 10) -> Usage:
    """Counts uses of nothing. Sizes of unpacked layers and of containers take a walk through
    them."""
    with store.folder.unmarked():
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        used: dict[str, float] = {}
        blobs: list[tuple[int, Digest]] = []
        for item in items(store):
            counts[item.kind] += 1
            sizes[item.kind] += item.size
            if item.kind == "blobs":
                digest = Digest(f"sha256:{item.name}")
                used[digest] = item.used
                blobs.append((item.size, digest))
        for _, path in containers(store):
            counts["containers"] += 1
            sizes["containers"] += tree_size(store.files, path)
        holders: dict[str, list[str]] = {}
        reached = {}
        for name, manifest in store.names().items():
            reached[name] = {blob.digest: blob.size for blob in reach(store, manifest).blobs}
            for digest in reached[name]:
                holders.setdefault(digest, []).append(name.name)
        images = [
            ImageUsage(
                name,
                sum(sizes_of.values()),
                sum(size for digest, size in sizes_of.items() if len(holders[digest]) > 1),
                used.get(next(iter(sizes_of)), 0.0),
            )
            for name, sizes_of in reached.items()
        ]
    blobs.sort(reverse=True)
    return Usage(
        tuple(KindUsage(kind, counts[kind], sizes[kind]) for kind in sorted(counts)),
        tuple(images),
        tuple(
            LayerUsage(digest, size, tuple(dict.fromkeys(holders.get(digest, ()))))
            for size, digest in blobs[:largest]
        ),
        sum(sizes.values()),
    )
