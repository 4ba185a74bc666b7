"""Seen: at which repositories a blob was seen, so that a push can mount it or fetch it from there.

Only a hint: what it says is asked again before it is used. Kept in the store, a small entry a blob.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from builder.errors import StoreError
from builder.oci.digest import Digest

if TYPE_CHECKING:
    from builder.store.store import Store

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


def _entry(digest: Digest) -> str:
    return "seen-" + digest.removeprefix("sha256:")
