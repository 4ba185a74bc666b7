"""rootfs: any tar of a tree becomes one canonical layer."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from builder.errors import TransportError
from builder.layer.decompress import open_layer
from builder.layer.entry import DIRECTORY, HARDLINK, Entry
from builder.layer.read import read_layer, read_tar
from builder.layer.spool import Spool
from builder.oci.image import Image, Platform
from builder.rootfs.table import PathTable
from builder.rootfs.unpack import unpack_layer
from builder.spec.model import BaseRef
from builder.store.store import Store
from builder.transport.canonical import canonical_layer
from builder.transport.rootfs_tar import RootfsSource
from tests.layer.test_tar_shapes import sparse_1_0

Ref = Callable[[str], BaseRef]
Member = tuple[str, bytes | None, dict[str, Any]]


def tar_of(*members: Member) -> bytes:
    """name, content (None: see `type`), further TarInfo fields."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def file(name: str, content: bytes = b"x", **fields: Any) -> Member:
    return name, content, fields


def link(name: str, target: str, **fields: Any) -> Member:
    return name, None, {"type": tarfile.LNKTYPE, "linkname": target, **fields}


def folder(name: str, **fields: Any) -> Member:
    return name, None, {"type": tarfile.DIRTYPE, "mode": 0o755, **fields}


def resolve(store: Store, path: Path, ref: BaseRef, *, make: bool = True) -> Image | None:
    base = RootfsSource(store, str(path), clock=lambda: 2e9).resolve(
        ref, Platform(), make=make, pull="missing"
    )
    return base.image if base else None


def made(store: Store, path: Path, data: bytes, ref: Ref) -> Image:
    (path / "root.tar").write_bytes(data)
    image = resolve(store, path, ref("rootfs:root.tar"))
    assert image is not None
    return image


def listed(store: Store, image: Image) -> list[tuple[bytes, str, int, bytes]]:
    (layer,) = image.layers
    with store.open(layer.blob) as blob:
        return [
            (entry.path, entry.type, entry.mtime, entry.link or content.read())
            for entry, content in read_layer(open_layer(blob, "gzip"))
        ]


def test_order_duplicates_and_names_do_not_matter(store: Store, ref: Ref, tmp_path: Path) -> None:
    one = tar_of(folder("etc", mtime=5), file("etc/a", b"new", mtime=7), file("etc/b"))
    two = tar_of(
        file("./etc/b"),
        file("etc/a", b"old"),
        folder("etc/", mtime=5),
        file("/etc/a", b"new", mtime=7),
    )
    assert made(store, tmp_path, one, ref) == made(store, tmp_path, two, ref)


def test_times_are_kept_as_whole_seconds(store: Store, ref: Ref, tmp_path: Path) -> None:
    image = made(store, tmp_path, tar_of(file("a", mtime=1485449953.9)), ref)
    assert listed(store, image) == [(b"a", "0", 1485449953, b"x")]


def test_of_hard_linked_paths_the_first_is_the_file(store: Store, ref: Ref, tmp_path: Path) -> None:
    data = tar_of(
        file("z", b"shared"),
        link("a", "z", mode=0o600),
        link("m", "a"),
        file("z", b"replaced"),
    )
    image = made(store, tmp_path, data, ref)
    assert listed(store, image) == [
        (b"a", "0", 0, b"shared"),
        (b"m", HARDLINK, 0, b"a"),
        (b"z", "0", 0, b"replaced"),
    ]


def test_missing_parents_are_added_and_overlay_s_attributes_dropped(
    store: Store, ref: Ref, tmp_path: Path
) -> None:
    xattrs = {"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.kept": "1"}
    image = made(store, tmp_path, tar_of(file("a/b/c", pax_headers=xattrs)), ref)
    assert [(path, kind) for path, kind, *_ in listed(store, image)] == [
        (b"a", DIRECTORY),
        (b"a/b", DIRECTORY),
        (b"a/b/c", "0"),
    ]
    found = PathTable.open(store.table_path(image.layers[0].diff_id)).get(b"a/b/c")
    assert found is not None
    assert found.xattrs == ((b"user.kept", b"1"),)


