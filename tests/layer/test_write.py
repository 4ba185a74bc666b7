"""Layers as written: read back by tarfile and GNU tar, equal whatever way they were made."""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

from builder.errors import CorruptBlob, LayerError
from builder.layer.compress import codec_of
from builder.layer.decompress import open_layer
from builder.layer.entry import (
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    Change,
    Entry,
    HostFile,
    whiteout,
)
from builder.layer.read import read_layer
from builder.layer.write import Earlier, Told, Written, write_layer
from builder.oci.digest import hasher
from builder.oci.media import CODECS
from builder.store.store import Store

EPOCH = 315532800


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def written(store: Store, changes: list[Change], codec: str = "gzip") -> tuple[Written, bytes]:
    made = write_layer(changes, store, codec)
    assert made is not None
    with store.open(made.layer.blob) as blob:
        stream = open_layer(blob, CODECS[made.layer.blob.media_type])
        return made, b"".join(iter(lambda: stream.read(1 << 20), b""))


ODD: list[Change] = [
    (Entry(b"dev", DIRECTORY, 0o755), None),
    (Entry(b"dev/null", CHAR, 0o666, device=(1, 3)), None),
    (Entry(b"etc", DIRECTORY, 0o755, 0, 0, EPOCH), None),
    (whiteout(b"etc/gone", EPOCH), b""),
    (Entry(b"etc/fifo", FIFO, 0o600), None),
    (Entry(b"etc/link", SYMLINK, 0o777, link=b"a/" * 80 + b"end"), None),
    (Entry(b"etc/sticky", DIRECTORY, 0o1777, 4294967294, 3000000, -5), None),
    (Entry(b"etc/suid", FILE, 0o4755, 7, 8, 1 << 34, 3), b"abc"),
    (Entry(b"etc/twin", HARDLINK, 0o4755, 7, 8, 1 << 34, link=b"etc/suid"), None),
    (
        Entry(b"long", FILE, 0o644, size=1, xattrs=((b"security.capability", b"\x01\0\xff"),)),
        b"x",
    ),
    (Entry(b"\xff" + b"n" * 254 + b"/" + b"m" * 255, FILE, 0o644, size=0), b""),
]


def test_tarfile_reads_every_kind_of_entry(store: Store) -> None:
    _, tar = written(store, ODD)
    with tarfile.open(fileobj=io.BytesIO(tar), errors="surrogateescape") as archive:
        members = {member.name: member for member in archive}
    assert members["dev/null"].ischr() and members["dev/null"].devminor == 3
    assert members["etc/.wh.gone"].size == 0
    assert members["etc/link"].linkname == "a/" * 80 + "end"
    sticky = members["etc/sticky"]
    assert (sticky.mode, sticky.uid, sticky.gid, sticky.mtime) == (
        0o1777,
        4294967294,
        3000000,
        -5,
    )
    assert members["etc/suid"].mtime == 1 << 34
    assert members["etc/twin"].islnk() and members["etc/twin"].linkname == "etc/suid"
    assert "\udcff" + "n" * 254 + "/" + "m" * 255 in members
    assert {member.uname for member in members.values()} == {""}


def test_gnu_tar_lists_it(store: Store, tmp_path: Path) -> None:
    _, tar = written(store, ODD)
    (tmp_path / "layer.tar").write_bytes(tar)
    listed = subprocess.run(
        ["tar", "--xattrs", "-tvf", tmp_path / "layer.tar"], capture_output=True, check=True
    )
    assert len(listed.stdout.splitlines()) == len(ODD)
    assert b"-rwsr-xr-x" in listed.stdout


def test_our_reader_gives_back_what_was_written(store: Store) -> None:
    _, tar = written(store, ODD)
    assert [entry for entry, _ in read_layer(io.BytesIO(tar))] == [entry for entry, _ in ODD]


@pytest.mark.parametrize("codec", ["gzip", "zstd", "none"])
def test_the_diff_id_is_the_digest_of_the_tar_in_any_codec(store: Store, codec: str) -> None:
    made, tar = written(store, ODD, codec)
    assert made.layer.diff_id == "sha256:" + hasher(tar).hexdigest()
    assert made.size == len(tar)


@pytest.mark.parametrize(
    "paths", [(b"a", b"a"), (b"b", b"a"), (b"a/x", b"a"), (b"d/x", b"d/.wh.y")]
)
def test_entries_out_of_order_are_refused(store: Store, paths: tuple[bytes, bytes]) -> None:
    with pytest.raises(LayerError, match="twice, or out of order"):
        write_layer([(Entry(path, FILE, 0o644), b"") for path in paths], store)


def test_no_changes_are_no_layer(store: Store) -> None:
    assert write_layer([], store) is None


@pytest.mark.parametrize("size", [0, 1, 511, 512, (1 << 20) - 512, 1 << 20, (5 << 20) + 1])
def test_a_file_of_any_size_comes_back(store: Store, tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "file").write_bytes(data)
    host = HostFile(str(tmp_path / "file"), hasher(data).digest())
    _, tar = written(store, [(Entry(b"file", FILE, 0o644, size=size), host)])
    ((_, content),) = [(entry, content.read()) for entry, content in read_layer(io.BytesIO(tar))]
    assert content == data


