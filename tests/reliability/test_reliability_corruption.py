"""A damaged store: what is damaged is made again with one warning, never used, never delivered."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

DAMAGES = ("flip", "cut", "empty", "swap", "folder", "fifo", "garbage", "gone")


def places(store: Path) -> list[Path]:
    """Every file that the store keeps, but for those within unpacked layers: these are trusted as
    the file system keeps them, as docs/reliability.md says."""
    return sorted(
        path
        for path in store.rglob("*")
        if stat.S_ISREG(path.lstat().st_mode) and path.relative_to(store).parts[0] != "unpacked"
    )


def damage(path: Path, others: list[Path], seeded: random.Random) -> str:
    how = seeded.choice(DAMAGES)
    data = path.read_bytes()
    if not data and how in ("flip", "cut"):
        how = "garbage"
    if how == "flip":
        at = seeded.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << seeded.randrange(8)]) + data[at + 1 :])
    elif how == "cut":
        path.write_bytes(data[: seeded.randrange(len(data))])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "swap":
        other = seeded.choice([each for each in others if each.parent == path.parent])
        mine, theirs = data, other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(mine)
    elif how == "garbage":
        path.write_bytes(seeded.randbytes(seeded.choice([1, 65, 500, len(data)])))
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
            (path / "inside").write_text("x")
        elif how == "fifo":
            os.mkfifo(path)
    return how


def test_whatever_is_damaged_the_same_image_is_built_and_delivered_whole(
    scene: Any,
    rounds: Callable[[int, int], int],
    seeded: random.Random,
    figures: Any,
    layout_checked: Callable[[Path, str], int],
) -> None:
    reference = scene.build("site", "--output", f"oci:{scene.folder / 'whole'}")
    scene.build()
    kept = scene.folder / "kept"
    subprocess.run(["cp", "-a", scene.store, kept], check=True)
    counts: Counter[str] = Counter()
    for number in range(rounds(60, 1000)):
        shutil.rmtree(scene.store)
        subprocess.run(["cp", "-a", kept, scene.store], check=True)
        found = places(scene.store)
        # a kind of place first, then one of them: there are many more of some than of others
        kind = seeded.choice(sorted({path.parent for path in found}))
        path = seeded.choice([each for each in found if each.parent == kind])
        how = damage(path, found, seeded)
        where = f"round {number}: {how} {path.relative_to(scene.store)}"
        out = scene.folder / f"out{number}"
        # every other round a step above it has to run, so that what is below is read
        runs = number % 2 == 1
        if runs:
            shutil.rmtree(scene.store / "uses", ignore_errors=True)
            more = ("--compression", "none")
        else:
            more = ()
        done = scene.start("build", "site", "--output", f"oci:{out}", *more).wait(60)
        assert done.said_clearly().status == 0, f"{where}: {done.err}"
        digest = done.out.split()[-1]
        assert runs or digest == reference, where
        layout_checked(out, digest)
        warnings = done.warnings
        assert len(warnings) == len(set(warnings)), f"{where}: {warnings}"
        assert len(warnings) <= (4 if how == "swap" else 2), f"{where}: {warnings}"
        counts[how] += 1
        counts["warned" if warnings else "no warning"] += 1
        again = scene.run("build", "site", "--output", f"oci:{out}2")
        assert again.status == 0 and again.out.split()[-1] == reference, f"{where}: {again.err}"
        layout_checked(Path(f"{out}2"), reference)
        last = scene.run("build", "site")
        assert not last.warnings and "nothing to build" in last.err, f"{where}: {last.err}"
        scene.check_at_rest()
        shutil.rmtree(out)
        shutil.rmtree(f"{out}2")
    figures(**counts)


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_stands_in_a_tables_place_blocks_nothing(scene: Any, kind: str) -> None:
    reference = scene.build()
    for path in list((scene.store / "tables").iterdir()):
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
    shutil.rmtree(scene.store / "records")
    shutil.rmtree(scene.store / "memos")
    assert scene.build() == reference


def test_a_damaged_layer_is_told_and_never_copied_or_pushed(scene: Any) -> None:
    """By commands that deliver what is there and cannot build."""
    scene.build()
    layer = max((scene.store / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    with open(layer, "r+b") as file:
        file.seek(1000)
        file.write(b"damaged")
    done = scene.run("cache", "check")
    assert done.status == 1 and layer.name in done.out
    done = scene.run("push", "site", "localhost:1/site")
    assert done.status == 1
    assert scene.run("build", "site").status == 0


def test_flips_that_a_decompressor_stumbles_over_are_corrupt_blobs(
    scene: Any, seeded: random.Random
) -> None:
    """In layers that are read to be converted, and to be unpacked for a command."""
    scene.build()
    plain = scene.build("site", "--compression", "none")
    blobs = scene.store / "blobs/sha256"
    for _ in range(3):
        for path in blobs.iterdir():
            data = path.read_bytes()
            if data[:2] == b"\x1f\x8b":
                at = seeded.randrange(len(data))
                path.write_bytes(data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :])
            elif len(data) > 5000:
                path.unlink()  # of the plain layers: converted from the damaged ones
        for name in ("uses", "tables"):
            shutil.rmtree(scene.store / name)
        done = scene.run("build", "site", "--compression", "none")
        assert done.status == 0, done.err
        assert done.out.split()[-1] == plain
        assert "is corrupt" in done.err
        scene.build()
