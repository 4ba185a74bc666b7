"""Kept bases: what was made here from a file or by a tool, remembered in the store under a name.

Also which content a file has, as the files of a context are known (store.digests).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from builder.errors import TransportError
from builder.layer.beneath import RACY
from builder.oci.digest import digest_of, hasher
from builder.oci.image import Image, Layer, encode
from builder.store import digests
from builder.store.names import parse_descriptor
from builder.store.records import parse_object, verified
from builder.transport.documents import parse_config

if TYPE_CHECKING:
    from builder.store.store import Store

CREATED = "1980-01-01T00:00:00Z"
"""What a made base says of its creation: when file steps begin, so that its bytes repeat."""

_CHUNK = 1 << 20


class MadeBase(NamedTuple):
    image: Image
    made: float  # seconds since 1970


def save_base(store: Store, name: str, kept: MadeBase) -> None:
    config = kept.image.config_bytes()
    document = {
        "config": config.decode("utf-8", "surrogateescape"),
        "digest": digest_of(config),
        "layers": [layer.blob.document() for layer in kept.image.layers],
        "made": kept.made,
    }
    store.save("bases", name, encode(document))


def load_base(store: Store, name: str) -> MadeBase | None:
    """None when it was not kept, or when the store lost one of its layers since."""
    document = parse_object(store.load("bases", name)) or {}
    text, made, listed = (document.get(key) for key in ("config", "made", "layers"))
    if not (isinstance(text, str) and isinstance(made, float | int) and isinstance(listed, list)):
        return None
    data = text.encode("utf-8", "surrogatepass")
    if digest_of(data) != document.get("digest"):
        return None
    try:
        config = parse_config(data, name)
    except TransportError:
        return None
    blobs = [blob for each in listed if (blob := parse_descriptor(each))]
    if len(blobs) != len(config.diff_ids):
        return None
    layers = [Layer(*pair) for pair in zip(config.diff_ids, blobs, strict=True)]
    known = [layer for each in layers if (layer := verified(store, each))]
    if len(known) < len(layers) or not all(store.claim(layer.blob) for layer in known):
        return None
    return MadeBase(Image(config.platform, config.document, tuple(known)), made)


def open_file(path: str, where: str) -> BinaryIO:
    """A regular file that a spec names; a FIFO in its place does not block."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TransportError(f"{where}: {path!r}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise TransportError(f"{where}: {path!r} is not a regular file")
    return os.fdopen(handle, "rb")


def identity(file: BinaryIO) -> str:
    """Changes whenever the file does, but for racy writes."""
    found = os.fstat(file.fileno())
    fields = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return "-".join(map(str, fields))


def content_of(store: Store, file: BinaryIO, where: str, now: float) -> str:
    """The SHA-256 of an open file, in hex; from the memo where that can be trusted."""
    before = identity(file)
    looked = os.fstat(file.fileno())
    state = (looked.st_ino, looked.st_dev, looked.st_size, looked.st_mtime_ns, looked.st_ctime_ns)
    if known := digests.find(store, [state]).get(state):
        return known.hex()
    running = hasher()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        running.update(chunk)
    file.seek(0)
    unchanged(file, before, where)
    if now * 1_000_000_000 - max(looked.st_mtime_ns, looked.st_ctime_ns) > RACY:
        digests.add(store, [(state, running.digest())])
    return running.hexdigest()


def unchanged(file: BinaryIO, before: str, where: str) -> None:
    if identity(file) != before:
        raise TransportError(f"{where}: the file changed while it was read", "build again")
