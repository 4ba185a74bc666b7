"""index.json of the layout: which names mean which manifests (image-spec image-layout.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from builder.errors import BuilderError
from builder.oci import media
from builder.oci.digest import parse_digest
from builder.oci.image import Descriptor, encode

REF_NAME = "org.opencontainers.image.ref.name"
Entries = list[dict[str, Any]]
"""The descriptors of index.json as read: those of other tools are kept as they are."""


def parse_index(data: bytes) -> Entries | None:
    """The entries, or None when this is no index."""
    try:
        document = json.loads(data)
        encode(document)  # lone surrogates could not be written back
    except (ValueError, RecursionError):
        return None
    entries = document.get("manifests") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        return None
    return entries


def encode_index(entries: Entries) -> bytes:
    return encode({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries})


def name_of(entry: Mapping[str, Any]) -> str | None:
    annotations = entry.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None


def named(entries: Iterable[Mapping[str, Any]]) -> dict[str, Descriptor]:
    """Names in their order; entries that are no descriptors or have no name are left out."""
    names = {}
    for entry in entries:
        name, blob = name_of(entry), parse_descriptor(entry)
        if name is not None and blob is not None:
            names[name] = blob
    return names


def parse_descriptor(document: object) -> Descriptor | None:
    """A descriptor from JSON, or None when it is none."""
    if not isinstance(document, dict):
        return None
    media_type, size = document.get("mediaType"), document.get("size")
    if not isinstance(media_type, str) or type(size) is not int or size < 0:
        return None
    try:
        return Descriptor(media_type, parse_digest(document.get("digest")), size)
    except BuilderError:
        return None


def entry_for(name: str, manifest: Descriptor) -> dict[str, Any]:
    return {**manifest.document(), "annotations": {REF_NAME: name}}
