"""Contexts that are odd, hostile, or change under the builder's hands."""

from __future__ import annotations

import gzip
import io
import os
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuilderError, LayerError
from builder.layer.entry import FILE
from builder.layer.write import write_layer
from builder.oci.digest import hasher
from builder.plan.context import Context
from builder.spec.model import Place
from builder.steps.copy import Copy
from builder.steps.directory import Directory
from builder.steps.file import File
from builder.steps.remove import Remove
from builder.steps.symlink import Symlink
from builder.steps.template import Template
from builder.steps.unpack import Unpack
from builder.store.store import Store

HERE = Place("specs/a.yaml", 3, 5)


def copy(*sources: str, dest: str = "/to/", **options: Any) -> Copy:
    return Copy(HERE, None, sources, dest, **options)


# -- out of the context, in circles ---------------------------------------------------------------


def outside(folder: Path) -> None:
    (folder.parent / "secret").mkdir()
    (folder.parent / "secret" / "key").write_text("secret")
    (folder / "file").symlink_to("../secret/key")
    (folder / "dir").symlink_to("../secret")
    (folder / "absolute").symlink_to("/etc/passwd")
    (folder / "twice").symlink_to("dir")
    (folder / "loop").symlink_to("loop")
    (folder / "one").symlink_to("other")
    (folder / "other").symlink_to("one")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "inside").mkdir()
    (folder / "inside" / "back").symlink_to("../inside")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("../secret/key", "'../secret/key' leads out of the context"),
        ("inside/../../secret", "'inside/../../secret' leads out of the context"),
        ("file", "'file' leads out of the context through a symlink"),
        ("dir", "'dir' leads out of the context through a symlink"),
        ("dir/key", "'dir/key' leads out of the context through a symlink"),
        ("twice/key", "'twice/key' leads out of the context through a symlink"),
        ("dir/*", "'dir/*' leads out of the context through a symlink"),
        ("di*/key", "'di*/key' leads out of the context through a symlink"),
        ("absolute", "'absolute' leads out of the context through a symlink"),
        ("loop", "'loop' leads through symlinks in a circle"),
        ("lo*", "'loop' leads through symlinks in a circle"),
        ("dangl*", "'dangling' does not exist in the context"),
        ("one", "'one' leads through symlinks in a circle"),
        ("dangling", "'dangling' does not exist in the context"),
        ("insid", "'insid' does not exist in the context"),
        ("nothing*", "'nothing*' matches nothing in the context"),
        ("inside/back/back/x", "'inside/back/back/x' does not exist in the context"),
    ],
)
def test_a_source_out_of_the_context_is_refused(shop: Any, source: str, message: str) -> None:
    outside(shop.context)
    with pytest.raises(BuilderError) as caught:
        shop.planned(copy(source))
    assert caught.value.message == f"specs/a.yaml:3:5: {message}"


@pytest.mark.parametrize(
    "step", [Unpack(HERE, None, ("file",), "/"), Template(HERE, None, "/x", "file")]
)
def test_other_sources_out_of_the_context_are_refused(shop: Any, step: Any) -> None:
    outside(shop.context)
    with pytest.raises(BuilderError, match="leads out of the context through a symlink"):
        shop.planned(step)


def test_symlinks_within_a_directory_are_copied_as_they_are(shop: Any) -> None:
    outside(shop.context)
    entries = shop.entries(copy(".", dest="/to"))
    assert entries["to/absolute"].link == b"/etc/passwd"
    assert entries["to/dir"].link == b"../secret"
    assert "to/dir/key" not in entries


def test_what_dockerignore_leaves_out_is_not_reached_through_a_symlink(shop: Any) -> None:
    (shop.context / "key").write_text("secret")
    (shop.context / "link").symlink_to("key")
    (shop.context / "dir").mkdir()
    (shop.context / "dir" / "f").write_text("f")
    (shop.context / ".dockerignore").write_text("key\ndir\n")
    for source in ("key", "link", "dir", "dir/f"):
        with pytest.raises(BuilderError, match=r"is excluded by \.dockerignore"):
            shop.planned(copy(source))


