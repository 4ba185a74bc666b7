"""Kept bases: what was made here from a file or by a tool, remembered in the store under a name.

Also which content a file has, remembered by (device, inode, size, mtime, ctime) with git's racy
rule: what was younger than two seconds when it was hashed is hashed again the next time.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from builder.errors import TransportError
from builder.oci.digest import DiffID, Digest, hasher, hex_of
from builder.oci.image import Descriptor, Image, Layer, Platform, encode

if TYPE_CHECKING:
    from builder.store.store import Store

CREATED = "1980-01-01T00:00:00Z"
"""What a made base says of its creation: when file steps begin, so that its bytes repeat."""

_RACY = 2.0  # seconds
_CHUNK = 1 << 20


class Kept(NamedTuple):
    image: Image
    made: float  # seconds since 1970


def save_base(store: Store, name: str, kept: Kept) -> None:
    image = kept.image
    document = {
        "config": image.config,
        "layers": [[layer.diff_id, *layer.blob] for layer in image.layers],
        "made": kept.made,
        "platform": list(image.platform),
    }
    store.save("bases", name, encode(document))


def load_base(store: Store, name: str) -> Kept | None:
    """None when it was not kept, or when the store lost one of its layers since."""
    data = store.load("bases", name)
    if data is None:
        return None
    document = json.loads(data)  # our own bytes: the store checked them
    layers = tuple(
        Layer(DiffID(diff_id), Descriptor(media_type, Digest(digest), size))
        for diff_id, media_type, digest, size in document["layers"]
    )
    if not all(store.claim(layer.blob) for layer in layers):
        return None
    image = Image(Platform(*document["platform"]), document["config"], layers)
    return Kept(image, document["made"])


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
    name = "file-" + hex_of(before.encode())
    known = store.load("memos", name)
    if known is not None:
        return known.decode()
    running = hasher()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        running.update(chunk)
    file.seek(0)
    unchanged(file, before, where)
    found = os.fstat(file.fileno())
    if now - max(found.st_mtime, found.st_ctime) > _RACY:
        store.remember("memos", name, running.hexdigest().encode())
    return running.hexdigest()


def unchanged(file: BinaryIO, before: str, where: str) -> None:
    if identity(file) != before:
        raise TransportError(f"{where}: the file changed while it was read", "build again")
