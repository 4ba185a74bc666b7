"""A root file system's tar as a base: `rootfs:FILE.tar[.gz|.xz|.zst]` becomes one layer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import LayerError, TransportError
from builder.events import Emit, Noted, ignore
from builder.oci.digest import hex_of
from builder.oci.image import Platform, empty_image
from builder.spec.model import BaseRef
from builder.transport.base import Base, Tell, quiet
from builder.transport.kept import (
    CREATED,
    MadeBase,
    content_of,
    identity,
    load_base,
    open_file,
    save_base,
    unchanged,
)

if TYPE_CHECKING:
    from builder.store.store import Store

_KEY_VERSION = 2
_TELL = 5.0  # seconds between two words of progress


class RootfsSource:
    """`rootfs:FILE`. `context` is where relative paths start, `clock` gives seconds since 1970."""

    def __init__(
        self,
        store: Store,
        context: str,
        emit: Emit = ignore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._context, self._emit, self._clock = store, context, emit, clock

    def resolve(
        self, ref: BaseRef, platform: Platform, *, make: bool, pull: str, tell: Tell = quiet
    ) -> Base | None:
        where = str(ref)
        with open_file(os.path.join(self._context, ref.value), where) as file:
            content = content_of(self._store, file, where, self._clock())
            key = hex_of(f"{_KEY_VERSION} {content} {platform}".encode())
            name = f"rootfs-{key}"
            kept = load_base(self._store, name)
            if kept is None and make:
                with self._store.lock(name):
                    kept = load_base(self._store, name)
                    if kept is None:
                        kept = self._make(file, platform, where)
                        save_base(self._store, name, kept)
        return Base(kept.image, f"{ref}, sha256:{content[:12]}") if kept else None

    def _make(self, file: BinaryIO, platform: Platform, where: str) -> MadeBase:
        from builder.layer.decompress import open_layer
        from builder.transport.canonical import canonical_layer

        before = identity(file)
        told = time.monotonic()

        def progress(size: int) -> None:
            nonlocal told
            if time.monotonic() - told > _TELL:
                told = time.monotonic()
                self._emit(Noted(f"{where}: {size / 1e9:.1f} GB written"))

        try:
            layer = canonical_layer(self._store, open_layer(file), progress=progress)
        except LayerError as error:
            raise TransportError(f"{where}: {error.message}", error.hint) from error
        unchanged(file, before, where)
        history = {"created": CREATED, "created_by": "rootfs"}
        return MadeBase(empty_image(platform).append(layer, history), self._clock())
