"""The view agrees with the kernel: random stacks of layers, unpacked and mounted as an overlay."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.layer.entry import DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from builder.layer.read import read_layer
from builder.rootfs.table import MemoryTable, PathTable, Table, write_table
from builder.rootfs.unpack import unpack_layer
from builder.rootfs.view import View

TYPES = {
    FILE: tarfile.REGTYPE,
    DIRECTORY: tarfile.DIRTYPE,
    SYMLINK: tarfile.SYMTYPE,
    HARDLINK: tarfile.LNKTYPE,
}
LISTING = {FILE: "f", DIRECTORY: "d", SYMLINK: "l"}


def random_layer(rng: random.Random) -> list[Entry]:
    """A few entries over few names, so that layers meet: all that layers may say, in any order."""
    files: list[bytes] = []

    def entry(path: bytes, type: str, **fields: bytes) -> Entry:
        mode = 0o777 if type == SYMLINK else rng.choice([0o755, 0o700, 0o1777, 0o644])
        return Entry(path, type, mode, rng.randrange(3), rng.randrange(3), rng.randrange(99))

    def inside(folder: bytes, depth: int) -> Iterator[Entry]:
        if rng.random() < 0.15 and depth:
            yield entry(folder + b".wh..wh..opq", FILE)
        for name in (b"a", b"a-b", b"b"):
            path, dice = folder + name, rng.random()
            if dice < 0.15:
                yield entry(folder + b".wh." + name, FILE)
            if dice < 0.1 or 0.15 < dice < 0.3:
                files.append(path)
                yield entry(path, FILE)
            elif 0.3 < dice < 0.4:
                yield entry(path, SYMLINK)._replace(link=rng.choice([b"a", b"../b", b"/a/b"]))
            elif 0.4 < dice < 0.45 and files:
                yield Entry(path, HARDLINK, 0, link=rng.choice(files))
            elif depth < 3 and (0.45 < dice < 0.8 or 0.1 < dice < 0.15):
                yield entry(path, DIRECTORY)
                yield from inside(path + b"/", depth + 1)
            elif depth < 3 and dice > 0.8:
                yield from inside(path + b"/", depth + 1)

    return list(inside(b"", 0))


def packed(entries: list[Entry]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in entries:
            made = tarfile.TarInfo(entry.path.decode())
            made.type, made.mode, made.linkname = TYPES[entry.type], entry.mode, entry.link.decode()
            made.uid, made.gid, made.mtime = entry.uid, entry.gid, entry.mtime
            archive.addfile(made)
    buffer.seek(0)
    return buffer


def line(entry: Entry) -> str:
    fields = (LISTING[entry.type], f"{entry.mode:o}", entry.uid, entry.gid, entry.mtime)
    return "\t".join([entry.path.decode(), *map(str, fields), entry.link.decode()])


LIST = """
mount -t overlay overlay -o "$1" "$2" && cd "$2" &&
find . -mindepth 1 -printf '%P\\t%y\\t%m\\t%U\\t%G\\t%T@\\t%l\\n'
"""


def mounted(lowers: list[Path], at: Path) -> list[str]:
    """What the kernel shows, in a mount namespace that ends with the listing."""
    at.mkdir()
    options = "ro,lowerdir=" + ":".join(str(lower) for lower in reversed(lowers))
    command = ["unshare", "--mount", "sh", "-ec", LIST, "sh", options, str(at)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sorted(each.replace(".0000000000", "") for each in listing.splitlines())


@pytest.mark.root
@pytest.mark.needs("unshare", "mount", "find")
@pytest.mark.parametrize("seed", range(60))
def test_the_view_agrees_with_the_kernel(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    bottom = tmp_path / "empty"
    bottom.mkdir()
    lowers, view = [bottom], View()
    for number in range(rng.randrange(1, 5)):
        tar = packed(random_layer(rng)).getvalue()
        entries = [entry for entry, _ in read_layer(io.BytesIO(tar))]
        rng.shuffle(entries)
        write_table(str(tmp_path / f"table{number}"), entries, {})
        kinds: list[Table] = [
            MemoryTable(entries),
            PathTable.open(str(tmp_path / f"table{number}")),
        ]
        table = rng.choice(kinds)
        lower, view = view, view.push(table)

        def hides(path: bytes, lower: View = lower) -> bool:
            return lower.lookup(path) is not None

        def below(path: bytes, view: View = view) -> Entry | None:
            found = view.lookup(path)
            return found.entry if found else None

        lowers.append(tmp_path / f"layer{number}")
        lowers[-1].mkdir()
        unpack_layer(io.BytesIO(tar), str(lowers[-1]), privileged=True, below=below, hides=hides)
    seen = [found.entry for found in view.subtree(b"")]
    assert sorted(line(entry) for entry in seen) == mounted(lowers, tmp_path / "merged")
    names = [b"a", b"a-b", b"b", b"c"]
    known = {entry.path for entry in seen}
    for path in (
        b"/".join(parts) for parts in ((x, y, z) for x in names for y in names for z in names)
    ):
        assert (view.lookup(path) is not None) == (path in known)
    assert not os.path.ismount(tmp_path / "merged")