def test_devices_and_modes_are_kept(store: Store, ref: Ref, tmp_path: Path) -> None:
    null = {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3, "mode": 0o666}
    data = tar_of(("null", None, null), file("su", mode=0o4755, uid=3_000_000, gid=4294967294))
    table = PathTable.open(store.table_path(made(store, tmp_path, data, ref).layers[0].diff_id))
    device, program = table.get(b"null"), table.get(b"su")
    assert device is not None
    assert device.device == (1, 3)
    assert program is not None
    assert (program.mode, program.uid, program.gid) == (0o4755, 3_000_000, 4294967294)


def test_every_compression_gives_the_same_layer(store: Store, ref: Ref, tmp_path: Path) -> None:
    data = tar_of(folder("etc"), file("etc/passwd", b"root:x:0:0::/:/bin/sh\n"))
    images = []
    for pack in (bytes, gzip.compress, lzma.compress, zstd.compress, bz2.compress):
        images.append(made(store, tmp_path, pack(data), ref))
    assert all(image == images[0] for image in images)
    table = PathTable.open(store.table_path(images[0].layers[0].diff_id))
    assert table.files[b"etc/passwd"].startswith(b"root:")


@pytest.mark.needs("tar")
def test_what_gnu_tar_packs_it_unpacks_equal(store: Store, ref: Ref, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "big").write_bytes(os.urandom(3 << 20))
    os.link(tree / "sub/big", tree / "also")
    (tree / "link").symlink_to("sub/big")
    with open(tree / "sparse", "wb") as sparse:
        sparse.seek(1 << 20)
        sparse.write(b"end")
    packed = subprocess.run(["tar", "-C", tree, "-cS", "."], check=True, capture_output=True)
    image = made(store, tmp_path, packed.stdout, ref)
    out = tmp_path / "out"
    out.mkdir()
    blob = Path(store.blob_path(image.layers[0].blob.digest)).read_bytes()
    subprocess.run(["tar", "-C", out, "-xz"], input=blob, check=True)
    subprocess.run(["diff", "-r", "--no-dereference", tree, out], check=True)
    assert os.stat(out / "also").st_ino == os.stat(out / "sub/big").st_ino


def test_it_is_made_once_and_again_when_the_file_changes(
    store: Store, ref: Ref, tmp_path: Path
) -> None:
    path = tmp_path / "root.tar"
    path.write_bytes(tar_of(file("a", b"one")))
    assert resolve(store, tmp_path, ref("rootfs:root.tar"), make=False) is None
    first = resolve(store, tmp_path, ref("rootfs:root.tar"))
    assert resolve(store, tmp_path, ref("rootfs:root.tar"), make=False) == first
    before = os.stat(path)
    path.write_bytes(tar_of(file("a", b"two")))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(path).st_size == before.st_size
    second = resolve(store, tmp_path, ref("rootfs:root.tar"))
    assert second != first


