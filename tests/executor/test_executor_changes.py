"""What a command changes is the same layer whichever executor ran it."""

from __future__ import annotations

import os
import socket
import stat
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from builder.errors import LayerError
from builder.executor.changes import Tree, changeset
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, Entry

pytestmark = [pytest.mark.root, pytest.mark.needs("runc", "busybox")]

EPOCH, OLD = 315532800, 300000000

# what a step does, and the paths of its layer in order
STEPS: dict[str, tuple[str, list[str]]] = {
    "nothing": ("true", []),
    "new file": ("echo hi > /new", ["new"]),
    "file in a folder": ("echo hi > /srv/kept/new", ["srv", "srv/kept", "srv/kept/new"]),
    "removed file": ("rm /srv/old/file", ["srv", "srv/old", "srv/old/.wh.file"]),
    "removed folder": ("rm -r /srv/old", ["srv", "srv/.wh.old"]),
    "folder made anew": (
        "rm -r /srv/old; mkdir /srv/old; echo 1 > /srv/old/n",
        ["srv", "srv/old", "srv/old/.wh.deep", "srv/old/.wh.file", "srv/old/n"],
    ),
    "folder made anew as it was": (
        "cp -a /srv/kept /x; rm -r /srv/kept; mv /x /srv/kept",
        [],
    ),
    "folder made anew with what it held": (
        "rm -r /srv/old; mkdir -p /srv/old/deep; echo 1 > /srv/old/deep/n",
        [
            "srv",
            "srv/old",
            "srv/old/.wh.file",
            "srv/old/deep",
            "srv/old/deep/.wh.file",
            "srv/old/deep/n",
        ],
    ),
    "folders that change places": (
        "mv /srv/old /t; mv /srv/kept /srv/old; mkdir /srv/old/deep; mv /t /srv/kept",
        [
            "srv",
            "srv/kept",
            "srv/kept/.wh.a",
            "srv/kept/.wh.b",
            "srv/kept/deep",
            "srv/kept/deep/file",
            "srv/kept/file",
            "srv/old",
            "srv/old/.wh.file",
            "srv/old/a",
            "srv/old/b",
            "srv/old/deep",
            "srv/old/deep/.wh.file",
        ],
    ),
    "an overlay's mark that is not ours": (
        "setfattr -n user.overlay.opaque -v y /srv/old; echo 1 > /srv/old/n",
        ["srv", "srv/old", "srv/old/n"],
    ),
    "folder to file": ("rm -r /srv/old; echo 1 > /srv/old", ["srv", "srv/old"]),
    "folder to symlink": ("rm -r /srv/old; ln -s kept /srv/old", ["srv", "srv/old"]),
    "file to folder": (
        "rm /srv/one; mkdir /srv/one; echo 1 > /srv/one/x",
        ["srv", "srv/one", "srv/one/x"],
    ),
    "symlink to folder": (
        "rm /srv/link; mkdir /srv/link; touch /srv/link/a",
        ["srv", "srv/link", "srv/link/a"],
    ),
    "symlink retargeted": ("ln -sfn old /srv/link", ["srv", "srv/link"]),
    "moved folder": (
        "mv /srv/old /srv/new",
        ["srv", "srv/.wh.old", "srv/new", "srv/new/deep", "srv/new/deep/file", "srv/new/file"],
    ),
    "made and removed": ("mkdir /tmp/a; touch /tmp/a/b /tmp/c; rm -r /tmp/a /tmp/c", []),
    "made and removed in an old folder": ("touch /srv/old/t; rm /srv/old/t", []),
    "written with equal bytes and time": (
        "cat /srv/kept/a > /x; cat /x > /srv/kept/a; rm /x; touch -d @300000000 /srv/kept/a",
        [],
    ),
    "mode there and back": ("chmod 600 /srv/kept/a; chmod 644 /srv/kept/a", []),
    "touched": ("touch /srv/kept/a", ["srv", "srv/kept", "srv/kept/a"]),
    "mode of a file": ("chmod 4755 /srv/kept/a", ["srv", "srv/kept", "srv/kept/a"]),
    "owner of a folder": ("chown 12:4294967294 /srv/kept", ["srv", "srv/kept"]),
    "mode of a folder": ("chmod 2770 /srv/kept", ["srv", "srv/kept"]),
    "root folder": ("chmod 700 /; chown 1:1 /", []),
    "hard links": (
        "echo 1 > /srv/b; ln /srv/b /srv/a; ln /srv/b /tmp/c",
        ["srv", "srv/a", "srv/b", "tmp", "tmp/c"],
    ),
    "link to an old file": (
        "ln /srv/kept/b /srv/kept/c",
        ["srv", "srv/kept", "srv/kept/b", "srv/kept/c"],
    ),
    "one of two linked names changed": ("echo 2 >> /srv/two", ["srv", "srv/two"]),
    "sticky and set-user-ID": (
        "mkdir -m 1777 /s; echo 1 > /s/x; chmod 6755 /s/x",
        ["s", "s/x"],
    ),
    "fifo": ("mkfifo -m 640 /pipe", ["pipe"]),
    "device": ("mknod -m 600 /loop b 7 3; mknod /nul c 1 3", ["loop", "nul"]),
    "symlinks": ("ln -s /nowhere /a; ln -s ../x /b", ["a", "b"]),
    "sparse": ("dd if=/dev/null of=/hole bs=1 seek=3000000 2>/dev/null", ["hole"]),
    "no utf-8": ("touch $(printf '/\\377\\376')", ["\udcff\udcfe"]),
    "long path": (
        "x=$(printf 'x%.0s' $(seq 200)); d=/$x/$x/$x/$x/$x; mkdir -p $d; touch $d/f",
        ["/".join(["x" * 200] * n) for n in (1, 2, 3, 4, 5)] + ["/".join(["x" * 200] * 5) + "/f"],
    ),
    "the sandbox's files": ("rm -f /etc/hosts; echo x > /etc/resolv.conf; touch /.dockerenv", []),
    "order": (
        "mkdir /a /a-b /a/b; touch /a/b/c /a-b/z /a.x; rm /srv/one; touch /srv/aaa",
        ["a", "a/b", "a/b/c", "a-b", "a-b/z", "a.x", "srv", "srv/.wh.one", "srv/aaa"],
    ),
    "capability": ("cp /bin/busybox /p; setcap cap_net_raw+ep /p", ["p"]),
    "user xattr": (
        "setfattr -n user.note -v hi /srv/kept/a; setfattr -n user.n -v 1 /srv/old",
        ["srv", "srv/kept", "srv/kept/a", "srv/old"],
    ),
}


