"""The tree that extracting an archive makes: what tar would leave, in a layer's order."""

from __future__ import annotations

import random

import pytest

from builder.errors import LayerError
from builder.layer.entry import CHAR, DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from builder.layer.record import key_of, pack, unpack
from builder.layer.tree import Tree

XATTRS = ((b"security.capability", b"\0\1"), (b"user.a", b""))


def made(*members: Entry, **options: object) -> list[tuple[Entry, bytes]]:
    tree = Tree(**options)  # type: ignore[arg-type]  # told by the tests
    for number, entry in enumerate(members):
        tree.add(entry, b"%d" % number)
    found = list(tree.entries(lambda path: Entry(path, DIRECTORY, 0o755)))
    assert list(tree.entries(lambda path: Entry(path, DIRECTORY, 0o755))) == found
    tree.close()
    return found


def file(path: bytes, mode: int = 0o644) -> Entry:
    return Entry(path, FILE, mode)


def link(path: bytes, target: bytes) -> Entry:
    return Entry(path, HARDLINK, 0, link=target)


@pytest.mark.parametrize(
    "entry",
    [
        Entry(b"", DIRECTORY, 0o755),
        Entry(b"\xff" * 255 + b"/n", FILE, 0o7777, 4294967294, 4294967294, -(2**63), 2**63),
        Entry(b"a/l", SYMLINK, 0o777, mtime=2**63 - 1, link=b"../x" * 1000),
        Entry(b"x", FILE, 1, xattrs=XATTRS),
        Entry(b"d", CHAR, 0o600, device=(4095, 1048575)),
    ],
)
def test_a_record_is_its_entry(entry: Entry) -> None:
    record = pack(entry)
    assert unpack(b"before" + record + b"behind", 6) == (entry, 6 + len(record))


def test_order_is_by_component_and_the_last_of_one_path_counts() -> None:
    found = made(file(b"a-b"), file(b"a/x", 1), Entry(b"a", DIRECTORY, 0o700), file(b"a/x", 2))
    assert [(e.path, e.mode, more) for e, more in found] == [
        (b"a", 0o700, b"2"),
        (b"a/x", 2, b"3"),
        (b"a-b", 0o644, b"0"),
    ]


def test_missing_parents_are_asked_for_once_each() -> None:
    asked: list[bytes] = []
    tree = Tree()
    for path in (b"a/b/c/x", b"a/b/c/y", b"a/z", b"q/w"):
        tree.add(file(path))

    def parent(path: bytes) -> Entry | None:
        asked.append(path)
        return Entry(path, DIRECTORY, 0) if path == b"a/b" else None

    assert [e.path for e, _ in tree.entries(parent)] == [
        b"a/b",
        b"a/b/c/x",
        b"a/b/c/y",
        b"a/z",
        b"q/w",
    ]
    assert asked == [b"a", b"a/b", b"a/b/c", b"q"]


def test_hard_links_share_what_the_path_was_then() -> None:
    """As tar extracts it: what replaces the path later is another file."""
    found = made(file(b"z", 1), link(b"m", b"z"), file(b"z", 2), link(b"b", b"z"), link(b"k", b"m"))
    assert [(e.path, e.type, e.mode, e.link, more) for e, more in found] == [
        (b"b", FILE, 2, b"", b"2"),
        (b"k", FILE, 1, b"", b"0"),
        (b"m", HARDLINK, 1, b"k", b"0"),
        (b"z", HARDLINK, 2, b"b", b"2"),
    ]


def test_a_link_that_is_replaced_is_none() -> None:
    found = made(file(b"z", 1), link(b"a", b"z"), file(b"a", 2), link(b"b", b"a"))
    assert [(e.path, e.type, e.mode, e.link) for e, _ in found] == [
        (b"a", FILE, 2, b""),
        (b"b", HARDLINK, 2, b"a"),
        (b"z", FILE, 1, b""),
    ]


def test_a_link_to_itself_changes_nothing() -> None:
    assert made(file(b"a", 1), link(b"a", b"a")) == [(file(b"a", 1), b"0")]


def test_links_to_symlinks_may_become_copies() -> None:
    symlink = Entry(b"s", SYMLINK, 0o777, link=b"x")
    assert made(symlink, link(b"t", b"s"))[1][0].type == HARDLINK
    assert made(symlink, link(b"t", b"s"), copied=SYMLINK)[1][0] == symlink._replace(path=b"t")


def test_of_linked_paths_the_first_that_is_kept_is_the_file() -> None:
    found = made(
        file(b"b"), link(b"a", b"b"), link(b"c", b"b"), keep=lambda path: path not in (b"a", b"x")
    )
    assert [(e.path, e.type) for e, _ in found] == [(b"b", FILE), (b"c", HARDLINK)]


@pytest.mark.parametrize(
    "members",
    [
        [link(b"a", b"gone")],
        [link(b"a", b"b"), file(b"b")],
        [link(b"a", b"b"), link(b"b", b"a")],
        [link(b"a", b"a")],
        [Entry(b"d", DIRECTORY, 0), link(b"a", b"d")],
    ],
)
def test_links_to_no_file_before_them_are_refused(members: list[Entry]) -> None:
    with pytest.raises(LayerError, match=r"hard link 'a': no '[a-z]+' before it|hard link 'b'"):
        made(*members)


@pytest.mark.parametrize(
    "members",
    [
        [file(b"a"), file(b"a/b")],
        [file(b"a/b"), file(b"a")],
        [Entry(b"a", DIRECTORY, 0), file(b"a/b/c"), Entry(b"a", SYMLINK, 0, link=b"/")],
        [file(b"f"), file(b"a/b/c"), link(b"a/b", b"f")],
    ],
)
def test_nothing_lies_below_what_is_no_folder(members: list[Entry]) -> None:
    with pytest.raises(LayerError, match="which is not a directory"):
        made(*members)


def test_a_folder_that_is_something_else_too_is_refused_where_that_is_asked() -> None:
    members = [file(b"a"), Entry(b"a", DIRECTORY, 0)]
    assert made(*members)[0][0].type == DIRECTORY
    for each in (members, members[::-1]):
        with pytest.raises(LayerError, match="'a' is a directory and something else"):
            made(*each, mixed=False)


def test_more_than_memory_holds_is_the_same() -> None:
    """Against a dictionary, in an order that has nothing to do with the paths'."""
    rng = random.Random(4)
    wanted: dict[bytes, int] = {}
    tree = Tree()
    for number in range(250_000):
        path = b"d%d/f%d" % (rng.randrange(500), rng.randrange(300))
        wanted[path] = number
        tree.add(Entry(path, FILE, 0o644, mtime=number))
    found = [entry for entry, _ in tree.entries(lambda path: None)]
    assert [(e.path, e.mtime) for e in found] == sorted(
        wanted.items(), key=lambda each: key_of(each[0])
    )
    tree.close()
