"""The CPU that an image's programs are for, told by the header of its shell or loader."""

from __future__ import annotations

import io
import platform as system
import tarfile
from pathlib import Path

import pytest

from builder.oci.image import Layer, Platform, empty_image, host_platform
from builder.rootfs.layers import Layers
from builder.rootfs.machine import architecture
from builder.store.store import Store
from builder.transport.importing import import_tar

# Name, bits, byte order, e_machine: as `readelf -h` shows them for Debian's ports.
PORTS = [
    ("amd64", 64, "little", 62),
    ("amd64", 32, "little", 62),  # x32
    ("386", 32, "little", 3),
    ("arm", 32, "little", 40),
    ("arm64", 64, "little", 183),
    ("riscv64", 64, "little", 243),
    ("s390x", 64, "big", 22),
    ("ppc64le", 64, "little", 21),
    ("ppc64", 64, "big", 21),
    ("mips64le", 64, "little", 8),
    ("mipsle", 32, "little", 8),
    ("mips", 32, "big", 8),
    ("loong64", 64, "little", 258),
    (None, 64, "little", 9999),
]


def elf(bits: int, order: str, machine: int) -> bytes:
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if order == "little" else 2, 1])
    number = machine.to_bytes(2, order)  # type: ignore[arg-type]
    return ident.ljust(16, b"\0") + b"\2\0" + number + bytes(44)


ARM, AMD = elf(64, "little", 183), elf(64, "little", 62)


def layer(store: Store, *members: tuple[str, object]) -> Layer:
    """Bytes are a file, "->x" a symlink, "=x" a hard link, None a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if isinstance(content, bytes):
                info.size = len(content)
            elif content is None:
                info.type = tarfile.DIRTYPE
            else:
                text = str(content)
                info.type = tarfile.SYMTYPE if text.startswith("->") else tarfile.LNKTYPE
                info.linkname = text.lstrip("->=")
            tar.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
    buffer.seek(0)
    return import_tar(store, buffer, "test")


def told(store: Store, *layers: Layer) -> str | None:
    image = empty_image(Platform())
    for each in layers:
        image = image.append(each, {})
    return architecture(Layers(store), image.layers)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.mark.parametrize(("name", "bits", "order", "machine"), PORTS)
def test_every_port_is_told_by_its_header(
    store: Store, name: str | None, bits: int, order: str, machine: int
) -> None:
    assert told(store, layer(store, ("bin/sh", elf(bits, order, machine)))) == name


SHAPES: dict[str, tuple[tuple[str, object], ...]] = {
    "a shell": (("bin/sh", ARM),),
    "a shell by its link": (("bin/sh", "->dash"), ("bin/dash", ARM)),
    "a merged /usr": (("bin", "->usr/bin"), ("usr/bin/sh", "->dash"), ("usr/bin/dash", ARM)),
    "absolute links": (("bin", "->/usr/bin"), ("usr/bin/sh", "->/opt/x/sh"), ("opt/x/sh", ARM)),
    "busybox by hard links": (("bin/[", ARM), ("bin/busybox", "=bin/["), ("bin/sh", "=bin/[")),
    "busybox alone": (("bin/busybox", ARM),),
    "a foreign emulator": (("usr/bin/qemu-static", AMD), ("bin/sh", ARM), ("bin/x", AMD)),
    "a script as shell": (("bin/sh", b"#!/bin/other" + bytes(20)), ("bin/bash", ARM)),
    "a loader": (("lib/ld-linux-aarch64.so.1", ARM),),
    "a loader by its link": (
        ("lib", "->usr/lib"),
        ("usr/lib/ld-linux.so.1", "->a/ld-2.31.so"),
        ("usr/lib/a/ld-2.31.so", ARM),
    ),
    "musl": (("lib/ld-musl-aarch64.so.1", ARM),),
    "links in a circle": (("bin/sh", "->bash"), ("bin/bash", "->sh"), ("lib/ld-x.so", ARM)),
    "a shell too short": (("bin/sh", b"\x7fELF"), ("lib/ld-x.so", ARM)),
}
NOTHING: dict[str, tuple[tuple[str, object], ...]] = {
    "no program": (("etc/passwd", b"x" * 40),),
    "a folder as shell": (("bin/sh", None),),
    "a link to nowhere": (("bin/sh", "->nothing"),),
    "an empty shell": (("bin/sh", b""),),
    "a script alone": (("bin/sh", b"#!/x" + bytes(40)),),
    "another program": (("opt/x", ARM),),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_bases_of_every_shape_are_told(store: Store, shape: str) -> None:
    assert told(store, layer(store, *SHAPES[shape])) == "arm64"


@pytest.mark.parametrize("shape", NOTHING)
def test_what_has_no_program_is_told_by_nothing(store: Store, shape: str) -> None:
    assert told(store, layer(store, *NOTHING[shape])) is None


def test_the_topmost_shell_counts(store: Store) -> None:
    below = layer(store, ("bin", "->usr/bin"), ("usr/bin/sh", "->dash"), ("usr/bin/dash", AMD))
    assert told(store, below, layer(store, ("usr/bin/dash", ARM))) == "arm64"
    assert told(store, below, layer(store, ("etc/x", b"x"))) == "amd64"
    gone = layer(store, ("usr/bin/.wh.dash", b""), ("lib/ld-x.so", ARM))
    assert told(store, below, gone) == "arm64"
    assert told(store) is None


@pytest.mark.needs("busybox")
def test_this_machines_own_programs_are_told(store: Store) -> None:
    data = Path("/bin/busybox").read_bytes()
    assert told(store, layer(store, ("bin/sh", data))) == host_platform().architecture
    assert system.machine()
