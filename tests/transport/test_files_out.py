"""`dir:` and `tar:` hold what the kernel shows of the same layers, whatever these say."""

from __future__ import annotations

import ast
import io
import os
import random
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuilderError, LayerError
from builder.layer.record import key_of
from builder.oci.image import Image, Layer, Platform, empty_image
from builder.rootfs.layers import Layers
from builder.store.store import Store
from builder.transport.importing import import_tar
from builder.transport.outputs import parse_output
from tests.transport.snapshot import snapshot

FULL = os.environ.get("RELIABILITY") == "full"
COUNT = 1500 if FULL else 8
SEED = int(os.environ.get("RELIABILITY_SEED", "0"))
SNAPSHOT = Path(__file__).with_name("snapshot.py")
AGAIN = "comes again in its layer after hard links to it"

NAMES = [b"a", b"a-b", b"b", b"\xff", b"line\nbreak", b"-rf", "é".encode(), b"n" * 120]


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def random_layer(rng: random.Random, *, tidy: bool) -> bytes:
    """All that a layer may say, in any order, over few names, so that layers meet. `tidy`: only
    what engines agree on: no path twice or beside its whiteout, no time before 1970, every folder
    has an entry, hard links have their file's metadata."""
    buffer = io.BytesIO()
    names = rng.sample(NAMES, 3)
    paths: list[bytes] = []
    said: dict[str, tuple[int, int, int, int]] = {}

    def add(path: bytes, type: bytes, link: str = "", data: bytes = b"") -> None:
        info = tarfile.TarInfo(text(path))
        info.type, info.linkname, info.size = type, link, len(data)
        info.mode = rng.choice([0o755, 0o644, 0o4755, 0o2770, 0o1777, 0o000])
        info.uid, info.gid = rng.choice([0, 3, 70000, 4294967294]), rng.randrange(3)
        info.mtime = rng.choice([0, 99, 1 << 31, 5 if tidy else -5])
        info.devmajor, info.devminor = 1, rng.choice([3, 5])
        if rng.random() < 0.3 and type in (tarfile.REGTYPE, tarfile.DIRTYPE):
            known = ["user.a", "security.capability"]
            name = rng.choice(known if tidy else [*known, "user.overlay.opaque", "trusted.x"])
            value = b"y"
            if name == "security.capability":
                value = b"\1\0\0\2\0\4" + bytes(14)
            info.pax_headers = {f"SCHILY.xattr.{name}": text(value)}
        if tidy and type == tarfile.LNKTYPE:
            info.mode, info.uid, info.gid, info.mtime = said[link]
        said[text(path)] = (info.mode, info.uid, info.gid, int(info.mtime))
        archive.addfile(info, io.BytesIO(data))

    def inside(folder: bytes, depth: int) -> Iterator[None]:
        if rng.random() < 0.15 and depth:
            add(folder + b".wh..wh..opq", tarfile.REGTYPE)
        for name in names:
            path = folder + name
            if rng.random() < 0.15:
                add(folder + b".wh." + name, tarfile.REGTYPE)
                if tidy:
                    continue
            what = rng.choice("ffflhhpddddds..")
            if what == "f":
                for _ in range(
                    rng.choice([1, 1, 1, 1, 1, 1 if tidy else 2])
                ):  # the last of several counts
                    size = rng.choice([0, 1, 511, 512, 513, 3000])
                    add(path, tarfile.REGTYPE, data=rng.randbytes(size))
                paths.append(path)
            elif what == "l":
                add(path, tarfile.SYMTYPE, rng.choice(["a", "../b", "/a/b", "../../../../../etc"]))
                paths.append(path)
            elif what == "h" and paths:
                add(path, tarfile.LNKTYPE, text(rng.choice(paths)))
            elif what == "p":
                add(path, tarfile.FIFOTYPE)
                paths.append(path)
            elif what == "s":
                add(path, rng.choice([tarfile.CHRTYPE, tarfile.BLKTYPE]))
                paths.append(path)
            elif what in "d." and depth < 3:
                if what == "d" or tidy:
                    add(path, tarfile.DIRTYPE)
                yield
                yield from inside(path + b"/", depth + 1)

    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as archive:
        for _ in inside(b"", 0):
            pass
        # what stands there already, perhaps with links to it
        while not tidy and paths and rng.random() < 0.2:
            if rng.random() < 0.7:
                add(rng.choice(paths), tarfile.REGTYPE, data=b"again")
            else:
                add(rng.choice(paths), tarfile.LNKTYPE, text(rng.choice(paths)))
    return buffer.getvalue()


