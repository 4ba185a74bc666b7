"""Tars of every shape that tools have written, beside GNU tar and a Docker engine: the tree that
each of the three makes of them is the same, or the difference is on the list."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.errors import LayerError
from builder.layer.decompress import open_layer
from builder.oci import media
from builder.oci.digest import DiffID, digest_of
from builder.oci.image import Layer, Platform, empty_image
from builder.rootfs.unpack import unpack_layer
from builder.store.store import Store
from builder.transport.canonical import canonical_layer
from builder.transport.outputs import parse_output

if TYPE_CHECKING:
    from tests.dockerd import Engine

pytestmark = pytest.mark.root

# -- making them: plain bytes, since no library writes all of this ---------------------------------


def octal(value: int, size: int) -> bytes:
    return b"%0*o\0" % (size - 1, value)


def base256(value: int, size: int) -> bytes:
    data = bytearray((value % (1 << 8 * size)).to_bytes(size, "big"))
    data[0] |= 0x80
    return bytes(data)


def header(name: bytes = b"f", **given: Any) -> bytes:
    """A block of 512 bytes; fields as ints are written in octal, as bytes they are taken so."""
    size = {"mode": 8, "uid": 8, "gid": 8, "size": 12, "mtime": 12, "major": 8, "minor": 8}
    fields: dict[str, Any] = {
        **{"mode": 0o644, "uid": 0, "gid": 0, "size": 0, "mtime": 1000, "major": 0, "minor": 0},
        **{"type": b"0", "link": b"", "magic": b"ustar\x0000", "prefix": b"", "tail": b""},
        **given,
    }
    numbers = {
        key: octal(fields[key], width) if isinstance(fields[key], int) else fields[key]
        for key, width in size.items()
    }
    block = bytearray(512)

    def put(at: int, data: bytes) -> None:
        block[at : at + len(data)] = data

    put(0, name[:100])
    for at, key in ((100, "mode"), (108, "uid"), (116, "gid"), (124, "size"), (136, "mtime")):
        put(at, numbers[key])
    put(156, fields["type"])
    put(157, fields["link"])
    put(257, fields["magic"])
    if fields["magic"]:
        put(329, numbers["major"])
        put(337, numbers["minor"])
    put(345, fields["prefix"])
    put(512 - len(fields["tail"]), fields["tail"])
    put(148, b" " * 8)
    signed = fields.get("signed")
    total = sum(byte - 256 * (byte > 127) for byte in block) if signed else sum(block)
    put(148, given.get("sum", b"%06o\0 ") % total if b"%" in given.get("sum", b"%") else b"")
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def file(name: bytes, data: bytes = b"data", **given: Any) -> bytes:
    return header(name, **{"size": len(data), **given}) + padded(data)


def folder(name: bytes, **given: Any) -> bytes:
    return header(name, **{"type": b"5", "mode": 0o755, **given})


def symlink(name: bytes, to: bytes, **given: Any) -> bytes:
    return header(name, type=b"2", link=to, mode=0o777, **given)


def hard(name: bytes, to: bytes, **given: Any) -> bytes:
    return header(name, type=b"1", link=to, **given)


def records(*pairs: tuple[bytes, bytes]) -> bytes:
    out = b""
    for key, value in pairs:
        body = b" " + key + b"=" + value + b"\n"
        size = len(body)
        while len(b"%d" % size) + len(body) != size:
            size = len(b"%d" % size) + len(body)
        out += b"%d" % size + body
    return out


def pax(*pairs: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    return file(b"PaxHeaders/f", records(*pairs), type=kind)


def gnu_long(text: bytes, kind: bytes = b"L") -> bytes:
    return file(b"././@LongLink", text + b"\0", type=kind, magic=b"ustar  \0")


END = bytes(1024)
GNU = b"ustar  \0"
LONG = b"/".join([b"folder-of-a-long-name"] * 8) + b"/file"
WIDE = ("ä" * 60 + "/ß").encode()


def old_sparse(name: bytes, parts: list[tuple[int, bytes]], size: int) -> bytes:
    """GNU's old format: four parts in the header, 21 more in each block behind it."""
    block = bytearray(header(name, type=b"S", magic=GNU, size=sum(len(d) for _, d in parts)))
    entries = [octal(at, 12) + octal(len(data), 12) for at, data in parts]
    first = b"".join(entries[:4])
    block[386 : 386 + len(first)] = first
    block[482] = len(entries) > 4
    block[483:495] = octal(size, 12)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    out = bytes(block)
    rest = entries[4:]
    while rest:
        more = b"".join(rest[:21]).ljust(504, b"\0")
        rest = rest[21:]
        out += more + bytes([bool(rest)]) + bytes(7)
    return out + padded(b"".join(data for _, data in parts))


