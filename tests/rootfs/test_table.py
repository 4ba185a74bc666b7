"""Path tables: what is written is what is found, in any order, or the table is corrupt."""

from __future__ import annotations

import io
import os
import random
import resource
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from builder.errors import BuilderError, CorruptBlob, LayerError
from builder.layer.entry import CHAR, DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from builder.rootfs.table import (
    MemoryTable,
    PathTable,
    Table,
    make_table,
    table_writer,
    write_table,
)
from builder.store.store import Store

ENTRIES = [
    Entry(b"", DIRECTORY, 0o711),
    Entry(b"a", DIRECTORY, 0o1777, 1, 2, -5),
    Entry(b"a-b", FILE, 0o644, 4294967294, 4294967294, 2**40, 2**41),
    Entry(b"a/x", FILE, 0o4755, xattrs=((b"security.capability", b"\0\1"), (b"user.a", b""))),
    Entry(b"a/y/z", SYMLINK, 0o777, link=b"../x"),
    Entry(b"a.b", CHAR, 0o600, device=(5, 1)),
    Entry(b"\xff" * 255 + b"/n", FILE, 0),
]


def written(tmp_path: Path, entries: list[Entry]) -> PathTable:
    write_table(str(tmp_path / "table"), entries, {b"etc/passwd": b"root"})
    return PathTable.open(str(tmp_path / "table"))


