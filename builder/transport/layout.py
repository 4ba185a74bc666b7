"""Layout: an OCI image layout (image-spec image-layout.md) as a base and as an output.

`oci:DIR[:tag]`. A tag is index.json's `org.opencontainers.image.ref.name`; like skopeo, the first
colon ends DIR.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from builder.errors import TransportError
from builder.oci.digest import digest_of
from builder.oci.image import Descriptor, Image, Layer, Platform
from builder.spec.model import BaseRef
from builder.store.records import is_imported, labelled
from builder.transport.base import Base, Tell, quiet
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
from builder.transport.importing import import_layer

if TYPE_CHECKING:
    from builder.store.store import Store

_CONTAINERD_NAME = "io.containerd.image.name"  # the whole reference, where docker save writes it


class LayoutSource:
    """Bases from layouts. `context` is the folder that relative paths start from."""

    def __init__(self, store: Store, context: str) -> None:
        self._store, self._context = store, context

    def resolve(
        self, ref: BaseRef, platform: Platform, *, make: bool, pull: str, tell: Tell = quiet
    ) -> Base | None:
        folder, _, tag = ref.value.partition(":")
        where = str(ref)
        with open_layout(os.path.join(self._context, folder), where) as layout:
            manifest, image = read_image(layout, tag, platform, where)
        image = labelled(self._store, image)

        about = f"{ref}, {manifest.digest[:19]}"
        if all(is_imported(self._store, layer) for layer in image.layers):
            return Base(image, about)
        return Base(image, about, _Folder(self._store, os.path.join(self._context, folder), ref))


class _Folder(NamedTuple):
    """A layout's blobs as layers."""

    store: Store
    path: str
    ref: BaseRef

    def bring(self, layer: Layer) -> bool:
        where = str(self.ref)
        try:
            with open_layout(self.path, where) as layout, layout.open(layer.blob) as blob:
                import_layer(self.store, layer, blob, f"{where}: {layer.blob.digest}")
        except TransportError as error:
            raise error.at(self.ref.place) from None
        return True


def read_image(
    layout: Layout, tag: str, platform: Platform, where: str
) -> tuple[Descriptor, Image]:
    """The manifest's descriptor and the image that `tag` ("": the only one, or `latest`) names."""
    index = parse_index(layout.file("index.json", MAX_MANIFEST), f"{where}: index.json")
    blob = choose_platform(tagged(index, tag, where), platform, where)
    for _ in range(4):  # an index may hold indexes; nobody nests them deeper
        document = parse_document(layout.read(blob, MAX_MANIFEST), where, blob.media_type)
        if isinstance(document, Manifest):
            config = parse_config(layout.read(document.config, MAX_CONFIG), where)
            return blob, make_image(document, config, platform, where)
        blob = choose_platform(document, platform, where)
    raise TransportError(f"{where}: indexes within indexes, expected an image")


def tagged(index: Index, tag: str, where: str) -> Index:
    """The entries of index.json that a tag means ("": the only one, or `latest`)."""
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
        check_layout(layout, where)
        yield layout
    finally:
        os.close(handle)


def check_layout(layout: Layout, where: str) -> None:
    """Its oci-layout file says what one says. Raises TransportError."""
    said = load_object(layout.file("oci-layout", 4096), f"{where}: oci-layout", 4096, "file")
    if said.get("imageLayoutVersion") != "1.0.0":
        raise TransportError(f"{where}: oci-layout: the version is not 1.0.0")


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