def sparse_1_0(name: bytes, parts: list[tuple[int, bytes]], size: int) -> bytes:
    listed = b"%d\n" % len(parts) + b"".join(b"%d\n%d\n" % (at, len(d)) for at, d in parts)
    data = padded(listed) + b"".join(data for _, data in parts)
    keys = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"))
    return pax(*keys, (b"GNU.sparse.name", name), (b"GNU.sparse.realsize", b"%d" % size)) + file(
        b"GNUSparseFile.0/x", data
    )


def sparse_0(name: bytes, parts: list[tuple[int, bytes]], size: int, minor: int) -> bytes:
    pairs = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % len(parts))]
    if minor:
        pairs.append((b"GNU.sparse.name", name))
        flat = b",".join(b"%d,%d" % (at, len(data)) for at, data in parts)
        pairs.append((b"GNU.sparse.map", flat))
    else:
        for at, data in parts:
            pairs.append((b"GNU.sparse.offset", b"%d" % at))
            pairs.append((b"GNU.sparse.numbytes", b"%d" % len(data)))
    return pax(*pairs) + file(name, b"".join(data for _, data in parts))


PARTS = [(0, b"a" * 512), (4096, b"b" * 512), (10240, b"")]
MANY = [*((at * 1024, bytes([65 + at % 26]) * 512) for at in range(50)), (60_000, b"")]