@pytest.mark.parametrize("size", [100, 3 << 20])
@pytest.mark.parametrize("change", ["other bytes", "longer", "shorter", "gone", "a fifo"])
def test_a_file_that_is_not_what_its_entry_says_is_an_error(
    store: Store, tmp_path: Path, size: int, change: str
) -> None:
    import os

    path = tmp_path / "file"
    path.write_bytes(b"a" * size)
    host = HostFile(str(path), hasher(b"a" * size).digest())
    if change in ("gone", "a fifo"):
        path.unlink()
    if change == "a fifo":
        os.mkfifo(path)
    if change in ("other bytes", "longer", "shorter"):
        extra = {"other bytes": 0, "longer": 1, "shorter": -1}[change]
        path.write_bytes(b"b" * (size + extra))
    with pytest.raises(LayerError):
        write_layer([(Entry(b"file", FILE, 0o644, size=size), host)], store)
    assert list((tmp_path / "store/blobs/sha256").iterdir()) == []


def tree(folder: Path, count: int) -> list[Change]:
    chance = random.Random(count)
    changes: list[Change] = []
    for number in range(count):
        size = chance.choice([0, 10, 5000, 90_000]) if number % 50 else 2_500_000
        data = chance.randbytes(16) * (size // 16)
        path = folder / f"f{number:05d}"
        path.write_bytes(data)
        host = HostFile(str(path), hasher(data).digest())
        changes.append((Entry(f"f{number:05d}".encode(), FILE, 0o644, size=len(data)), host))
    return changes


def lines(changes: list[Change], unread: tuple[bytes, ...] = ()) -> Told:
    """What tells of `tree`s' changes; of the paths in `unread`, when they are read."""

    def line(entry: Entry, digest: bytes) -> bytes:
        return b"%b %d %b" % (entry.path, entry.size, digest)

    return Told(
        [
            b"" if entry.path in unread else line(entry, content.digest or b"")
            for entry, content in changes
            if isinstance(content, HostFile)
        ],
        line,
    )


@pytest.mark.parametrize("codec", ["gzip", "zstd", "none"])
def test_a_layer_made_from_an_earlier_one_is_the_same_to_the_byte(
    tmp_path: Path, codec: str
) -> None:
    first, second = Store(str(tmp_path / "one")), Store(str(tmp_path / "two"))
    changes = tree(tmp_path, 300)
    before = write_layer(changes, first, codec, told=lines(changes))
    assert before is not None
    for number in (3, 150, 299):  # one changes in place, one grows, one goes
        entry, _ = changes[number]
        data = b"changed" * number
        (tmp_path / f"f{number:05d}").write_bytes(data)
        host = HostFile(str(tmp_path / f"f{number:05d}"), hasher(data).digest())
        changes[number] = (entry._replace(size=len(data)), host)
    del changes[200]
    for number in range(40, 60):  # not read: they need not even be there
        (tmp_path / f"f{number:05d}").chmod(0o600)
    name = codec_of(codec).name
    earlier = Earlier(first.blob_path(before.layer.blob.digest), before.runs, name)
    quick = write_layer(changes, first, codec, earlier=earlier, told=lines(changes))
    earlier.close()
    assert quick == write_layer(changes, second, codec, told=lines(changes))
    alone = write_layer(changes, second, codec)
    assert alone is not None and quick is not None and alone.layer == quick.layer


def test_what_stands_in_the_earlier_layer_is_not_read_again(tmp_path: Path, store: Store) -> None:
    changes = tree(tmp_path, 300)
    before = write_layer(changes, store, told=lines(changes))
    assert before is not None
    for number in range(300):
        (tmp_path / f"f{number:05d}").unlink()
    name = codec_of("gzip").name
    earlier = Earlier(store.blob_path(before.layer.blob.digest), before.runs, name)
    assert write_layer(changes, store, earlier=earlier, told=lines(changes)) == before
    earlier.close()


def test_files_read_for_the_first_time_give_the_same_index(tmp_path: Path, store: Store) -> None:
    changes = tree(tmp_path, 300)
    large = bytes(range(256)) * (3 << 12)
    (tmp_path / "large").write_bytes(large)
    host = HostFile(str(tmp_path / "large"), hasher(large).digest())
    changes.append((Entry(b"large", FILE, 0o644, size=len(large)), host))
    known = write_layer(changes, store, told=lines(changes))
    unread = [
        (entry, HostFile(content.path, None))
        for entry, content in changes
        if isinstance(content, HostFile)
    ]
    paths = tuple(entry.path for entry, _ in changes)
    made = write_layer(unread, store, told=lines(unread, paths))
    assert made is not None and known is not None
    assert made._replace(learned=known.learned) == known
    assert not known.learned
    digests = [content.digest for _, content in changes if isinstance(content, HostFile)]
    assert made.learned == b"".join(each or b"" for each in digests)


def test_a_damaged_earlier_layer_is_noticed(tmp_path: Path, store: Store) -> None:
    changes = tree(tmp_path, 300)
    before = write_layer(changes, store, told=lines(changes))
    assert before is not None
    blob = Path(store.blob_path(before.layer.blob.digest))
    damaged = bytearray(blob.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    earlier = Earlier(str(tmp_path / "damaged"), before.runs, codec_of("gzip").name)
    with pytest.raises(CorruptBlob):
        write_layer(changes, store, earlier=earlier, told=lines(changes))
    earlier.close()


@pytest.mark.parametrize("index", [b"", b"gzip 1\n", b"\n" + bytes(40), b"x" * 99])
def test_an_index_that_is_not_one_is_as_none(tmp_path: Path, store: Store, index: bytes) -> None:
    changes = tree(tmp_path, 100)
    earlier = Earlier(str(tmp_path / "nowhere"), index, codec_of("gzip").name)
    quick = write_layer(changes, store, earlier=earlier, told=lines(changes))
    assert quick == write_layer(changes, store, told=lines(changes))
    earlier.close()
