"""Bad input: one line with a place and a hint, the right exit code, never a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest

STEP = "from: scratch\nsteps:\n  - "
CASES = {
    "a misspelt key": (STEP + "copy: a\n    dets: /b\n", 2, "specs/x.yaml:4:5:", "dest"),
    "a missing source": (STEP + "copy: nope.txt\n    dest: /b\n", 2, "'nope.txt'", ""),
    "a path out of the context": (STEP + "copy: ../x\n    dest: /b\n", 2, "context", ""),
    "a symlink out of the context": (STEP + "copy: out\n    dest: /b\n", 2, "symlink", ""),
    "an unknown owner": (
        STEP + "file: /a\n    content: x\n    owner: nobody\n", 2, "'nobody'", ""),
    "a target that is a folder": (
        STEP + "directory: /a\n  - file: /a\n    content: x\n", 2, "'/a'", ""),
    "an undefined variable": (STEP + "file: /a\n    content: '{{ nope }}'\n", 2, "nope", ""),
    "a missing base": ("from: image:nope\n", 2, "specs/x.yaml:1:7:", ""),
    "a missing layout": ("from: oci:nowhere\n", 2, "specs/x.yaml:1:7:", ""),
    "an unknown variable set": ("from: scratch\n", 2, "'colour'", ""),
    "a wrong level": ("from: scratch\n", 2, "99", ""),
}  # fmt: skip
ARGUMENTS = {
    "an unknown variable set": ("--set", "colour=red"),
    "a wrong level": ("--compression", "zstd:99"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_clear_line(project: Any, case: str) -> None:
    text, status, shown, hint = CASES[case]
    (project.root / "out").symlink_to("/etc/passwd")
    project.spec("x", text)
    said = project.run("build", *ARGUMENTS.get(case, ()), status=status)
    errors = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
    assert any(shown in line for line in errors), said.stderr
    assert hint in said.stderr
    assert said.stdout == ""


SAME = [
    "from: oci:nowhere:tag\n",
    "from: oci:a.txt\n",
    "from: rootfs:nowhere.tar\n",
    "from: rootfs:specs\n",
    "from: docker-archive:nowhere.tar\n",
    "from: image:nope\n",
    STEP + "copy: [a.txt, nope.txt]\n    dest: /b/\n",
    STEP + "copy: '*.png'\n    dest: /b/\n",
    STEP + "copy: out\n    dest: /b\n",
    STEP + "copy: hidden\n    dest: /b\n",
    STEP + "unpack: specs\n    dest: /b\n",
    STEP + "template: nope.j2\n    dest: /b\n",
    STEP + "template: a.txt\n    dest: /b\n",
    STEP + "file: /a\n    content: '{{ nope }}'\n",
    STEP + "copy: a.txt\n    dest: /b\n    mode: 999\n",
]


@pytest.mark.parametrize("text", SAME)
def test_lint_plan_and_build_say_the_same(project: Any, text: str) -> None:
    (project.root / "out").symlink_to("/etc/passwd")
    project.file("a.txt", "{{ nope }}")
    project.file("hidden", "x")
    project.file(".dockerignore", "hidden\n")
    project.spec("x", text)
    said = {verb: project.run(verb, status=2).stderr for verb in ("lint", "plan", "build")}
    assert said["lint"] == said["plan"] == said["build"]
    first, line, caret, *_ = said["lint"].splitlines()
    assert first.startswith("error: ") and line.startswith("  ") and caret.strip() == "^"


def test_an_unknown_image_is_told_with_a_near_name(project: Any) -> None:
    project.spec("site", "from: scratch\n")
    assert "site" in project.run("build", "siet", status=2).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("build", "--nope"),
        ("plan", "--pull", "sometimes"),
        ("cache", "gc", "--max-age", "soon"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_exit_2(project: Any, arguments: tuple[str, ...]) -> None:
    project.spec("site", "from: scratch\n")
    assert project.run(*arguments, status=2).stderr.startswith("error: ")


def test_all_faults_of_a_spec_come_at_once(project: Any) -> None:
    project.spec(
        "x", "from: scratch\nsteps:\n  - copy: 1.5\n    dest: b\n    mode: 755\n  - flie: /x\n"
    )
    errors = [
        line for line in project.run("lint", status=2).stderr.splitlines()
        if line.startswith("error: specs/x.yaml:")
    ]  # fmt: skip
    assert len(errors) >= 3


def test_nothing_half_written_is_visible_when_an_output_cannot_be_written(project: Any) -> None:
    project.spec("x", STEP + "file: /a\n    content: x\n")
    project.file("full", "")
    said = project.run("build", "--output", "oci:full/layout", status=2)
    assert "full/layout" in said.stderr


@pytest.mark.parametrize(
    "option",
    [
        *(("-o", f"{kind}:no/x") for kind in ("docker-archive", "oci-archive", "tar", "dir")),
        *(("--iidfile", "no/x"), ("--metadata-file", "no/x")),
    ],
)
def test_a_file_without_a_folder_is_told_before_the_build(
    project: Any, option: tuple[str, str]
) -> None:
    project.spec("x", STEP + "file: /a\n    content: x\n")
    said = project.run("build", *option, status=2).stderr
    assert re.search("there is no folder '([^']*/)?no'", said) and "built" not in said


@pytest.mark.needs("setpriv")
def test_a_file_that_may_not_be_read_is_named(project: Any) -> None:
    project.spec("x", STEP + "copy: private\n    dest: /b\n")
    project.file("private", "x").chmod(0)
    # root, too, without the capabilities that let it read everything
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    command = [*(without if os.geteuid() == 0 else []), sys.executable, "-m", "builder", "build"]
    made = subprocess.run(
        command,
        cwd=project.root,
        env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 2
    assert "private' cannot be read: Permission denied" in made.stderr


def test_lint_needs_no_store(project: Any) -> None:
    project.file("a.txt", "x")
    project.spec("x", STEP + "copy: a.txt\n    dest: /b\n")
    project.run("lint", env={"BUILDER_CACHE_DIR": "/proc/nowhere"})
    assert not project.store.exists()