def random_layers(rng: random.Random, store: Store, *, tidy: bool = False) -> list[Layer]:
    layers: list[Layer] = []
    wanted = rng.randrange(1, 5)
    while len(layers) < wanted:
        try:
            layers.append(import_tar(store, io.BytesIO(random_layer(rng, tidy=tidy)), "test"))
        except BuilderError:
            continue  # a link to nothing, an entry below a file
        if rng.random() < 0.1:
            layers.append(layers[0])
    return layers


def image_of(layers: list[Layer]) -> Image:
    image = empty_image(Platform())
    for layer in layers:
        image = image.append(layer, {"created_by": "test"})
    return image


def kernels(store: Store, layers: list[Layer], at: Path) -> Any:
    """What an overlay of the unpacked layers shows."""
    lowers = Layers(store).lowers(layers, privileged=True)
    bottom = at / "nothing"
    bottom.mkdir(parents=True)
    (at / "merged").mkdir()
    options = "ro,lowerdir=" + ":".join([*reversed(lowers), str(bottom)])
    command = ["unshare", "--mount", sys.executable, str(SNAPSHOT), str(at / "merged"), options]
    done = subprocess.run(command, check=True, capture_output=True)
    return ast.literal_eval(done.stdout.decode())


def untarred(path: Path, into: Path) -> Any:
    into.mkdir()
    command = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", path, "-C", into]
    subprocess.run(command, check=True, capture_output=True)
    return snapshot(os.fsencode(into))


def difference(theirs: Any, ours: Any) -> str:
    wrong = [
        f"{path!r}: the kernel {theirs[0].get(path)}, ours {ours[0].get(path)}"
        for path in sorted({*theirs[0], *ours[0]})
        if theirs[0].get(path) != ours[0].get(path)
    ]
    if theirs[1] != ours[1]:
        wrong.append(f"one file: the kernel {theirs[1]}, ours {ours[1]}")
    return "\n".join(wrong)


@pytest.mark.root
@pytest.mark.timeout(3600)
@pytest.mark.needs("unshare", "mount", "tar")
def test_files_are_what_the_kernel_shows_of_the_layers(tmp_path: Path) -> None:
    refused = 0
    for number in range(SEED, SEED + COUNT):
        rng = random.Random(number)
        here = tmp_path / str(number)
        store = Store(str(here / "store"))
        layers = random_layers(rng, store)
        image = image_of(layers)
        try:
            for name in ("one", "two"):
                parse_output(f"tar:{here / name}.tar")(store, "x").put(image)
            parse_output(f"dir:{here}/out")(store, "x").put(image)
        except LayerError as error:
            assert AGAIN in error.message, f"{number}: {error}"
            assert {each.name for each in here.iterdir()} == {"store"}
            refused += 1
            continue
        theirs = kernels(store, layers, here / "kernel")
        wrong = difference(theirs, snapshot(os.fsencode(here / "out")))
        assert not wrong, f"dir {number}:\n{wrong}"
        wrong = difference(theirs, untarred(here / "one.tar", here / "untarred"))
        assert not wrong, f"tar {number}:\n{wrong}"
        assert (here / "one.tar").read_bytes() == (here / "two.tar").read_bytes()
        with tarfile.open(here / "one.tar", errors="surrogateescape") as archive:
            keys = [key_of(os.fsencode(each)) for each in archive.getnames()]
        assert keys == sorted(keys)
        subprocess.run(["rm", "-rf", here], check=True)
    assert refused < COUNT / 5
