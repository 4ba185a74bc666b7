"""A copy that was never built: its files are read once, for its key and its layer."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
import time
from pathlib import Path

import pytest

from builder.errors import BuilderError
from builder.make.image import Built
from builder.oci.digest import CacheKey
from builder.plan.context import Context, Matched
from builder.plan.keys import parse
from builder.plan.known import UNKNOWN, split
from builder.plan.packed import pack_index, unpack_index
from builder.project import Options, Project
from builder.store.records import load_document
from builder.store.store import Store

SPEC = "from: scratch\nsteps:\n- {name: tree, copy: [tree/, more/], dest: /srv/}\n"
COUNT = 200


def make(root: Path) -> Path:
    for folder, count in (("tree", COUNT), ("more", 70)):
        for number in range(count):
            path = root / folder / f"d{number % 7}" / f"f{number:03d}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{folder} {number}\n" * number)
    (root / "tree" / "large").write_bytes(bytes(range(256)) * (3 << 12))
    (root / "tree" / "link").symlink_to("large")
    (root / "specs").mkdir()
    (root / "specs" / "a.yaml").write_text(SPEC)
    return root


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are old enough for their times to tell a change."""
    root = make(tmp_path_factory.mktemp("settled"))
    time.sleep(2.1)
    return root


def project(root: Path, store: str) -> Project:
    options = Options(
        specs=str(root / "specs"), context=str(root), cache_dir=str(root / store), pull="never"
    )
    return Project(options)


def built(root: Path, store: str, name: str = "a") -> Built:
    made = project(root, store)
    return made.build(made.load([name])[0])[name]


def test_the_key_and_the_image_are_those_of_files_that_were_read_for_the_key(
    settled: Path,
) -> None:
    once = built(settled, "once")
    planned = project(settled, "twice")
    (plan,) = planned.plan(planned.load(["a"])[0]).values()
    assert plan.steps[0].key == once.steps[-1].key
    assert built(settled, "twice").manifest == once.manifest


def test_what_was_read_is_known_the_next_time(settled: Path) -> None:
    built(settled, "known")
    context = Context(str(settled), Store(str(settled / "known")))
    # 70 files of the first source were replaced by the second's, and never read
    for source, read in (("tree", COUNT + 1 - 70), ("more", 70)):
        tree = context.tree(Matched(source, source, True, False))
        (digests,) = context.digests(tree, read_later=True)
        assert sum(each != UNKNOWN for each in split(digests, tree.part(0))) == read


def test_a_second_spec_over_the_same_files_hits(settled: Path) -> None:
    once = built(settled, "store")
    (settled / "specs" / "b.yaml").write_text(SPEC)
    again = built(settled, "store", "b")
    assert [step.status for step in again.steps] == ["hit"]
    assert again.manifest == once.manifest


def test_young_files_are_hashed_first_so_that_a_second_spec_hits(tmp_path: Path) -> None:
    root = make(tmp_path)
    built(root, "store")
    (root / "specs" / "b.yaml").write_text(SPEC)
    assert [step.status for step in built(root, "store", "b").steps] == ["hit"]


def test_a_file_that_a_later_source_replaces_is_not_missed(settled: Path) -> None:
    files = contents(settled / "replaced", built(settled, "replaced"))
    assert files["srv/d3/f003"] == b"more 3\n" * 3
    assert files["srv/d3/f199"] == b"tree 199\n" * 199


def test_the_first_change_after_it_is_told_and_gives_the_image_of_a_fresh_store(
    tmp_path: Path,
) -> None:
    root = make(tmp_path)
    time.sleep(2.1)
    built(root, "store")
    (root / "tree" / "d3" / "f199").write_text("other")
    changed = built(root, "store")
    assert changed.steps[-1].why.startswith("/srv/d3/f199: content ")
    assert built(root, "fresh").manifest == changed.manifest


def test_files_that_change_meanwhile_give_the_bytes_of_the_key_or_an_error(
    tmp_path: Path,
) -> None:
    root = make(tmp_path)
    compared = 0
    for number in range(3):
        (root / "specs" / f"n{number}.yaml").write_text(SPEC)
        time.sleep(2.1)  # else nothing is left unread
        stop = threading.Event()
        thread = threading.Thread(target=churn, args=(root / "tree", stop))
        maker = project(root, "store")
        specs = maker.load([f"n{number}"])[0]
        thread.start()
        try:
            done = maker.build(specs)[f"n{number}"]
        except BuilderError as error:
            assert "changed while it was read" in error.message
            continue
        finally:
            stop.set()
            thread.join()
        data = load_document(Store(str(root / "store")), CacheKey(done.steps[-1].key))
        assert data is not None
        said = {
            path.decode(): rest.split(b" ")[-1].decode()
            for path, rest in parse(data)["entries"].items()
            if rest[:1] == b"0"
        }
        held = {
            path: hashlib.sha256(content).hexdigest()
            for path, content in contents(root / "store", done).items()
        }
        assert held == said
        compared += 1
    assert compared


def churn(tree: Path, stop: threading.Event) -> None:
    """Other bytes of the same size, again and again; the scan comes first, for a moment."""
    time.sleep(0.005)
    number = 0
    while not stop.is_set():
        number += 1
        path = tree / f"d{number % 7}" / f"f{number % COUNT:03d}"
        if path.exists():
            with path.open("r+b") as file:
                file.write(b"%d" % (number % 10) * path.stat().st_size)


def contents(store: Path, image: Built) -> dict[str, bytes]:
    layer = image.steps[-1].layer
    assert layer is not None
    plain = gzip.decompress(Path(Store(str(store)).blob_path(layer.blob.digest)).read_bytes())
    assert "sha256:" + hashlib.sha256(plain).hexdigest() == layer.diff_id
    found = {}
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        for member in tar:
            if member.isreg():
                file = tar.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    return found


def test_a_file_that_is_said_to_be_known_without_its_digest_is_read(tmp_path: Path) -> None:
    for name in ("tree", "more", "specs"):
        (tmp_path / name).mkdir()
    (tmp_path / "tree/a").write_text("a")
    (tmp_path / "specs/a.yaml").write_text(SPEC)
    time.sleep(2.1)  # as `settled`
    right = built(tmp_path, "one").manifest
    store = Store(str(tmp_path / "one"))
    zeroed = 0
    for name in store.entries("trees"):
        index = unpack_index(store.load("trees", name) or b"")
        if index and all(whole for _, whole in index.values()):
            zeroed += 1
            index = {part: (bytes(len(digests)), True) for part, (digests, _) in index.items()}
            store.save("trees", name, pack_index(index))
    assert zeroed == 2
    for kind in ("memos", "records"):
        for name in store.entries(kind):
            store.forget(kind, name)
    assert built(tmp_path, "one").manifest == right
