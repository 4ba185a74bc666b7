"""Copies of more files than memory should hold: parts of a tree, rows on disk."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from builder.layer.entry import DIRECTORY, FILE, Entry, HostFile
from builder.layer.sorter import Pile
from builder.layer.write import sort_key
from builder.plan.changes import Changes
from builder.plan.context import Context
from builder.plan.known import UNKNOWN, split
from builder.plan.nodes import Tree
from builder.plan.spilled import Spilled
from builder.project import Options, Project
from builder.spec.model import Place
from builder.steps.copy import Copy
from builder.store.store import Store

HERE = Place("specs/a.yaml", 3, 5)
COUNT = 70_000  # more than are held, and than one part holds


def files(folder: Path, count: int, prefix: str = "f") -> None:
    for number in range(count):
        if number % 1000 == 0:
            below = folder / f"{prefix}{number // 1000:03d}"
            below.mkdir(parents=True)
            handle = os.open(below, os.O_RDONLY)
        os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=handle))
        if number % 1000 == 999:
            os.close(handle)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    files(root / "tree", COUNT)
    (root / "tree" / "f001" / "1001").write_text("something")
    (root / "late").mkdir()
    (root / "late" / "z").write_text("z")
    (root / "early" / "f000").mkdir(parents=True)
    (root / "early" / "f000" / "5").write_text("replaced")
    (root / "specs").mkdir()
    time.sleep(2.1)
    return root


def known(tree: Tree, pieces: list[bytes]) -> int:
    return sum(
        digest != UNKNOWN
        for nodes, piece in zip(tree.parts(), pieces, strict=True)
        for digest in split(piece, nodes)
    )


def test_what_waits_on_disk_comes_back_as_it_was() -> None:
    pile = Pile()
    blocks = [bytes([number]) * (3 << 20) for number in range(9)]
    for block in blocks:
        pile.append(block)
    assert [pile[number] for number in range(len(pile))] == blocks
    spilled = Spilled()
    rows: list[Any] = [
        (Entry(b"d", DIRECTORY, 0o755), None, b""),
        (Entry(b"d/f", FILE, 0o644, size=3), HostFile(b"/f"), b""),
        (Entry(b"d/g", FILE, 0o644, xattrs=((b"a", b"b"),)), HostFile(b"/g", b"x" * 32), b"x" * 32),
    ]
    assert spilled.take(rows[:2]) and spilled.take(rows[2:])
    assert list(spilled) == rows
    assert spilled.around == {b"d", b"d/g"}
    assert not spilled.take(rows[2:])
    assert len(spilled) == 3


@pytest.mark.parametrize("other", ["late/", "early/"])
def test_rows_on_disk_are_those_in_memory(shop: Any, root: Path, other: str) -> None:
    """`late/` comes behind all others; `early/` replaces a file that is on disk by then."""
    step = Copy(HERE, None, ("tree/", other), "/tmp/x/")
    made = shop._replace(context=root).planned(step).decision.changes
    assert isinstance(made, Changes)
    assert isinstance(made.rows, Spilled) == (other == "late/")
    rows = list(made.sorted())
    paths = [entry.path for entry, _ in rows]
    assert paths == sorted(paths, key=sort_key)
    # /tmp, which is not plain, /tmp/x and the folders; one file more
    assert (
        len(rows)
        == len(made.rows)
        == len(set(paths))
        == COUNT + COUNT // 1000 + 2 + (other == "late/")
    )
    assert paths[:3] == [b"tmp", b"tmp/x", b"tmp/x/f000"]
    assert rows[0][0].mode == 0o1777
    content = {entry.path: content for entry, content in rows}[b"tmp/x/f000/5"]
    assert isinstance(content, HostFile)
    source = root / ("tree" if other == "late/" else "early") / "f000" / "5"
    assert content.beneath is not None
    assert os.fsdecode(content.beneath.whole(os.fsencode(content.path))) == str(source)
    assert [line.split(b"\0")[0] for line in made.lines()] == paths


@pytest.mark.parametrize("other", ["late/", "early/"])
def test_links_among_rows_on_disk(shop: Any, root: Path, other: str) -> None:
    """`early/` replaces the file that the link is to."""
    link = root / "tree" / "f001" / "linked"
    os.link(root / "tree" / "f000" / "5", link)
    try:
        step = Copy(HERE, None, ("tree/", other), "/x/")
        made = shop._replace(context=root).planned(step).decision.changes
        entries = {entry.path: entry for entry, _ in made.sorted()}
    finally:
        link.unlink()
    linked = entries[b"x/f001/linked"]
    assert (linked.type, linked.link) == (("1", b"x/f000/5") if other == "late/" else ("0", b""))
    assert entries[b"x/f000/5"].type == "0"


def test_a_build_that_leaves_files_unread_has_the_key_of_one_that_does_not(root: Path) -> None:
    spec = "from: scratch\nsteps:\n- {copy: [tree/, late/], dest: /srv/}\n"
    (root / "specs" / "a.yaml").write_text(spec)

    def project(store: str) -> Project:
        options = Options(
            specs=str(root / "specs"), context=str(root), cache_dir=str(root / store), pull="never"
        )
        return Project(options)

    once = project("once")
    built = once.build(once.load(["a"])[0])["a"]
    other = project("other")
    (plan,) = other.plan(other.load(["a"])[0]).values()
    assert plan.steps[0].key == built.steps[-1].key
    context = Context(str(root), Store(str(root / "once")))
    (source,) = context.find("tree")
    tree = context.tree(source)
    assert known(tree, context.digests(tree, read_later=True)) == COUNT


def parts(store: Store) -> set[str]:
    """The entries of a tree and of its parts; files by themselves are in others."""
    return {name for name in store.entries("trees") if not name.startswith("files-")}


def test_only_what_changed_is_read_and_only_its_part_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    files(folder, 20_000)
    time.sleep(2.1)
    store = Store(str(tmp_path / "store"))
    context = Context(str(tmp_path), store)
    (source,) = context.find("tree")
    first = context.tree(source)
    context.digests(first)
    kept = parts(store)
    assert len(kept) == len(first.names) + 1 > 2
    os.rename(folder / "f003/3003", folder / "f012/moved")
    os.rename(folder / "f004/4004", folder / "f004/renamed")
    (folder / "f007/7007").write_text("other")
    second = context.tree(source)
    found = context.digests(second, read_later=True)  # the one that changed is few, so it is read
    assert known(second, found) == 20_000
    assert context.digests(second) == found
    whole = Context(str(tmp_path), Store(str(tmp_path / "fresh"))).digests(second)
    assert found == whole
    now = parts(store)
    assert len(now) == len(second.names) + 1  # those of parts that went are not left behind
    assert len(now & kept) >= 1
