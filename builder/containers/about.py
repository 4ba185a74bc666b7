"""What is written down of a container, as JSON: `about.json` in its folder."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from builder.executor.base import Command, File, Folder, Memory, Mounted
from builder.oci.digest import DiffID, Digest
from builder.oci.image import Descriptor, Document, Image, Layer, Platform, encode

MOST = 64 << 20
"""Bytes of it; a config has at most some of them."""


class Container(NamedTuple):
    """One that runs or is kept, or the failed state of a step."""

    name: str
    image: str  # as the user wrote it
    digest: str  # of the manifest of the image that it stands on; a failed state's: ""
    layers: tuple[Layer, ...]  # of that image, bottom first
    config: Document  # of that image
    command: Command  # what it ran last; without what is hidden of its environment
    created: int  # seconds since 1970
    failed: str = ""  # the name of the step whose failed state it is
    folder: str = ""  # holds about.json, upper/ (as an overlay has it), lock

    @property
    def upper(self) -> str:
        return f"{self.folder}/upper"

    def stands_on(self) -> Image:
        fields = (self.config.get(key) for key in ("os", "architecture", "variant"))
        platform = Platform(*(str(field or "") for field in fields))
        return Image(platform, self.config, self.layers)


def to_bytes(container: Container) -> bytes:
    command = container.command
    return encode(
        {
            "name": container.name,
            "image": container.image,
            "digest": container.digest,
            "layers": [
                {"diff_id": each.diff_id, "blob": each.blob.document()} for each in container.layers
            ],
            "config": container.config,
            "command": {
                "argv": command.argv,
                "env": dict(command.env),
                "user": [command.uid, command.gid, command.groups],
                "working_dir": command.working_dir,
                "network": command.network,
                "mounts": [found for each in command.mounts if (found := _mount(each))],
            },
            "created": container.created,
            "failed": container.failed,
        }
    )


def from_bytes(data: bytes, folder: str) -> Container:
    """Raises ValueError, KeyError or TypeError for what to_bytes did not write."""
    document = json.loads(data.decode("utf-8", "surrogateescape"))
    command = document["command"]
    uid, gid, groups = command["user"]
    return Container(
        str(document["name"]),
        str(document["image"]),
        str(document["digest"]),
        tuple(map(_layer, document["layers"])),
        dict(document["config"]),
        Command(
            tuple(command["argv"]),
            dict(command["env"]),
            int(uid),
            int(gid),
            tuple(groups),
            command["working_dir"],
            command["network"],
            mounts=tuple(map(_mounted, command["mounts"])),
        ),
        int(document["created"]),
        str(document["failed"]),
        folder,
    )


def _layer(found: dict[str, Any]) -> Layer:
    blob = found["blob"]
    return Layer(
        DiffID(str(found["diff_id"])),
        Descriptor(str(blob["mediaType"]), Digest(str(blob["digest"])), int(blob["size"])),
    )


def _mount(mounted: Mounted) -> list[Any] | None:
    match mounted:
        case Folder(target, source, writable):
            return ["folder", target, source, writable]
        case File(target, source, writable):
            return ["file", target, source, writable]
        case Memory(target, size):
            return ["memory", target, size]
    return None  # what is only in memory is a secret


def _mounted(found: list[Any]) -> Mounted:
    kind, *fields = found
    if kind == "memory":
        return Memory(*fields)
    return Folder(*fields) if kind == "folder" else File(*fields)
