"""read_layer on archives that lie: a LayerError each, never more memory or time than the limits."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import LayerError
from builder.layer.entry import Entry
from builder.layer.read import Limits, read_layer


def block(name: bytes = b"f", **fields: bytes) -> bytes:
    """A ustar header of raw fields with a right checksum."""
    defaults = {"mode": b"0000644\0", "uid": b"0000000\0", "gid": b"0000000\0"}
    defaults |= {"size": b"00000000000\0", "mtime": b"00000000000\0", "type": b"0", "link": b""}
    field = {**defaults, **fields}
    raw = name.ljust(100, b"\0") + field["mode"] + field["uid"] + field["gid"] + field["size"]
    raw += field["mtime"] + b" " * 8 + field["type"] + field["link"].ljust(100, b"\0")
    raw += field.get("tail", b"ustar\x0000")
    raw = raw.ljust(512, b"\0")
    return raw[:148] + b"%06o\0 " % sum(raw) + raw[156:]


def sized(name: bytes, type: bytes, data: bytes) -> bytes:
    header = block(name, type=type, size=b"%011o\0" % len(data))
    return header + data + bytes(-len(data) % 512)


def pax(*records: tuple[bytes, bytes], type: bytes = b"x") -> bytes:
    data = b""
    for key, value in records:
        body = b" " + key + b"=" + value + b"\n"
        length = len(body) + 1
        while len(b"%d" % length) + len(body) != length:
            length += 1
        data += b"%d" % length + body
    return sized(b"pax", type, data)


def entries(data: bytes, limits: Limits | None = None) -> list[Entry]:
    return [entry for entry, _ in read_layer(io.BytesIO(data), limits or Limits())]


END = bytes(1024)

HOSTILE = {
    "traversal": (block(b"../etc/passwd"), "has '..' in its name"),
    "traversal inside": (block(b"a/../../etc"), "has '..' in its name"),
    "traversal by PAX": (pax((b"path", b"a/../b")) + block(), "has '..' in its name"),
    "traversal by long name": (sized(b"L", b"L", b"../x\0") + block(), "has '..' in its name"),
    "traversal by prefix": (
        block(b"x", tail=b"ustar\x0000" + bytes(80) + b".."),
        "has '..' in its name",
    ),
    "hard link traversal": (block(b"h", type=b"1", link=b"../../x"), "has '..' in its name"),
    "hard link to the root": (block(b"h", type=b"1", link=b"/"), "hard link 'h' has the target"),
    "symlink to nothing": (block(b"s", type=b"2"), "symlink 's' has the target ''"),
    "symlink with NUL": (
        pax((b"linkpath", b"a\0b")) + block(b"s", type=b"2"),
        r"symlink 's' has the target 'a\\x00b'",
    ),
    "a file as the root": (block(b"./"), "is the root, which must be a directory"),
    "NUL in a name": (pax((b"path", b"etc\0x")) + block(), "has a NUL in its name"),
    "a name of 256 bytes": (pax((b"path", b"x" * 256)) + block(), "name that is too long"),
    "a path of 4096 bytes": (pax((b"path", b"ab/" * 1366)) + block(), "name that is too long"),
    "bare whiteout": (block(b"a/.wh."), "whiteout 'a/.wh.' names nothing"),
    "whiteout of the folder": (block(b"a/.wh.."), "whiteout 'a/.wh..' names nothing"),
    "whiteout of the parent": (block(b"a/.wh..."), "whiteout 'a/.wh...' names nothing"),
    "below a whiteout": (block(b".wh.a/b"), "lies below a whiteout"),
    "unknown type": (block(type=b"Z"), "has the unknown type 'Z'"),
    "device 0:0": (block(type=b"3"), "is 0:0, which means a removed file"),
    "device number too large": (
        block(type=b"3", tail=b"ustar\x0000" + bytes(64) + b"7777777\0"),
        "has the number",
    ),
    "owner out of range": (pax((b"uid", b"4294967295")) + block(), "has the owner 4294967295:0"),
    "negative owner": (block(gid=b"\xff" * 8), "has the owner 0:-1"),
    "negative size": (block(size=b"\xff" * 12), "has the size -1"),
    "size is not a number": (block(size=b"0000000008\0\0"), "is not a number"),
    "size with underscores": (block(size=b"0000_000010\0"), "is not a number"),
    "PAX size is not a number": (pax((b"size", b"1e9")) + block(), "PAX record size='1e9'"),
    "PAX size negative": (pax((b"size", b"-1")) + block(), "is not a number"),
    "PAX time is not a time": (pax((b"mtime", b"1_0")) + block(), "is not a time"),
    "PAX length lies": (sized(b"p", b"x", b"99 path=x\n") + block(), "is malformed"),
    "PAX length zero": (sized(b"p", b"x", b"0 path=x\n") + block(), "is malformed"),
    "PAX without newline": (sized(b"p", b"x", b"9 path=xy") + block(), "is malformed"),
    "PAX without equals": (sized(b"p", b"x", b"8 pathx\n") + block(), "is malformed"),
    "PAX too large": (sized(b"p", b"x", b"x" * (1 << 20)) + block(), "extended headers of more"),
    "PAX too often": (pax((b"a", b"b" * 5000)) * 300 + block(), "extended headers of more"),
    "globals too large": (
        b"".join(pax((b"k%d" % n, b"v" * 200_000), type=b"g") + block() for n in range(9)),
        "global headers of more",
    ),
    "xattr without a name": (pax((b"SCHILY.xattr.", b"x")) + block(), "extended attribute"),
    "ends after PAX": (pax((b"path", b"x")) + END, "ends after an extended header"),
    "long name of 5 GB": (block(type=b"L", size=b"50000000000\0"), "extended headers of more"),
    "checksum": (block().replace(b"ustar", b"uStar"), "checksum is wrong"),
    "no tar at all": (b"hello world\n" * 100, "checksum is wrong|not a number"),
    "cut in a header": (block()[:300], "cut short"),
    "cut in data": (sized(b"f", b"0", b"x" * 1000)[:600], "cut short"),
    "sparse map out of order": (
        pax((b"GNU.sparse.map", b"5,1,0,1"), (b"GNU.sparse.size", b"9")) + sized(b"f", b"0", b"ab"),
        "out of order",
    ),
    "sparse map beyond its size": (
        pax((b"GNU.sparse.map", b"5,2"), (b"GNU.sparse.size", b"6")) + sized(b"f", b"0", b"ab"),
        "out of order or beyond",
    ),
    "sparse map of other data": (
        pax((b"GNU.sparse.map", b"0,1"), (b"GNU.sparse.size", b"6")) + sized(b"f", b"0", b"ab"),
        "does not fit its data",
    ),
    "sparse map that is no list": (
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"))
        + sized(b"f", b"0", b"x" * 512),
        "no list of numbers",
    ),
    "sparse map with too many parts": (
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"))
        + sized(b"f", b"0", b"999999999\n".ljust(512, b"1")),
        "more than 250000 parts",
    ),
    "sparse version": (
        pax((b"GNU.sparse.major", b"2")) + sized(b"f", b"0", b"1\n0\n1\nx"),
        "unknown format",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_lies_is_refused(name: str) -> None:
    data, message = HOSTILE[name]
    with pytest.raises(LayerError, match=message):
        entries(data + (b"" if name.startswith("cut") else END))


def test_the_last_of_repeated_pax_records_counts_and_empty_ones_take_back() -> None:
    data = pax((b"path", b"a"), (b"path", b"b"), (b"linkpath", b"")) + block(type=b"2", link=b"t")
    assert [(each.path, each.link) for each in entries(data + END)] == [(b"b", b"t")]


def test_pax_sizes_override_the_header_for_the_data_that_follows() -> None:
    data = pax((b"size", b"3")) + block(b"a") + b"abc".ljust(512, b"\0") + block(b"b")
    assert [(each.path, each.size) for each in entries(data + END)] == [(b"a", 3), (b"b", 0)]


def test_sizes_of_links_and_folders_mean_no_data() -> None:
    data = block(b"h", type=b"1", link=b"f", size=b"00000001000\0")
    data += block(b"d", type=b"5", size=b"77777777777\0") + block(b"f")
    assert [(each.path, each.size) for each in entries(data + END)] == [
        (b"h", 0),
        (b"d", 0),
        (b"f", 0),
    ]


def test_links_beyond_those_that_are_followed_are_told_where_they_matter() -> None:
    """A member through one of them must not land in the link's own place."""
    target = b"t" * 3900
    crowd = b"".join(
        pax((b"linkpath", target)) + block(b"l%d" % number, type=b"2") for number in range(8200)
    )
    late = block(b"late", type=b"2", link=b"real")
    known = block(b"early", type=b"2", link=b"real")
    many = len(entries(known + crowd + late + block(b"other/x") + END))
    assert many == 8203
    assert entries(known + crowd + block(b"early/x") + END)[-1].path == b"real/x"
    replaced = crowd + late + block(b"late", type=b"5") + block(b"late/x")
    assert b"late/x" in {each.path for each in entries(replaced + END)}
    with pytest.raises(LayerError, match="'late/deep' runs through the symlink 'late'"):
        entries(crowd + late + block(b"late/deep/x") + END)
    with pytest.raises(LayerError, match="runs through the symlink 'late'"):
        entries(crowd + late + block(b"h", type=b"1", link=b"late/x") + END)


