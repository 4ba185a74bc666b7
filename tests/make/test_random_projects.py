"""Random small projects give the same images with one job and with eight, and warn of nothing.
`RELIABILITY=full` runs 200 rounds, RELIABILITY_SEED chooses them."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from builder.events import Event, StepDone, StepStarted, Warned
from builder.project import Options, Project

pytestmark = pytest.mark.needs("busybox")

ROUNDS = 200 if os.environ.get("RELIABILITY") == "full" else 2
SEED = int(os.environ.get("RELIABILITY_SEED", "1"))


def write_project(scene: Any, seeded: random.Random) -> None:
    """Images on images, with steps of which many are shared."""
    shutil.rmtree(scene.root / "specs")
    (scene.root / "specs").mkdir()
    shutil.rmtree(scene.root / "src", ignore_errors=True)
    for folder in range(4):
        for number in range(seeded.choice((3, 5, 70))):
            path = scene.root / f"src/{folder}/{number % 3}/{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(seeded.randbytes(seeded.choice((0, 10, 5000))))
    names: list[str] = []
    for number in range(seeded.randint(2, 7)):
        base = seeded.choice(["rootfs:base.tar", *(f"image:{name}" for name in names[-3:])])
        steps = [step(seeded) for _ in range(seeded.randint(0, 4))]
        text = f"from: {base}\n" + ("steps:\n" + "".join(steps) if steps else "")
        names.append(f"i{number}")
        scene.spec(names[-1], text + seeded.choice(("", "config: {working_dir: /w}\n")))


def step(seeded: random.Random) -> str:
    number = seeded.randrange(4)
    return seeded.choice(
        (
            f"- copy: src/{number}\n  dest: /srv/{seeded.randrange(2)}/\n",
            f"- copy: src/*/{number % 3}\n  dest: /all/\n",
            f"- file: /etc/f{number}\n  content: '{number}'\n",
            f"- run: echo {number} >>/log; cat /log\n",
            f"- run: mkdir -p /d/{number}; rm -rf /srv/0\n",
            f"- directory: /made/{number}\n",
            f"- symlink: /link{number}\n  to: /srv\n",
        )
    )


def build(scene: Any, store: Path, jobs: int) -> tuple[dict[str, str], list[Event]]:
    told: list[Event] = []
    project = Project(Options(str(store), specs=str(scene.root / "specs"), jobs=jobs), told.append)
    specs, _ = project.load([])
    built = project.build(specs)
    return {name: each.manifest.digest for name, each in built.items()}, told


@pytest.mark.parametrize("number", range(ROUNDS))
def test_random_projects(scene: Any, tmp_path: Path, number: int) -> None:
    write_project(scene, random.Random(SEED * 1000 + number))
    one, said = build(scene, tmp_path / "one", 1)
    eight, heard = build(scene, tmp_path / "eight", 8)
    assert one == eight
    for told in (said, heard):
        assert not [event for event in told if isinstance(event, Warned)], told
    # of two empty ones the first is told, unless it is a working_dir that was there
    made = [[each for each in told if isinstance(each, StepDone)] for told in (said, heard)]
    made = [[each for each in done if each.status == "built" and each.size] for done in made]
    assert len(made[0]) == len(made[1]), "a step ran twice"
    again, quiet = build(scene, tmp_path / "eight", 8)
    assert again == eight
    assert not [event for event in quiet if isinstance(event, StepStarted | Warned)], quiet
    for store in ("one", "eight"):
        assert os.listdir(tmp_path / store / "tmp") == []
