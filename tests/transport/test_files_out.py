"""`dir:` and `tar:` hold what the kernel shows of the same layers, whatever these say."""

from __future__ import annotations

import ast
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuilderError, TransportError
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


def difference(theirs: Any, ours: Any, *, tidy: bool) -> str:
    """Of a layer that has a path again after hard links to it, those are files of their own."""
    wrong = [
        f"{path!r}: the kernel {theirs[0].get(path)}, ours {ours[0].get(path)}"
        for path in sorted({*theirs[0], *ours[0]})
        if theirs[0].get(path) != ours[0].get(path)
    ]
    within = all(any(set(here) <= set(there) for there in theirs[1]) for here in ours[1])
    if theirs[1] != ours[1] if tidy else not within:
        wrong.append(f"one file: the kernel {theirs[1]}, ours {ours[1]}")
    return "\n".join(wrong)


@pytest.mark.root
@pytest.mark.timeout(3600)
@pytest.mark.needs("unshare", "mount", "tar")
def test_files_are_what_the_kernel_shows_of_the_layers(tmp_path: Path) -> None:
    for number in range(SEED, SEED + COUNT):
        rng = random.Random(number)
        here = tmp_path / str(number)
        store = Store(str(here / "store"))
        tidy = bool(number % 2)
        layers = random_layers(rng, store, tidy=tidy)
        image = image_of(layers)
        for name in ("one", "two"):
            parse_output(f"tar:{here / name}.tar")(store, "x").put([image])
        parse_output(f"dir:{here}/out")(store, "x").put([image])
        theirs = kernels(store, layers, here / "kernel")
        wrong = difference(theirs, snapshot(os.fsencode(here / "out")), tidy=tidy)
        assert not wrong, f"dir {number}:\n{wrong}"
        wrong = difference(theirs, untarred(here / "one.tar", here / "untarred"), tidy=tidy)
        assert not wrong, f"tar {number}:\n{wrong}"
        assert (here / "one.tar").read_bytes() == (here / "two.tar").read_bytes()
        with tarfile.open(here / "one.tar", errors="surrogateescape") as archive:
            keys = [key_of(os.fsencode(each)) for each in archive.getnames()]
        assert keys == sorted(keys)
        subprocess.run(["rm", "-rf", here], check=True)


def one(store: Store, *members: tuple[tarfile.TarInfo, bytes]) -> Image:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    buffer.seek(0)
    return image_of([import_tar(store, buffer, "test")])


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def put(store: Store, output: str, image: Image) -> None:
    destination = parse_output(output)(store, "x")
    destination.check()
    destination.put([image])


def test_a_folder_that_was_written_so_is_replaced_and_no_other(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    out = tmp_path / "out"
    out.mkdir()
    put(store, f"dir:{out}", one(store, member("a", b"1"), member("gone", b"")))
    put(store, f"dir:{out}", one(store, member("a", b"2")))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"a": b"2"}
    assert {path.name for path in tmp_path.iterdir()} == {"store", "out"}
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis").write_text("years of work")
    with pytest.raises(TransportError, match="holds other files") as caught:
        put(store, f"dir:{theirs}", one(store))
    put(store, str(caught.value.hint).removeprefix("name a new folder: "), one(store))


def test_the_store_is_neither_within_nor_around_a_folder(tmp_path: Path) -> None:
    first = Store(str(tmp_path / "first"))
    put(first, f"dir:{tmp_path}/out", one(first))
    inner = Store(str(tmp_path / "out/store"))
    image = one(inner, member("a"))
    with pytest.raises(TransportError, match="own store is within it"):
        put(inner, f"dir:{tmp_path}/out", image)
    with pytest.raises(TransportError, match="within the builder's own store"):
        put(inner, f"dir:{tmp_path}/out/store/tmp/x", image)


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    image = one(store, member("d/e", b"1"), member("a", os.urandom(100_000)))
    blob = Path(store.blob_path(image.layers[0].blob.digest))
    data = bytearray(blob.read_bytes())
    data[50_000] ^= 1
    blob.write_bytes(data)
    for kind in ("dir", "tar"):
        with pytest.raises(BuilderError):
            put(store, f"{kind}:{tmp_path}/out", image)
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


