"""Importing: a layer's blob from outside into the store, with its digest, size and diff_id checked.

The blob is copied (never linked: its owner may write to it later) and kept as it is. In the same
pass it is decompressed, hashed and listed in its path table. What was checked once is remembered by
a memo that pairs the blob's digest with the diff_id; both are in it, so that a config which claims
another layer's diff_id for a blob is not believed.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from builder.errors import LayerError, TransportError
from builder.oci import media
from builder.oci.digest import DiffID, hasher
from builder.oci.image import Layer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from builder.store.store import Incoming, Store

CHUNK = 1 << 20


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def is_imported(store: Store, layer: Layer) -> bool:
    """The blob and its path table are in the store, and were checked against this diff_id."""
    return store.has(layer.blob) and store.load("memos", _memo(layer)) == layer.diff_id.encode()


def import_layer(store: Store, layer: Layer, source: Readable, where: str) -> None:
    """Bring `layer` into the store from the stream of its blob, which is read but not closed.

    Raises TransportError beginning with `where` when the bytes are not what `layer` says or are no
    layer; then nothing was published.
    """
    codec = media.CODECS[layer.blob.media_type]
    with store.incoming() as incoming:
        tee = _Tee(source, incoming, layer.blob.size, where)
        try:
            diff_id = _scan(tee, codec)
        except LayerError as error:
            tee.drain()
            _check_blob(incoming, layer, where)  # torn or swapped bytes: say that first
            raise TransportError(f"{where}: {error.message}", error.hint) from error
        tee.drain()
        _check_blob(incoming, layer, where)
        if diff_id != layer.diff_id:
            raise TransportError(
                f"{where}: unpacked it has the diff_id {diff_id}, its config says {layer.diff_id}"
            )
        incoming.publish(layer.blob.media_type)
    store.save("memos", _memo(layer), layer.diff_id.encode())


def _check_blob(incoming: Incoming, layer: Layer, where: str) -> None:
    if incoming.size != layer.blob.size:
        raise TransportError(
            f"{where}: {incoming.size} bytes, its descriptor says {layer.blob.size}"
        )
    if incoming.digest != layer.blob.digest:
        raise TransportError(
            f"{where}: its bytes have {incoming.digest}, expected {layer.blob.digest}"
        )


def _scan(source: Readable, codec: str) -> DiffID:
    """Decompress to the end; the diff_id of what came."""
    running = hasher()
    try:
        plain = _decompressed(source, codec)
        while chunk := plain.read(CHUNK):
            running.update(chunk)
    except (EOFError, OSError) as error:
        raise LayerError(f"it is not valid {codec}: {error}") from error
    return DiffID("sha256:" + running.hexdigest())


def _decompressed(source: Readable, codec: str) -> Readable:
    if codec == "gzip":
        from isal import igzip

        return cast(Readable, igzip.IGzipFile(fileobj=source, mode="rb"))  # type: ignore[no-untyped-call]
    if codec == "zstd":
        from backports import zstd

        return cast(Readable, zstd.ZstdFile(cast(BinaryIO, source)))
    return source


class _Tee(io.RawIOBase):
    """A stream that writes what is read from it into the store, never more than `limit` bytes."""

    def __init__(self, source: Readable, incoming: Incoming, limit: int, where: str) -> None:
        self._source, self._incoming, self._limit, self._where = source, incoming, limit, where

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._source.read(len(view))
        if self._incoming.size + len(data) > self._limit:
            raise TransportError(
                f"{self._where}: more than the {self._limit} bytes its descriptor says"
            )
        self._incoming.write(data)
        view[: len(data)] = data
        return len(data)

    def drain(self) -> None:
        while self.read(CHUNK):
            pass


def _memo(layer: Layer) -> str:
    return "layer-" + layer.blob.digest.removeprefix("sha256:")