def test_a_glob_passes_by_what_dockerignore_leaves_out(shop: Any) -> None:
    for name in ("a.txt", "b.txt", "dir/c.txt", "kept/d.txt", "kept/e.txt"):
        (shop.context / name).parent.mkdir(exist_ok=True)
        (shop.context / name).write_text(name)
    ignore = shop.context / ".dockerignore"
    ignore.write_text("a.txt\ndir\nkept/e.txt\n")
    assert set(shop.entries(copy("*"))) == {
        *("to", "to/b.txt", "to/kept", "to/kept/d.txt", "to/.dockerignore")
    }
    ignore.write_text("*\n!kept/d.txt\n")
    assert set(shop.entries(copy("k*", "."))) >= {"to/kept", "to/kept/d.txt"}
    with pytest.raises(BuilderError, match="matches nothing"):
        shop.planned(copy("*.txt"))


# -- targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (File(HERE, None, "/loop/x", "x"), "runs through more than 40 symlinks"),
        (copy("f", dest="/loop/"), "runs through more than 40 symlinks"),
        (File(HERE, None, "/file/x", "x"), "'/file' is not a directory in the image"),
        (File(HERE, None, "/dir", "x"), "'/dir' is a directory in the image"),
        (Directory(HERE, None, "/file"), "'/file' is a file in the image, not a directory"),
        (Symlink(HERE, None, "/dir", "x"), "'/dir' is a directory in the image"),
        (Remove(HERE, None, ("/",)), "'/' cannot be removed"),
        (copy("f", dest="/file/"), "'/file/' is a file in the image, not a directory"),
        (copy("d", dest="/file"), "'/file' is a file in the image"),
        (copy("f", owner="nobody-here"), "user 'nobody-here' is not in the image's /etc/passwd"),
        (copy("f", owner="0:no-group"), "group 'no-group' in '0:no-group' is not in"),
        (copy(".wh.x"), "cannot be in an image: '.wh.' means a removal"),
        (File(HERE, None, "/a/.wh..wh..opq", ""), "cannot be in an image"),
    ],
)
def test_a_target_that_cannot_be_is_refused(shop: Any, step: Any, message: str) -> None:
    (shop.context / "f").write_text("f")
    (shop.context / "d").mkdir()
    (shop.context / "d" / "x").write_text("x")
    (shop.context / ".wh.x").write_text("x")
    with pytest.raises(BuilderError) as caught:
        shop.planned(step)
    assert message in caught.value.message
    assert caught.value.message.startswith("specs/a.yaml:3:5: ")


def test_a_parent_that_is_not_plain_comes_along(shop: Any) -> None:
    """Docker's overlay2 makes a parent that a layer does not name 0755 0:0 over the one below."""
    entries = shop.entries(File(HERE, None, "/tmp/x", "x"))
    assert set(entries) == {"tmp", "tmp/x"}
    assert entries["tmp"].mode == 0o1777
    entries = shop.entries(File(HERE, None, "/dir/new/x", "x"))
    assert [(path, e.mode, e.uid) for path, e in entries.items() if e.type == "5"] == [
        ("dir", 0o750, 5),
        ("dir/new", 0o755, 0),
    ]
    assert set(shop.entries(File(HERE, None, "/usr/lib/x", "x"))) == {"usr/lib/x"}


def test_a_symlink_of_a_step_that_is_not_built_yet_is_followed(shop: Any) -> None:
    (shop.context / "d" / "sub").mkdir(parents=True)
    (shop.context / "d" / "sub" / "x").write_text("x")
    link = Symlink(HERE, None, "/srv/link", "../usr")
    assert set(shop.entries(link, copy("d", dest="/srv/link"))) == {"usr/sub", "usr/sub/x"}
    assert set(shop.entries(link, copy("d", dest="/srv/link/lib/"))) == {
        "usr/lib/sub",
        "usr/lib/sub/x",
    }
    nested = Symlink(HERE, None, "/usr/sub", "/dir")
    assert set(shop.entries(link, nested, copy("d", dest="/srv/link"))) == {"dir", "dir/x"}


