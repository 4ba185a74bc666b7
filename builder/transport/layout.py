"""Layout: an OCI image layout (image-spec image-layout.md) as a base and as an output.

`oci:DIR[:tag]`. A tag is index.json's `org.opencontainers.image.ref.name`; like skopeo, the first
colon ends DIR.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from builder.errors import CorruptBlob, TransportError
from builder.oci import media
from builder.oci.digest import Digest, digest_of, hasher
from builder.oci.image import Descriptor, Image, Layer, Platform, encode
from builder.spec.model import BaseRef
from builder.transport.base import Base, Delivered
from builder.transport.documents import (
    MAX_CONFIG,
    MAX_MANIFEST,
    REF_NAME,
    Index,
    IndexEntry,
    Manifest,
    choose_platform,
    load_object,
    make_image,
    parse_config,
    parse_document,
    parse_index,
)
from builder.transport.importing import CHUNK, import_layer, is_imported, labelled

if TYPE_CHECKING:
    from builder.store.store import Store

_CONTAINERD_NAME = "io.containerd.image.name"  # the whole reference, where docker save writes it
VERSION = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutSource:
    """Bases from layouts. `context` is the folder that relative paths start from."""

    def __init__(self, store: Store, context: str) -> None:
        self._store, self._context = store, context

    def resolve(self, ref: BaseRef, platform: Platform, *, make: bool, pull: str) -> Base | None:
        folder, _, tag = ref.value.partition(":")
        where = f"{ref.place}: {ref}"
        with open_layout(os.path.join(self._context, folder), where) as layout:
            manifest, image = read_image(layout, tag, platform, where)
        image = labelled(self._store, image)

        def fetch(layer: Layer) -> None:
            if is_imported(self._store, layer):
                return
            path = os.path.join(self._context, folder)
            with open_layout(path, where) as layout, layout.open(layer.blob) as blob:
                import_layer(self._store, layer, blob, f"{where}: {layer.blob.digest}")

        about = f"{ref}, {manifest.digest[:19]}"
        if all(is_imported(self._store, layer) for layer in image.layers):
            return Base(image, about)
        return Base(image, about, fetch)


def read_image(
    layout: Layout, tag: str, platform: Platform, where: str
) -> tuple[Descriptor, Image]:
    """The manifest's descriptor and the image that `tag` ("": the only one, or `latest`) names."""
    index = parse_index(layout.file("index.json", MAX_MANIFEST), f"{where}: index.json")
    blob = choose_platform(_tagged(index, tag, where), platform, where)
    for _ in range(4):  # an index may hold indexes; nobody nests them deeper
        document = parse_document(layout.read(blob, MAX_MANIFEST), where, blob.media_type)
        if isinstance(document, Manifest):
            config = parse_config(layout.read(document.config, MAX_CONFIG), where)
            return blob, make_image(document, config, platform, where)
        blob = choose_platform(document, platform, where)
    raise TransportError(f"{where}: indexes within indexes, expected an image")


def _tagged(index: Index, tag: str, where: str) -> Index:
    images = [entry for entry in index.entries if not entry.attestation]
    tags = {name: None for entry in images for name in _names(entry)[:1]}
    if not tag and (len(images) == 1 or not tags):
        return Index(tuple(images))
    wanted = tag or "latest"
    found = tuple(entry for entry in images if wanted in _names(entry))
    if not found:
        there = ", ".join(ascii(name[:100])[1:-1] for name in sorted(tags)[:30]) or "none"
        raise TransportError(
            f"{where}: the layout has no image {wanted!r}" if tag else f"{where}: which image?",
            f"its tags are: {there}",
        )
    return Index(found)


def _names(entry: IndexEntry) -> list[str]:
    return [
        entry.annotations[key] for key in (REF_NAME, _CONTAINERD_NAME) if key in entry.annotations
    ]


class Layout:
    """A layout that is being read: hostile, so no symlink below its folder is followed, only
    regular files are opened, and blobs read whole are bounded and checked."""

    def __init__(self, folder: int, where: str) -> None:
        self._folder, self._where = folder, where

    def file(self, name: str, limit: int) -> bytes:
        with self._open(name) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise TransportError(f"{self._where}: {name} has more than {limit} bytes")
        return data

    def read(self, blob: Descriptor, limit: int) -> bytes:
        if blob.size > limit:
            raise TransportError(
                f"{self._where}: {blob.digest} of {blob.size} bytes, at most {limit}"
            )
        with self.open(blob) as file:
            data = file.read(blob.size + 1)
        if digest_of(data) != blob.digest:
            raise TransportError(f"{self._where}: the bytes of {blob.digest} are others")
        return data

    def open(self, blob: Descriptor) -> BinaryIO:
        """The blob's file; its size was compared, its bytes were not."""
        name = "blobs/sha256/" + blob.digest.removeprefix("sha256:")
        file = self._open(name)
        size = os.fstat(file.fileno()).st_size
        if size != blob.size:
            file.close()
            raise TransportError(
                f"{self._where}: {blob.digest} has {size} bytes, its descriptor says {blob.size}"
            )
        return file

    def _open(self, name: str) -> BinaryIO:
        *folders, last = name.split("/")
        handle = os.dup(self._folder)
        try:
            for part in folders:
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = inner
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(last, flags, dir_fd=handle)
        except OSError as error:
            raise TransportError(
                f"{self._where}: {name}: {error.strerror}",
                "symlinks in a layout are not followed"
                if error.errno in (errno.ELOOP, errno.ENOTDIR)
                else None,
            ) from error
        finally:
            os.close(handle)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise TransportError(f"{self._where}: {name} is not a regular file")
        return os.fdopen(file, "rb")


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextlib.contextmanager
def open_layout(path: str, where: str) -> Iterator[Layout]:
    try:
        handle = os.open(path, _FOLDER)
    except OSError as error:
        raise TransportError(f"{where}: {path!r}: {error.strerror}") from error
    try:
        layout = Layout(handle, where)
        if not _exists("oci-layout", handle):
            raise TransportError(f"{where}: {path!r} is no OCI layout: it has no oci-layout file")
        said = load_object(layout.file("oci-layout", 4096), f"{where}: oci-layout", 4096, "file")
        if said.get("imageLayoutVersion") != "1.0.0":
            raise TransportError(f"{where}: oci-layout: the version is not 1.0.0")
        yield layout
    finally:
        os.close(handle)


