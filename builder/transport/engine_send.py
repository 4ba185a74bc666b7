"""Sending an image to an engine: only the layers it lacks, streamed, never as a file.

The engine has no call to upload one layer, but `load` looks a layer up by its chain before it opens
the layer's file in the archive. So an archive without any layer is sent first: it is loaded, or the
error names the first file that is missing. An engine that does otherwise gets the whole archive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import TransportError
from builder.events import Emit, ignore
from builder.layer.decompress import open_layer
from builder.layer.entry import FILE, Entry
from builder.layer.header import Headers, end_of_archive, padding
from builder.oci import media
from builder.oci.digest import digest_of
from builder.oci.image import Image, Layer, encode
from builder.transport.importing import CHUNK
from builder.transport.moving import Moving

if TYPE_CHECKING:
    from builder.rootfs.layers import Layers
    from builder.transport.engine import Engine


class Sent(NamedTuple):
    image: str  # the engine's id of it
    tags: tuple[str, ...]
    bytes: int  # of all archives sent
    layers: int  # of the image's, how many were sent

    def document(self) -> dict[str, object]:
        """For --json."""
        return {
            "image": self.image,
            "tags": list(self.tags),
            "sent": {"bytes": self.bytes, "layers": self.layers},
        }


def send_image(
    engine: Engine,
    layers: Layers,
    image: Image,
    config: bytes,
    tags: Sequence[str],
    emit: Emit = ignore,
) -> Sent:
    """Let the engine have `image`, described by `config`, under `tags` (`repository:tag`).

    Raises TransportError when the engine is gone or refuses, StoreError when a layer's bytes are
    damaged or missing.
    """
    identity = digest_of(config)
    found = engine.inspect_image(identity)
    if found is not None:
        missing = set(tags) - set(found.get("RepoTags") or ())
        with engine.asking():
            for tag in sorted(missing):
                name, _, version = tag.rpartition(":")
                engine.api.tag(identity, name, version)
        return Sent(identity, tuple(tags), 0, 0)
    sender = _Sender(engine, layers, image, config, tags, emit)
    return sender.run()


class _Sender:
    def __init__(
        self,
        engine: Engine,
        layers: Layers,
        image: Image,
        config: bytes,
        tags: Sequence[str],
        emit: Emit,
    ) -> None:
        self._engine, self._layers, self._image = engine, layers, image
        self._config, self._tags = config, tuple(tags)
        self._emit = emit
        self._sent = 0

    def run(self) -> Sent:
        layers = self._image.layers
        refusal = self._load(())
        wanted: tuple[Layer, ...] = ()
        if refusal is not None:
            # the first that is missing, and all above it
            start = next((n for n, layer in enumerate(layers) if _file(layer) in refusal), 0)
            wanted = layers[start:]
            refusal = self._load(wanted)
            if refusal is not None and start:
                wanted = layers  # what was there has gone meanwhile
                refusal = self._load(wanted)
        if refusal is not None:
            raise TransportError(f"the Docker engine at {self._engine.host}: {refusal}")
        identity = self._identity()
        return Sent(identity, self._tags, self._sent, len(dict.fromkeys(wanted)))

    def _load(self, layers: Sequence[Layer]) -> str | None:
        """Send an archive with these layers' files; None when that worked, else what was said."""
        said = None
        zstd = any(media.CODECS[layer.blob.media_type] == "zstd" for layer in layers)
        total = sum(layer.blob.size for layer in dict.fromkeys(layers))
        moving = Moving(self._emit, f"load {self._name()}", None if zstd else total)
        with moving if layers else nullcontext(), self._engine.asking():
            for line in self._engine.api.load_image(self._archive(layers, moving), quiet=True):
                text = line.get("error") or line.get("message")
                if text:
                    said = " ".join(str(text).split())[:1000]
        if said is None and self._engine.inspect_image(self._name()) is None:
            return "it took the archive but has no such image"
        return said

    def _name(self) -> str:
        """By tag where there is one: not every engine takes the config's digest as id."""
        return self._tags[0] if self._tags else digest_of(self._config)

    def _identity(self) -> str:
        found = self._engine.inspect_image(self._name()) or {}
        return str(found.get("Id") or digest_of(self._config))

    def _archive(self, layers: Sequence[Layer], moving: Moving) -> Iterator[bytes]:
        """What `docker load` of 20.10 and newer reads, in chunks."""
        header = Headers().of
        config_name = digest_of(self._config)[7:] + ".json"
        manifest = {
            "Config": config_name,
            "RepoTags": list(self._tags),
            "Layers": [_file(layer) for layer in self._image.layers],
        }
        documents = ((config_name, self._config), ("manifest.json", encode([manifest])))
        for chunk in moving.through(self._members(layers, header)):
            self._sent += len(chunk)
            yield chunk
        for name, data in documents:
            block = header(Entry(name.encode(), FILE, 0o644, size=len(data)))
            block += data + bytes(padding(len(data)))
            self._sent += len(block)
            yield block
        self._sent += len(end_of_archive())
        yield end_of_archive()

    def _members(
        self, layers: Sequence[Layer], header: Callable[[Entry], bytes]
    ) -> Iterator[bytes]:
        for name, layer in {_file(layer): layer for layer in layers}.items():
            if not self._layers.store.claim(layer.blob):
                self._layers.bring(layer)
            size, plain = layer.blob.size, False
            if media.CODECS[layer.blob.media_type] == "zstd":  # older engines do not know it
                size, plain = sum(map(len, self._chunks(layer, plain=True))), True
            yield header(Entry(name.encode(), FILE, 0o644, size=size))
            yield from self._chunks(layer, plain=plain)
            yield bytes(padding(size))

    def _chunks(self, layer: Layer, *, plain: bool) -> Iterator[bytes]:
        with self._layers.store.open(layer.blob) as blob:
            stream = open_layer(blob, media.CODECS[layer.blob.media_type]) if plain else blob
            while chunk := stream.read(CHUNK):
                yield chunk


def _file(layer: Layer) -> str:
    return layer.diff_id[7:] + ".tar"