# -- odd names ------------------------------------------------------------------------------------

NAMES = [
    b"\xff\xfe",
    b"new\nline",
    b"tab\tx",
    b" space ",
    b"-dash",
    b"\xc3\xa4",
    b"a\\b",
    b'"',
    b"x" * 255,
]


def test_any_name_is_copied(shop: Any) -> None:
    folder = os.fsencode(shop.context) + b"/d"
    os.mkdir(folder)
    for name in NAMES:
        with open(folder + b"/" + name, "wb") as file:
            file.write(name)
    planned = shop.planned(copy("d", dest="/to"))
    assert {row[0].path for row in planned.decision.changes.rows if b"/" in row[0].path} == {
        b"to/" + n for n in NAMES
    }
    assert write_layer(planned.decision.changes.sorted(), shop.store) is not None
    assert shop.key(copy("d", dest="/to")) == planned.key


def test_names_that_differ_only_in_case_are_two_files(shop: Any) -> None:
    for name in ("README", "readme", "ReadMe"):
        (shop.context / name).write_text(name)
    found = set(shop.entries(copy("*")))
    assert found == {"to", "to/README", "to/readme", "to/ReadMe"}


def test_a_tree_deeper_than_pythons_stack(shop: Any) -> None:
    depth = (4000 - len(os.fsencode(shop.context))) // 2
    here = os.getcwd()
    os.chdir(shop.context)
    try:
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        Path("f").write_text("f")
    finally:
        os.chdir(here)
    try:
        made = shop.planned(copy("d", dest="/to")).decision.changes
        assert len(made.rows) == depth + 1
        assert write_layer(made.sorted(), shop.store) is not None
    finally:
        subprocess.run(["rm", "-rf", shop.context / "d"], check=True)  # rmtree is recursive


def test_a_path_longer_than_an_image_takes_is_an_error(shop: Any) -> None:
    deep = shop.context / "d"
    while len(os.fsencode(deep)) < 3800:
        deep = deep / ("n" * 200)
    os.makedirs(deep)
    (deep / "f").write_text("f")
    made = shop.planned(copy("d", dest="/" + "t" * 250 + "/" + "u" * 250)).decision.changes
    with pytest.raises(LayerError, match="longer than a path may be"):
        write_layer(made.sorted(), shop.store)


# -- what is no file ------------------------------------------------------------------------------


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def test_a_fifo_is_copied_and_never_opened(shop: Any) -> None:
    os.mkfifo(shop.context / "pipe")
    with within(5):
        entries = shop.entries(copy("pipe"))
        assert entries["to/pipe"].type == "6"
        for step in (Unpack(HERE, None, ("pipe",), "/to"), Template(HERE, None, "/x", "pipe")):
            with pytest.raises(BuilderError, match="'pipe' is not a file"):
                shop.planned(step)


def test_a_fifo_in_the_place_of_dockerignore_does_not_block(shop: Any) -> None:
    (shop.context / "f").write_text("f")
    os.mkfifo(shop.context / ".dockerignore")
    with within(5), pytest.raises(BuilderError, match=r"dockerignore' is not a regular file"):
        shop.planned(copy("f"))


def test_a_socket_is_left_out_with_a_note(shop: Any) -> None:
    (shop.context / "d").mkdir()
    (shop.context / "d" / "f").write_text("f")
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(shop.context / "d")  # a socket's path has at most 107 bytes
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        planned = shop.planned(copy("d", dest="/to"))
    assert {row[0].path for row in planned.decision.changes.rows} == {b"to", b"to/f"}
    assert "is a socket or device and is left out" in planned.notes[0]


# -- files that change ----------------------------------------------------------------------------


