"""Unpacking: what a layer says becomes a tree, and nothing outside it is ever touched."""

from __future__ import annotations

import gc
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import BuilderError, LayerError
from builder.layer.entry import DIRECTORY, Entry
from builder.rootfs.unpack import unpack_layer

pytestmark = pytest.mark.root


def info(name: str, type: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = type
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def file(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    made = info(name, size=len(data))
    for field, value in fields.items():
        setattr(made, field, value)
    return made, data


def directory(name: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    made = info(name, tarfile.DIRTYPE, mode=0o755)
    for field, value in fields.items():
        setattr(made, field, value)
    return made, b""


def symlink(name: str, to: str) -> tuple[tarfile.TarInfo, bytes]:
    return info(name, tarfile.SYMTYPE, linkname=to), b""


def hardlink(name: str, to: str) -> tuple[tarfile.TarInfo, bytes]:
    return info(name, tarfile.LNKTYPE, linkname=to), b""


def device(name: str, major: int, minor: int) -> tuple[tarfile.TarInfo, bytes]:
    return info(name, tarfile.CHRTYPE, devmajor=major, devminor=minor), b""


def layer(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for each, data in members:
            archive.addfile(each, io.BytesIO(data))
    buffer.seek(0)
    return buffer


@pytest.fixture
def jail(tmp_path: Path) -> Path:
    """The folder to unpack into, in a folder with a canary."""
    target = tmp_path / "jail" / "root"
    target.mkdir(parents=True)
    return target


@pytest.fixture(autouse=True)
def canary(tmp_path: Path) -> Iterator[None]:
    """A file outside, which every test leaves as it was."""
    path = tmp_path / "canary"
    path.write_bytes(b"untouched")
    path.chmod(0o600)
    os.utime(path, (1, 1))
    before = path.stat()
    yield
    after = path.stat()
    assert path.read_bytes() == b"untouched"
    assert (after.st_mode, after.st_nlink, after.st_mtime, after.st_uid) == (
        before.st_mode,
        1,
        1,
        before.st_uid,
    )
    assert sorted(os.listdir(tmp_path)) in (["canary"], ["canary", "jail"])


def unpack(jail: Path, *members: tuple[tarfile.TarInfo, bytes]) -> list[str]:
    return unpack_layer(layer(*members), str(jail), privileged=True)


def test_a_tree_stands_as_the_layer_says(jail: Path) -> None:
    unpack(
        jail,
        directory("./", mode=0o711, mtime=5),
        directory("d", mode=0o2775, uid=7, gid=8, mtime=6),
        file("d/suid", b"x" * 3_000_000, mode=0o4755, uid=9, gid=10, mtime=7),
        file("d/none", mode=0),
        symlink("d/link", "/nowhere"),
        hardlink("twin", "d/suid"),
        (info("pipe", tarfile.FIFOTYPE, mode=0o622, uid=3, mtime=11), b""),
        device("null", 1, 3),
    )
    d, suid = (jail / "d").stat(), (jail / "d/suid").stat()
    assert (jail.stat().st_mode & 0o7777, jail.stat().st_mtime) == (0o755, 5)
    assert (d.st_mode & 0o7777, d.st_uid, d.st_gid, d.st_mtime) == (0o2775, 7, 8, 6)
    assert (suid.st_mode & 0o7777, suid.st_uid, suid.st_gid) == (0o4755, 9, 10)
    assert (suid.st_mtime, suid.st_size) == (7, 3_000_000)
    assert ((jail / "d/none").stat().st_mode & 0o7777, (jail / "d/none").stat().st_gid) == (0, 0)
    assert os.readlink(jail / "d/link") == "/nowhere"
    assert (jail / "twin").samefile(jail / "d/suid")
    pipe, null = (jail / "pipe").lstat(), (jail / "null").lstat()
    assert stat.S_ISFIFO(pipe.st_mode)
    assert (pipe.st_mode & 0o7777, pipe.st_uid, pipe.st_mtime) == (0o622, 3, 11)
    assert stat.S_ISCHR(null.st_mode)
    assert null.st_rdev == os.makedev(1, 3)


def test_whiteouts_stand_as_overlayfs_wants_them(jail: Path) -> None:
    unpack(jail, file("a/.wh.b"), file("c/.wh..wh..opq"), file("c/new"))
    gone = (jail / "a/b").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(jail / "c", "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(jail / "c")) == ["new"]


@pytest.mark.parametrize("first", [True, False])
def test_a_whiteout_beside_what_replaces_it_leaves_only_that(jail: Path, first: bool) -> None:
    members = [file(".wh.f"), file("f", b"new"), file(".wh.d"), file("d/new")]
    unpack(jail, *(members if first else members[::-1]))
    assert (jail / "f").read_bytes() == b"new"
    assert os.getxattr(jail / "d", "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(jail)) == ["d", "f"]


def test_xattrs_are_kept_but_for_those_of_overlayfs_and_the_host(jail: Path) -> None:
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
    wanted = {
        "security.capability": capability.decode("latin-1"),
        "user.kept": "value",
        "user.overlay.opaque": "y",
        "trusted.overlay.opaque": "y",
        "trusted.overlay.metacopy": "",
        "trusted.overlay.redirect": "/etc",
        "security.selinux": "label",
        "system.posix_acl_access": "x",
    }
    headers = {f"SCHILY.xattr.{name}": value for name, value in wanted.items()}
    unpack(jail, file("f", b"x", uid=5, pax_headers=headers), directory("d", pax_headers=headers))
    assert os.getxattr(jail / "f", "security.capability") == capability
    assert sorted(os.listxattr(jail / "f")) == ["security.capability", "user.kept"]
    assert "user.kept" in os.listxattr(jail / "d")
    assert not [name for name in os.listxattr(jail / "d") if "overlay" in name]


def test_of_duplicates_the_last_counts(jail: Path) -> None:
    unpack(
        jail,
        file("f", b"first"),
        file("f", b"second"),
        symlink("l", "/etc"),
        file("l", b"file"),
        directory("e"),
        file("e", b"was a folder"),
        directory("d", mode=0o700),
        file("d/x"),
        directory("d", mode=0o751),
        file("g"),
        directory("g"),
        file("g/x"),
    )
    assert (jail / "f").read_bytes() == b"second"
    assert (jail / "l").read_bytes() == b"file"
    assert (jail / "e").read_bytes() == b"was a folder"
    assert (jail / "d").stat().st_mode & 0o777 == 0o751
    assert (jail / "d/x").exists()
    assert (jail / "g/x").exists()


def test_implied_folders_are_0755_or_what_they_are_below(jail: Path) -> None:
    below = {b"tmp": Entry(b"tmp", DIRECTORY, 0o1777, 3, 4, 77)}
    unpack_layer(layer(file("tmp/x"), file("a/b/c")), str(jail), privileged=True, below=below.get)
    tmp = (jail / "tmp").stat()
    assert (tmp.st_mode & 0o7777, tmp.st_uid, tmp.st_gid, tmp.st_mtime) == (0o1777, 3, 4, 77)
    assert (jail / "a/b").stat().st_mode & 0o7777 == 0o755


def test_inherited_group_bits_and_umask_do_not_count(jail: Path) -> None:
    os.chown(jail, 0, 55)
    jail.chmod(0o2777)
    before = os.umask(0o077)
    try:
        unpack(jail, directory("d", mode=0o777), file("d/f", mode=0o666), file("e/f"))
    finally:
        os.umask(before)
    assert (jail / "d").stat().st_mode & 0o7777 == 0o777
    assert (jail / "d/f").stat().st_mode & 0o7777 == 0o666
    assert {each.lstat().st_gid for each in [jail, *jail.rglob("*")]} == {0}


def test_paths_of_4095_bytes_are_unpacked(jail: Path) -> None:
    deep = "a/" * 2047 + "b"
    unpack(jail, file(deep, b"x"), hardlink("c/" * 1500 + "d", deep), file("z" * 255))
    handle = os.open(jail, os.O_RDONLY)
    for _ in range(2047):
        inner = os.open("a", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    assert os.stat("b", dir_fd=handle).st_nlink == 2
    os.close(handle)
    # pytest removes its folders recursively, which such a tree defeats
    from builder.store.files import Files
    from builder.store.trees import remove_tree

    names = (str(jail.parent / f"moved{n}") for n in range(10_000))
    assert remove_tree(Files(), str(jail), lambda: next(names))


def test_no_handle_is_left_open(jail: Path) -> None:
    gc.collect()  # stores of earlier tests
    before = os.listdir("/proc/self/fd")
    unpack(jail, *(file(f"d{n}/e{n}/f") for n in range(200)))
    with pytest.raises(LayerError):
        unpack_layer(layer(file("new/x"), hardlink("h", "no")), str(jail), privileged=True)
    assert os.listdir("/proc/self/fd") == before


# An absolute name or target is taken as inside the jail; the canary stands two folders above it.
OUT = "../../canary"
LONG = "d" * 247
HOSTILE = {
    "a symlink replaces a folder": [directory("d"), file("d/x"), symlink("d", ".."), file("d/y")],
    "a hard link through a symlink": [symlink("l", "../.."), hardlink("h", "l/canary")],
    "a hard link outside": [hardlink("h", OUT)],
    "a hard link to nothing": [hardlink("h", "/canary")],
    "a hard link to a folder": [directory("d"), hardlink("h", "d")],
    "a hard link before its file": [hardlink("h", "f"), file("f")],
    "a file outside": [file(OUT, b"bad")],
    "a folder outside": [directory("../../new")],
    "a whiteout of the parent": [file(".wh...")],
    "below a file": [file("f"), file("f/x")],
    "a device of overlayfs": [device("w", 0, 0)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_outside_is_touched(jail: Path, name: str) -> None:
    with pytest.raises(BuilderError):
        unpack(jail, *HOSTILE[name])


HARMLESS = {
    "below a symlink": [symlink("l", "../.."), file("l/canary", b"bad")],
    "below an absolute symlink": [symlink("l", "/"), file("l/canary", b"bad")],
    "deep below a symlink": [directory("d"), symlink("d/l", "../../.."), file("d/l/x/canary")],
    "a folder below a symlink": [symlink("l", "../.."), directory("l/new")],
    "a whiteout below a symlink": [symlink("l", "../.."), file("l/.wh.canary")],
    "an opaque mark below a symlink": [symlink("l", "../.."), file("l/.wh..wh..opq")],
    "a chain of long symlinks": [
        *(
            member
            for step in "abcdefghijklmnop"
            for member in (
                directory("/".join([LONG] * ("abcdefghijklmnop".index(step) + 1))),
                symlink(
                    "/".join([*[LONG] * "abcdefghijklmnop".index(step), step]),
                    LONG,
                ),
            )
        ),
        symlink("/".join("abcdefghijklmnop") + "/l" * 30, "../" * 16),
        symlink("escape", "/".join("abcdefghijklmnop") + "/l" * 30 + "/../../canary"),
        hardlink("linked", "escape"),
        file("linked", b"bad"),
        file("escape/x", b"bad"),
    ],
    "a symlink outside": [symlink("l", OUT), file("l", b"new")],
    "an absolute name": [file("/canary", b"inside")],
    "attributes of a symlink": [
        symlink("l", OUT),
        (info("l", tarfile.SYMTYPE, linkname=OUT, mode=0o777, uid=5, mtime=9), b""),
    ],
    "a hard link to a symlink": [symlink("l", OUT), hardlink("h", "l"), file("h", b"new")],
    "a folder in place of a symlink": [symlink("l", "../.."), directory("l"), file("l/canary")],
    "a whiteout of nothing": [file(".wh.canary"), file("no/such/.wh.folder")],
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_hostile_stays_inside(jail: Path, name: str) -> None:
    unpack(jail, *HARMLESS[name])
    assert os.listdir(jail)
