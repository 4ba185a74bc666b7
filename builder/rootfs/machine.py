"""Which CPU an image's programs are for: told by the ELF header of its shell, or of its loader.

A config only says what somebody wrote in it, and a root file system's tar says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from builder.errors import LayerError
from builder.layer.entry import FILE, HARDLINK

if TYPE_CHECKING:
    from builder.oci.image import Layer
    from builder.rootfs.layers import Layers
    from builder.rootfs.view import View

_SHELLS = (b"bin/sh", b"bin/bash", b"bin/busybox", b"sbin/init")
_LOADER = re.compile(rb"ld[-.].*\.so.*|ld64\.so.*")
_LOADERS = (b"lib64", b"lib", b"usr/lib64", b"usr/lib")
_HEADER = 20  # bytes of an ELF header up to e_machine
_MACHINES = {
    3: "386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "amd64",
    183: "arm64",
    243: "riscv64",
    258: "loong64",
}
"""e_machine (the ELF specification's EM_ constants) to the names that images use."""


def architecture(layers: Layers, image: Sequence[Layer]) -> str | None:
    """The architecture of an image of these layers, as a platform names it; None where it cannot be
    told: it has no shell and no loader, or they are no ELF files."""
    view = layers.view(image)
    for path in _candidates(view):
        found = view.lookup(path)
        if found is None or found.entry.type != FILE or found.entry.size < _HEADER:
            continue
        name = _named(_head(layers, image[found.table], path))
        if name is not None:
            return name
    return None


def architecture_of(layers: Layers, image: Sequence[Layer], path: bytes) -> str | None:
    """The architecture of one program of an image; None where there is none, or it is no ELF
    file."""
    view = layers.view(image)
    path = _resolved(view, path.lstrip(b"/"))
    found = view.lookup(path)
    if found is None or found.entry.type != FILE or found.entry.size < _HEADER:
        return None
    return _named(_head(layers, image[found.table], path))


def _candidates(view: View) -> Iterator[bytes]:
    """Paths without symlinks, those that tell most first."""
    seen: set[bytes] = set()
    loaders = (
        folder + b"/" + each.entry.path.rpartition(b"/")[2]
        for folder in _LOADERS
        for each in view.children(_resolved(view, folder))
        if _LOADER.fullmatch(each.entry.path.rpartition(b"/")[2])
    )
    for names in (_SHELLS, loaders):
        for name in names:
            path = _resolved(view, name)
            if path not in seen:
                seen.add(path)
                yield path


def _resolved(view: View, path: bytes) -> bytes:
    try:
        return view.resolve(path, follow_last=True)
    except LayerError:  # links in a circle
        return path


def _head(layers: Layers, layer: Layer, path: bytes) -> bytes:
    """The first bytes of a layer's file, which may be a hard link there."""
    from builder.layer.read import read_layer

    for _ in range(2):  # a link's target may stand before it
        with layers.open(layer) as plain:
            for entry, content in read_layer(plain):
                if entry.path != path:
                    continue
                if entry.type == FILE:
                    return content.read(_HEADER)
                if entry.type == HARDLINK:
                    path = entry.link
    return b""


def _named(header: bytes) -> str | None:
    if len(header) < _HEADER or not header.startswith(b"\x7fELF"):
        return None
    little, wide = header[5] == 1, header[4] == 2
    name = _MACHINES.get(int.from_bytes(header[18:20], "little" if little else "big"))
    if name == "mips":
        return f"mips{'64' if wide else ''}{'le' if little else ''}"
    return f"{name}le" if name == "ppc64" and little else name
