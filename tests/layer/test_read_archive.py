"""Compressed streams and archives: every codec, members, damage, bombs; zips."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import BinaryIO, cast

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from builder.errors import LayerError
from builder.layer.archive import read_archive
from builder.layer.decompress import open_layer
from builder.layer.entry import DIRECTORY, FILE, SYMLINK, Entry
from builder.layer.read import Limits

DATA = random.Random(1).randbytes(50_000) + bytes(3_000_000) + b"end"


def zstd_with_checksum(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


CODECS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "zstd": zstd_with_checksum,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
COMPRESSED = [name for name in CODECS if name != "none"]


def opened(data: bytes, codec: str | None = None, limit: int = 1 << 30) -> bytes:
    return open_layer(io.BytesIO(data), codec, limit=limit).read()


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_told_by_its_first_bytes(codec: str) -> None:
    assert opened(CODECS[codec](DATA)) == DATA


OTHERS = {
    b"PK\x03\x04" + bytes(600): "this is a zip archive, not a tar",
    b"7z\xbc\xaf\x27\x1c" + bytes(20): "this is a 7z archive, not a tar",
    b"\x7fELF\x02\x01\x01" + bytes(9000): r"this is a program \(ELF\), not a tar",
    b"hsqs" + bytes(5000): "this is a squashfs image, not a tar",
    b"<!DOCTYPE html><html>404</html>": "this is a web page, not a tar",
    "no tär\n".encode(): "this is text, not a tar",
    gzip.compress(b"hello\n"): "this is text within a gzip stream, not a tar",
    gzip.compress(gzip.compress(b"x")): "this is a gzip stream within a gzip stream, not a tar",
    b"!<arch>\ndebian-binary   " + bytes(600): "this is an ar archive, as packages",
}


@pytest.mark.parametrize("data", OTHERS, ids=OTHERS.values())
def test_what_is_no_tar_is_told_by_what_it_is(data: bytes) -> None:
    with pytest.raises(LayerError, match=OTHERS[data]) as caught:
        opened(data)
    assert caught.value.hint == "expected is a tar, plain or compressed by gzip, zstd, xz or bzip2"
    assert opened(data, "none") == data  # a layer's media type says it: nobody guesses


@pytest.mark.parametrize("name", ["hsqs", "PK\x03\x04", "<html", "BZ", "07070"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_is_one_whatever_its_first_name(name: str, format: int) -> None:
    made = tarfile.TarInfo(name).tobuf(format) + bytes(1024)
    assert opened(made) == made
    assert opened(gzip.compress(made)) == made


@pytest.mark.parametrize("size", [1, 100, 511, 512, 513, 100_000])
def test_what_was_looked_at_is_read_once(size: int) -> None:
    stream = open_layer(io.BytesIO(DATA))
    found = b"".join(stream.read(size) for _ in range(20))
    assert found == DATA[: len(found)]
    assert found + stream.read() == DATA
    assert open_layer(io.BytesIO(DATA)).read(0) == b""
    assert open_layer(io.BytesIO(b"")).read() == b""


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_can_be_named(codec: str) -> None:
    assert opened(CODECS[codec](DATA), codec) == DATA


@pytest.mark.parametrize("codec", COMPRESSED)
def test_members_follow_each_other(codec: str) -> None:
    pack = CODECS[codec]
    assert opened(pack(DATA) + pack(b"") + pack(b"more") + bytes(1024)) == DATA + b"more"


def test_skippable_zstd_frames_are_skipped() -> None:
    skip = b"\x50\x2a\x4d\x18\x05\0\0\0hello"
    data = skip + zstd.compress(b"a") + skip + zstd.compress(b"b") + skip
    assert opened(data, "zstd") == b"ab"


class Slow(io.BytesIO):
    """Gives a few bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, 3) if size is not None and size >= 0 else size)


@pytest.mark.parametrize("stream", [io.BytesIO, Slow])
@pytest.mark.parametrize("flags", range(32))
def test_gzip_headers_of_every_shape_are_read(flags: int, stream: type[io.BytesIO]) -> None:
    """RFC 1952, 2.3: text, checksum, extra, name, comment."""
    header = bytes((0x1F, 0x8B, 8, flags, 1, 2, 3, 4, 0, 3))
    header += struct.pack("<H", 5) + b"extra" if flags & 4 else b""
    header += b"name\0" * (flags >> 3 & 1) + b"a comment\0" * (flags >> 4 & 1)
    right = struct.pack("<H", zlib.crc32(header) & 0xFFFF) if flags & 2 else b""
    body = gzip.compress(b"text " * 1000)[10:]
    member = header + right + body
    assert gzip.decompress(member) == b"text " * 1000
    plain = open_layer(cast(BinaryIO, stream(member * 2)), "gzip")
    assert plain.read() == b"text " * 2000
    if flags & 2:
        wrong = header + bytes((right[0] ^ 1, right[1])) + body
        for damaged in (wrong, header, header + right[:1]):
            with pytest.raises(LayerError, match="gzip stream is"):
                open_layer(cast(BinaryIO, stream(damaged)), "gzip").read()


