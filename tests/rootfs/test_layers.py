"""Layers: brought once however many ask, from where they were offered; what is read out of them is
what unpacking makes of the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import tarfile
import threading
import time
from pathlib import Path

import pytest

from builder.errors import BuilderError, CorruptBlob, LayerError, TransportError
from builder.layer.read import read_layer
from builder.oci.image import Layer
from builder.rootfs.layers import Layers
from builder.rootfs.unpack import unpack_layer
from builder.store.gc import gc
from builder.store.records import is_imported
from builder.store.store import Store
from builder.transport.importing import import_layer, import_tar

SEQUENCES = int(os.environ.get("BUILDER_LAYER_SEQUENCES", "40"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def tar(*members: tuple[str, str | bytes | None]) -> bytes:
    """Of (name, content): bytes, None for a folder, `->TARGET` a symlink, `=TARGET` a hard link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = 1000, 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                info.linkname = content.lstrip("->=")
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
    return buffer.getvalue()


def add(store: Store, *members: tuple[str, str | bytes | None]) -> Layer:
    return import_tar(store, io.BytesIO(tar(*members)), "test")


class Elsewhere:
    """Another store, as a provider; counts what it was asked for."""

    def __init__(self, here: Store, there: Store, lasts: float = 0) -> None:
        self.here, self.there, self.lasts = here, there, lasts
        self.asked: list[Layer] = []

    def bring(self, layer: Layer) -> bool:
        self.asked.append(layer)
        time.sleep(self.lasts)
        if not self.there.has(layer.blob):
            return False
        with self.there.open(layer.blob) as blob:
            import_layer(self.here, layer, blob, "elsewhere")
        return True


class Broken:
    def bring(self, layer: Layer) -> bool:
        raise TransportError("it burns")


def test_a_layer_comes_once_however_many_threads_ask(store: Store, tmp_path: Path) -> None:
    there = Store(str(tmp_path / "there"))
    wanted = [add(there, (f"file{number}", b"x" * number)) for number in range(6)]
    slow, layers = Elsewhere(store, there, lasts=0.05), Layers(store)
    layers.offer("the base oci:x", wanted, slow)
    failed: list[BaseException] = []

    def ask(seed: int) -> None:
        try:
            rng = random.Random(seed)
            for layer in rng.sample(wanted, len(wanted)):
                rng.choice((layers.bring, layers.table, layers.contents))(layer)
            assert layers.view(wanted).lookup(b"file3") is not None
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(slow.asked) == sorted(wanted)
    assert all(is_imported(store, layer) for layer in wanted)


def test_providers_are_asked_in_order_and_one_that_fails_is_no_end(
    store: Store, tmp_path: Path
) -> None:
    there, empty = Store(str(tmp_path / "there")), Store(str(tmp_path / "empty"))
    layer = add(there, ("file", b"content"))
    nobody, somebody, last = (Elsewhere(store, each) for each in (empty, there, there))
    layers = Layers(store, last)
    layers.offer("the base oci:x", [layer], Broken(), nobody)
    layers.offer("the base oci:x", [layer], nobody, somebody)  # once is enough
    layers.bring(layer)
    assert [len(each.asked) for each in (nobody, somebody, last)] == [1, 1, 0]
    layers.bring(layer)
    assert len(somebody.asked) == 1
    with layers.read([layer], b"file") as file:
        assert file.read() == b"content"


def test_a_layer_that_nobody_has_is_an_error_that_names_the_base(
    store: Store, tmp_path: Path
) -> None:
    layer = add(Store(str(tmp_path / "there")), ("file", b"content"))
    layers = Layers(store)
    layers.offer("the base docker-archive:a.tar", [layer])
    with pytest.raises(CorruptBlob) as caught:
        layers.bring(layer)
    assert str(caught.value) == (
        f"layer {layer.blob.digest} of the base docker-archive:a.tar is neither in the store nor at"
        " a registry known to have it"
    )
    layers.offer("the base docker-archive:a.tar", [layer], Broken())
    with pytest.raises(TransportError, match="it burns"):
        layers.bring(layer)


def test_a_blob_that_is_there_is_believed_to_be_a_layer_when_it_was_read(store: Store) -> None:
    layer = add(store, ("file", b"content"))
    store.forget("layers", layer.diff_id[7:])
    layers = Layers(store)
    layers.bring(layer)
    assert is_imported(store, layer)
    other = add(store, ("other", b"content"))
    with pytest.raises(TransportError, match="its config says"):
        layers.bring(layer._replace(diff_id=other.diff_id))


def test_one_file_is_read_out_of_the_topmost_layer_that_has_it(store: Store) -> None:
    below = add(
        store, ("a/", None), ("a/f", b"old"), ("a/kept", b"kept"), ("a/link", "=a/f"), ("b", b"b")
    )
    above = add(store, ("a/.wh.f", b""), ("c", b"c"), ("d", "->c"), ("e/", None), ("b", b"new b"))
    top = add(store, ("a/f", b"new"), ("late", "=a/f"))
    layers, image = Layers(store), (below, above, top)

    def read(path: bytes) -> bytes:
        with layers.read(image, path) as file:
            return file.read()

    assert read(b"a/f") == b"new" == read(b"late")
    assert (read(b"a/kept"), read(b"a/link"), read(b"b")) == (b"kept", b"old", b"new b")
    for path in (b"d", b"e", b"", b"nowhere", b"a/.wh.f", b"c/x"):
        with pytest.raises(LayerError, match="is no regular file in the image"):
            read(path)
    with pytest.raises(LayerError, match="is no regular file"), layers.read(image[:2], b"a/f"):
        pass


