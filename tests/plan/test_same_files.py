"""The same files in several places of a context: they are read once, and make one layer."""

from __future__ import annotations

import os
import tarfile
import time
from pathlib import Path

import pytest

from builder.errors import BuilderError
from builder.make.image import Built
from builder.project import Options, Project
from builder.store.store import Store

FOLDERS = 30
SIZE = 50_000
COUNT = 80
FEW = 32  # files are too few to be left unread until their layer is made


def project(root: Path, store: str, jobs: int) -> Project:
    folders = {"specs": str(root / "specs"), "context": str(root), "cache_dir": str(root / store)}
    options = Options(**folders, pull="never", jobs=jobs)
    return Project(options)


def build(
    root: Path, store: str, steps: dict[str, str], base: str = "scratch", jobs: int = 1
) -> dict[str, Built]:
    """Images of one step each, by name."""
    specs = root / "specs"
    specs.mkdir(exist_ok=True)
    for path in specs.iterdir():
        path.unlink()
    for name, step in steps.items():
        (specs / f"{name}.yaml").write_text(f"from: {base}\nsteps:\n- {step}\n")
    made = project(root, store, jobs)
    return made.build(made.load(list(steps))[0])


def read_bytes() -> int:
    """What this process has read so far, by any thread, from files and else."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar: "):
            return int(line.split()[1])
    raise AssertionError


def statuses(images: dict[str, Built]) -> list[str]:
    return [image.steps[-1].status for image in images.values()]


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in web0, and others whose files are hard links to it, each in a folder of its own."""
    root = tmp_path_factory.mktemp("linked")
    for number in range(COUNT):
        path = root / "web0" / f"d{number % 5}" / f"f{number:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(SIZE))
    for folder in range(1, FOLDERS):
        for path in list((root / "web0").glob("*/*")):
            link = root / f"web{folder}" / path.relative_to(root / "web0")
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
    time.sleep(2.1)
    return root


