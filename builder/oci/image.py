"""An image as a value: platform, raw config document, layers; and its config and manifest bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from builder.errors import UsageError
from builder.oci import media
from builder.oci.digest import ChainID, DiffID, Digest, chain_id, digest_of

Document = Mapping[str, Any]
"""A JSON object as read; unknown fields are kept."""

MAX_LAYERS = 127  # what Docker's overlay2 accepts; containerd and podman take the same


class Platform(NamedTuple):
    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, self))


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_BARE = frozenset(
    ("386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x")
).union(_ARCHITECTURES)


LAST_SECOND = 253402300799
"""Of the year 9999, the last that a history's time can say."""


def parse_platform(text: str) -> Platform:
    """`os/arch[/variant]`; without an os, linux is meant. uname's names are accepted."""
    parts = text.lower().split("/")
    if parts[0] in _BARE:
        parts = ["linux", *parts]
    if not 2 <= len(parts) <= 3 or not all(part.isalnum() or "_" in part for part in parts):
        several = "one at a time: call it once for each" if "," in text else None
        raise UsageError(f"{text!r} is not a platform, expected os/arch[/variant]", several)
    os_, architecture, *variant = parts
    architecture = _ARCHITECTURES.get(architecture, architecture)
    kept = variant[0] if variant and (architecture, variant[0]) != ("arm64", "v8") else ""
    return Platform(os_, architecture, kept)


def host_platform() -> Platform:
    machine = os.uname().machine
    return Platform("linux", _ARCHITECTURES.get(machine, machine))


class Descriptor(NamedTuple):
    """Where bytes are: media type, digest, size in bytes (image-spec descriptor.md)."""

    media_type: str
    digest: Digest
    size: int

    def document(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


class Layer(NamedTuple):
    diff_id: DiffID
    blob: Descriptor


class Image(NamedTuple):
    """An image. `config` is the raw image configuration document; its `rootfs.diff_ids` and
    `layers` agree and are ordered bottom first. Change makes a new one."""

    platform: Platform
    config: Document
    layers: tuple[Layer, ...] = ()
    annotations: Mapping[str, str] = {}

    @property
    def chain_id(self) -> ChainID:
        return chain_id(layer.diff_id for layer in self.layers)

    def append(self, layer: Layer | None, history: Document) -> Image:
        """Add a layer with its history entry; None adds an `empty_layer` history entry alone."""
        config = dict(self.config)
        entry = dict(history)
        layers = self.layers
        if layer is None:
            entry["empty_layer"] = True
        else:
            layers = (*layers, layer)
            config["rootfs"] = {
                "type": "layers",
                "diff_ids": [each.diff_id for each in layers],
            }
        config["history"] = [*config.get("history", ()), entry]
        return self._replace(config=config, layers=layers)

    def config_bytes(self) -> bytes:
        return encode(self.config)

    def manifest_bytes(self) -> bytes:
        config = self.config_bytes()
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media.MANIFEST,
            "config": Descriptor(media.CONFIG, digest_of(config), len(config)).document(),
            "layers": [layer.blob.document() for layer in self.layers],
        }
        if self.annotations:
            manifest["annotations"] = dict(self.annotations)
        return encode(manifest)


def empty_image(platform: Platform) -> Image:
    """`scratch`: no layers, no history."""
    config: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.variant:
        config["variant"] = platform.variant
    config["rootfs"] = {"type": "layers", "diff_ids": []}
    return Image(platform, config)


def encode(document: object) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8. The one serialiser of documents and keys."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogateescape"
    )
