"""What was made up in a store, with every checksum right, is found by `cache check --deep`."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder import build
from builder.executor.syscalls import initial_user_namespace
from builder.make.examine import examine
from builder.oci import media
from builder.oci.digest import CacheKey, DiffID, digest_of
from builder.oci.image import Layer
from builder.project import Options, Project
from builder.rootfs.layers import Layers
from builder.store.check import check
from builder.store.records import Record, add_blob, load_layer, load_record, save_record
from builder.store.store import Store

pytestmark = pytest.mark.root  # unpacked trees have owners

SPEC = """\
from: rootfs:base.tar
steps:
- {copy: tree, dest: /tree, owner: "7:8"}
- {copy: links, dest: /links}
- {remove: /gone}
- {directory: /tree}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which all that there can be of a few layers is."""
    root = tmp_path_factory.mktemp("examined")
    (root / "specs").mkdir()
    (root / "specs/a.yaml").write_text(SPEC)
    with tarfile.open(root / "base.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("null", tarfile.CHRTYPE), ("gone", b"0")):
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.devmajor, info.devminor = kind, 5, 1, 3
            info.pax_headers = {"SCHILY.xattr.user.kept": "1"} if name == "gone" else {}
            archive.addfile(info)
    for name in ("one", "two/three", "two/four"):
        path = root / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "links").mkdir()
    (root / "links/to").symlink_to("/tree/one")
    assert built(root, root / "store")
    return root


def built(root: Path, store: Path) -> str:
    """The digest; layers are unpacked and listed as a command on them would need it."""
    options: dict[str, Any] = {"cache_dir": str(store), "specs": str(root / "specs")}
    image = build([], **options)["a"]
    project = Project(Options(**options))
    privileged = initial_user_namespace()
    with project.store.live():
        project.layers.lowers(image.image.layers, privileged=privileged)
    return str(image.manifest.digest)


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    # with owners, devices and attributes
    subprocess.run(["cp", "-a", made / "store", tmp_path / "store"], check=True)
    return Store(str(tmp_path / "store"))


def trees(store: Store) -> list[Path]:
    return sorted(Path(store.root, "unpacked").iterdir())


def holding(store: Store, name: str) -> Path:
    """That path in the unpacked tree that has it."""
    (found,) = [tree / name for tree in trees(store) if os.path.lexists(tree / name)]
    return found


def write(store: Store, name: str, text: str) -> None:
    path = holding(store, name)
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_mtime_ns,) * 2)


def replace_by(make: Callable[[Path], object]) -> Callable[[Store], None]:
    def change(store: Store) -> None:
        path = holding(store, "tree/one")
        path.unlink()
        make(path)

    return change


def relink(store: Store) -> None:
    path = holding(store, "links/to")
    path.unlink()
    path.symlink_to("/tree/two")


def extra(store: Store) -> None:
    path = holding(store, "tree/two") / "more"
    before = path.parent.stat()
    path.touch()
    os.utime(path.parent, ns=(before.st_mtime_ns,) * 2)


def swap_records(store: Store) -> None:
    first, second, *_ = [
        key for key in store.entries("records") if (load_record(store, CacheKey(key)) or [0])[0]
    ]
    one, two = load_record(store, CacheKey(first)), load_record(store, CacheKey(second))
    assert one and two and one.diff_id != two.diff_id
    save_record(store, CacheKey(first), one._replace(diff_id=two.diff_id))


def empty_record(store: Store) -> None:
    key = next(
        key for key in store.entries("records") if (load_record(store, CacheKey(key)) or [0])[0]
    )
    save_record(store, CacheKey(key), Record(None, 0.0, 5))


def swap_tables(store: Store) -> None:
    tables = sorted(Path(store.root, "tables").iterdir())
    first, second = [table.read_bytes() for table in tables[:2]]
    tables[0].write_bytes(second[:-64] + first[-64:])


def lying_pair(store: Store) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("evil"))
    blob = store.put(gzip.compress(out.getvalue()), media.LAYER_GZIP)
    diff_id = DiffID("sha256:" + store.entries("layers")[0])
    add_blob(store, Layer(diff_id, blob), 10240, blob.digest)


PAIRS: dict[str, Callable[[Store], object]] = {"a pair that lies": lying_pair}
DEEP: dict[str, Callable[[Store], object]] = {
    "a file's bytes": lambda store: write(store, "tree/one", "two"),
    "a file's size": lambda store: write(store, "tree/one", "longer"),
    "a file's mode": lambda store: holding(store, "tree/one").chmod(0o4755),
    "a folder's mode": lambda store: holding(store, "tree/two").chmod(0o777),
    "an owner": lambda store: os.chown(holding(store, "tree/one"), 0, 0),
    "a time": lambda store: os.utime(holding(store, "tree/one"), (5, 5)),
    "a file that is missing": lambda store: holding(store, "tree/two/four").unlink(),
    "a file too many": extra,
    "a link": relink,
    "a link for a file": replace_by(lambda path: path.symlink_to("/etc/passwd")),
    "a FIFO for a file": replace_by(os.mkfifo),
    "a folder for a file": replace_by(Path.mkdir),
    "a device": lambda store: (
        holding(store, "null").unlink(),
        os.mknod(trees(store)[0] / "null", 0o20644, os.makedev(1, 5)),
    ),
    "an attribute": lambda store: os.setxattr(
        next(tree / "gone" for tree in trees(store) if (tree / "gone").is_file()), "user.kept", b"2"
    ),
    "an opaque folder": lambda store: os.setxattr(
        holding(store, "tree/two"), "trusted.overlay.opaque", b"y"
    ),
    "a record of another layer": swap_records,
    "a record of nothing": empty_record,
    "a table of another layer": swap_tables,
}


def test_what_is_right_is_not_told(store: Store) -> None:
    assert check(store) == []
    assert examine(store, deep=True, repair=False) == []
    assert len(trees(store)) == 4


@pytest.mark.parametrize("case", {**PAIRS, **DEEP})
def test_what_was_made_up_is_found_and_taken_out(case: str, store: Store, made: Path) -> None:
    right = json.dumps(built(made, made / "store"))
    {**PAIRS, **DEEP}[case](store)
    assert check(store) == []
    assert bool(examine(store, deep=False, repair=False)) == (case in PAIRS)
    found = examine(store, deep=True, repair=False)
    assert found
    assert not any(problem.repaired for problem in found)
    assert all(problem.repaired for problem in examine(store, deep=True, repair=True))
    assert json.dumps(built(made, Path(store.root))) == right
    assert examine(store, deep=True, repair=False) == []
    assert load_layer(store, DiffID("sha256:" + store.entries("layers")[0]))


def test_random_bytes_of_an_unpacked_tree_are_found(store: Store) -> None:
    pick = random.Random(3)
    files = [path for tree in trees(store) for path in tree.rglob("*") if path.is_file()]
    path = pick.choice([each for each in files if each.stat().st_size])
    data = bytearray(path.read_bytes())
    data[pick.randrange(len(data))] ^= 1
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_mtime_ns,) * 2)
    assert digest_of(bytes(data))
    assert examine(store, deep=True, repair=False)


def test_digests_of_files_that_are_not_the_layers_are_found(store: Store) -> None:
    layers = [
        Layer(info.diff_id, next(iter(info.blobs.values())))
        for name in store.entries("layers")
        if (info := load_layer(store, DiffID(f"sha256:{name}")))
    ]
    for layer in layers:
        Layers(store).contents(layer)
    assert examine(store, deep=True, repair=False) == []
    path = Path(store.contents_path(layers[0].diff_id))
    data = bytearray(path.read_bytes()[:-68])  # without its CRC and name
    data[16:] = bytes(each ^ 1 for each in data[16:])
    path.write_bytes(data + zlib.crc32(data).to_bytes(4, "little") + path.read_bytes()[-64:])
    said = [problem.text for problem in examine(store, deep=True, repair=True)]
    assert said == [f"contents/{path.name}: they are not the layer's"]
    assert not path.exists()
