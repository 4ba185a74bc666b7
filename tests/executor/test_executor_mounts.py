"""Mounts in a folder that holds hostile links, as a step may find them in a cache that another step
of the same moment writes to: what the builder checked before is not what is there."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuilderError
from builder.executor.base import File, Folder, Memory, Mounted, Value

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox", "runc")]

ROUNDS = int(os.environ.get("BUILDER_MOUNT_ROUNDS", "25"))


def _tree(path: Path) -> list[tuple[str, int, int]]:
    found = [path, *path.rglob("*")]
    return [(str(each), each.lstat().st_mode, each.lstat().st_mtime_ns) for each in found]


def _link(rng: random.Random, outside: Path) -> str:
    up = rng.choice(["/..", "/../..", "..", "/".join([".."] * rng.randint(1, 20)), "", "/."])
    where = rng.choice([str(outside), f"{outside}/in", "/etc", "/proc/self/root", "/proc", "/dev"])
    return rng.choice([up + where, f"{up}/proc/1/root{outside}", f"{up}/proc/self/cwd/x", "/.."])


def _mount(rng: random.Random, target: str, source: Path) -> Mounted:
    return rng.choice(
        [
            Memory(target),
            Folder(target, str(source), writable=True),
            File(target, f"{source}/file"),
            Value(target, b"value"),
        ]
    )


@pytest.mark.parametrize("kind", ["sandbox", "runc"])
def test_links_in_a_mounted_folder_lead_nowhere(kind: str, runner: Any, tmp_path: Path) -> None:
    run = runner(kind)
    rng = random.Random(f"links {kind}")
    outside, source = tmp_path / "outside", tmp_path / "source"
    (outside / "in").mkdir(parents=True)
    source.mkdir()
    (source / "file").write_text("file")
    before, etc = _tree(outside), sorted(os.listdir("/etc"))
    refused = 0
    for number in range(ROUNDS):
        cache = tmp_path / f"cache{number}"
        cache.mkdir()
        folder = rng.choice(["", "sub/"])
        (cache / folder).mkdir(exist_ok=True)
        (cache / folder / "link").symlink_to(_link(rng, outside))
        below = rng.choice(["", "/new", "/new/deep", "/in/new"])
        mounts = (
            Folder("/c", str(cache), writable=True),
            _mount(rng, f"/c/{folder}link{below}", source),
        )
        try:
            changed = run.run("true", mounts=mounts)
        except BuilderError:
            refused += 1
            changed = {}
        assert _tree(outside) == before, (kind, number, mounts)
        assert sorted(os.listdir("/etc")) == etc
        if kind == "sandbox":  # runc follows them, in the image
            assert not changed
    assert refused == ROUNDS or kind == "runc"


def test_mounts_in_a_mount_are_made_where_they_are_missing(runner: Any, tmp_path: Path) -> None:
    cache, source = tmp_path / "cache", tmp_path / "source"
    (cache / "there").mkdir(parents=True, mode=0o700)
    source.mkdir()
    (source / "file").write_text("file")
    run = runner("sandbox")
    found = run.run(
        "cat /c/a/b/file /c/v/w /c/there/file; stat -c %a /c/m; stat -c %a /c/there;"
        " ! touch /c/a/b/x; echo > /c/m/x",
        mounts=(
            Folder("/c", str(cache), writable=True),
            Folder("/c/a/b", str(source)),
            Value("/c/v/w", b"value "),
            Memory("/c/m"),
            Memory("/c/there"),
            File("/c/there/file", f"{source}/file"),
        ),
    )
    assert run.output.startswith(b"filevalue file1777\n700\n")
    assert not found
    assert sorted(str(each.relative_to(cache)) for each in cache.rglob("*")) == [
        "a",
        "a/b",
        "m",
        "there",
        "v",
        "v/w",
    ]