def test_a_young_file_is_hashed_again(store: Store, ref: Ref, tmp_path: Path) -> None:
    path = tmp_path / "root.tar"
    path.write_bytes(tar_of(file("a")))
    for now, remembered in ((os.stat(path).st_ctime + 1, 0), (os.stat(path).st_ctime + 3, 1)):
        source = RootfsSource(store, str(tmp_path), clock=lambda now=now: now)  # type: ignore[misc]
        source.resolve(ref("rootfs:root.tar"), Platform(), make=True, pull="missing")
        memos = [name for name in store.entries("trees") if name.startswith("files-")]
        assert len(memos) == remembered


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "holds nothing"),
        (b"x" * 2000, "not a"),
        (tar_of(file("../x")), "'..'"),
        (tar_of(link("a", "missing")), "no 'missing' before it"),
        (tar_of(file("a"), file("a/b")), "not a directory"),
        (tar_of(file("a/.wh.b")), "whiteout"),
        (tar_of(file("a", b"y" * 5000))[:2000], "cut short"),
        (gzip.compress(tar_of(file("a")), mtime=0)[:-9], "gzip"),
        (b"\x1f\x8b\x08garbage", "gzip"),
    ],
)
def test_hostile_tars_are_refused(
    store: Store, ref: Ref, tmp_path: Path, data: bytes, said: str
) -> None:
    with pytest.raises(TransportError, match=r"^rootfs:root\.tar: ") as caught:
        made(store, tmp_path, data, ref)
    assert said in caught.value.message
    assert caught.value.message.isprintable()
    assert os.listdir(os.path.join(store.root, "tmp")) == []


def test_a_fifo_or_a_missing_file_is_told(store: Store, ref: Ref, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, said in (("fifo", "not a regular file"), ("none", "No such file")):
        with pytest.raises(TransportError, match=said):
            resolve(store, tmp_path, ref(f"rootfs:{name}"))


def sparse(size: int) -> bytes:
    """A tar of a file of a few bytes at both ends and a hole between them."""
    return sparse_1_0(b"f", [(0, b"begin"), (size - 3, b"end")], size) + bytes(1024)


def test_holes_take_no_room_on_the_way(tmp_path: Path) -> None:
    size = 3 << 30
    spool = Spool(str(tmp_path))
    for _, content in read_tar(io.BytesIO(sparse(size))):
        assert spool.add(content, size) == 0
    assert (spool.read(0, 9), spool.read(size - 4, 4)) == (b"begin" + bytes(4), b"\0end")
    handles = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    ours = [each for each in handles if os.path.realpath(each).startswith(str(tmp_path))]
    assert [os.stat(each).st_blocks * 512 < 4 << 20 for each in ours] == [True]
    spool.close()


@pytest.mark.root
def test_holes_stay_holes_where_a_layer_is_unpacked(tmp_path: Path) -> None:
    size = 3 << 30
    unpack_layer(io.BytesIO(sparse(size)), str(tmp_path), privileged=True)
    found = (tmp_path / "f").stat()
    assert (found.st_size, found.st_blocks * 512 < 4 << 20) == (size, True)
    with (tmp_path / "f").open("rb") as file:
        assert file.read(9) == b"begin" + bytes(4)
        file.seek(-5, os.SEEK_END)
        assert file.read() == b"\0\0end"


def test_an_archive_of_more_than_the_disk_holds_is_refused(
    store: Store, ref: Ref, tmp_path: Path
) -> None:
    free = shutil.disk_usage(tmp_path).free
    (tmp_path / "base.tar").write_bytes(sparse(min(free + (1 << 30), 1 << 40)))
    source = RootfsSource(store, str(tmp_path))
    with pytest.raises(TransportError, match=r"sparse files are [0-9]+ bytes larger than what"):
        source.resolve(ref("rootfs:base.tar"), Platform(), make=True, pull="missing")
    assert os.listdir(tmp_path / "store/tmp") == []


def test_the_root_is_that_of_engines_whatever_folder_was_packed(store: Store) -> None:
    """`tar -C $(mktemp -d) -c .` has ./ as 0700 of whoever called it."""
    root = ("./", None, {"type": tarfile.DIRTYPE, "mode": 0o700, "uid": 5, "mtime": 9})
    layer = canonical_layer(store, io.BytesIO(tar_of(root, file("./f"))))
    with store.open(layer.blob) as blob:
        entries = [entry for entry, _ in read_layer(open_layer(blob, "gzip"))]
    assert entries[0] == Entry(b"", DIRECTORY, 0o755, mtime=9)
    table = PathTable.open(store.table_path(layer.diff_id), layer.diff_id)
    assert table.get(b"") == entries[0]