@pytest.mark.parametrize(
    ("below", "count", "times"), [("", COUNT, 1), ("d0/", COUNT // 5, 2), ("d[01]", FEW, 2)]
)
def test_many_images_of_linked_trees_read_one_and_make_one_layer(
    linked: Path, below: str, count: int, times: int
) -> None:
    """Files that are few are hashed first, and read once more for the layer."""
    steps = {
        f"i{number}": f"{{copy: 'web{number}/{below}', dest: /srv/}}" for number in range(FOLDERS)
    }
    build(linked, f"warm {count}", {"i0": steps["i0"]})  # what is imported late is there now
    before, started = read_bytes(), time.monotonic()
    images = build(linked, f"cold {count}", steps, jobs=2)
    assert time.monotonic() - started < 5  # generous: 0.3 s; a layer each takes ten times as long
    assert read_bytes() - before < (times + 0.5) * count * SIZE
    assert sorted(statuses(images)) == ["built"] + (FOLDERS - 1) * ["hit"]  # in any order
    assert len({image.steps[-1].layer for image in images.values()}) == 1


def test_files_that_another_image_read_meanwhile_are_looked_up_before_they_are_written(
    linked: Path,
) -> None:
    """Two folders that lstat tells apart, with one layer; both images are planned, then built."""
    (linked / "web3").chmod(0o700)
    steps = {
        name: f"{{copy: {source}/, dest: /m/}}" for name, source in (("a", "web3"), ("b", "web4"))
    }
    try:
        before = read_bytes()
        images = build(linked, "meanwhile", steps)
        assert read_bytes() - before < 1.5 * COUNT * SIZE
    finally:
        (linked / "web3").chmod(0o755)
    assert statuses(images) == ["built", "hit"]
    assert images["a"].image.layers == images["b"].image.layers


def test_files_are_hashed_once_while_a_base_comes(linked: Path) -> None:
    with tarfile.open(linked / "base.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("etc"))
    steps = {f"i{number}": f"{{copy: web{number}/, dest: /srv/}}" for number in range(FOLDERS)}
    before = read_bytes()
    images = build(linked, "based", steps, base="rootfs:base.tar", jobs=2)
    assert read_bytes() - before < 2.5 * COUNT * SIZE  # hashed, then read for the layer
    assert sorted(statuses(images)) == ["built"] + (FOLDERS - 1) * ["hit"]


def test_a_renamed_folder_is_the_same_layer(linked: Path) -> None:
    step = "{copy: %s/, dest: /opt/}"
    build(linked, "renamed", {"a": step % "web2"})
    os.rename(linked / "web2", linked / "other")
    before = read_bytes()
    try:
        assert statuses(build(linked, "renamed", {"b": step % "other"})) == ["hit"]
        assert read_bytes() - before < COUNT * SIZE / 2
    finally:
        os.rename(linked / "other", linked / "web2")


def test_what_a_layer_holds_of_a_sources_name_is_told_apart(linked: Path) -> None:
    """A file's own name, and a folder's that a glob matched, stand in the layer; a folder's whose
    contents are copied does not."""
    (linked / "one").mkdir()
    (linked / "two").mkdir()
    (linked / "one" / "name").write_text("same")
    os.link(linked / "one" / "name", linked / "two" / "other")
    steps = {
        "a": "{copy: one/name, dest: /srv/}",
        "b": "{copy: two/other, dest: /srv/}",
        "c": "{copy: web1*/, dest: /srv/}",
        "d": "{copy: 'web[2]', dest: /srv/}",
        "e": "{copy: [web2/], dest: /srv/}",
        "f": "{copy: web2/, dest: /srv}",
        "g": "{copy: [web2/, one/], dest: /srv/}",
        "h": "{copy: [one/, web2/], dest: /srv/}",
    }
    time.sleep(2.1)
    together = build(linked, "told", steps)
    keys = {name: image.steps[-1].key for name, image in together.items()}
    for name, step in steps.items():
        alone = build(linked, f"alone-{name}", {name: step})
        assert alone[name].steps[-1].key == keys[name]
        assert alone[name].image.layers == together[name].image.layers
    assert keys["e"] == keys["f"] and keys["g"] == keys["h"]
    assert len(set(keys.values())) == 6


def test_a_digest_that_is_wrong_is_forgotten_once_it_is_noticed(linked: Path) -> None:
    """As with a disk that writes what it likes: the next build reads the files again."""
    step = "{copy: web5/, dest: /%s/}"
    right = build(linked, "right", {"a": step % "b"})["a"].image.layers
    build(linked, "wrong", {"a": step % "a"})
    store = Store(str(linked / "wrong"))
    for name in store.entries("trees"):
        store.forget("trees", name) if not name.startswith("files-") else None
    buckets = [name for name in store.entries("trees") if name.startswith("files-")]
    assert buckets
    for name in buckets:
        rows = bytearray(store.load("trees", name) or b"")
        rows[71::72] = bytes(byte ^ 1 for byte in rows[71::72])
        store.save("trees", name, bytes(rows))
    with pytest.raises(BuilderError, match="changed while it was read"):
        build(linked, "wrong", {"b": step % "b"})
    assert build(linked, "wrong", {"b": step % "b"})["b"].image.layers == right


@pytest.mark.parametrize(
    "data", [b"", b"x", bytes(72), bytes(71), bytes(72 * 20_000), b"\xff" * 99]
)
def test_any_bytes_may_stand_where_files_are_known(linked: Path, data: bytes) -> None:
    step = "{copy: [web5/, web0/d1/], dest: /%s/}"
    first = build(linked, f"any {len(data)}", {"a": step % "a"})["a"].image.layers
    store = Store(str(linked / f"any {len(data)}"))
    for name in store.entries("trees"):
        if name.startswith("files-"):
            store.save("trees", name, data)
        else:
            store.forget("trees", name)
    for kind in ("memos", "records"):
        for name in store.entries(kind):
            store.forget(kind, name)
    again = build(linked, f"any {len(data)}", {"b": step % "a"})["b"].image.layers
    assert [layer.diff_id for layer in again] == [layer.diff_id for layer in first]