@pytest.mark.parametrize("codec", COMPRESSED)
@pytest.mark.parametrize("cut", [0, 5, 1000, -1])
def test_a_stream_that_ends_early_is_refused(codec: str, cut: int) -> None:
    with pytest.raises(LayerError, match="cut short"):
        opened(CODECS[codec](DATA)[:cut], codec)


@pytest.mark.parametrize("codec", COMPRESSED)
def test_damage_is_refused(codec: str) -> None:
    data = bytearray(CODECS[codec](DATA))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(LayerError, match=codec):
        opened(bytes(data), codec)


@pytest.mark.parametrize("codec", COMPRESSED)
def test_what_follows_a_member_must_be_one(codec: str) -> None:
    with pytest.raises(LayerError, match=f"the {codec} stream is (damaged|cut short)"):
        opened(CODECS[codec](DATA) + b"garbage that is long enough", codec)


@pytest.mark.parametrize("codec", COMPRESSED)
def test_a_bomb_is_stopped_at_the_limit(codec: str) -> None:
    with pytest.raises(LayerError, match="decompresses to more than 1000000 bytes"):
        opened(CODECS[codec](bytes(20_000_000)), limit=1_000_000)


def test_an_unknown_codec_is_an_error() -> None:
    with pytest.raises(LayerError, match="compression 'lz4' is unknown"):
        opened(b"", "lz4")


def members(data: bytes, limits: Limits | None = None) -> list[tuple[Entry, bytes]]:
    stream = io.BytesIO(data)
    return [(entry, content.read()) for entry, content in read_archive(stream, limits or Limits())]


@pytest.mark.parametrize("codec", CODECS)
def test_tars_of_every_codec_are_archives(codec: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        made = tarfile.TarInfo("d/f")
        made.size = 5
        tar.addfile(made, io.BytesIO(b"hello"))
    data = CODECS[codec](buffer.getvalue())
    assert members(data) == [(Entry(b"d/f", FILE, 0o644, size=5), b"hello")]


def zipped(*entries: tuple[str, int, bytes], system: int = 3) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, mode, data in entries:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 2))
            info.external_attr = mode << 16
            info.create_system = system
            info.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(info, data)
    return buffer.getvalue()


THEN = 315532802


def test_a_zip_keeps_what_unix_knows() -> None:
    data = zipped(
        ("d/", stat.S_IFDIR | 0o1777, b""),
        ("d/run", stat.S_IFREG | 0o4755, b"#!"),
        ("d/link", stat.S_IFLNK | 0o777, b"../run"),
        ("é", 0o640, b"x"),
    )
    assert members(data) == [
        (Entry(b"d", DIRECTORY, 0o1777, mtime=THEN), b""),
        (Entry(b"d/run", FILE, 0o4755, mtime=THEN, size=2), b"#!"),
        (Entry(b"d/link", SYMLINK, 0o777, mtime=THEN, link=b"../run"), b""),
        (Entry("é".encode(), FILE, 0o640, mtime=THEN, size=1), b"x"),
    ]


def test_modes_of_other_systems_do_not_count() -> None:
    assert members(zipped(("f", stat.S_IFLNK | 0o777, b"x"), system=0))[0][0].mode == 0o644


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("../x", 0o644, b""), "has '..' in its name"),
        (("a/.wh.b", 0o644, b""), "would remove files"),
        (("s", stat.S_IFLNK, b""), "symlink 's' has a target of 0 bytes"),
        (("s", stat.S_IFLNK, b"x" * 5000), "symlink 's' has a target of 5000 bytes"),
        (("p", stat.S_IFIFO, b""), "is no file, folder or symlink"),
    ],
)
def test_hostile_zip_entries_are_refused(entry: tuple[str, int, bytes], message: str) -> None:
    with pytest.raises(LayerError, match=message):
        members(zipped(entry))


def test_an_encrypted_zip_is_refused() -> None:
    data = bytearray(zipped(("secret", 0o644, b"x")))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(LayerError, match="entry 'secret' is encrypted"):
        members(bytes(data))


def test_zip_bombs_are_refused_before_they_are_read() -> None:
    with pytest.raises(LayerError, match="more than 1000 bytes"):
        members(zipped(("f", 0o644, bytes(1_000_000))), Limits(size=1000))
    with pytest.raises(LayerError, match="more than 2 entries"):
        members(zipped(*((f"f{n}", 0o644, b"") for n in range(3))), Limits(entries=2))


def test_a_zip_whose_directory_claims_gigabytes_is_refused() -> None:
    data = bytearray(zipped(("f", 0o644, b"x")))
    at = data.rindex(b"PK\5\6") + 12
    data[at : at + 4] = b"\xff\xff\xff\x7f"
    with pytest.raises(LayerError, match="the zip archive's directory is more than"):
        members(bytes(data))


@pytest.mark.parametrize("seed", range(60))
def test_damaged_zips_are_read_or_refused(seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(zipped(("d/f", 0o644, b"hello" * 50), ("l", stat.S_IFLNK, b"t")))
    for _ in range(3):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    try:
        members(bytes(data))
    except LayerError:
        pass
