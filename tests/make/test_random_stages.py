"""Random projects of several stages, edited at random: after each edit a build in the store of all
builds before gives what a build in a new store gives, and says that nothing was built where nothing
could have changed. `RELIABILITY=full` makes 2,000 edits."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from builder.events import Event, StepStarted, Warned
from builder.project import Options, Project

pytestmark = pytest.mark.needs("busybox")

FULL = os.environ.get("RELIABILITY") == "full"
PROJECTS, EDITS = (50, 40) if FULL else (2, 8)
SEED = int(os.environ.get("RELIABILITY_SEED", "1"))
PATHS = ("a", "b", "d/a", "d/b", "d/e/a")


class Edited:
    """A project that remembers what it consists of."""

    def __init__(self, scene: Any, seeded: random.Random) -> None:
        self.root: Path = scene.root
        self.seeded = seeded
        shutil.rmtree(self.root / "specs", ignore_errors=True)
        (self.root / "specs").mkdir()
        for path in PATHS:
            self._file(path)
        self.stages: dict[str, list[dict[str, Any]]] = {}
        self.bases: dict[str, str] = {}
        for number in range(seeded.randint(1, 4)):
            self.bases[f"s{number}"] = self._base()
            self.stages[f"s{number}"] = []
            for _ in range(seeded.randint(1, 3)):
                self.stages[f"s{number}"].append(self._step(f"s{number}"))
        self.other = [self._step("")]
        self.steps = [self._step("top") for _ in range(seeded.randint(1, 4))]
        self.vars: dict[str, Any] = {"word": "one", "unused": "x"}
        self.comment = 0
        self.write()

    def _file(self, path: str) -> None:
        where = self.root / "src" / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(self.seeded.choice(("", "1", "2", "three")))
        where.chmod(self.seeded.choice((0o644, 0o755, 0o600)))

    def _base(self) -> str:
        return self.seeded.choice(
            ["scratch", "rootfs:base.tar", *(f"stage:{name}" for name in self.stages)]
        )

    def _step(self, of: str) -> dict[str, Any]:
        """Of the stage `of`, of the image itself ("top"), or of the other spec ("")."""
        seeded = self.seeded
        below = [f"stage:{name}" for name in self.stages if name < of] if of else []
        below += ["rootfs:base.tar"] + (["image:other"] if of == "top" else [])
        path = seeded.choice(PATHS)
        dest = seeded.choice(("/x/", "/y/", "/x/y/", "/o"))
        match seeded.randrange(9):
            case 0:
                return {"copy": f"src/{path}", "dest": dest}
            case 1:
                return {"copy": "src/", "dest": dest.rstrip("/") + "/", "exclude": ["a"]}
            case 2:
                return {"file": f"/f/{path}", "content": seeded.choice(("{{ word }}", "x"))}
            case 3 if of != "":
                return {"set": {"env": {"E": seeded.choice(("1", "{{ word }}"))}}}
            case 4:
                return {"symlink": f"/l{seeded.randrange(3)}", "to": "/x"}
            case 5:
                return {"directory": f"/x/{seeded.randrange(3)}", "mode": "0700"}
            case _:
                # what is there may be little: a glob from the root takes what there is
                step: dict[str, Any] = {
                    "copy": "/",
                    "from": seeded.choice(below),
                    "dest": f"/c{seeded.randrange(3)}/",
                }
                if seeded.random() < 0.6:
                    step |= {
                        "copy": "/[a-z]*",
                        "exclude": [seeded.choice(("bin", "a", "x/", "c?"))],
                    }
                if seeded.random() < 0.3:
                    step["owner"] = "7:8"
                if seeded.random() < 0.2:
                    step["times"] = "content"
                return step

    def edit(self) -> bool:
        """Change something; False: nothing that an image may show."""
        seeded = self.seeded
        bodies = [*self.stages.values(), self.steps, self.other]
        body = seeded.choice(bodies)
        of = next((name for name, each in self.stages.items() if each is body), "")
        of = "top" if body is self.steps else of
        what = seeded.randrange(12)
        if what == 0:
            self._file(seeded.choice(PATHS))
        elif what == 1:
            body.insert(seeded.randint(0, len(body)), self._step(of))
            del body[6:]
        elif what == 2 and body:
            body[seeded.randrange(len(body))] = self._step(of)
        elif what == 3 and len(body) > 1:
            body.pop(seeded.randrange(len(body)))
        elif what == 4:
            seeded.shuffle(body)
        elif what == 5:
            self.vars["word"] = seeded.choice(("one", "two"))
        elif what == 6:
            self.vars["unused"] = str(seeded.random())
            self.write()
            return False
        elif what == 7:
            self.comment += 1
            self.write()
            return False
        elif what == 8:
            name = seeded.choice(list(self.stages))
            earlier = [f"stage:{each}" for each in self.stages if each < name]
            self.bases[name] = seeded.choice(["scratch", "rootfs:base.tar", *earlier])
        elif what == 9:
            for path in (self.root / "src").rglob("*"):
                os.utime(path, (seeded.randrange(10**9),) * 2)
            return False
        elif what == 10:
            body += [dict(each) for each in seeded.choice(bodies)[:1] if body is not self.other]
            del body[6:]
            if body is not self.steps:
                body[:] = [each for each in body if each.get("from") != "image:other"]
                names = {f"stage:{name}" for name in self.stages if not name < of}
                body[:] = [each for each in body if each.get("from") not in names]
        else:
            target = self.root / "src" / seeded.choice(PATHS)
            data = target.read_bytes()
            target.write_bytes(data[::-1] + b"!" * (len(data) < 4))
        self.write()
        return True

    def write(self) -> None:
        spec = {
            "vars": self.vars,
            "stages": {
                name: {"from": self.bases[name], "steps": steps}
                for name, steps in self.stages.items()
            },
            "from": "scratch",
            "steps": self.steps,
        }
        text = "# a line\n" * self.comment + json.dumps(spec, indent=1)
        (self.root / "specs/app.yaml").write_text(text)
        other = {"vars": {"word": "o"}, "from": "scratch", "steps": self.other}
        (self.root / "specs/other.yaml").write_text(json.dumps(other))


def build(root: Path, store: Path, jobs: int) -> tuple[dict[str, str], list[Event]]:
    from builder.errors import BuilderError

    told: list[Event] = []
    project = Project(Options(str(store), specs=str(root / "specs"), jobs=jobs), told.append)
    try:
        specs, _ = project.load([])
        built = project.build(specs)
    except BuilderError as error:
        return {"error": error.message}, told
    return {name: each.manifest.digest for name, each in built.items()}, told


@pytest.mark.parametrize("number", range(PROJECTS))
def test_random_edits(scene: Any, tmp_path: Path, number: int) -> None:
    seeded = random.Random(SEED * 1000 + number)
    edited = Edited(scene, seeded)
    kept = tmp_path / "kept"
    before: dict[str, str] = {}
    for at in range(EDITS):
        changed = edited.edit()
        found, told = build(edited.root, kept, seeded.choice((1, 4)))
        new = tmp_path / "new"
        expected, _ = build(edited.root, new, 2)
        assert found == expected, (at, (edited.root / "specs/app.yaml").read_text())
        for store in (kept, new):
            assert os.listdir(store / "tmp") == []
        shutil.rmtree(new)
        assert not [each for each in told if isinstance(each, Warned)], told
        if not changed and before and "error" not in before:
            assert found == before
            started = [each for each in told if isinstance(each, StepStarted)]
            assert not started, started
        before = found
