"""Unpacked layers in the store: made once, whole or not at all, as user-namespace root too."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from builder.errors import BuilderError, CorruptBlob
from builder.events import Event
from builder.layer.read import read_layer
from builder.oci import media
from builder.oci.digest import DiffID, digest_of
from builder.oci.image import Layer
from builder.rootfs.table import PathTable, make_table
from builder.rootfs.unpack import ensure_unpacked, lower_dirs
from builder.rootfs.view import View
from builder.store.store import Store


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def store(tmp_path: Path, events: list[Event]) -> Store:
    return Store(str(tmp_path / "store"), events.append)


def add(store: Store, *names: str, mode: int = 0o755) -> tuple[Layer, PathTable]:
    """A layer of empty files, and of folders where the name ends in a slash, with its table."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            made = tarfile.TarInfo(name)
            made.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            made.mode, made.mtime = mode, 1000
            archive.addfile(made)
    tar = buffer.getvalue()
    diff_id = DiffID(digest_of(tar))
    entries = (entry for entry, _ in read_layer(io.BytesIO(tar)))
    table = make_table(store, diff_id, entries, {})
    return Layer(diff_id, store.put(gzip.compress(tar), media.LAYER_GZIP)), table


@pytest.mark.root
def test_a_layer_is_unpacked_once(store: Store) -> None:
    layer, table = add(store, "a/", "a/f")
    first = ensure_unpacked(store, layer, View((table,)), privileged=True)
    made = os.stat(first).st_ctime_ns
    assert ensure_unpacked(store, layer, View((table,)), privileged=True) == first
    assert os.stat(first).st_ctime_ns == made
    assert first == store.unpacked_path(layer.diff_id)
    assert os.listdir(first) == ["a"]


@pytest.mark.root
def test_a_layer_has_the_folders_of_what_it_stands_on(store: Store) -> None:
    base, base_table = add(store, "tmp/", mode=0o1777)
    other, other_table = add(store, "tmp/", mode=0o700)
    layer, table = add(store, "tmp/x")
    layers = [layer]
    alone = lower_dirs(store, layers, [table], privileged=True)[-1]
    on_base = lower_dirs(store, [base, layer], [base_table, table], privileged=True)[-1]
    on_other = lower_dirs(store, [other, layer], [other_table, table], privileged=True)[-1]
    modes = [os.stat(f"{root}/tmp").st_mode & 0o7777 for root in (alone, on_base, on_other)]
    assert modes == [0o755, 0o1777, 0o700]


@pytest.mark.root
def test_whiteouts_that_hide_nothing_are_left_out(store: Store) -> None:
    base, base_table = add(store, "a/", "a/f")
    layer, table = add(store, "a/.wh.f", "a/.wh.g")
    root = lower_dirs(store, [base, layer], [base_table, table], privileged=True)[-1]
    assert os.listdir(f"{root}/a") == ["f"]
    assert stat.S_ISCHR(os.lstat(f"{root}/a/f").st_mode)


@pytest.mark.root
def test_layers_below_an_opaque_root_are_left_out(store: Store) -> None:
    base, base_table = add(store, "a")
    layer, table = add(store, ".wh..wh..opq", "b")
    roots = lower_dirs(store, [base, layer], [base_table, table], privileged=True)
    assert roots == (store.unpacked_path(layer.diff_id),)


@pytest.mark.root
def test_a_corrupt_blob_leaves_nothing_unpacked(store: Store, tmp_path: Path) -> None:
    layer, table = add(store, "a/", *(f"a/f{n}" for n in range(500)))
    blob = Path(store.blob_path(layer.blob.digest))
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1  # the size in the gzip trailer: seen after the last entry
    blob.chmod(0o600)
    blob.write_bytes(bytes(data))
    with pytest.raises(BuilderError) as caught:
        ensure_unpacked(store, layer, View((table,)), privileged=True)
    assert isinstance(caught.value, CorruptBlob)
    assert not os.path.lexists(store.unpacked_path(layer.diff_id))
    store.close()
    assert list((tmp_path / "store/tmp").rglob("a")) == []


IN_NAMESPACE = """
import os, sys
from builder.rootfs.unpack import unpack_layer
with open(sys.argv[1], "rb") as tar:
    print(unpack_layer(tar, sys.argv[2], privileged=False))
print(os.listxattr(sys.argv[2] + "/o"), os.getxattr(sys.argv[2] + "/f", "user.x"))
print(os.lstat(sys.argv[2] + "/gone").st_rdev, oct(os.lstat(sys.argv[2] + "/f").st_mode))
"""


@pytest.mark.needs("unshare")
def test_root_of_a_user_namespace_unpacks_without_devices(tmp_path: Path) -> None:
    tar, target = tmp_path / "tar", tmp_path / "target"
    target.mkdir()
    with tarfile.open(tar, "w") as archive:
        for name in (".wh.gone", "o/.wh..wh..opq", "f", "null"):
            made = tarfile.TarInfo(name)
            if name == "null":
                made.type, made.devmajor, made.devminor = tarfile.CHRTYPE, 1, 3
            if name == "f":
                made.mode, made.pax_headers = 0o4751, {"SCHILY.xattr.user.x": "y"}
            archive.addfile(made)
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", IN_NAMESPACE]
    done = subprocess.run(
        [*command, str(tar), str(target)], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "[\"'null' is a device, which only root can make; it is left out\"]",
        "['user.overlay.opaque'] b'y'",
        "0 0o104751",
    ]
