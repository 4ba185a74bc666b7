"""A layout as an output: `oci:DIR[:tag]`.

DIR may be a symlink, by the user's choice; in it none is followed, and nothing is changed before it
is known to be a layout or empty.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from builder.errors import CorruptBlob, TransportError
from builder.oci import media
from builder.oci.digest import Digest, digest_of, hasher
from builder.oci.image import Descriptor, Image, encode
from builder.oci.index import index_of, platform_document
from builder.transport.base import Delivered
from builder.transport.documents import MAX_MANIFEST, REF_NAME, load_object, parse_index
from builder.transport.importing import CHUNK
from builder.transport.layout import Layout, check_layout
from builder.transport.target import PARTIAL, check_writable, refuse_shared, writing_in

if TYPE_CHECKING:
    from builder.store.store import Store

VERSION = b'{"imageLayoutVersion":"1.0.0"}'
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class LayoutDestination:
    """Delivers into a layout, made when it does not exist. Blobs come first and index.json last,
    each by a rename; other tags stay, blobs that are there are not copied again."""

    def __init__(self, store: Store, folder: str, tag: str) -> None:
        self._store, self.path, self._tag = store, os.path.abspath(folder), tag
        self._where = f"oci:{self.path}"

    def check(self) -> None:
        try:
            try:
                handle = os.open(self.path, _FOLDER)
            except FileNotFoundError:
                if os.path.islink(self.path):
                    raise TransportError(f"{self._where}: it is a symlink to nothing") from None
                self._check_above()
                return
            try:
                self._recognise(handle)
                check_writable(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise TransportError(f"{self._where}: {error.strerror}") from error

    def _check_above(self) -> None:
        """What is missing of the path can be made in what is there of it."""
        folder = os.path.dirname(self.path)
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        handle = os.open(folder, _FOLDER)
        try:
            check_writable(handle)
        finally:
            os.close(handle)

    takes_index = True

    def put(self, images: Sequence[Image]) -> Delivered:
        try:
            return self._put(images)
        except OSError as error:
            raise TransportError(f"{self._where}: {error.strerror}") from error

    def _put(self, images: Sequence[Image]) -> Delivered:
        os.makedirs(self.path, exist_ok=True)
        handle = os.open(self.path, _FOLDER)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # two builds into one layout: one after the other
            if not self._recognise(handle):
                _publish(handle, "oci-layout", [VERSION])
            with _folder(handle, "blobs") as above, _folder(above, "sha256") as blobs:
                layers = {layer.blob: None for image in images for layer in image.layers}
                sent = sum(self._copy(blobs, blob) for blob in layers)
                top, documents = documents_of(images)
                for data in documents:
                    sent += _place(blobs, digest_of(data), len(data), [data])
            self._add_to_index(handle, index_entry(images, top, self._tag))
        finally:
            os.close(handle)
        return Delivered(f"{self._where}:{self._tag}", sent)

    def _recognise(self, handle: int) -> bool:
        """True for a layout, False for a folder where one may be made. Raises TransportError."""
        status = os.fstat(handle)
        if os.path.samestat(status, os.stat(self._store.root)):
            raise TransportError(f"{self._where}: it is the builder's own store")
        found = set(os.listdir(handle))
        if "oci-layout" in found:
            check_layout(Layout(handle, self._where), self._where)
            return True
        if [name for name in found if not PARTIAL.fullmatch(name)]:
            raise TransportError(
                f"{self._where}: the folder holds other files and is no OCI layout",
                "name a new folder, or an existing layout",
            )
        try:
            refuse_shared(status)
        except OSError as error:
            hint = f"name a new folder: oci:{os.path.join(self.path, 'image')}"
            raise TransportError(f"{self._where}: {error.strerror}", hint) from None
        return False

    def _copy(self, blobs: int, blob: Descriptor) -> int:
        with self._store.open(blob) as source:
            return _place(blobs, blob.digest, blob.size, iter(lambda: source.read(CHUNK), b""))

    def _add_to_index(self, handle: int, entry: dict[str, Any]) -> None:
        path = os.path.join(self.path, "index.json")
        index: dict[str, Any] = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": []}
        before = b""
        if "index.json" in os.listdir(handle):
            before = Layout(handle, self._where).file("index.json", MAX_MANIFEST)
            parse_index(before, f"{path}")
            index = load_object(before, path, MAX_MANIFEST, "index")
        others = [each for each in index["manifests"] if _tag(each) != self._tag]
        data = encode({**index, "manifests": [*others, entry]})
        if data != before:
            _publish(handle, "index.json", [data])


@contextlib.contextmanager
def _folder(above: int, name: str) -> Iterator[int]:
    """A folder of the layout, made when it is missed."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=above)
    try:
        handle = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=above)
    except NotADirectoryError as error:
        why = f"{name} is no folder of its own; symlinks in a layout are not followed"
        raise OSError(errno.ENOTDIR, why) from error
    try:
        yield handle
    finally:
        os.close(handle)


def _place(blobs: int, digest: Digest, size: int, chunks: Iterable[bytes]) -> int:
    """Publish a blob; the bytes written, 0 when it was there."""
    name = digest.removeprefix("sha256:")
    with contextlib.suppress(FileNotFoundError):
        there = os.stat(name, dir_fd=blobs, follow_symlinks=False)
        if stat.S_ISREG(there.st_mode) and there.st_size == size:
            return 0
    _publish(blobs, name, chunks, digest)
    return size


def _publish(folder: int, name: str, chunks: Iterable[bytes], digest: Digest | None = None) -> None:
    """Write beside, flush to the disk, rename. With `digest` the bytes must have it."""
    running = hasher()
    with writing_in(folder, name) as file:
        for chunk in chunks:
            running.update(chunk)
            file.write(chunk)
        if digest is not None and "sha256:" + running.hexdigest() != digest:
            raise CorruptBlob(f"blob {digest}: its bytes are not what its name says")


def documents_of(images: Sequence[Image]) -> tuple[Descriptor, list[bytes]]:
    """What stands for the images, and all of their documents, each before what names it."""
    documents = []
    for image in images:
        documents += [image.config_bytes(), image.manifest_bytes()]
    kind = media.MANIFEST
    if len(images) > 1:
        kind = media.INDEX
        documents.append(index_of(images))
    top = documents[-1]
    return Descriptor(kind, digest_of(top), len(top)), documents


def index_entry(images: Sequence[Image], top: Descriptor, tag: str) -> dict[str, Any]:
    """An index.json entry that says by which tag, and for which platform where it is one."""
    entry = {**top.document(), "annotations": {REF_NAME: tag}}
    if len(images) == 1:
        entry["platform"] = platform_document(images[0].platform)
    return entry


def _tag(entry: Any) -> object:
    return (entry.get("annotations") or {}).get(REF_NAME)
