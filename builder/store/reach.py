"""What names hold on to: their manifests, configs and layers; and letting go of it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import CorruptBlob
from builder.oci import media
from builder.oci.digest import CacheKey
from builder.oci.image import Descriptor
from builder.store.names import ImageName, parse_descriptor
from builder.store.records import load_record

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


def let_go(store: Store, names: Sequence[ImageName]) -> None:
    """Forget these names, and mark what only they held on to, so that the next gc removes it."""
    manifests = [found for name in names if (found := store.named(name))]
    for name in names:
        store.untag(name)
    with store.folder.unmarked():
        held = held_blobs(store)
        released = [b.digest[7:] for each in manifests for b in reach(store, each).blobs]
        wanted = {layer for each in store.names().values() for layer in _layers(store, each)}
        layers = {layer for each in manifests for layer in _layers(store, each)} - wanted
        items = [("blobs/sha256", digits) for digits in released if digits not in held]
        items += [
            (kind, layer) for kind in ("tables", "contents", "uses", "layers") for layer in layers
        ]
        for key in store.entries("records") if layers else ():
            record = load_record(store, CacheKey(key))
            if record and record.diff_id and record.diff_id[7:] in layers:
                items += [("records", key), ("documents", key)]
    for folder, file in items:
        path = os.path.join(store.root, folder, file)
        with contextlib.suppress(OSError):
            if store.files.lstat(path).st_nlink == 1:  # else it may be somebody's elsewhere
                store.files.utime(path, LET_GO)


def _layers(store: Store, manifest: Descriptor) -> set[str]:
    """The hex digits of the diff_ids of an image, or of an index's; none where its documents cannot
    be read."""
    found: set[str] = set()
    for blob in reach(store, manifest).blobs:
        if blob.media_type in media.CONFIGS:
            with contextlib.suppress(CorruptBlob, ValueError, TypeError, KeyError, RecursionError):
                config = json.loads(store.read(blob))
                found.update(each[7:] for each in config["rootfs"]["diff_ids"])
    return found


def held_blobs(store: Store) -> set[str]:
    """The hex digits of all that names hold on to."""
    held: set[str] = set()
    for name, manifest in store.names().items():
        if not _is_gone(name.project):
            held.update(blob.digest[7:] for blob in reach(store, manifest).blobs)
    held.update(_of_containers(store))
    return held


def _of_containers(store: Store) -> Iterator[str]:
    """The layers that containers stand on which are kept, or were left where a step failed, as
    their about.json has them (see containers.about)."""
    folder = os.path.join(store.root, "containers")
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
                with open(os.path.join(folder, name, "about.json"), "rb") as file:
                    document = json.loads(file.read(_MAX_ABOUT))
                for layer in document["layers"]:
                    yield str(layer["blob"]["digest"])[7:]


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
