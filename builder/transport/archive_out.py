"""Archives as outputs: `docker-archive:FILE[:tag]` for docker load, `oci-archive:FILE[:tag]`.

Written beside the file and renamed, streaming, with the same bytes for the same image.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import TransportError
from builder.layer.decompress import open_layer
from builder.layer.entry import DIRECTORY, FILE, Entry
from builder.layer.header import Headers, end_of_archive, padding
from builder.oci import media
from builder.oci.digest import DiffID, Digest, digest_of
from builder.oci.image import Descriptor, Image, Layer, encode
from builder.transport.base import Delivered
from builder.transport.importing import CHUNK
from builder.transport.layout_out import VERSION, documents_of, index_entry
from builder.transport.target import check_target, writing

if TYPE_CHECKING:
    from builder.store.store import Store


class DockerArchive:
    """What `docker load` (20.10 and newer) reads. `name` is `repository:tag`. Layers go in as they
    are stored; zstd, which older engines do not know, is unpacked on the way."""

    def __init__(self, store: Store, path: str, name: str) -> None:
        self._store, self.path, self._name = store, os.path.abspath(path), name

    def check(self) -> None:
        _check(self.path, f"docker-archive:{self.path}")

    takes_index = False

    def put(self, images: Sequence[Image]) -> Delivered:
        (image,) = images
        where = f"docker-archive:{self.path}"
        config = image.config_bytes()
        config_name = digest_of(config)[7:] + ".json"
        layers = {layer.diff_id[7:] + ".tar": layer for layer in image.layers}
        manifest = {
            "Config": config_name,
            "RepoTags": [self._name],
            "Layers": [layer.diff_id[7:] + ".tar" for layer in image.layers],
        }
        with _writing(self.path, where) as archive:
            for name, layer in layers.items():
                if media.CODECS[layer.blob.media_type] == "zstd":
                    size = sum(map(len, self._unpacked(layer)))
                    archive.add(name, size, self._unpacked(layer))
                else:
                    archive.add(name, layer.blob.size, _blob(self._store, layer.blob))
            archive.add(config_name, len(config), [config])
            document = encode([manifest])
            archive.add("manifest.json", len(document), [document])
        return Delivered(f"{where}:{self._name}", archive.size)

    def _unpacked(self, layer: Layer) -> Iterator[bytes]:
        with self._store.open(layer.blob) as blob:
            yield from _chunks(open_layer(blob, media.CODECS[layer.blob.media_type]))


class OciArchive:
    """An OCI layout in a tar."""

    def __init__(self, store: Store, path: str, tag: str) -> None:
        self._store, self.path, self._tag = store, os.path.abspath(path), tag

    def check(self) -> None:
        _check(self.path, f"oci-archive:{self.path}")

    takes_index = True

    def put(self, images: Sequence[Image]) -> Delivered:
        where = f"oci-archive:{self.path}"
        top, documents = documents_of(images)
        entries = [index_entry(images, top, self._tag)]
        index = encode({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries})
        with _writing(self.path, where) as archive:
            archive.add("oci-layout", len(VERSION), [VERSION])
            archive.folder("blobs")
            archive.folder("blobs/sha256")
            layers = (layer.blob for image in images for layer in image.layers)
            for each in {blob.digest: blob for blob in layers}.values():
                archive.add(_name(each.digest), each.size, _blob(self._store, each))
            for data in dict.fromkeys(documents):
                archive.add(_name(digest_of(data)), len(data), [data])
            archive.add("index.json", len(index), [index])
        return Delivered(f"{where}:{self._tag}", archive.size)


class _Tar:
    def __init__(self, file: BinaryIO) -> None:
        self._file, self._header = file, Headers().of
        self.size = 0

    def folder(self, name: str) -> None:
        self._write(self._header(Entry(name.encode(), DIRECTORY, 0o755)))

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        self._write(self._header(Entry(name.encode(), FILE, 0o644, size=size)))
        for chunk in chunks:
            self._write(chunk)
        self._write(bytes(padding(size)))

    def end(self) -> None:
        self._write(end_of_archive())

    def _write(self, data: bytes | bytearray) -> None:
        self._file.write(data)
        self.size += len(data)


@contextlib.contextmanager
def _writing(path: str, where: str) -> Iterator[_Tar]:
    """A tar that appears at `path` when all of it is on the disk, or not at all."""
    try:
        with writing(path) as file:
            archive = _Tar(file)
            yield archive
            archive.end()
    except OSError as error:
        raise TransportError(f"{where}: {error.strerror}") from error


def _check(path: str, where: str) -> None:
    try:
        check_target(path)
    except OSError as error:
        raise TransportError(f"{where}: {error.strerror}") from error


def _name(digest: Digest | DiffID) -> str:
    return "blobs/sha256/" + digest[7:]


def _blob(store: Store, blob: Descriptor) -> Iterator[bytes]:
    with store.open(blob) as file:
        yield from _chunks(file)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
