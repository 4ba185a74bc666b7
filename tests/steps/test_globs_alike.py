"""A glob finds in the context what it finds in an image that holds the same files.
`RELIABILITY=full` tries 200 projects."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.steps.test_copy_from import entries

ROUNDS = 200 if os.environ.get("RELIABILITY") == "full" else 4
SEED = int(os.environ.get("RELIABILITY_SEED", "1"))
PARTS = ("*", "**", "?", "[ab]", "a", "b", "c*", "[^a]*", "*b")
FAULTS = ("matches nothing", "in a circle")  # else a link that leads nowhere
NAMES = ("a", "b", "c", "cb", "d e")


def fill(root: Path, seeded: random.Random) -> None:
    root.mkdir()
    folders = [root]
    for _ in range(seeded.randint(5, 25)):
        path = seeded.choice(folders) / seeded.choice(NAMES)
        if os.path.lexists(path):
            continue
        match seeded.randrange(5):
            case 0 | 1:
                path.mkdir()
                folders.append(path)
            case 2:
                depth = len(path.relative_to(root).parts) - 1
                up = "../" * seeded.randint(0, depth)
                path.symlink_to(up + seeded.choice((*NAMES, "a/b", "nowhere", ".")))
            case _:
                path.write_text(str(path.relative_to(root)))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_globs_find_the_same_in_a_context_and_in_an_image(project: Any, number: int) -> None:
    seeded = random.Random(SEED * 1000 + number)
    fill(project.root / "src", seeded)
    for _ in range(3):
        parts = [seeded.choice(PARTS) for _ in range(seeded.randint(1, 5))]
        parts[seeded.randrange(len(parts))] = seeded.choice(PARTS[:4])
        said: list[Any] = []
        for prefix, origin in (("src/", ""), ("/src/", "from: 'stage:s', ")):
            project.spec(
                "x",
                "stages: {s: {from: scratch, steps: [{copy: src, dest: /src}]}}\nfrom: scratch\n"
                f"steps: [{{copy: '{prefix}{'/'.join(parts)}', {origin}dest: /o/}}]\n",
            )
            archive = project.root / "o.tar"
            archive.unlink(missing_ok=True)
            made = subprocess.run(
                [sys.executable, "-m", "builder", "build", "x", "-o", "docker-archive:o.tar"],
                cwd=project.root,
                env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)},
                capture_output=True,
                text=True,
            )
            if made.returncode:
                assert (made.returncode, "specs/x.yaml:" in made.stderr) == (2, True), made.stderr
                said.append([word for word in FAULTS if word in made.stderr])
            else:
                said.append({path: kind(entry) for path, entry in entries(archive).items()})
        assert said[0] == said[1], (parts, said)


def kind(entry: tarfile.TarInfo) -> tuple[object, ...]:
    """What of a member is the same wherever it was taken; a link may be to the other path."""
    return (entry.isdir(), entry.issym(), entry.linkname if entry.issym() else "")


def test_globs_go_as_deep_as_a_context(project: Any) -> None:
    handle = os.open(project.root, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("a", dir_fd=handle)
        handle, above = os.open("a", os.O_RDONLY, dir_fd=handle), handle
        os.close(above)
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)
    project.spec("x", "from: scratch\nsteps: [{copy: 'a/**/a/**/f', dest: /o/}]\n")
    try:
        project.run("build", "x", "-o", "docker-archive:o.tar")
    finally:
        subprocess.run(["rm", "-rf", project.root / "a"], check=True)  # Python's goes less deep
    assert f"o/{'a/' * 1499}f" in entries(project.root / "o.tar")
