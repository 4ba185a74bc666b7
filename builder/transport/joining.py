"""Joining: images that were built apart, one for each platform, made the parts of one index.

A source is an image or an index: of a registry, of a layout (`oci:DIR[:tag]`), or of the store. Its
documents are passed on to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import UsageError
from builder.oci import media
from builder.oci.image import Descriptor, Image
from builder.oci.index import Entry, index_bytes
from builder.transport.documents import (
    MAX_CONFIG,
    MAX_MANIFEST,
    IndexEntry,
    Manifest,
    as_said,
    images_in,
    make_image,
    parse_config,
    parse_index,
)
from builder.transport.importing import import_layer
from builder.transport.layout import Layout, open_layout, tagged

if TYPE_CHECKING:
    from builder.oci.reference import Reference
    from builder.store.store import Store
    from builder.transport.registry.session import Registry


class Joined(NamedTuple):
    """An image of an index. Its documents are in the store."""

    manifest: Descriptor
    image: Image
    source: str  # for errors


def join(store: Store, parts: Iterable[Joined]) -> tuple[Descriptor, tuple[Joined, ...]]:
    """The index of these images, in the store, and they sorted by platform. What is the same image
    counts once. Raises UsageError for two images of one platform."""
    found: dict[object, Joined] = {}
    for each in parts:
        platform = each.image.platform
        other = found.setdefault(platform, each)
        if other.manifest.digest != each.manifest.digest:
            raise UsageError(
                f"two images for {platform}: {other.source} and {each.source}",
                "an index has one for each platform: leave one of them out",
            )
    images = tuple(sorted(found.values(), key=lambda each: each.image.platform))
    data = index_bytes(Entry(each.image.platform, each.manifest) for each in images)
    return store.put(data, media.INDEX), images


def from_layout(store: Store, path: str, tag: str, where: str) -> list[Joined]:
    """All images that a layout's tag ("": its only one, or `latest`) means, whole in the store."""
    with open_layout(path, where) as layout:
        index = parse_index(layout.file("index.json", MAX_MANIFEST), f"{where}: index.json")
        found = []
        read = partial(layout.read, limit=MAX_MANIFEST)
        for top in tagged(index, tag, where).entries:
            for entry, data, document in images_in(top, read, where):
                found.append(_of_layout(store, layout, entry, data, document, where))
    return found


def _of_layout(
    store: Store, layout: Layout, entry: IndexEntry, data: bytes, manifest: Manifest, where: str
) -> Joined:
    config = layout.read(manifest.config, MAX_CONFIG)
    parsed = parse_config(config, where)
    image = as_said(make_image(manifest, parsed, parsed.platform, where), entry)
    for layer in dict.fromkeys(image.layers):
        with layout.open(layer.blob) as file:
            import_layer(store, layer, file, f"{where}: {layer.blob.digest}")
    store.put(config, manifest.config.media_type)
    return Joined(store.put(data, entry.blob.media_type), image, where)


def from_registry(
    store: Store, registry: Registry, reference: Reference, *, layers: bool
) -> list[Joined]:
    """All images that a reference means at its registry; with `layers` whole in the store, else
    their documents, and where the layers are."""
    from builder.transport.registry.seen import note_seen

    found = []
    for resolved in registry.resolve_all(reference, store):
        store.put(resolved.config, media.CONFIG)
        manifest = store.put(resolved.served.data, resolved.served.blob.media_type)
        for layer in dict.fromkeys(resolved.image.layers):
            if layers:
                registry.fetch(store, reference, layer, str(reference))
            note_seen(store, layer.blob.digest, reference.name)
        found.append(Joined(manifest, resolved.image, reference.familiar))
    return found


def from_store(store: Store, top: Descriptor, text: str) -> list[Joined]:
    from builder.transport.stored import read_images

    return [Joined(*each, text) for each in read_images(store, top, f"image {text!r}")]
