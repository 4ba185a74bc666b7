"""The six projects of docs/examples: built as they stand, and again after an edit in each stage."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from tests.cli.conftest import Project
from tests.examples.conftest import EXAMPLES, IMAGES, example

root, mmdebstrap = pytest.mark.root, pytest.mark.needs("mmdebstrap")


class Edit(NamedTuple):
    """`old` becomes `new` in `file`; without a file nothing does. `built` are the steps that a
    build with `arguments` and `env` makes then, all others are hits; `*` is one of the images that
    share the layer, whichever comes first."""

    example: str
    file: str
    old: str
    new: str
    built: set[str]
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = MappingProxyType({})


SITE = {"site:build pages", "site:build bundle", "site site", "site check"}
EDITS = {
    "a header": Edit(
        "static-program", "src/greeting.h", "Hello", "Good day",
        {"hello:build source", "hello:build compile", "hello program"},
    ),
    "a comment that compiles to the same program": Edit(
        "static-program", "src/main.c", "Greets whom", "Salutes whom",
        {"hello:build source", "hello:build compile"},
    ),
    "a variable of a stage": Edit(
        "static-program", "", "", "", {"hello:build compile", "hello program"},
        ("--set", "version=1.1"),
    ),
    "a program in the environment": Edit(
        "python-app", "app/greeter/main.py", '" ".join', '", ".join',
        {"app:build app", "app:build install app", "app virtual environment"},
    ),
    "a library in the environment": Edit(
        "python-app", "phrases/phrases/__init__.py", "Hello", "Welcome",
        {
            "app:build phrases", "app:build install phrases", "app:build install app",
            "app virtual environment",
        },
    ),
    "what nobody copies": Edit(
        "python-app", "README.md", "# A", "# Another", set(),
    ),
    "code of a front end": Edit(
        "node-site", "web/src/tide.js", "rising", "coming in", SITE,
    ),
    "a comment that the bundler drops": Edit(
        "node-site", "web/src/tide.js", "// High", "// Each high",
        {"site:build pages", "site:build bundle"},
    ),
    "the bundler": Edit(
        "node-site", "web/bundle.mjs", "slice(0, 8)", "slice(0, 9)",
        {"site:build bundler", "site:build bundle", "site site", "site check"},
    ),
    "a template": Edit(
        "node-site", "nginx/nginx.conf.j2", "512", "256", {"site configuration", "site check"},
    ),
    "a file of each of three images": Edit(
        "variants", "tools/where.sh", "uname -n", "uname -a",
        {"tools-plain where", "tools-tls where", "tools-tls-debug where"},
    ),
    "a package of one of three images": Edit(
        "variants", "specs/tools.yaml", "[strace]", "[less]",
        {"tools-tls-debug install less"},
    ),
    "one service": Edit(
        "monorepo", "services/clock/server.pl", '"unknown', '"not known', {"clock server"},
    ),
    "a file of one service alone": Edit(
        "monorepo", "services/clock/offsets.txt", "CET 1", "CET 2", {"clock offsets"},
    ),
    "what two services share": Edit(
        "monorepo", "lib/Team/Server.pm", "Listen => 5", "Listen => 9",
        {"lib copy .", "* library"},
    ),
    "a part of two specs": Edit(
        "monorepo", "specs/parts/service.yaml", "uid: 1000", "uid: 1001", {"* account app"},
    ),
    "a Dockerfile in a context of its own": Edit(
        "monorepo", "services/echo/Dockerfile", "The team", "Our team", set(),
    ),
    "a commit": Edit(
        "service", "", "", "", set(), (), {"CI_COMMIT": "6dcb09b5b57875f334f61aebed695e2e4193db5e"},
    ),
    "settings": Edit(
        "service", "", "", "", {"counter settings", "counter self test"}, ("--set", "port=7001"),
    ),
    "a service's program": Edit(
        "service", "src/counter.pl", "Listen => 5", "Listen => 9",
        {"counter program", "counter self test"},
    ),
}  # fmt: skip


def steps_of(project: Project, *arguments: str, **env: str) -> dict[str, str]:
    """hit or built, by image and step."""
    done = project.run("build", "--progress", "json", *arguments, env=env)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    return {
        f"{each['image']} {each['name']}": each["status"]
        for each in events
        if each["event"] == "step_done"
    }


def test_there_are_six_and_each_says_what_it_is() -> None:
    assert {path.parent.name for path in EXAMPLES.glob("*/builder.yaml")} == set(IMAGES)
    readme = (EXAMPLES / "README.md").read_text()
    for name in IMAGES:
        assert f"({name}/README.md)" in readme
        assert list((EXAMPLES / name).rglob("Dockerfile"))
        says = (EXAMPLES / name / "README.md").read_text()
        assert says.startswith("# ") and "builder plan" in says
        for file in re.findall(r"^\| `([^` ]+/[^` ]+)`", says, re.MULTILINE):
            assert (EXAMPLES / name / file).exists(), file


@pytest.mark.parametrize("name", IMAGES)
def test_lint_finds_nothing(name: str, tmp_path: Path) -> None:
    done = example(name, tmp_path, tmp_path / "store").run("lint")
    assert "warning" not in done.stderr


@root
@mmdebstrap
@pytest.mark.parametrize("name", IMAGES)
def test_a_second_build_makes_nothing(examples: dict[str, Project], name: str) -> None:
    assert set(steps_of(examples[name]).values()) == {"hit"}
    assert set(examples[name].build()) == IMAGES[name]
    examples[name].run("plan", "--exit-code")


@root
@mmdebstrap
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_builds_what_it_must(
    examples: dict[str, Project], edit: str, tmp_path: Path
) -> None:
    what = EDITS[edit]
    project = example(what.example, tmp_path, examples[what.example].store)
    if what.file:
        file = project.root / what.file
        text = file.read_text()
        assert what.old in text
        file.write_text(text.replace(what.old, what.new))
    steps = steps_of(project, *what.arguments, **what.env)
    built = [step for step, status in steps.items() if status == "built"]
    assert len(built) == len(what.built), built
    assert all(fnmatch.filter(built, pattern) for pattern in what.built), built
    project.run("plan", "--exit-code", *what.arguments, env=dict(what.env))


@root
@mmdebstrap
def test_groups_and_patterns_pick_images(examples: dict[str, Project]) -> None:
    variants = examples["variants"]
    assert set(variants.build("release")) == {"tools-plain", "tools-tls"}
    assert set(variants.build("tools-tls*")) == {"tools-tls", "tools-tls-debug"}
    assert set(examples["monorepo"].build("echo")) == {"lib", "echo"}


@root
@mmdebstrap
def test_the_program_of_a_stage_runs(examples: dict[str, Project], tmp_path: Path) -> None:
    examples["static-program"].run("build", "hello", "-o", f"dir:{tmp_path}/out")
    done = subprocess.run([tmp_path / "out/hello", "Ada"], capture_output=True, text=True)
    assert done.stdout == "Hello, Ada! (1.0)\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["hello"]
