"""Sources of one `copy` that land on each other: of a context and of another image alike, what is
made is what one copy after another makes, and what would be no tree is an error."""

from __future__ import annotations

import itertools
import os
import random
import tarfile
from typing import Any

import pytest

from tests.steps.test_copy_from import entries
from tests.steps.test_set import layers

ROUNDS = 150 if os.environ.get("RELIABILITY") == "full" else 10
SEED = int(os.environ.get("RELIABILITY_SEED", "1"))
KINDS = ("file", "hard", "folder", "full", "symlink")


def fill(root: Any, seeded: random.Random) -> dict[str, dict[str, str]]:
    """Three folders with the same names in them: folder -> name -> what it is."""
    made: dict[str, dict[str, str]] = {}
    (root / "src").mkdir()
    for name in "12":
        (root / "src" / name).write_bytes(name.encode())
    for folder, name in itertools.product("abc", "xyz"):
        path = root / "src" / folder / name
        path.parent.mkdir(exist_ok=True)
        kind = seeded.choice(KINDS)
        made.setdefault(folder, {})[name] = kind
        if kind == "file":
            path.write_text(folder + name)
        elif kind == "hard":
            path.hardlink_to(root / "src" / seeded.choice("12"))
        elif kind == "symlink":
            path.symlink_to(seeded.choice(("/etc", "x", "../a")))
        else:
            path.mkdir()
            if kind == "full":
                (path / "in").write_text(folder + name)
    return made


@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_lands_on_each_other(project: Any, number: int) -> None:
    seeded = random.Random(SEED * 1000 + number)
    made = fill(project.root, seeded)
    taken = [seeded.choice("abc") for _ in range(3)]
    for origin in ("", "from: 'stage:s', "):
        paths = [f"{'/' if origin else ''}src/{each}" for each in taken]
        project.spec(
            "t",
            "stages: {s: {from: scratch, steps: [{copy: src, dest: /src}]}}\nfrom: scratch\n"
            f"steps: [{{copy: {paths}, {origin}dest: /d/}}]\n",
        )
        kinds = [{made[each][name] in ("folder", "full") for each in taken} for name in "xyz"]
        if any(len(each) > 1 for each in kinds):
            error = project.run("build", "t", status=2).stderr
            assert "is a directory in one source of the step and none in another" in error
            continue
        archive = project.root / "o.tar"
        archive.unlink(missing_ok=True)
        project.run("build", "t", "-o", "docker-archive:o.tar")
        found, data = entries(archive), layers(archive)
        for name in "xyz":
            source = project.root / "src" / taken[-1] / name
            entry = found[f"d/{name}"]
            if source.is_symlink():
                assert entry.linkname == os.readlink(source)
                continue
            assert entry.isdir() == source.is_dir()
            if source.is_dir():
                continue
            seen = set()
            while entry.type == tarfile.LNKTYPE:
                assert entry.name not in seen, "a link to itself"
                seen.add(entry.name)
                entry = found[entry.linkname]
            assert data[entry.name] == source.read_bytes()
