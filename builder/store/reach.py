"""What names hold on to: their manifests, configs and layers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import CorruptBlob
from builder.oci.image import Descriptor
from builder.store.names import parse_descriptor

if TYPE_CHECKING:
    from builder.store.store import Store

_MAX_MANIFEST = 4 << 20
_MAX_NESTING = 4


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