@pytest.mark.root
@pytest.mark.needs("setpriv")
def test_a_users_folder_is_the_users_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    program = """
import sys, tarfile
from builder.store.store import Store
from tests.transport.test_files_out import member, one, put
store = Store(sys.argv[1] + "/store", lambda event: print(event.text))
image = one(
    store, member("set", b"x", mode=0o4755), member("d", type=tarfile.CHRTYPE, devmajor=1),
    member("d2", type=tarfile.LNKTYPE, linkname="d"), member("f", b"f", mode=0o640, uid=33),
    member("closed", type=tarfile.DIRTYPE, mode=0), member("closed/x", b"x"),
)
for _ in range(2):
    put(store, f"dir:{sys.argv[1]}/out", image)
"""
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(path.stat().st_mode | 0o011)
    here = tmp_path / "here"
    here.mkdir()
    os.chown(here, 1234, 1234)
    command = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", sys.executable]
    done = subprocess.run(
        [*command, "-c", program, str(here)], capture_output=True, text=True, cwd=Path.cwd()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == 2 * [
        f"dir:{here}/out: all of it is yours, whoever owns it in the image;"
        " left out: 1 device, 1 set-id bit. tar:FILE keeps all"
    ]
    found, _ = snapshot(os.fsencode(here / "out"))
    assert {path: oct(seen[1]) for path, seen in found.items()} == {
        b"set": "0o755", b"f": "0o640", b"closed": "0o0", b"closed/x": "0o644",
    }  # fmt: skip
    assert {seen[2:4] for seen in found.values()} == {(1234, 1234)}
    assert {path.name for path in here.iterdir()} == {"store", "out"}


@pytest.mark.root
@pytest.mark.needs("unshare", "mount")
@pytest.mark.parametrize("kind", ["dir", "tar"])
def test_a_full_disk_leaves_nothing_and_is_told(tmp_path: Path, kind: str) -> None:
    program = """
import os, sys
from builder.errors import TransportError
from builder.store.store import Store
from tests.transport.test_files_out import member, one, put
store = Store(sys.argv[1] + "/store")
image = one(store, member("d/big", os.urandom(3 << 20)))
try:
    put(store, sys.argv[2] + f":{sys.argv[1]}/small/out", image)
except TransportError as error:
    print(error.message, os.listdir(sys.argv[1] + "/small"))
"""
    (tmp_path / "small").mkdir()
    mount = f'mount -t tmpfs -o size=1m none {tmp_path}/small && exec {sys.executable} -c "$0" $@'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, program, str(tmp_path), kind],
        capture_output=True, text=True, cwd=Path.cwd(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout and done.stdout.endswith(" []\n"), done.stdout


@pytest.mark.parametrize("kind", ["dir", "tar"])
def test_an_interrupt_leaves_nothing(tmp_path: Path, kind: str) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "files").mkdir()
    for number in range(2000):
        (tmp_path / f"files/{number}").write_text(str(number))
    (tmp_path / "specs/x.yaml").write_text("from: scratch\nsteps:\n- {copy: files/, dest: /f/}\n")
    command = [sys.executable, "-m", "builder", "build", "--cache-dir", "store"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with subprocess.Popen(
        [*command, "-o", f"{kind}:out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        while not list(tmp_path.glob(".*.partial")) and run.poll() is None:
            time.sleep(0.001)
        run.send_signal(signal.SIGINT)
        run.communicate()
    left = {path.name for path in tmp_path.iterdir()} - {"specs", "files", "store"}
    assert run.returncode == 130 and not left