SHAPES: dict[str, bytes] = {
    # numbers
    "V7": folder(b"d/", magic=b"", type=b"\0") + file(b"d/f", magic=b"", type=b"\0"),
    "V7 links": file(b"f", magic=b"")
    + hard(b"h", b"f", magic=b"")
    + symlink(b"s", b"f", magic=b""),
    "ustar": folder(b"d/") + file(b"d/f", uid=5, gid=6, mode=0o4755),
    "a prefix": file(b"file", prefix=b"a/b"),
    "a prefix of 155": file(b"n" * 90, prefix=b"/".join([b"p" * 50] * 3)),
    "a name of 100 without NUL": file(b"n" * 100),
    "GNU magic": file(b"f", magic=GNU),
    "star's times": file(
        b"f", prefix=b"pre".ljust(131, b"\0") + octal(5, 12) + octal(6, 12), tail=b"tar\0"
    ),
    "spaces before numbers": file(b"f", mode=b"   644 \0", uid=b"     5 \0", gid=b"     6 \0"),
    "spaces behind numbers": file(b"f", size=b"00000000004 ", mtime=b"00000001750 "),
    "numbers without an end": file(b"f", size=b"000000000004", mtime=b"000000001750"),
    "empty numbers": header(b"f", uid=bytes(8), gid=bytes(8), mtime=bytes(12)),
    "mode with the file's type": file(b"f", mode=0o100755),
    "base-256 size": file(b"f", size=base256(4, 12)),
    "base-256 owner": file(b"f", uid=base256(3_000_000, 8), gid=base256(4_000_000, 8), magic=GNU),
    "base-256 time": file(b"f", mtime=base256(1 << 34, 12), magic=GNU),
    "a negative time": file(b"f", mtime=base256(-100, 12), magic=GNU),
    "the sum of signed bytes": file("ä".encode(), signed=True),
    "a sum with spaces": file(b"f", sum=b"%6o \0"),
    "a sum of seven digits": file(b"f", sum=b"%07o\0"),
    # names
    "./ before names": folder(b"./") + folder(b"./d/") + file(b"./d/f"),
    "absolute names": file(b"/d/f"),
    "double slashes": file(b"d//e///f"),
    "dots within": file(b"d/./e/./f"),
    "a folder without its slash": folder(b"d") + file(b"d/f"),
    "a file with a slash": file(b"d/", b"", type=b"\0"),
    "no folders at all": file(b"a/b/c/d"),
    "folders behind their files": file(b"d/f") + folder(b"d/", mode=0o711, mtime=77),
    "names that are no UTF-8": file(b"\xff\xfe\x80"),
    "a line's end in a name": file(b"a\nb") + symlink(b"c\td", b"x\ny"),
    "backslashes": file(b"a\\b") + file(b"c:\\d"),
    "GNU long name": gnu_long(LONG) + file(LONG[:100], magic=GNU),
    "GNU long link": gnu_long(LONG, b"K") + symlink(b"s", LONG[:100], magic=GNU),
    "GNU long both": gnu_long(LONG, b"K") + gnu_long(LONG + b"2") + symlink(b"x", b"y", magic=GNU),
    "GNU long hard link": gnu_long(LONG) + file(b"x") + gnu_long(LONG, b"K") + hard(b"h", b"x"),
    # PAX
    "PAX path": pax((b"path", WIDE)) + file(b"x"),
    "PAX linkpath": pax((b"linkpath", WIDE)) + symlink(b"s", b"x"),
    "PAX size": pax((b"size", b"4")) + file(b"f", size=0).replace(b"", b"", 1),
    "PAX owners": pax((b"uid", b"3000000"), (b"gid", b"5")) + file(b"f", uid=1, gid=1),
    "PAX time": pax((b"mtime", b"1234.999999999")) + file(b"f"),
    "PAX time before 1970": pax((b"mtime", b"-5.0")) + file(b"f"),
    "PAX times that do not count": pax((b"atime", b"5"), (b"ctime", b"6.5")) + file(b"f"),
    "PAX xattrs": pax((b"SCHILY.xattr.user.one", b"1\0\xff"), (b"SCHILY.xattr.user.two", b""))
    + file(b"f"),
    "PAX unknown keys": pax((b"VENDOR.key", b"=\n="), (b"comment", b"x")) + file(b"f"),
    "PAX before a long name": pax((b"mtime", b"7")) + gnu_long(LONG) + file(b"x", magic=GNU),
    "PAX of binary names": pax((b"hdrcharset", b"BINARY"), (b"path", b"\xff\xfe")) + file(b"x"),
    "PAX of Solaris": pax((b"path", b"named"), kind=b"X") + file(b"x"),
    # links
    "a hard link behind its file": file(b"f", mode=0o600) + hard(b"h", b"f", mode=0o600),
    "a hard link with ./": file(b"./f") + hard(b"./h", b"./f"),
    "an absolute hard link": file(b"/d/f") + hard(b"/d/h", b"/d/f"),
    "a chain of hard links": file(b"a") + hard(b"b", b"a") + hard(b"c", b"b") + hard(b"d", b"c"),
    "a hard link to a symlink": symlink(b"s", b"x") + hard(b"h", b"s"),
    "a hard link to a FIFO": header(b"p", type=b"6") + hard(b"h", b"p"),
    "a hard link with a size": file(b"f") + hard(b"h", b"f", size=4),
    "symlinks anywhere": symlink(b"a", b"/abs") + symlink(b"b", b"../../up") + symlink(b"c", b"c"),
    "through a link": folder(b"b/") + symlink(b"a", b"b") + file(b"a/x"),
    "through two links": folder(b"c/d/")
    + symlink(b"b", b"c")
    + symlink(b"a", b"b/d")
    + file(b"a/x")
    + folder(b"b/e/")
    + file(b"b/e/y"),
    "through a link up": folder(b"u/lib/")
    + folder(b"v/")
    + symlink(b"v/l", b"../u/lib")
    + file(b"v/l/x"),
    "a hard link through a link": folder(b"b/")
    + file(b"b/f")
    + symlink(b"a", b"b")
    + hard(b"h", b"a/f"),
    "a folder for a link": folder(b"b/") + symlink(b"a", b"b") + folder(b"a/") + file(b"a/x"),
    "a link's link replaced": folder(b"b/")
    + folder(b"c/")
    + symlink(b"a", b"b")
    + file(b"a/x")
    + symlink(b"a", b"c")
    + file(b"a/y"),
    # duplicates, and what replaces what
    "a file twice": file(b"f", b"one") + file(b"f", b"two", mode=0o600, uid=3),
    "a folder twice": folder(b"d/") + file(b"d/f") + folder(b"d/", mode=0o700, uid=3),
    "a file for a link": symlink(b"f", b"x") + file(b"f"),
    "a link for a file": file(b"f") + symlink(b"f", b"x"),
    "a file for a hard link": file(b"f", b"one") + hard(b"h", b"f") + file(b"f", b"two"),
    "a file for an empty folder": folder(b"d/") + file(b"d"),
    "a folder for a file": file(b"d") + folder(b"d/") + file(b"d/f"),
    # other kinds
    "devices": header(b"null", type=b"3", major=1, minor=3) + header(b"sda", type=b"4", major=8),
    "a large minor number": header(b"c", type=b"3", major=259, minor=70_000),
    "contiguous": file(b"f", type=b"7"),
    "an old sparse file": old_sparse(b"f", PARTS, 10240),
    "an old sparse file of many parts": old_sparse(b"f", MANY, 60_000) + file(b"g"),
    "a sparse file 0.0": sparse_0(b"f", PARTS, 10240, 0),
    "a sparse file 0.1": sparse_0(b"f", PARTS, 10240, 1),
    "a sparse file 1.0": sparse_1_0(b"f", PARTS, 10240) + file(b"g"),
    "nothing but holes": sparse_1_0(b"f", [(5 << 20, b"")], 5 << 20),
    # the end
    "no end": file(b"f"),
    "half an end": file(b"f") + bytes(512),
    "much end": file(b"f") + bytes(20480),
    "concatenated": file(b"f") + END + file(b"g"),
    "garbage behind the end": file(b"f") + END + b"garbage" * 100,
    "empty": END,
}
SHAPES["PAX size"] = pax((b"size", b"4")) + header(b"f", size=0) + padded(b"data")
REFUSED: dict[str, bytes] = {
    "zeros in the middle": file(b"f") + bytes(512) + file(b"g"),
    "a wrong sum": file(b"f", sum=b"0001234\0"),
    "cut in a header": file(b"f") + header(b"g")[:100],
    "cut in a file": header(b"f", size=5000) + b"x" * 700,
    "a hard link to nothing": hard(b"h", b"f"),
    "below a file": file(b"f") + file(b"f/g"),
    "a size that is none": file(b"f", size=b"4x0000000000"),
}
ENDED = {"no end", "half an end", "much end", "concatenated", "garbage behind the end", "empty"}

