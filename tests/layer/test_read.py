"""read_layer: what tarfile and GNU tar write is read as they meant it."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from builder.layer.entry import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    Entry,
)
from builder.layer.read import read_layer, read_tar


def packed(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    buffer.seek(0)
    return buffer


def info(name: str, type: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = type
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def entries(stream: io.BytesIO) -> list[Entry]:
    return [entry for entry, _ in read_layer(stream)]


FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


@pytest.mark.parametrize("format", FORMATS)
def test_every_type_is_read(format: int) -> None:
    stream = packed(
        (info("d/", tarfile.DIRTYPE, mode=0o1777, uid=1, gid=2, mtime=3), b""),
        (info("d/f", mode=0o4755, size=3), b"abc"),
        (info("d/h", tarfile.LNKTYPE, linkname="d/f"), b""),
        (info("d/s", tarfile.SYMTYPE, linkname="../f", mode=0o777), b""),
        (info("d/c", tarfile.CHRTYPE, devmajor=5, devminor=1), b""),
        (info("d/b", tarfile.BLKTYPE, devmajor=259, devminor=7), b""),
        (info("d/p", tarfile.FIFOTYPE), b""),
        format=format,
    )
    assert entries(stream) == [
        Entry(b"d", DIRECTORY, 0o1777, 1, 2, 3),
        Entry(b"d/f", FILE, 0o4755, size=3),
        Entry(b"d/h", HARDLINK, 0o644, link=b"d/f"),
        Entry(b"d/s", SYMLINK, 0o777, link=b"../f"),
        Entry(b"d/c", CHAR, 0o644, device=(5, 1)),
        Entry(b"d/b", BLOCK, 0o644, device=(259, 7)),
        Entry(b"d/p", FIFO, 0o644),
    ]


def test_content_is_streamed_and_what_is_not_read_is_skipped() -> None:
    stream = packed(*((info(f"f{n}", size=n * 300), bytes([n]) * (n * 300)) for n in range(9)))
    seen = []
    for entry, content in read_layer(stream):
        if entry.path in (b"f3", b"f7"):
            seen.append((content.read(10), content.read(), content.read(5)))
    assert seen == [(b"\3" * 10, b"\3" * 890, b""), (b"\7" * 10, b"\7" * 2090, b"")]


def test_content_ends_when_the_next_entry_is_asked_for() -> None:
    reading = read_layer(packed((info("a", size=9), b"a" * 9), (info("b", size=9), b"b" * 9)))
    first = next(reading)[1]
    second = next(reading)[1]
    assert (first.read(), second.read()) == (b"", b"b" * 9)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_ustar_cannot_say_is_read(format: int) -> None:
    name = "/".join(["é" * 100] * 18)
    link = "x" * 3000
    stream = packed(
        (info(name, size=2, uid=4294967294, gid=3000000, mtime=-7), b"ok"),
        (info("link", tarfile.SYMTYPE, linkname=link, mtime=2**34), b""),
        format=format,
    )
    first, second = entries(stream)
    assert first == Entry(name.encode(), FILE, 0o644, 4294967294, 3000000, -7, 2)
    assert (second.link, second.mtime) == (link.encode(), 2**34)


def test_a_size_beyond_8_gib_is_read() -> None:
    header = info("big", size=2**34).tobuf(tarfile.GNU_FORMAT)
    assert next(read_layer(io.BytesIO(header)))[0].size == 2**34


def test_names_are_raw_bytes() -> None:
    stream = packed((info("\udcff/\udce9"), b""), format=tarfile.PAX_FORMAT)
    assert entries(stream)[0].path == b"\xff/\xe9"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("./a/b", b"a/b"),
        ("a//b/", b"a/b"),
        ("/etc/passwd", b"etc/passwd"),
        ("a/./b", b"a/b"),
        ("a/..b/...", b"a/..b/..."),
    ],
)
def test_names_are_normalised(written: str, read: bytes) -> None:
    assert entries(packed((info(written), b"")))[0].path == read


@pytest.mark.parametrize("name", ["./", ".", "/", "//."])
def test_the_root_has_the_empty_path(name: str) -> None:
    stream = packed((info(name, tarfile.DIRTYPE, mode=0o700), b""))
    assert entries(stream) == [Entry(b"", DIRECTORY, 0o700)]


def test_xattrs_are_raw_and_sorted() -> None:
    capability = "\1\0\0\2\udcff\0\0=\n"
    headers = {"SCHILY.xattr.user.b": "x", "SCHILY.xattr.security.capability": capability}
    assert entries(packed((info("f", pax_headers=headers), b"")))[0].xattrs == (
        (b"security.capability", b"\1\0\0\2\xff\0\0=\n"),
        (b"user.b", b"x"),
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.999", 1), ("-1", -1), ("-1.5", -2), ("-1.0", -1), ("0", 0)]
)
def test_times_are_whole_seconds_rounded_down(text: str, seconds: int) -> None:
    assert entries(packed((info("f", pax_headers={"mtime": text}), b"")))[0].mtime == seconds


def test_global_headers_count_in_archives_but_not_in_layers() -> None:
    buffer = io.BytesIO()
    headers = {"uid": "7"}
    with tarfile.open(fileobj=buffer, mode="w", pax_headers=headers) as archive:
        archive.addfile(info("f"))
    assert entries(io.BytesIO(buffer.getvalue()))[0].uid == 0
    assert [each.uid for each, _ in read_tar(io.BytesIO(buffer.getvalue()))] == [7]


def test_whiteouts_are_empty_files_whatever_they_were() -> None:
    stream = packed(
        (info("a/.wh.x", size=4), b"data"),
        (info("a/.wh.y", tarfile.LNKTYPE, linkname="a/.wh.x"), b""),
        (info("a/.wh..wh..opq"), b""),
        (info(".wh..wh.plnk/1.2", size=3), b"abc"),
    )
    assert [(each.path, each.type, each.size) for each in entries(stream)] == [
        (b"a/.wh.x", FILE, 0),
        (b"a/.wh.y", FILE, 0),
        (b"a/.wh..wh..opq", FILE, 0),
    ]


def test_the_stream_is_read_to_its_end() -> None:
    stream = io.BytesIO(packed((info("f"), b"")).getvalue() + bytes(3_000_000))
    assert len(entries(stream)) == 1
    assert stream.read() == b""


def tree(folder: Path) -> Path:
    root = folder / "tree"
    root.mkdir()
    (root / ("long" * 60)).mkdir()
    (root / ("long" * 60) / ("name" * 60)).write_bytes(b"deep")
    (root / "plain").write_bytes(b"hello\n" * 1000)
    (root / "plain").chmod(0o2755)
    os.link(root / "plain", root / "twin")
    (root / "link").symlink_to("x" * 300)
    os.mkfifo(root / "pipe")
    with (root / "sparse").open("wb") as file:
        for n in range(40):
            file.seek(n * 300_000)
            file.write(b"%04d" % n * 2000)
        file.truncate(13_000_000)
    with (root / "hole").open("wb") as file:
        file.truncate(5_000_000)
    os.utime(root / "plain", (0, 1234567890))
    return root


def gnu_tar(root: Path, *options: str) -> io.BytesIO:
    command = ["tar", "-C", str(root), "--numeric-owner", *options, "-cf", "-", "."]
    return io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout)


GNU = [
    ["--format=gnu"],
    ["--format=oldgnu"],
    ["--format=pax"],
    ["--format=posix", "--xattrs"],
    ["--format=gnu", "--sparse"],
    ["--format=oldgnu", "--sparse"],
    ["--format=pax", "--sparse", "--sparse-version=0.0"],
    ["--format=pax", "--sparse", "--sparse-version=0.1"],
    ["--format=pax", "--sparse", "--sparse-version=1.0"],
]


@pytest.mark.needs("tar")
@pytest.mark.parametrize("options", GNU, ids=" ".join)
def test_gnu_tars_are_read_as_the_tree_they_were_made_from(
    tmp_path: Path, options: list[str]
) -> None:
    root = tree(tmp_path)
    seen: dict[bytes, Entry] = {}
    for entry, content in read_layer(gnu_tar(root, *options)):
        path = root / os.fsdecode(entry.path)
        status = path.lstat()
        assert entry.mode == status.st_mode & 0o7777
        assert (entry.uid, entry.gid) == (status.st_uid, status.st_gid)
        assert entry.mtime == int(status.st_mtime)
        if entry.type == FILE:
            assert entry.size == status.st_size
            assert content.read() == path.read_bytes()
        if entry.type == SYMLINK:
            assert entry.link == os.fsencode(path.readlink())
        seen[entry.path] = entry
    assert {os.fsdecode(path) for path in seen} == {
        str(each.relative_to(root)) if each != root else "" for each in [root, *root.rglob("*")]
    }
    assert {seen[b"plain"].type, seen[b"twin"].type} == {FILE, HARDLINK}


@pytest.mark.needs("tar")
@pytest.mark.parametrize("format", ["v7", "ustar"])
def test_old_formats_are_read(tmp_path: Path, format: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ("f" * 90)).write_bytes(b"x")
    got = [
        (entry.path, entry.type, content.read())
        for entry, content in read_layer(gnu_tar(tmp_path, f"--format={format}"))
    ]
    assert sorted(got) == [
        (b"", DIRECTORY, b""),
        (b"d", DIRECTORY, b""),
        (b"d/" + b"f" * 90, FILE, b"x"),
    ]


@pytest.mark.needs("tar", "setfattr")
def test_gnu_xattrs_are_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    try:
        os.setxattr(tmp_path / "f", "user.test", b"\0value\xff")
    except OSError:
        pytest.skip("this file system has no user xattrs")
    found = [each for each, _ in read_layer(gnu_tar(tmp_path, "--format=pax", "--xattrs"))]
    assert found[-1].xattrs == ((b"user.test", b"\0value\xff"),)


def test_a_sparse_file_is_read_in_pieces(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for entry, content in read_layer(gnu_tar(root, "--format=pax", "--sparse")):
        if entry.path == b"sparse":
            pieces = list(iter(lambda content=content: content.read(77_777), b""))  # type: ignore[misc]
            assert b"".join(pieces) == (root / "sparse").read_bytes()
            assert {len(piece) for piece in pieces[:-1]} == {77_777}


def test_many_entries_need_constant_memory() -> None:
    import resource

    block = info("some/folder/file", size=512).tobuf(tarfile.USTAR_FORMAT) + bytes(512)

    class Endless(io.BytesIO):
        left = 100

        def read(self, size: int | None = -1) -> bytes:
            self.left -= 1
            return block * 1000 if self.left >= 0 else b""

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(1 for _ in read_layer(Endless())) == 100_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