@pytest.mark.parametrize("kind", ["sandbox", "runc", "chroot"])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_makes_the_same_layer_in_every_executor(step: str, kind: str, runner: Any) -> None:
    text, expected = STEPS[step]
    reference = runner("sandbox").run(text)
    assert [os.fsdecode(path) for path in reference] == expected
    if kind != "sandbox":
        assert list(runner(kind).run(text).items()) == list(reference.items())


def test_what_a_step_wrote_is_clamped_and_what_it_touched_is_not_told(runner: Any) -> None:
    found = runner().run("mkdir /srv/new; echo hi > /srv/new/f; touch -d @1000 /srv/new/g")
    assert found[b"srv"][0] == Entry(b"srv", DIRECTORY, 0o755, mtime=OLD)
    assert found[b"srv/new"][0].mtime == EPOCH
    assert found[b"srv/new/f"] == (Entry(b"srv/new/f", FILE, 0o644, 0, 0, EPOCH, 3), b"hi\n")
    assert found[b"srv/new/g"][0].mtime == 1000


def test_hard_links_carry_the_first_ones_metadata(runner: Any) -> None:
    found = runner().run("echo hi > /b; ln /b /a; chown 7:8 /a; chmod 4711 /b")
    assert found[b"a"][0] == Entry(b"a", FILE, 0o4711, 7, 8, EPOCH, 3)
    assert found[b"b"] == (Entry(b"b", HARDLINK, 0o4711, 7, 8, EPOCH, 0, b"a"), None)


def test_a_capability_is_kept_bit_for_bit(runner: Any) -> None:
    found = runner().run(STEPS["capability"][0])
    value = bytes.fromhex("0100000200200000000000000000000000000000")
    assert found[b"p"][0].xattrs == ((b"security.capability", value),)


def test_a_socket_is_left_out_with_a_note(tmp_path: Path) -> None:
    for name in ("upper/run", "below/run"):
        (tmp_path / name).mkdir(parents=True)
    notes: list[str] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "upper/run/s"))
    upper, below = Tree(bytes(tmp_path / "upper")), Tree(bytes(tmp_path / "below"))
    assert list(changeset(upper, below, EPOCH, note=notes.append)) == []
    assert notes == ["/run/s is a socket: left out of the layer"]
    upper.close()
    below.close()


def test_a_socket_hides_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "below/run").mkdir(parents=True)
    (tmp_path / "below/run/pid").touch()
    os.mknod(tmp_path / "upper/run", stat.S_IFSOCK | 0o755)
    upper, below = Tree(bytes(tmp_path / "upper")), Tree(bytes(tmp_path / "below"))
    assert [entry.path for entry, _ in changeset(upper, below, EPOCH)] == [b".wh.run"]
    upper.close()
    below.close()