def test_a_file_that_is_gone_when_it_is_written_is_an_error(shop: Any) -> None:
    (shop.context / "f").write_text("f")
    made = shop.planned(copy("f")).decision.changes
    (shop.context / "f").unlink()
    with pytest.raises(LayerError, match="'to/f' cannot be read: No such file"):
        write_layer(made.sorted(), shop.store)


def replaced(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


@pytest.mark.parametrize("size", [3, 3 << 20])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"y" * path.stat().st_size),
        lambda path: path.write_bytes(b"x" * (path.stat().st_size - 1)),
        lambda path: path.write_bytes(b"x" * (path.stat().st_size + 1)),
        replaced(lambda path: path.symlink_to("/etc/passwd")),
        replaced(os.mkfifo),
        replaced(os.mkdir),
    ],
    ids=["other bytes", "shorter", "longer", "a symlink", "a FIFO", "a directory"],
)
def test_a_file_that_changed_since_the_plan_is_an_error(
    shop: Any, size: int, change: Callable[[Path], object]
) -> None:
    path = shop.context / "f"
    path.write_bytes(b"x" * size)
    made = shop.planned(copy("f")).decision.changes
    change(path)
    with within(10), pytest.raises(LayerError):
        write_layer(made.sorted(), shop.store)


def test_a_layer_has_the_bytes_of_its_key_or_is_not_made(tmp_path: Path, shop: Any) -> None:
    """One thread changes files as fast as it can while another plans and writes layers."""
    folder = shop.context / "d"
    folder.mkdir()
    paths = [folder / f"f{number}" for number in range(8)]
    for path in paths:
        path.write_bytes(b"0" * 5000)
    stop = threading.Event()

    def churn() -> None:
        count = 0
        while not stop.is_set():
            path = paths[count % 8]
            count += 1
            with open(path, "r+b") as file:
                match count % 3:
                    case 0:
                        file.truncate(count % 7000)
                    case 1:
                        file.seek(0, os.SEEK_END)
                        file.write(b"%d" % count)
                    case _:
                        file.write(b"%d" % count * 20)

    thread = threading.Thread(target=churn)
    thread.start()
    made = refused = 0
    layers: dict[str, str] = {}
    try:
        until = time.monotonic() + 4
        while time.monotonic() < until:
            try:
                planned = shop.planned(copy("d", dest="/to"))
                written = write_layer(planned.decision.changes.sorted(), shop.store)
            except BuilderError as error:
                assert "changed while it was read" in error.message
                refused += 1
                continue
            assert written is not None
            assert layers.setdefault(planned.key, written.layer.diff_id) == written.layer.diff_id
            wanted = {
                entry.path.decode(): digest
                for entry, _, digest in planned.decision.changes.rows
                if entry.type == FILE
            }
            assert contents(shop.store, written) == wanted
            made += 1
    finally:
        stop.set()
        thread.join()
    assert refused
    stop.clear()
    planned = shop.planned(copy("d", dest="/to"))
    assert write_layer(planned.decision.changes.sorted(), shop.store) is not None


def contents(store: Store, written: Any) -> dict[str, bytes]:
    """Digests of the files in a layer."""
    with store.open(written.layer.blob) as blob:
        data = io.BytesIO(gzip.decompress(blob.read()))
    with tarfile.open(fileobj=data) as tar:
        files = [member for member in tar if member.isreg()]
        return {each.name: hasher(tar.extractfile(each).read()).digest() for each in files}  # type: ignore[union-attr]  # regular files have content


def test_a_file_that_changed_after_it_was_remembered_is_read_again(shop: Any) -> None:
    path = shop.context / "f"
    path.write_bytes(b"one")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    time.sleep(2.2)  # now it is old enough to be remembered
    context = Context(str(shop.context), shop.store)
    (source,) = context.find("f")
    first = context.digests(context.tree(source))
    assert context.tree(source).settled
    path.write_bytes(b"two")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert context.digests(context.tree(source)) != first