GNU_DIFFERS = {
    "through a link up": "GNU tar makes links with .. when all else is there, as a precaution",
}
DOCKER_REFUSES = {  # with these words
    **dict.fromkeys(
        (
            *("a file twice", "a folder twice", "a file for a link", "a link for a file"),
            *("a file for a hard link", "a file for an empty folder", "a folder for a file"),
            *("a folder for a link", "a link's link replaced"),
        ),
        "duplicates of file paths not supported",
    ),
    **dict.fromkeys(
        ("PAX of Solaris", "contiguous", "an old sparse file", "an old sparse file of many parts"),
        "unhandled tar header type",
    ),
}
DOCKER_DIFFERS = {
    "base-256 time": "Docker sets times outside of what it holds for sound to 1970",
    "a negative time": "the same",
    "PAX time before 1970": "the same",
    "PAX xattrs": "moby keeps security.capability alone; layer.md wants all",
}


def whole(name: str) -> bytes:
    return SHAPES[name] if name in ENDED else SHAPES[name] + END


# -- what they make of them ------------------------------------------------------------------------

Tree = dict[bytes, tuple[Any, ...]]
ENGINES = (b"dev", b"proc", b"sys", b"etc", b".dockerenv")


def scanned(root: Path, left_out: tuple[bytes, ...] = ()) -> Tree:
    """Every path: type, mode, owner, time, content or target or device, xattrs, and the first
    path of the same inode. Of folders no times: tools differ in when they set them."""
    tree: Tree = {}
    first: dict[int, bytes] = {}
    waiting = [os.fsencode(root)]
    top = len(waiting[0]) + 1
    while waiting:
        for entry in sorted(os.scandir(waiting.pop()), key=lambda each: each.name):
            path = entry.path[top:]
            if path.split(b"/")[0] in left_out:
                continue
            found = entry.stat(follow_symlinks=False)
            kind = stat.S_IFMT(found.st_mode)
            holds: object = None
            if kind == stat.S_IFDIR:
                waiting.append(entry.path)
            elif kind == stat.S_IFREG:
                with open(entry.path, "rb") as file:
                    holds = hashlib.sha256(file.read()).hexdigest()
            elif kind == stat.S_IFLNK:
                holds = os.readlink(entry.path)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                holds = found.st_rdev
            names = [] if kind != stat.S_IFREG else os.listxattr(entry.path)
            xattrs = [(name, os.getxattr(entry.path, name)) for name in sorted(names)]
            tree[path] = (
                *(kind, found.st_mode & 0o7777, found.st_uid, found.st_gid),
                *(None if kind == stat.S_IFDIR else int(found.st_mtime), holds, xattrs),
                first.setdefault(found.st_ino, path) if kind != stat.S_IFDIR else path,
            )
    # the first path of an inode, by name, whatever the order of the walk
    groups: dict[bytes, list[bytes]] = {}
    for path, fields in tree.items():
        groups.setdefault(fields[-1], []).append(path)
    return {path: (*fields[:-1], min(groups[fields[-1]])) for path, fields in tree.items()}


