"""Seen: at which repositories a blob was seen, so that a push can mount it or fetch it from there.

Only a hint: what it says is asked again before it is used. Kept in the store, a small entry a blob.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from builder.errors import BuilderError, StoreError, TransportError
from builder.oci.digest import Digest, hex_of, parse_digest

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.oci.image import Layer
    from builder.oci.reference import Reference
    from builder.store.store import Store
    from builder.transport.registry.settings import Settings

_KEPT = 8


def seen_at(store: Store, digest: Digest) -> list[str]:
    """Names (`host/repository`), the latest first."""
    data = store.load("bases", _entry(digest))
    try:
        names = json.loads(data) if data else []
    except (ValueError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def note_seen(store: Store, digest: Digest, name: str) -> None:
    names = seen_at(store, digest)
    if name in names:
        return
    with contextlib.suppress(StoreError):  # a read-only store just does not learn it
        store.save("bases", _entry(digest), json.dumps([name, *names][:_KEPT]).encode())


def pushed_as(store: Store, reference: Reference) -> Digest | None:
    """What was pushed from here under this reference, last: a manifest or an index."""
    with contextlib.suppress(BuilderError):
        data = store.load("bases", _pushed(reference))
        return parse_digest(data.decode("ascii", "replace")) if data else None
    return None


def note_pushed(store: Store, reference: Reference, digest: Digest) -> None:
    """It is no name, which would keep every tag of a CI's for good: gc may take the image."""
    store.remember("bases", _pushed(reference), digest.encode())


class Repositories:
    """Brings layers from where their blobs were seen."""

    def __init__(self, store: Store, settings: Settings, emit: Emit) -> None:
        self._store, self._settings, self._emit = store, settings, emit

    def bring(self, layer: Layer) -> bool:
        from builder.oci.reference import parse_reference
        from builder.transport.registry.session import Registry

        fault: TransportError | None = None
        for name in seen_at(self._store, layer.blob.digest):
            try:
                with Registry(self._settings, self._emit) as registry:
                    registry.fetch(self._store, parse_reference(name), layer, name)
                return True
            except TransportError as error:
                fault = error
        if fault:
            raise fault
        return False


def _pushed(reference: Reference) -> str:
    return "pushed-" + hex_of(str(reference).encode())


def _entry(digest: Digest) -> str:
    return "seen-" + digest.removeprefix("sha256:")