def test_a_device_that_means_deletion_is_an_error_where_one_can_be_made(runner: Any) -> None:
    with pytest.raises(LayerError, match="'/n', a device 0:0"):
        runner("chroot").run("mknod /n c 0 0")


def test_a_folder_of_many_files_takes_little_memory(tmp_path: Path) -> None:
    for name in ("upper", "below"):
        (tmp_path / name).mkdir()
    for number in range(100):
        folder = tmp_path / f"upper/{number}"
        folder.mkdir()
        for each in range(200):
            (folder / str(each)).touch()
    upper, below = Tree(bytes(tmp_path / "upper")), Tree(bytes(tmp_path / "below"))
    tracemalloc.start()
    assert sum(1 for _ in changeset(upper, below, EPOCH)) == 20100
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    upper.close()
    below.close()
    assert peak < 500_000


@pytest.mark.parametrize("kind", ["sandbox", "chroot"])
def test_a_name_that_means_deletion_is_an_error(kind: str, runner: Any) -> None:
    with pytest.raises(LayerError, match=r"'/srv/.wh.x': a layer cannot hold"):
        runner(kind).run("touch /srv/.wh.x")


@pytest.mark.parametrize("kind", ["sandbox", "chroot"])
def test_a_path_too_long_for_a_layer_is_an_error(kind: str, runner: Any) -> None:
    half = "/".join(["y" * 250] * 10)
    with pytest.raises(LayerError, match="at most 4095"):
        runner(kind).run(f"mkdir -p /a/{half} /b/{half}; mv /b /a/{half}/")


def test_writing_the_sandboxes_files_is_told(runner: Any) -> None:
    step = runner()
    step.run("echo nameserver 1 >> /etc/resolv.conf")
    assert step.warnings == [
        "/etc/resolv.conf belongs to the sandbox: what the step did to it is lost"
    ]


@pytest.mark.parametrize("kind", ["sandbox", "runc", "chroot"])
def test_several_layers_are_seen_as_one(
    kind: str, runner: Any, rootfs: Path, tmp_path: Path
) -> None:
    top = tmp_path / "top"
    (top / "srv/old").mkdir(parents=True)
    os.mknod(top / "srv/one", 0o020000, 0)  # a whiteout
    os.setxattr(top / "srv/old", "trusted.overlay.opaque", b"y")
    (top / "srv/old/only").write_text("x")
    for path in ("srv", "srv/old", "srv/old/only"):
        os.utime(top / path, (OLD, OLD))
    step = runner(kind, (rootfs, top))
    found = step.run(
        "ls /srv /srv/old; rm -r /srv/old; mkdir /srv/old; rm -f /srv/one; touch /srv/two"
    )
    assert step.output == b"/srv:\nkept\nlink\nold\ntwo\n\n/srv/old:\nonly\n"
    assert list(found) == [b"srv", b"srv/old", b"srv/old/.wh.only", b"srv/two"]


@pytest.mark.parametrize("kind", ["sandbox", "chroot"])
@pytest.mark.parametrize("link", [None, "usr/etc", "/usr/etc"])
def test_etc_may_be_missing_or_a_symlink(
    kind: str, link: str | None, runner: Any, rootfs: Path, tmp_path: Path
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    os.mknod(top / "etc", 0o020000, 0)
    (top / "usr/etc").mkdir(parents=True)
    (top / "usr/etc/issue").write_text("x")
    if link:
        (top / "etc").unlink()
        (top / "etc").symlink_to(link)
    for path in ("", "usr", "usr/etc"):
        os.utime(top / path, (OLD, OLD))
    step = runner(kind, (rootfs, top))
    assert step.run("grep -q localhost /etc/hosts") == {}
    expected = [b"usr", b"usr/etc", b"usr/etc/new"] if link else [b"etc", b"etc/new"]
    assert list(step.run("touch /etc/new")) == expected


def test_nothing_below_is_written(runner: Any, rootfs: Path) -> None:
    def state() -> list[tuple[str, int, int]]:
        return [
            (str(path), path.lstat().st_ino, path.lstat().st_ctime_ns) for path in rootfs.rglob("*")
        ]

    before = state()
    for kind in ("sandbox", "runc", "chroot"):
        runner(kind).run(
            "rm -r /srv/old; echo 1 >> /srv/one; chmod 700 /srv/kept; chown 1 /bin/busybox"
        )
    assert state() == before