def test_no_other_layer_is_read_for_a_file(store: Store, tmp_path: Path) -> None:
    there = Store(str(tmp_path / "there"))
    large, small = add(there, ("large", os.urandom(1 << 20))), add(there, ("small", b"small"))
    for layer in (large, small):
        with there.open(layer.blob) as blob:
            import_layer(store, layer, blob, "test")
    store.discard(large.blob.digest)  # its table stays
    layers = Layers(store)
    with layers.read([large, small], b"small") as file:
        assert file.read() == b"small"
    assert layers.contents(small).get(b"small") == hashlib.sha256(b"small").digest()


def members(rng: random.Random) -> list[tuple[str, str | bytes | None]]:
    """A tar that a kernel can hold: names come again as something else, links stand to what is
    there when they come."""
    names = ["f", "g", "h", "d/f", "d/g", "d/e/f"]
    found: list[tuple[str, str | bytes | None]] = [("d/", None), ("d/e/", None)]
    files: set[str] = set()
    for _ in range(rng.randrange(1, 16)):
        name, kind = rng.choice(names), rng.random()
        others = sorted(files - {name})
        if kind < 0.3 and others:
            found.append((name, "=" + rng.choice(others)))
            files.add(name)
        elif kind < 0.4:
            found.append((name, "->f"))
            files.discard(name)
        elif kind < 0.5:
            folder, _, last = name.rpartition("/")
            found.append((f"{folder}/.wh.x{last}".lstrip("/"), b""))
        else:
            found.append((name, rng.randbytes(rng.choice((0, 1, 511, 512, 513, 5000)))))
            files.add(name)
    return found


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_contents_and_files_are_what_unpacking_makes(
    seed: int, store: Store, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    made = members(rng)
    try:
        layer, layers = add(store, *made), Layers(store)
    except TransportError as error:  # links in a circle, in the end: no layer of ours
        assert "which is no file of the same layer" in error.message
        return
    tree = tmp_path / "tree"
    tree.mkdir()
    unpack_layer(io.BytesIO(tar(*made)), str(tree), privileged=False)
    contents = layers.contents(layer)
    paths = {entry.path for entry, _ in read_layer(io.BytesIO(tar(*made)))} | {b"", b"nowhere"}
    for path in paths:
        place = tree / os.fsdecode(path)
        regular = place.is_file() and not place.is_symlink()
        expected = hashlib.sha256(place.read_bytes()).digest() if regular else None
        assert contents.get(path) == expected, (path, made)
    files = [path for path in sorted(paths) if contents.get(path)]
    wanted = rng.sample(files, rng.randrange(len(files) + 1))
    folder = tmp_path / "out"
    folder.mkdir()
    for path, where in layers.extract(layer, wanted, str(folder)).items():
        assert Path(where).read_bytes() == (tree / os.fsdecode(path)).read_bytes(), (path, made)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "another", "older", "gone", "folder"])
def test_contents_that_lie_are_found_and_made_again(damage: str, store: Store) -> None:
    layer = add(store, ("a", b"a"), ("b", "=a"), ("c/", None))
    other = add(store, ("a", b"other"), ("b", b"more"), ("c/", None))
    layers = Layers(store)
    path, its = (Path(store.contents_path(each.diff_id)) for each in (layer, other))
    expected = [layers.contents(layer).get(name) for name in (b"a", b"b", b"c", b"d")]
    assert expected == [hashlib.sha256(b"a").digest()] * 2 + [None, None]
    layers.contents(other)
    good = path.read_bytes()
    for at in range(0, len(good), 7) if damage == "bit" else [0]:
        if damage == "bit":
            flip(path, at)
        elif damage == "cut":
            path.write_bytes(good[:-1])
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "another":
            shutil.copy(its, path)
        elif damage == "older":
            path.write_bytes(good.replace(b"bldsums\x01", b"bldsums\x00"))
        else:
            path.unlink()
            if damage == "folder":
                path.mkdir()
        found = layers.contents(layer)
        assert [found.get(name) for name in (b"a", b"b", b"c", b"d")] == expected
        assert path.read_bytes() == good


def test_a_table_whose_damage_shows_late_is_made_again(store: Store) -> None:
    layer = add(store, *((f"file{number:05}", b"") for number in range(2000)))
    path = Path(store.table_path(layer.diff_id))
    flip(path, 40_000)
    layers = Layers(store)
    table = layers.table(layer)
    with pytest.raises(CorruptBlob):
        list(table.subtree(b""))
    layers.renew()
    assert len(list(layers.table(layer).subtree(b""))) == 2000


def test_a_blob_that_is_damaged_gives_no_contents(store: Store) -> None:
    layer = add(store, ("file", random.Random(0).randbytes(100_000)))
    flip(Path(store.blob_path(layer.blob.digest)), 50_000)
    layers = Layers(store)
    with pytest.raises(CorruptBlob):
        layers.contents(layer)
    with pytest.raises(BuilderError), layers.read([layer], b"file"):
        pass
    assert not os.path.lexists(store.contents_path(layer.diff_id))


def test_contents_go_with_their_layer(store: Store) -> None:
    layer = add(store, ("file", b"x"))
    Layers(store).contents(layer)
    report = gc(store, max_age=0, dry_run=True)
    assert report.removed >= 1
    gc(store, max_age=0)
    store.close()
    gc(Store(store.root), max_size=0)
    assert not os.path.lexists(store.contents_path(layer.diff_id))
