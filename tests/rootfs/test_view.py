"""View: what the layers of an image add up to."""

from __future__ import annotations

import pytest

from builder.errors import BuilderError, LayerError
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from builder.rootfs.table import MemoryTable
from builder.rootfs.view import View


def directory(path: str, mode: int = 0o755) -> Entry:
    return Entry(path.encode(), DIRECTORY, mode)


def file(path: str, mode: int = 0o644, size: int = 0) -> Entry:
    return Entry(path.encode(), FILE, mode, size=size)


def link(path: str, to: str) -> Entry:
    return Entry(path.encode(), SYMLINK, 0o777, link=to.encode())


def view(*layers: list[Entry]) -> View:
    return View(tuple(MemoryTable(layer) for layer in layers))


def names(seen: View, path: bytes = b"") -> list[bytes]:
    return [found.entry.path for found in seen.subtree(path)]


def test_a_path_comes_from_the_topmost_layer_that_has_it() -> None:
    seen = view([directory("a"), file("a/x", 0o644)], [file("a/x", 0o600)])
    found = seen.lookup(b"a/x")
    assert found is not None
    assert (found.entry.mode, found.table) == (0o600, 1)


def test_an_implied_folder_keeps_the_metadata_it_has_below() -> None:
    found = view([directory("tmp", 0o1777)], [file("tmp/x")]).lookup(b"tmp")
    assert found is not None
    assert (found.entry.mode, found.table) == (0o1777, 0)


def test_an_implied_folder_of_no_layer_is_0755() -> None:
    found = view([file("a/b/c")]).lookup(b"a/b")
    assert found is not None
    assert (found.entry, found.table) == (directory("a/b"), -1)


def test_a_whiteout_removes_a_path_and_what_is_below() -> None:
    seen = view([directory("a"), directory("a/b"), file("a/b/c"), file("a/d")], [file("a/.wh.b")])
    assert names(seen) == [b"a", b"a/d"]
    assert seen.lookup(b"a/b/c") is None


def test_a_whiteout_beside_a_new_folder_of_the_name_hides_only_the_old_contents() -> None:
    seen = view([directory("a"), file("a/old")], [file(".wh.a"), directory("a"), file("a/new")])
    assert names(seen) == [b"a", b"a/new"]


def test_an_opaque_folder_hides_what_was_in_it() -> None:
    seen = view([directory("a"), file("a/old")], [file("a/.wh..wh..opq"), file("a/new")])
    assert names(seen) == [b"a", b"a/new"]


def test_a_file_in_place_of_a_folder_hides_its_contents_for_good() -> None:
    seen = view([directory("a"), file("a/old")], [file("a")], [directory("a"), file("a/new")])
    assert names(seen) == [b"a", b"a/new"]


def test_a_hard_link_has_the_metadata_of_its_file() -> None:
    hard = Entry(b"b", HARDLINK, 0, link=b"a")
    found = view([file("a", 0o4755, 7), hard]).lookup(b"b")
    assert found is not None
    assert found.entry == file("b", 0o4755, 7)


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("lib/x", "usr/lib/x"),
        ("lib", "usr/lib"),
        ("abs/y/z", "usr/lib/y/z"),
        ("up/etc", "etc"),
        ("usr/lib/../../lib/new/dir", "usr/lib/new/dir"),
        ("chain/q", "usr/lib/q"),
        ("dangling/q", "nowhere/q"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc//passwd/", "etc/passwd"),
    ],
)
def test_symlinks_are_followed_inside_the_root(path: str, resolved: str) -> None:
    seen = view(
        [
            directory("usr"),
            directory("usr/lib"),
            link("lib", "usr/lib"),
            link("abs", "/usr/lib"),
            link("up", "../../../.."),
            link("chain", "lib"),
            link("dangling", "/nowhere"),
        ]
    )
    assert seen.resolve(path.encode(), follow_last=True) == resolved.encode()


def test_the_last_symlink_is_left_when_asked() -> None:
    assert view([link("lib", "usr/lib")]).resolve(b"lib", follow_last=False) == b"lib"


def test_a_loop_of_symlinks_is_an_error() -> None:
    with pytest.raises(LayerError, match="more than 40 symlinks"):
        view([link("a", "b"), link("b", "a")]).resolve(b"a", follow_last=True)


def test_an_entry_below_a_symlink_of_its_layer_is_refused() -> None:
    with pytest.raises(BuilderError, match="'a/x' lies below 'a', which is not a directory"):
        view([link("a", "/etc"), file("a/x")])


def test_a_hard_link_to_another_layer_is_refused() -> None:
    with pytest.raises(BuilderError, match="no file of the same layer"):
        view([file("a")], [Entry(b"b", HARDLINK, 0, link=b"a")])


def test_trees_deeper_than_the_stack_are_walked() -> None:
    assert len(names(view([file("a/" * 2000 + "b")]))) == 2001


def test_account_files_are_found_through_symlinks() -> None:
    table = MemoryTable(
        [link("etc", "usr/etc"), file("usr/etc/passwd", size=4)], {b"usr/etc/passwd": b"root"}
    )
    assert View((table,)).read_small(b"etc/passwd") == b"root"
    assert View((table,)).read_small(b"etc/group") is None


def test_an_account_file_that_was_not_kept_is_an_error() -> None:
    with pytest.raises(LayerError, match="/etc/passwd: its contents are not known"):
        view([file("etc/passwd", size=1 << 21)]).read_small(b"etc/passwd")
