"""An image index: the manifests of one image for several platforms (image-spec image-index.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from builder.oci import media
from builder.oci.digest import digest_of
from builder.oci.image import Descriptor, Image, Platform, encode


class Entry(NamedTuple):
    """One manifest of an index."""

    platform: Platform
    manifest: Descriptor


def entry_of(image: Image) -> Entry:
    data = image.manifest_bytes()
    blob = Descriptor(media.MANIFEST, digest_of(data), len(data))
    return Entry(image.platform, blob)


def index_bytes(entries: Iterable[Entry], annotations: Mapping[str, str] = {}) -> bytes:
    """The index of these manifests, sorted by platform: the same bytes in whatever order they
    come."""
    manifests = [
        {**each.manifest.document(), "platform": platform_document(each.platform)}
        for each in sorted(entries)
    ]
    index: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media.INDEX,
        "manifests": manifests,
    }
    if annotations:
        index["annotations"] = dict(annotations)
    return encode(index)


def index_of(images: Iterable[Image]) -> bytes:
    """The index of images that were built together. It says of itself what all of them say."""
    found = list(images)
    common = [
        (name, value)
        for name, value in found[0].annotations.items()
        if all(each.annotations.get(name) == value for each in found)
    ]
    return index_bytes(map(entry_of, found), dict(common))


def platform_document(platform: Platform) -> dict[str, str]:
    """As a descriptor says it: what is not known is left out."""
    return {name: value for name, value in platform._asdict().items() if value}
