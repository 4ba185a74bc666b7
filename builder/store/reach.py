"""What names and kept containers hold on to: manifests, configs, layers, what led to them; and
letting go of it."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import CorruptBlob, StoreError
from builder.oci import media
from builder.oci.digest import CacheKey, DiffID
from builder.oci.image import Descriptor
from builder.store.names import ANY, ImageName, index_entries, parse_descriptor
from builder.store.records import base_log, load_layer, load_record, parse_object
from builder.store.trees import tree_size

if TYPE_CHECKING:
    from builder.store.store import Store

_MAX_MANIFEST = 4 << 20
_MAX_NESTING = 4
_MAX_ABOUT = 64 << 20
LET_GO = 0.0
"""The time of what is marked as never used. A build that uses it again sets another."""


class Reached(NamedTuple):
    """Blobs reached from a manifest or an index, itself first; `problems` are those that are
    missing or not to be read, as text."""

    blobs: tuple[Descriptor, ...]
    problems: tuple[str, ...]


def reach(store: Store, top: Descriptor) -> Reached:
    blobs: dict[str, Descriptor] = {}
    problems: list[str] = []
    waiting = [(top, 0)]
    while waiting:
        blob, depth = waiting.pop(0)
        if blob.digest in blobs:
            continue
        blobs[blob.digest] = blob
        if depth == 0 or "manifest" in blob.media_type or "index" in blob.media_type:
            inner, problem = _children(store, blob)
            problems += problem
            if depth < _MAX_NESTING:
                waiting += [(each, depth + 1) for each in inner]
    return Reached(tuple(blobs.values()), tuple(problems))


def _children(store: Store, blob: Descriptor) -> tuple[list[Descriptor], list[str]]:
    if blob.size > _MAX_MANIFEST:
        return [], [f"manifest {blob.digest} is too large"]
    try:
        document = json.loads(store.read(blob))
    except CorruptBlob as error:
        return [], [error.message]
    except (ValueError, RecursionError):
        return [], [f"manifest {blob.digest} is no JSON"]
    if not isinstance(document, dict):
        return [], [f"manifest {blob.digest} is no manifest"]
    parts: list[object] = [document[key] for key in ("config", "subject") if key in document]
    for key in ("layers", "manifests"):
        if isinstance(document.get(key), list):
            parts += document[key]
    return [found for part in parts if (found := parse_descriptor(part))], []


class Held(NamedTuple):
    """What names and kept containers hold on to, as the names of files in the store."""

    blobs: set[str]
    layers: set[str]  # of their diff_ids
    steps: set[str]  # keys of the steps that named images were last built with


def held(store: Store, without: Collection[ImageName] = ()) -> Held:
    """`without`: names that are to hold nothing."""
    found = Held(set(), set(), set())
    for name, manifest in store.names().items():
        if name in without or _is_gone(name.project):
            continue
        blobs = reach(store, manifest).blobs
        found.blobs.update(blob.digest[7:] for blob in blobs)
        found.layers.update(_layers(store, blobs))
        found.steps.update(_steps(store, name, blobs))
    for diff_id, digest in _of_containers(store):
        found.layers.add(diff_id)
        found.blobs.add(digest)
    return found


def held_blobs(store: Store) -> set[str]:
    """The hex digits of all that names and kept containers hold on to."""
    blobs = {digest for _, digest in _of_containers(store)}
    for name, manifest in store.names().items():
        if not _is_gone(name.project):
            blobs.update(blob.digest[7:] for blob in reach(store, manifest).blobs)
    return blobs


def _layers(store: Store, blobs: Iterable[Descriptor]) -> set[str]:
    """The hex digits of the diff_ids of an image, or of an index's, of what it reaches; none where
    its documents cannot be read."""
    found: set[str] = set()
    for blob in blobs:
        if blob.media_type in media.CONFIGS:
            with contextlib.suppress(CorruptBlob, ValueError, TypeError, KeyError, RecursionError):
                config = json.loads(store.read(blob))
                found.update(each[7:] for each in config["rootfs"]["diff_ids"])
    return found


def _steps(store: Store, name: ImageName, blobs: Sequence[Descriptor]) -> Iterator[str]:
    """The keys that an image, or each image of an index, was last built with, and its base's log
    beside them."""
    names = [name]
    if name.platform == ANY and blobs:
        names = [name._replace(platform=each) for each, _ in index_entries(store, blobs[0])]
    for each in names:
        document = parse_object(store.load("builds", each.key)) or {}
        with contextlib.suppress(TypeError, KeyError):
            yield from (str(step["key"]) for step in document["steps"])
            yield base_log(str(document["base_chain"]))
            yield each.key


def _of_containers(store: Store) -> Iterator[tuple[str, str]]:
    """The hex digits of the diff_id and of the blob of each layer that containers stand on which
    are kept, or were left where a step failed."""
    for name, path in containers(store):
        for diff_id, blob in stands_on(store, name, path) or ():
            yield diff_id, blob.digest[7:]


def containers(store: Store) -> Iterator[tuple[str, str]]:
    """The names of kept containers and failed states, and their folders."""
    folder = os.path.join(store.root, "containers")
    try:
        names = store.files.listdir(folder)
    except OSError:
        return
    for name in sorted(names):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(store.files.lstat(path).st_mode):
                yield name, path


def stands_on(store: Store, name: str, path: str) -> list[tuple[str, Descriptor]] | None:
    """The hex digits of the diff_id and the blob of each layer that a container stands on, as its
    about.json has them (containers.about); None: it is damaged."""
    about = os.path.join(path, "about.json")
    document = parse_object(store.folder.read(about, f"containers/{name}", _MAX_ABOUT)) or {}
    try:
        found = [(str(each["diff_id"])[7:], parse_descriptor(each["blob"]))
                 for each in document["layers"]]  # fmt: skip
    except (TypeError, KeyError):
        return None
    layers = [(diff_id, blob) for diff_id, blob in found if blob]
    return layers if len(layers) == len(found) else None


def let_go(store: Store, names: Collection[ImageName], *, dry_run: bool = False) -> int:
    """Forget these names, and mark what only they held on to, so that the next gc removes it; gives
    the bytes on disk that it frees. Nothing is done in a `dry_run`."""
    manifests = [found for name in names if (found := store.named(name))]
    with store.folder.unmarked():
        paths = _only_of(store, names, manifests)
    if not dry_run:
        for name in names:
            store.untag(name)
    freed = 0
    for path, mark in paths.items():
        with contextlib.suppress(OSError):
            status = store.files.lstat(mark)
            if status.st_nlink > 1:  # it may be somebody's elsewhere
                continue
            if not dry_run:
                store.files.utime(mark, LET_GO)
            freed += status.st_blocks * 512
            if path != mark:
                freed += store.files.lstat(path).st_blocks * 512 + tree_size(store.files, path)
    return freed


def _only_of(
    store: Store, names: Collection[ImageName], manifests: Sequence[Descriptor]
) -> dict[str, str]:
    """The paths of what nothing but these names holds on to, each with that of the file whose time
    says when it was last used."""
    rest = held(store, names)
    reached = [reach(store, each).blobs for each in manifests]
    layers = {layer for blobs in reached for layer in _layers(store, blobs)} - rest.layers
    digests = {blob.digest[7:] for blobs in reached for blob in blobs}
    for layer in layers:  # in other codecs, too
        info = load_layer(store, DiffID(f"sha256:{layer}"))
        digests.update(blob.digest[7:] for blob in (info.blobs.values() if info else ()))
    digests -= rest.blobs
    items = [("blobs/sha256", each) for each in digests]
    items += [("trees", f"runs-{each}") for each in digests]
    items += [(kind, each) for kind in ("tables", "contents", "layers") for each in layers]
    for key in store.entries("records") if layers else ():
        record = load_record(store, CacheKey(key))
        if record and record.diff_id and record.diff_id[7:] in layers:
            items += [(kind, key) for kind in ("records", "documents", "logs")]
    paths = {path: path for each in items if (path := os.path.join(store.root, *each))}
    for name in store.entries("uses") if layers else ():
        mark = os.path.join(store.root, "uses", name)
        with contextlib.suppress(StoreError):
            data = store.folder.read(mark, f"uses/{name}", 200) or b""
            if data.rpartition(b":")[2].decode("ascii", "replace") in layers:
                paths[os.path.join(store.root, "unpacked", name)] = mark
    return paths


def _is_gone(project: str) -> bool:
    """A project that is known by its folder, and the folder is not there any more."""
    if not project.startswith("/"):
        return False
    try:
        os.lstat(project)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def forget_gone(store: Store) -> None:
    """Names that held nothing, and what they mean is not whole any more."""
    for name, manifest in store.names().items():
        if _is_gone(name.project) and not all(map(store.has, reach(store, manifest).blobs)):
            store.untag(name)
