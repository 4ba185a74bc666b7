"""An image as a value: platform, raw config document, layers; and its config and manifest bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
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


_ARCHITECTURES = {
    "x86_64": "amd64", "x86-64": "amd64", "i386": "386", "i686": "386", "aarch64": "arm64",
    "armv6l": "arm/v6", "armel": "arm/v6", "armv7l": "arm/v7", "armhf": "arm/v7",
    "armv8l": "arm/v7", "loongarch64": "loong64",
}  # fmt: skip
"""What uname, Debian and others say, to the names that images use."""
_KNOWN = (
    *("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64"),
    *("ppc64le", "riscv64", "s390x", "sparc64", "wasm"),
)
_SYSTEMS = (
    *("aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "js", "linux", "netbsd"),
    *("openbsd", "plan9", "solaris", "wasi", "wasip1", "windows"),
)
"""Go's names, image-spec config.md."""
_BARE = "|".join((*_KNOWN, *_ARCHITECTURES))
PLATFORM = f"^(({'|'.join(_SYSTEMS)})/[A-Za-z0-9_-]+(/[A-Za-z0-9_]+)?|{_BARE})$"
"""A pattern of what parse_platform takes."""


LAST_SECOND = 253402300799
"""Of the year 9999, the last that a history's time can say."""


def parse_platform(text: str) -> Platform:
    """`os/arch[/variant]`; without an os, linux is meant. uname's names are accepted, and variants
    as containerd reads them: arm is arm/v7, `8` is v8, and what every CPU of a kind has is left
    out."""
    parts = text.strip().lower().split("/")
    if parts[0] in _KNOWN or parts[0] in _ARCHITECTURES:
        parts = ["linux", *parts]
    if len(parts) > 1 and parts[1] in _ARCHITECTURES:
        parts[1:2] = _ARCHITECTURES[parts[1]].split("/")
    if not 2 <= len(parts) <= 3 or not all(part.isalnum() or "_" in part for part in parts):
        name, _, variant = parts[0].partition("v")  # arm64v8, as images are called
        hint = f"write linux/{name}/v{variant}" if variant and name in _KNOWN else None
        raise UsageError(f"{text!r} is not a platform, expected os/arch[/variant]", hint)
    os_, architecture, *rest = parts
    for word, known in ((os_, _SYSTEMS), (architecture, _KNOWN)):
        if word not in known:
            raise UsageError(f"{text!r} is not a platform: {word!r} is unknown", _near(word, known))
    variant = rest[0] if rest else ""
    if variant.isdigit():
        variant = f"v{variant}"
    if architecture == "arm":
        variant = variant or "v7"
    elif variant == {"arm64": "v8", "amd64": "v1"}.get(architecture):
        variant = ""
    return Platform(os_, architecture, variant)


def _near(word: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


def parse_platforms(texts: Iterable[str]) -> tuple[Platform, ...]:
    """Lists with commas, each platform once, in the order of an index. Raises UsageError."""
    found = [parse_platform(each) for text in texts for each in text.split(",")]
    for each in found:
        if found.count(each) > 1:
            raise UsageError(f"--platform names {each} twice")
    return tuple(sorted(found))


def host_platform() -> Platform:
    machine = os.uname().machine
    name = _ARCHITECTURES.get(machine, machine)
    return parse_platform(name) if name.partition("/")[0] in _KNOWN else Platform("linux", machine)


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