@pytest.fixture
def new_folder(tmp_path: Path) -> Iterator[Callable[[], Path]]:
    numbers = iter(range(1000))

    def make() -> Path:
        made = tmp_path / f"tree{next(numbers)}"
        made.mkdir()
        return made

    yield make


def as_a_layer(data: bytes, into: Path) -> Tree:
    unpack_layer(io.BytesIO(data), str(into), privileged=True)
    return scanned(into)


def as_a_rootfs(data: bytes, store: Store, into: Path) -> Tree:
    """By way of the canonical layer, whose tar GNU tar extracts."""
    layer = canonical_layer(store, io.BytesIO(data))
    with store.open(layer.blob) as blob:
        return by_gnu_tar(open_layer(blob, "gzip").read(), into)[0]


def by_gnu_tar(data: bytes, into: Path) -> tuple[Tree, str]:
    done = subprocess.run(
        ["tar", "-xpf", "-", "--numeric-owner", "--xattrs", "--xattrs-include=user.*", "-C", into],
        input=data,
        capture_output=True,
    )
    return scanned(into), done.stderr.decode() if done.returncode else ""


def by_docker(engine: Engine, data: bytes, into: Path) -> Tree:
    image = engine.docker("import", "-", input=data).decode().strip()
    container = engine.docker("create", "--network", "none", image, "x").decode().strip()
    exported = engine.docker("export", container)
    engine.docker("rm", container)
    engine.docker("rmi", image)
    by_gnu_tar(exported, into)
    return scanned(into, ENGINES)


@pytest.mark.parametrize("name", SHAPES)
def test_gnu_tar_makes_the_same_tree(
    name: str, new_folder: Callable[[], Path], tmp_path: Path
) -> None:
    data = whole(name)
    ours = as_a_layer(data, new_folder())
    if name != "empty":
        assert as_a_rootfs(data, Store(str(tmp_path / "store")), new_folder()) == ours
    theirs, said = by_gnu_tar(data, new_folder())
    if name in GNU_DIFFERS:
        assert theirs != ours or said, "it does not differ any more"
    else:
        assert theirs == ours, said


@pytest.mark.parametrize("name", SHAPES)
def test_docker_makes_the_same_tree(
    name: str, engine: Engine, new_folder: Callable[[], Path]
) -> None:
    data = whole(name)
    ours = as_a_layer(data, new_folder())
    if name in DOCKER_REFUSES:
        with pytest.raises(AssertionError, match=DOCKER_REFUSES[name]):
            engine.docker("import", "-", input=data)
        return
    theirs = by_docker(engine, data, new_folder())
    if name in DOCKER_DIFFERS:
        assert theirs != ours, "it does not differ any more"
    else:
        assert theirs == ours


@pytest.mark.needs("umoci")
@pytest.mark.parametrize("name", [name for name in SHAPES if "through" in name])
def test_umoci_writes_through_links_as_we_do(
    name: str, new_folder: Callable[[], Path], tmp_path: Path
) -> None:
    data, store = whole(name), Store(str(tmp_path / "store"))
    blob = store.put(gzip.compress(data), media.LAYER_GZIP)
    image = empty_image(Platform()).append(Layer(DiffID(digest_of(data)), blob), {})
    parse_output(f"oci:{tmp_path}/layout:v1")(store, "x").put([image])
    umoci = ["umoci", "unpack", "--image", f"{tmp_path}/layout:v1", str(tmp_path / "bundle")]
    subprocess.run(umoci, check=True, capture_output=True)
    assert scanned(tmp_path / "bundle/rootfs") == as_a_layer(data, new_folder())


@pytest.mark.parametrize("name", REFUSED)
def test_damage_is_refused(name: str, new_folder: Callable[[], Path], tmp_path: Path) -> None:
    data = REFUSED[name] if name.startswith("cut") else REFUSED[name] + END
    with pytest.raises(LayerError):
        as_a_layer(data, new_folder())
    with pytest.raises(LayerError):
        canonical_layer(Store(str(tmp_path / "store")), io.BytesIO(data))


def test_python_reads_what_is_made_here() -> None:
    """The tars are what they are called: another reader knows them, too."""
    for name in ("ustar", "PAX path", "GNU long name", "a sparse file 1.0", "devices"):
        with tarfile.open(fileobj=io.BytesIO(whole(name))) as archive:
            assert archive.getmembers()