def test_entries_are_counted() -> None:
    with pytest.raises(LayerError, match="more than 5 entries"):
        entries(block() * 6 + END, Limits(entries=5))


def test_sizes_are_summed_before_anything_is_read() -> None:
    with pytest.raises(LayerError, match="more than 1000000 bytes"):
        entries(block(size=b"%011o\0" % 10**9), Limits(size=10**6))


def test_holes_count_as_the_bytes_they_expand_to() -> None:
    data = pax((b"GNU.sparse.map", b"0,0"), (b"GNU.sparse.size", b"9" * 18)) + block()
    with pytest.raises(LayerError, match="the archive's files are more than"):
        entries(data + END)


def test_a_layer_that_ends_without_a_trailer_is_read() -> None:
    assert [each.path for each in entries(block(b"a"))] == [b"a"]
    assert entries(b"") == []


GOOD = pax((b"path", b"a/b"), (b"SCHILY.xattr.user.x", b"1")) + sized(b"f", b"0", b"x" * 700)
GOOD += block(b"l", type=b"2", link=b"t") + sized(b"L", b"L", b"y" * 200) + block() + END


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=40), st.booleans())
def test_damaged_archives_are_read_or_refused(at: int, patch: bytes, right_checksum: bool) -> None:
    data = bytearray(GOOD)
    data[at : at + len(patch)] = patch
    start = at // 512 * 512
    header = bytes(data[start : start + 512])
    if right_checksum and len(header) == 512:
        blank = header[:148] + b" " * 8 + header[156:]
        data[start + 148 : start + 156] = b"%06o\0 " % sum(blank)
    try:
        for entry, content in read_layer(io.BytesIO(bytes(data)), Limits(size=1 << 20)):
            assert b".." not in entry.path.split(b"/")
            assert not entry.path.startswith(b"/")
            content.read(4096)
    except LayerError:
        pass


@settings(max_examples=200, deadline=None)
@given(
    name=st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 4294967294),
    mtime=st.integers(-(2**40), 2**40),
    data=st.binary(max_size=2000),
    format=st.booleans(),
)
def test_what_tarfile_writes_is_what_is_read(
    name: str, mode: int, uid: int, mtime: int, data: bytes, format: bool
) -> None:
    raw = name.encode()
    if name in (".", "..") or len(raw) > 255 or raw.startswith(b".wh."):
        return
    made = tarfile.TarInfo(name)
    made.mode, made.uid, made.mtime, made.size = mode, uid, mtime, len(data)
    tar = (
        made.tobuf(tarfile.GNU_FORMAT if format else tarfile.PAX_FORMAT)
        + data
        + bytes(-len(data) % 512)
        + END
    )
    [(entry, read)] = [(entry, content.read()) for entry, content in read_layer(io.BytesIO(tar))]
    assert entry == Entry(raw, "0", mode, uid, 0, mtime, len(data))
    assert read == data
