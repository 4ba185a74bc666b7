"""What `preserve` takes over from the context, and what `unpack` takes from an archive."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuilderError
from builder.layer.write import write_layer
from builder.spec.model import Place
from builder.steps.copy import Copy
from builder.steps.unpack import Unpack

HERE = Place("specs/a.yaml", 3, 5)


@pytest.fixture
def tree(shop: Any) -> Path:
    folder: Path = shop.context / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub").chmod(0o2770)
    (folder / "f").write_text("f")
    (folder / "f").chmod(0o4711)
    os.utime(folder / "f", ns=(1_234_567_890_999_999_999, 1_234_567_890_999_999_999))
    os.utime(folder / "sub", (1_111_111_111, 1_111_111_111))
    os.setxattr(folder / "f", "user.b", b"2")
    os.setxattr(folder / "f", "user.a", b"1")
    return folder


def copied(shop: Any, *preserve: str, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = shop.entries(
        Copy(HERE, None, ("tree",), "/to", preserve=preserve, **options)
    )
    return found


def test_without_it_nothing_of_the_checkout_counts(shop: Any, tree: Path) -> None:
    entries = copied(shop)
    assert (entries["to/f"].mode, entries["to/sub"].mode) == (0o755, 0o755)
    assert {entry.mtime for entry in entries.values()} == {315532800}
    assert {entry.xattrs for entry in entries.values()} == {()}


def test_modes(shop: Any, tree: Path) -> None:
    entries = copied(shop, "mode")
    assert (entries["to/f"].mode, entries["to/sub"].mode) == (0o4711, 0o2770)


def test_times_are_whole_seconds(shop: Any, tree: Path) -> None:
    entries = copied(shop, "mtime")
    assert (entries["to/f"].mtime, entries["to/sub"].mtime) == (1_234_567_890, 1_111_111_111)


def test_xattrs_are_sorted(shop: Any, tree: Path) -> None:
    assert copied(shop, "xattrs")["to/f"].xattrs == ((b"user.a", b"1"), (b"user.b", b"2"))


@pytest.mark.root
def test_owners(shop: Any, tree: Path) -> None:
    os.chown(tree / "f", 12, 34)
    entries = copied(shop, "owner")
    assert (entries["to/f"].uid, entries["to/f"].gid) == (12, 34)
    assert copied(shop, "mtime")["to/f"].uid == 0


def test_a_changed_attribute_is_a_miss(shop: Any, tree: Path) -> None:
    step = Copy(HERE, None, ("tree",), "/to", preserve=("mtime", "xattrs"))
    before = shop.key(step)
    os.setxattr(tree / "f", "user.a", b"other")
    assert shop.key(step) != before


# -- unpack ---------------------------------------------------------------------------------------


def pack(path: Path, *members: tuple[str, bytes, str]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, kind, what in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, what if kind != tarfile.REGTYPE else ""
            data = what.encode() if kind == tarfile.REGTYPE else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def unpacked(shop: Any, **options: Any) -> Any:
    return shop.planned(Unpack(HERE, None, ("a.tar",), "/to", **options))


def test_hard_links_stand_in_the_order_of_a_layer(shop: Any) -> None:
    pack(
        shop.context / "a.tar",
        ("z", tarfile.REGTYPE, "data"),
        ("a", tarfile.LNKTYPE, "z"),
        ("m", tarfile.LNKTYPE, "a"),
    )
    made = unpacked(shop).decision.changes
    entries = {row[0].path: row[0] for row in made.rows}
    assert (entries[b"to/a"].type, entries[b"to/a"].size) == ("0", 4)
    assert [(entries[each].type, entries[each].link) for each in (b"to/m", b"to/z")] == [
        ("1", b"to/a"),
        ("1", b"to/a"),
    ]
    assert write_layer(made.sorted(), shop.store) is not None


def test_leading_folders_are_left_out(shop: Any) -> None:
    pack(
        shop.context / "a.tar",
        ("top", tarfile.DIRTYPE, ""),
        ("top/f", tarfile.REGTYPE, "x"),
        ("top/l", tarfile.LNKTYPE, "top/f"),
        ("outside", tarfile.REGTYPE, "x"),
    )
    assert {row[0].path for row in unpacked(shop, strip_components=1).decision.changes.rows} == {
        b"to",
        b"to/f",
        b"to/l",
    }


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../out", tarfile.REGTYPE, "x")], "../out"),
        ([("a/../../out", tarfile.REGTYPE, "x")], "out"),
        ([("l", tarfile.LNKTYPE, "/etc/passwd")], "hard link"),
        ([("l", tarfile.LNKTYPE, "l")], "hard link"),
        ([("a", tarfile.LNKTYPE, "b"), ("b", tarfile.LNKTYPE, "a")], "hard link"),
        ([("d", tarfile.DIRTYPE, ""), ("l", tarfile.LNKTYPE, "d")], "'d'"),
        ([("a", tarfile.REGTYPE, "x"), ("a/b", tarfile.REGTYPE, "x")], "a"),
        ([(".wh.x", tarfile.REGTYPE, "")], ".wh."),
        ([("d/.wh..wh..opq", tarfile.REGTYPE, "")], ".wh."),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(m[0] for m in value),
)
def test_a_hostile_archive_is_refused(
    shop: Any, members: list[tuple[str, bytes, str]], message: str
) -> None:
    pack(shop.context / "a.tar", *members)
    with pytest.raises(BuilderError) as caught:
        write_layer(unpacked(shop).decision.changes.sorted(), shop.store)
    assert message in caught.value.message


def become_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_an_archive_that_changed_since_the_plan_is_an_error(shop: Any) -> None:
    path = shop.context / "a.tar"
    for change in (
        lambda: pack(path, ("f", tarfile.REGTYPE, "other")),
        lambda: path.write_bytes(path.read_bytes()[:600]),
        lambda: os.truncate(path, 0),
        lambda: become_fifo(path),
    ):
        path.unlink(missing_ok=True)
        pack(path, ("f", tarfile.REGTYPE, "first"))
        made = unpacked(shop).decision.changes
        change()
        with pytest.raises(BuilderError):
            write_layer(made.sorted(), shop.store)


def test_a_symlink_in_an_archive_leads_nothing_out_of_the_image(shop: Any) -> None:
    """What lies below it lands where the link leads in the image, or is refused."""
    pack(
        shop.context / "a.tar",
        ("up", tarfile.SYMTYPE, "../../../../tmp"),
        ("up/f", tarfile.REGTYPE, "x"),
    )
    with pytest.raises(BuilderError):
        write_layer(unpacked(shop).decision.changes.sorted(), shop.store)
