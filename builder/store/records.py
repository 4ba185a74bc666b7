"""Records: what the store knows about steps, layers and builds, as values.

Reading is total: garbage is a miss and one warning, never an exception.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from builder.errors import BuilderError, StoreError
from builder.oci import media
from builder.oci.digest import CacheKey, DiffID, parse_digest
from builder.oci.image import Descriptor, Image, Layer, encode
from builder.store.names import ImageName, parse_descriptor

if TYPE_CHECKING:
    from builder.store.store import Store

MAX_DOCUMENT = 64 << 20
_LARGE = 4096  # bytes of a document from which on compressing pays
_T = TypeVar("_T")


class Record(NamedTuple):
    """What a step's key came to."""

    diff_id: DiffID | None  # None: the step changed nothing, an empty layer
    seconds: float  # how long it took to build
    created: int  # wall clock, seconds since 1970


class LayerInfo(NamedTuple):
    """A layer and the blobs that are known to hold it: made here, or read whole and compared.
    Whether they are still there, `Store.has` knows."""

    diff_id: DiffID
    size: int  # bytes of the uncompressed tar
    blobs: Mapping[str, Descriptor]
    """Those made here by codec and level, `Settings.encoding`; others by their digest. Each has the
    media type that its bytes have."""


def load_record(store: Store, key: CacheKey) -> Record | None:
    return _load(store, "records", key, _record)


def save_record(store: Store, key: CacheKey, record: Record) -> None:
    store.save("records", key, encode(record._asdict()))


def load_layer(store: Store, diff_id: DiffID) -> LayerInfo | None:
    info = _load(store, "layers", diff_id[-64:], _layer)
    if info and info.diff_id != diff_id:
        store.folder.warn(f"layers/{diff_id[-64:]} is about another layer; it is made again")
        return None
    return info


def save_layer(store: Store, info: LayerInfo) -> None:
    blobs = {codec: blob.document() for codec, blob in info.blobs.items()}
    store.save("layers", info.diff_id[-64:], encode({**info._asdict(), "blobs": blobs}))


def verified(store: Store, layer: Layer) -> Layer | None:
    """`layer` with the media type that its bytes have, if this store made its blob, or has read it
    and found it to be this diff_id; whether the blob is still there, `Store.has` knows. What a
    config says of a blob is not believed otherwise."""
    info = load_layer(store, layer.diff_id)
    for blob in info.blobs.values() if info else ():
        if blob[1:] == layer.blob[1:]:  # digest and size
            return layer._replace(blob=blob)
    return None


def is_imported(store: Store, layer: Layer) -> bool:
    """The blob is in the store and was checked against this diff_id; gc leaves it from now on."""
    return verified(store, layer) is not None and store.claim(layer.blob)


def labelled(store: Store, image: Image) -> Image:
    """The image with the media types that its layers' bytes have, as far as they are known."""
    return image._replace(layers=tuple(verified(store, each) or each for each in image.layers))


def is_settled(store: Store, image: Image) -> bool:
    """Whether all that is to be known of a base's layers is (rootfs.layers.Layers.settle)."""
    return all(verified(store, layer) for layer in image.layers)


def add_blob(store: Store, layer: Layer, size: int, name: str) -> None:
    """Note that this blob holds this layer, of `size` bytes uncompressed, as LayerInfo names it;
    others stay noted."""
    with store.lock(f"layer-{layer.diff_id[-64:]}"):
        known = load_layer(store, layer.diff_id)
        blobs = {**(known.blobs if known else {}), name: layer.blob}
        save_layer(store, LayerInfo(layer.diff_id, size, blobs))


def failed_log(image: ImageName) -> str:
    """What the log of an image's last failure is called (`store.logs`)."""
    return f"failed-{image.key}"


def base_log(chain: str) -> str:
    """What the log of how a base was made is called; `chain`: its chain_id."""
    return f"base-{chain[-64:]}"


def forget_failure(store: Store, image: ImageName) -> None:
    """The image was built since."""
    with contextlib.suppress(StoreError):  # a store that can only be read
        store.forget("logs", failed_log(image))


def load_document(store: Store, key: CacheKey) -> bytes | None:
    """What `key` is the hash of (`plan.keys`)."""
    data = store.load("documents", key)
    if data is None or data[:1] == b"{":
        return data
    from isal import isal_zlib

    unpacker = isal_zlib.decompressobj()
    try:
        document = unpacker.decompress(data, MAX_DOCUMENT)
    except isal_zlib.error:  # type: ignore[misc]  # its stub says an instance
        document = b""
    if not unpacker.eof:
        store.folder.warn(f"documents/{key} is corrupt; it is made again")
        return None
    return document


def save_document(store: Store, key: CacheKey, document: bytes) -> None:
    """`document` begins as a JSON object does."""
    if len(document) >= _LARGE:
        from isal import isal_zlib

        document = isal_zlib.compress(document, 1)
    store.save("documents", key, document)


def parse_object(data: bytes | None) -> dict[str, Any] | None:
    """An entry's JSON object; None for whatever else stands there."""
    try:
        document = json.loads(data) if data else None
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _load(store: Store, kind: str, name: str, decode: Callable[[Any], _T | None]) -> _T | None:
    data = store.load(kind, name)
    if data is None:
        return None
    document = parse_object(data)
    value = decode(document) if document is not None else None
    if value is None:
        store.folder.warn(f"{kind}/{name} is not understood; it is made again")
    return value


def _record(document: dict[str, Any]) -> Record | None:
    seconds, created = document.get("seconds"), document.get("created")
    if not isinstance(seconds, int | float) or type(created) is not int:
        return None
    if document.get("diff_id") is None:
        return Record(None, float(seconds), created) if "diff_id" in document else None
    diff_id = _diff_id(document["diff_id"])
    return Record(diff_id, float(seconds), created) if diff_id else None


def _layer(document: dict[str, Any]) -> LayerInfo | None:
    diff_id, size = _diff_id(document.get("diff_id")), document.get("size")
    blobs = document.get("blobs")
    if diff_id is None or type(size) is not int or size < 0 or not isinstance(blobs, dict):
        return None
    parsed = {codec: blob for codec, each in blobs.items() if (blob := _blob(each))}
    if len(parsed) < len(blobs):
        return None
    return LayerInfo(diff_id, size, parsed)


def _blob(document: object) -> Descriptor | None:
    blob = parse_descriptor(document)
    return blob if blob and blob.media_type in media.CODECS else None


def _diff_id(text: object) -> DiffID | None:
    try:
        return DiffID(str(parse_digest(text)))
    except BuilderError:
        return None