class LayoutDestination:
    """Delivers into a layout, made when it does not exist. Blobs come first and index.json last,
    each by a rename; other tags stay, blobs that are there are not copied again."""

    def __init__(self, store: Store, folder: str, tag: str) -> None:
        self._store, self._folder, self._tag = store, os.path.abspath(folder), tag

    def put(self, image: Image) -> Delivered:
        try:
            return self._put(image)
        except OSError as error:
            raise TransportError(f"oci:{self._folder}: {error.strerror}") from error

    def _put(self, image: Image) -> Delivered:
        os.makedirs(self._folder, exist_ok=True)
        handle = os.open(self._folder, _FOLDER)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # two builds into one layout: one after the other
            if not _exists("oci-layout", handle):
                if os.listdir(handle):
                    raise TransportError(
                        f"oci:{self._folder}: the folder holds other files and is no OCI layout",
                        "name a new folder, or an existing layout",
                    )
                self._publish("oci-layout", [VERSION])
            os.makedirs(os.path.join(self._folder, "blobs", "sha256"), exist_ok=True)
            sent = sum(self._copy(layer.blob) for layer in image.layers)
            config, manifest = image.config_bytes(), image.manifest_bytes()
            for data in (config, manifest):
                sent += self._place(digest_of(data), len(data), [data])
            blob = Descriptor(media.MANIFEST, digest_of(manifest), len(manifest))
            self._add_to_index(blob, image.platform)
        finally:
            os.close(handle)
        return Delivered(f"oci:{self._folder}:{self._tag}", sent)

    def _copy(self, blob: Descriptor) -> int:
        with self._store.open(blob) as source:
            return self._place(blob.digest, blob.size, iter(lambda: source.read(CHUNK), b""))

    def _place(self, digest: Digest, size: int, chunks: Iterable[bytes]) -> int:
        """Publish a blob; the bytes written, 0 when it was there."""
        name = "blobs/sha256/" + digest.removeprefix("sha256:")
        try:
            there = os.lstat(os.path.join(self._folder, name))
            if stat.S_ISREG(there.st_mode) and there.st_size == size:
                return 0
        except FileNotFoundError:
            pass
        self._publish(name, chunks, digest)
        return size

    def _add_to_index(self, manifest: Descriptor, platform: Platform) -> None:
        path = os.path.join(self._folder, "index.json")
        index: dict[str, Any] = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": []}
        before = b""
        if os.path.lexists(path):
            with open_layout(self._folder, f"oci:{self._folder}") as layout:
                before = layout.file("index.json", MAX_MANIFEST)
            parse_index(before, f"{path}")
            index = load_object(before, path, MAX_MANIFEST, "index")
        entry = index_entry(manifest, platform, self._tag)
        others = [each for each in index["manifests"] if _tag(each) != self._tag]
        data = encode({**index, "manifests": [*others, entry]})
        if data != before:
            self._publish("index.json", [data])

    def _publish(self, name: str, chunks: Iterable[bytes], digest: Digest | None = None) -> None:
        """Write beside, flush to the disk, rename. With `digest` the bytes must have it."""
        path = os.path.join(self._folder, name)
        partial = f"{path}.{os.getpid()}.partial"
        running = hasher()
        try:
            with open(partial, "wb") as file:
                for chunk in chunks:
                    running.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if digest is not None and "sha256:" + running.hexdigest() != digest:
                raise CorruptBlob(f"blob {digest}: its bytes are not what its name says")
            os.rename(partial, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)


def index_entry(manifest: Descriptor, platform: Platform, tag: str) -> dict[str, Any]:
    """An index.json entry that says for which platform and by which tag."""
    said = {name: value for name, value in platform._asdict().items() if value}
    return {**manifest.document(), "platform": said, "annotations": {REF_NAME: tag}}


def _tag(entry: Any) -> object:
    return (entry.get("annotations") or {}).get(REF_NAME)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