@pytest.fixture(params=["disk", "memory"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    shuffled = random.Random(1).sample(ENTRIES, len(ENTRIES))
    if request.param == "memory":
        return MemoryTable(shuffled, {b"etc/passwd": b"root"})
    return written(tmp_path, shuffled)


def test_every_entry_is_found_as_it_was(table: Table) -> None:
    assert [table.get(entry.path) for entry in ENTRIES] == ENTRIES


@pytest.mark.parametrize("path", [b"b", b"a/", b"a/y", b"a/x/q", b"a\xff", b"zz"])
def test_other_paths_are_not(table: Table, path: bytes) -> None:
    assert table.get(path) is None


def test_implied_folders_are_told(table: Table) -> None:
    assert table.implied == {b"a/y", b"\xff" * 255}


def test_account_files_are_kept(table: Table) -> None:
    assert table.files == {b"etc/passwd": b"root"}


def test_children_are_the_entries_directly_below(table: Table) -> None:
    assert [each.path for each in table.children(b"")] == [b"a", b"a-b", b"a.b"]
    assert [each.path for each in table.children(b"a")] == [b"a/x"]
    assert [each.path for each in table.children(b"a/y")] == [b"a/y/z"]


def test_a_subtree_is_everything_below(table: Table) -> None:
    assert [each.path for each in table.subtree(b"a")] == [b"a/x", b"a/y/z"]
    assert len(list(table.subtree(b""))) == len(ENTRIES) - 1


def test_whiteouts_stand_beside_the_entries(tmp_path: Path) -> None:
    table = written(tmp_path, [Entry(b"a/.wh.b", FILE, 0), Entry(b"c/.wh..wh..opq", FILE, 0)])
    assert table.whiteouts == {b"a/b"}
    assert table.opaque == {b"c"}
    assert table.implied == {b"", b"a", b"c"}
    assert len(table) == 0


def test_of_duplicates_the_last_counts(tmp_path: Path) -> None:
    entries = [Entry(b"d", FILE, 0o600), Entry(b"d", DIRECTORY, 0o700), Entry(b"d/x", FILE, 1)]
    entries += [Entry(b"d/x", FILE, 2), Entry(b"e", FILE, 3)]
    table = written(tmp_path, entries)
    assert list(table.subtree(b"")) == [entries[1], entries[3], entries[4]]


@pytest.mark.parametrize(
    "entries",
    [
        [Entry(b"d", DIRECTORY, 0), Entry(b"d/x", FILE, 0), Entry(b"d", FILE, 0)],
        [Entry(b"d", SYMLINK, 0, link=b"/etc"), Entry(b"d/x/y", FILE, 0)],
        [Entry(b"d", FILE, 0), Entry(b"d/.wh.x", FILE, 0)],
        [Entry(b"l", HARDLINK, 0, link=b"gone")],
        [Entry(b"d", DIRECTORY, 0), Entry(b"l", HARDLINK, 0, link=b"d")],
        [Entry(b"a", HARDLINK, 0, link=b"b"), Entry(b"b", HARDLINK, 0, link=b"a")],
    ],
)
def test_impossible_trees_are_refused(tmp_path: Path, entries: list[Entry]) -> None:
    with pytest.raises(LayerError, match=r"not a directory|no file of the same layer"):
        written(tmp_path, entries)
    with pytest.raises(LayerError, match=r"not a directory|no file of the same layer"):
        MemoryTable(entries)


def test_a_missing_table_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(CorruptBlob):
        PathTable.open(str(tmp_path / "none"))


def test_no_damage_goes_unnoticed(tmp_path: Path) -> None:
    entries = [Entry(b"d%03d/f%d" % (n % 50, n), FILE, 0o644, size=n) for n in range(2000)]
    written(tmp_path, entries)
    good = (tmp_path / "table").read_bytes()
    rng = random.Random(3)
    for _ in range(150):
        bad = bytearray(good)
        at = rng.randrange(len(bad))
        bad[at] ^= 1 << rng.randrange(8)
        damaged = bytes(bad) if rng.random() < 0.8 else good[:at]
        (tmp_path / "bad").write_bytes(damaged)
        with pytest.raises(CorruptBlob):
            list(PathTable.open(str(tmp_path / "bad")).subtree(b""))


def test_a_table_is_published_whole_in_the_store(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    diff_id = "sha256:" + "0" * 64
    assert make_table(store, diff_id, ENTRIES, {}).get(b"a") == ENTRIES[1]
    with pytest.raises(BuilderError):
        make_table(store, diff_id, [Entry(b"l", HARDLINK, 0, link=b"gone")], {})
    assert PathTable.open(store.table_path(diff_id)).get(b"a") == ENTRIES[1]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_memory_stays_bounded_with_many_entries(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = (Entry(b"usr/d%03d/some/file-%d" % (n % 1000, n), FILE, 0o644) for n in range(150_000))
    write_table(str(tmp_path / "table"), many, {})
    assert len(PathTable.open(str(tmp_path / "table"))) == 150_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


def test_a_table_of_more_than_memory_holds_is_the_same(tmp_path: Path) -> None:
    rng = random.Random(5)
    entries = [Entry(b"d%d" % n, DIRECTORY, 0o755) for n in range(400)]
    for number in range(200_000):
        entries.append(Entry(b"d%d/f%d" % (rng.randrange(400), number), FILE, number & 0o777))
    entries.append(Entry(b"l", HARDLINK, 0, link=entries[-1].path))
    rng.shuffle(entries)
    table = written(tmp_path, entries)
    assert len(table) == len(entries)
    paths = [each.path for each in table.subtree(b"")]
    assert paths == sorted((each.path for each in entries), key=lambda path: path.split(b"/"))
    for entry in rng.sample(entries, 2000):
        found = table.get(entry.path)
        assert found is not None
        assert found.mode == (entry.mode if entry.type != HARDLINK else table.get(entry.link).mode)  # type: ignore[union-attr]  # it is there
        assert table.get(entry.path + b"x") is None
    assert {p.name for p in tmp_path.iterdir()} == {"table"}


@pytest.mark.parametrize(("count", "right"), [(41, True), (42, False)])
def test_hard_links_to_hard_links_are_followed_so_far(
    tmp_path: Path, count: int, right: bool
) -> None:
    links = [Entry(b"l%03d" % n, HARDLINK, 0, link=b"l%03d" % (n + 1)) for n in range(count)]
    entries = [*links, Entry(b"l%03d" % count, FILE, 0o640)]
    if right:
        assert written(tmp_path, entries).get(b"l000") == Entry(b"l000", FILE, 0o640)
    else:
        with pytest.raises(LayerError, match="which is no file of the same layer"):
            written(tmp_path, entries)


def test_a_table_that_is_written_as_its_layer_is(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    diff_id = "sha256:" + "1" * 64
    with table_writer(store) as writer:
        for entry in ENTRIES:
            writer.add(entry)
        writer.publish(store, diff_id, {b"etc/passwd": b"root"})
    table = PathTable.open(store.table_path(diff_id), diff_id)
    assert [table.get(entry.path) for entry in ENTRIES] == ENTRIES
    assert table.files == {b"etc/passwd": b"root"}
    assert list((tmp_path / "tmp").iterdir()) == []


def _history(chance: random.Random) -> list[Entry]:
    """A layer in which names come again and again, as files, symlinks and hard links."""
    there: list[bytes] = []
    entries = []
    for number in range(chance.randint(3, 14)):
        name = chance.choice([b"a", b"b", b"c", b"d/e", b"d/f"])
        others = [each for each in there if each != name]
        kind = chance.choice([FILE, FILE, HARDLINK, HARDLINK, HARDLINK, SYMLINK])
        if kind == HARDLINK and others:
            entries.append(Entry(name, HARDLINK, 0o644, link=chance.choice(others)))
        elif kind == SYMLINK:
            entries.append(Entry(name, SYMLINK, 0o777, 0, 0, number, link=b"to%d" % number))
        else:
            entries.append(Entry(name, FILE, 0o600 + number, 0, 0, number, number + 1))
        there.append(name)
    return entries


def test_a_hard_link_stays_what_its_target_was_when_it_came(tmp_path: Path) -> None:
    """As GNU tar extracts them; a later entry of the target's name replaces the name alone."""
    rounds = 2000 if os.environ.get("RELIABILITY") == "full" else 60
    for seed in range(rounds):
        entries = _history(random.Random(seed))
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            for each in entries:
                info = tarfile.TarInfo(each.path.decode())
                info.type, info.mode, info.mtime = each.type.encode(), each.mode, each.mtime
                info.size, info.linkname = each.size, each.link.decode()
                archive.addfile(info, io.BytesIO(bytes(each.size)))
        folder = tmp_path / "tree"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        subprocess.run(["tar", "-xpf", tmp_path / "a.tar", "-C", folder], check=True)
        table = written(tmp_path, entries)
        for each in entries:
            found, path = table.get(each.path), folder / each.path.decode()
            state = path.lstat()
            assert found is not None, (seed, each.path)
            if stat.S_ISLNK(state.st_mode):
                assert (found.type, found.link) == (SYMLINK, os.fsencode(path.readlink())), seed
            else:
                said = (found.type, found.mode, found.size, found.mtime)
                is_ = (FILE, stat.S_IMODE(state.st_mode), state.st_size, int(state.st_mtime))
                assert said == is_, (seed, each.path)
        assert {each.path for each in table.subtree(b"")} == {each.path for each in entries}


def test_a_link_to_what_a_folder_replaced_is_still_a_file(tmp_path: Path) -> None:
    file = Entry(b"a", FILE, 0o644, size=3)
    table = written(
        tmp_path, [file, Entry(b"b", HARDLINK, 0o644, link=b"a"), Entry(b"a", DIRECTORY, 0o755)]
    )
    assert table.get(b"b") == file._replace(path=b"b")
    for entries in (
        [Entry(b"a", DIRECTORY, 0o755), Entry(b"b", HARDLINK, 0o644, link=b"a"), file],
        [
            Entry(b"a", HARDLINK, 0o644, link=b"none"),
            Entry(b"b", HARDLINK, 0o644, link=b"a"),
            file,
        ],
    ):
        with pytest.raises(LayerError, match="no file of the same layer"):
            written(tmp_path, entries)
