"""Importing: a layer's bytes from outside into the store, with digest, size and diff_id checked.

A blob is copied (never linked: its owner may write to it later) and kept as it is. In the same
pass it is decompressed, hashed and listed in its path table. What was checked once is remembered as
a pair of blob and diff_id, so that a config which claims another layer's diff_id for a blob is not
believed. How a blob is compressed is told by its bytes, and so is the media type it gets.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from builder.errors import LayerError, TransportError
from builder.layer.entry import FILE, Entry
from builder.oci import media
from builder.oci.digest import DiffID, hasher
from builder.oci.image import Layer
from builder.store.records import add_blob, verified

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from builder.store.store import Store

CHUNK = 1 << 20
_ACCOUNTS = (b"passwd", b"group")
_ACCOUNT_FILE = 1 << 20  # bytes of an account file that a table keeps
_ACCOUNT_FILES = 64


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def import_layer(store: Store, layer: Layer, source: Readable, where: str) -> None:
    """Bring `layer` into the store from the stream of its blob, which is read but not closed.

    Raises TransportError beginning with `where` when the bytes are not what `layer` says or are no
    layer; then nothing was published. The media type may be wrong: readers go by the bytes.
    """
    from builder.layer.decompress import codec_of, open_layer

    blob, peeked = layer.blob, _Peeked(source)
    codec = codec_of(peeked.head)
    with store.incoming() as incoming, _table_being_made(store) as table:

        def take(data: bytes) -> None:
            if incoming.size + len(data) > blob.size:
                raise TransportError(f"{where}: more than the {blob.size} bytes it should have")
            incoming.write(data)

        tee = _Tee(peeked, take)
        fault: LayerError | None = None
        try:
            diff_id, size = _scan(open_layer(cast(BinaryIO, tee), codec), table)
        except LayerError as error:  # said only if the bytes are those that were promised
            fault = error
        tee.drain()
        if incoming.size != blob.size:
            raise TransportError(f"{where}: {incoming.size} bytes, expected {blob.size}")
        if incoming.digest != blob.digest:
            raise TransportError(f"{where}: the bytes have {incoming.digest}, not this digest")
        if fault:
            raise TransportError(f"{where}: {fault.message}", fault.hint) from fault
        if diff_id != layer.diff_id:
            raise TransportError(
                f"{where}: unpacked it is {diff_id}, its config says {layer.diff_id}"
            )
        if codec not in media.LAYER_OF_CODEC:
            raise TransportError(
                f"{where}: it is compressed with {codec}, which images cannot say of a layer",
                "let gzip or zstd compress it, or nothing at all",
            )
        blob = incoming.publish(media.LAYER_OF_CODEC[codec])
        place_table(store, table, diff_id)
    remember(store, Layer(diff_id, blob), size)


def import_tar(store: Store, source: Readable, where: str) -> Layer:
    """Bring a layer that no descriptor describes (an archive's) into the store. gzip and zstd are
    kept as they are; all else is compressed with gzip."""
    from builder.layer.compress import compressor
    from builder.layer.decompress import codec_of, open_layer

    source = _Peeked(source)
    codec = codec_of(source.head)
    if codec not in media.LAYER_OF_CODEC:
        source, codec = open_layer(cast(BinaryIO, source), codec), "none"
    squeeze = compressor("gzip") if codec == "none" else bytes
    try:
        with store.incoming() as incoming, _table_being_made(store) as table:
            tee = _Tee(source, lambda data: incoming.write(squeeze(data)))
            plain = io.BufferedReader(tee, CHUNK)  # a gzip member for a megabyte
            diff_id, size = _scan(open_layer(cast(BinaryIO, plain), codec), table)
            tee.drain()
            kind = media.LAYER_OF_CODEC["gzip" if codec == "none" else codec]
            layer = Layer(diff_id, incoming.publish(kind))
            place_table(store, table, diff_id)
    except LayerError as error:
        raise TransportError(f"{where}: {error.message}", error.hint) from error
    remember(store, layer, size)
    return layer


def _scan(plain: BinaryIO, table: str) -> tuple[DiffID, int]:
    """Read a layer's tar to its end and write its path table; its diff_id and size."""
    from builder.layer.read import read_layer
    from builder.rootfs.table import write_table

    running = hasher()
    size = 0
    files: dict[bytes, bytes] = {}

    def take(data: bytes) -> None:
        nonlocal size
        running.update(data)
        size += len(data)

    def entries() -> Iterator[Entry]:
        hashing = cast(BinaryIO, _Tee(plain, take))
        for entry, content in read_layer(hashing):
            if _is_account_file(entry) and len(files) < _ACCOUNT_FILES:
                files[entry.path] = b"".join(iter(partial(content.read, CHUNK), b""))
            yield entry

    write_table(table, entries(), files)
    return DiffID("sha256:" + running.hexdigest()), size


def _is_account_file(entry: Entry) -> bool:
    """By name, wherever it is: the one in etc/ may be a symlink."""
    name = entry.path.rpartition(b"/")[2]
    return name in _ACCOUNTS and entry.type == FILE and entry.size <= _ACCOUNT_FILE


def remember(store: Store, layer: Layer, size: int) -> None:
    """Record that this blob is this layer, of `size` bytes uncompressed."""
    if not verified(store, layer):
        add_blob(store, layer, size, layer.blob.digest)


def place_table(store: Store, table: str, diff_id: DiffID) -> None:
    """Publish a table written in the store's tmp/. Raises StoreError."""
    from builder.rootfs.table import name_table
    from builder.store.files import failure

    path = store.table_path(diff_id)
    try:
        name_table(table, diff_id)
        store.folder.place(table, path)
    except OSError as error:
        raise failure(error, "write", path, store.root) from error


@contextlib.contextmanager
def _table_being_made(store: Store) -> Iterator[str]:
    import shutil

    folder = store.temporary()
    try:
        yield os.path.join(folder, "table")
    finally:
        shutil.rmtree(folder)


class _Peeked:
    """A stream whose first bytes, `head`, can be looked at before it is read."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.head = b""
        while len(self.head) < 8 and (more := source.read(8 - len(self.head))):
            self.head += more
        self._left = self.head

    def read(self, size: int = -1, /) -> bytes:
        if not self._left:
            return self._source.read(size)
        data, self._left = self._left, b""
        return data  # a short read, never longer than a caller's: they ask for more than 8 bytes


class _Tee(io.RawIOBase):
    """A stream that hands on what is read from it."""

    def __init__(self, source: Readable, take: Callable[[bytes], object]) -> None:
        self._source, self._take = source, take

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size if 0 <= size < CHUNK else CHUNK)
        self._take(data)
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def drain(self) -> None:
        while self.read(CHUNK):
            pass
