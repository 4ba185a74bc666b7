"""`builder init`: what it writes is a project, and what it says next works when it is copied."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.spec.dockerfile import Unknown, base_of, instructions
from builder.spec.load import load_spec
from builder.spec.project import load_project_file
from builder.steps import VERBS


def next_works(project: Any, said: str) -> str:
    """Run the line that init says, in a shell."""
    (command,) = re.findall("^next: (.*)$", said, re.M)
    command = command.replace("builder plan", f"{sys.executable} -m builder plan")
    made = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=project.root,
        env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr
    return made.stdout


def uncommented(text: str) -> str:
    """The examples in the comments, as an editor would take them in."""
    head, _, rest = text.partition("`config`:\n#\n")
    if rest:
        return head + "\n" + re.sub("^# ", "", rest, flags=re.M)
    return re.sub(r"^(\s*)# (?=(- )?[a-z]+: |  )", r"\1", text, flags=re.M)


def test_a_first_project_is_clean_and_builds_at_once(project: Any) -> None:
    (project.root / "specs").rmdir()
    assert "builder init writes a first spec" in project.run("build", status=2).stderr
    said = project.run("init").stdout
    assert said == "wrote specs/project.yaml\nwrote builder.yaml\nnext: builder plan\n"
    assert project.run("lint").stderr == ""
    assert "1 to build" in next_works(project, said)
    assert project.build()["project"]["layers"][0]["status"] == "built"
    assert load_project_file(str(project.root)).name == "project"
    text = (project.root / "specs/project.yaml").read_text()
    assert max(map(len, text.splitlines())) <= 100
    whole = yaml.safe_load(uncommented(text))
    assert [next(iter(step)) for step in whole["steps"]] == ["name", "copy", "run"]
    assert whole["config"]["cmd"] and whole["tags"]
    (project.root / "specs/project.yaml").write_text(uncommented(text))
    load_spec(str(project.root / "specs/project.yaml"), verbs=VERBS, environ={})


@pytest.mark.parametrize(
    ("folder", "specs", "written"),
    [
        ("My Site_2", "specs", "My Site_2/specs/my-site-2.yaml"),
        ("a/b", "x/specs", "a/b/x/specs/x.yaml"),
        (".", "its own", "its own/project.yaml"),
        ("ümlaut é", "specs", "ümlaut é/specs/mlaut.yaml"),
        ("日本", "specs", "日本/specs/app.yaml"),
        ("-", "specs", "-/specs/app.yaml"),
    ],
)
def test_folders_are_made_and_named(project: Any, folder: str, specs: str, written: str) -> None:
    said = project.run("init", "--specs", specs, folder).stdout
    assert (project.root / written).is_file() and f"wrote {written}\n" in said
    assert "1 to build" in next_works(project, said)


def test_nothing_that_is_there_is_changed(project: Any) -> None:
    project.spec("old", "from: scratch\n")
    error = project.run("init", status=2).stderr
    assert "there are specs in 'specs' already: old.yaml" in error
    assert "hint: builder plan says" in error
    assert os.listdir(project.root) == ["specs"]
    (project.root / "specs/old.yaml").unlink()
    assert "builder init writes a first one" in project.run("plan", status=2).stderr
    project.file("builder.yaml", "name: mine\n")
    project.file("specs/README", "x")
    assert "left as it is: builder.yaml\n" in project.run("init").stdout
    assert (project.root / "builder.yaml").read_text() == "name: mine\n"


@pytest.mark.parametrize("kind", ["file", "dangling", "fifo", "closed"])
def test_what_stands_in_the_way_is_told(project: Any, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    folder = project.root / "specs"
    folder.rmdir()
    if kind == "file":
        folder.write_text("x")
    elif kind == "fifo":
        os.mkfifo(folder)
    elif kind == "dangling":
        folder.symlink_to(outside)
    else:
        folder.symlink_to("/proc/self/fdinfo")
    error = project.run("init", status=2).stderr
    assert error.startswith("error: ") and "specs" in error and not outside.exists()


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("Foo/Bar", "--from 'Foo/Bar' is not an image reference"),
        ("image:web", "--from 'image:web' is another spec, and there is none yet"),
        ("{{ x }}", "--from template error: 'x' is undefined"),
        ("a\nsteps: []", "--from"),
        ("", "--from"),
    ],
)
def test_a_base_that_is_none_is_told_and_nothing_written(
    project: Any, base: str, message: str
) -> None:
    (project.root / "specs").rmdir()
    assert message in project.run("init", "--from", base, status=2).stderr
    assert os.listdir(project.root) == []


DOCKERFILES = {
    "FROM scratch\n": "scratch",
    "from\tdebian:12 AS x\nRUN true": "debian:12",
    "FROM --platform=$BUILDPLATFORM golang:1 AS build\nFROM scratch\nCOPY --from=build /a /a": (
        "scratch"
    ),
    "FROM a AS One\nFROM one as two\nFROM TWO\n": "a",
    "ARG V=12\nARG IMAGE=debian:${V}\nFROM ${IMAGE}-slim\n": "debian:12-slim",
    'ARG V="12"\nFROM debian:$V\nARG V=13\n': "debian:12",
    "FROM debian:${V:-11}${W:+no}\n": "debian:11",
    "# syntax=docker/dockerfile:1\n# escape=`\nFROM `\n  # a comment\n\n  debian:12\n": "debian:12",
    "FROM a\nRUN <<EOF\nFROM b\nEOF\nRUN <<-'X' cat\nFROM c\n\tX\nCOPY <<A <<B /d/\nFROM d\nA\n"
    "FROM e\nB\n": "a",
    "FROM a\nRUN echo x \\\nFROM b\n": "a",
    "\ufeffFROM a\r\nCMD b\r\n": "a",
    "FROM registry.example:5000/team/app@sha256:" + "0" * 64: (
        "registry.example:5000/team/app@sha256:" + "0" * 64
    ),
}


@pytest.mark.parametrize("text", DOCKERFILES)
def test_beside_a_dockerfile_its_base_is_taken(project: Any, text: str) -> None:
    project.file("Dockerfile", text)
    said = project.run("init").stdout
    path = project.root / "specs/project.yaml"
    spec = load_spec(str(path), verbs=VERBS, environ={})
    assert str(spec.base) == DOCKERFILES[text] and spec.steps == ()
    assert project.run("lint").stderr == ""
    for word in re.findall("^(?:FROM|RUN|COPY|CMD) .*[^\\\\`]$", text, re.M):
        if not text.partition(word)[0].count("<<"):
            assert word.rstrip() in path.read_text().replace("\\", "")
    if spec.base.kind == "scratch":
        next_works(project, said)
        project.build()
    path.write_text(uncommented(path.read_text()))
    assert [
        type(step).__name__ for step in load_spec(str(path), verbs=VERBS, environ={}).steps
    ] == [
        "Copy",
        "Run",
    ]


def test_a_dockerfile_without_a_base_to_be_known(project: Any) -> None:
    project.file("Dockerfile", "ARG BASE\nFROM ${BASE}\n")
    error = project.run("init", status=2).stderr
    assert "error: Dockerfile: its base needs the ARG BASE, which has no value" in error
    (hint,) = re.findall("hint: .*: builder (.*)", error)
    project.run(*hint.replace("IMAGE", "debian:12").split())
    assert (
        str(load_spec(str(project.root / "specs/project.yaml"), verbs=VERBS, environ={}).base)
        == "debian:12"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff\xfe\x1b[31m\n",
        b"FROM \\\n",
        b"FROM a\nRUN \x1b]0;x\x07 \xff\xe2\x80\xa8 y\x85z\n",
        b"FROM a\nRUN <<EOF\n",
        b"FROM a\n" + b"RUN x\n" * 10000,
        b"FROM a\nRUN " + b"x" * 100000,
        b"FROM a\n" + b"RUN \\\n" * 50000,
        b"FROM a\nRUN " + b"<<E" * 20000,
    ],
)
def test_any_bytes_as_a_dockerfile(project: Any, data: bytes) -> None:
    """A spec that reads, of bounded size; or a line that says why there is none."""
    project.file("Dockerfile", data)
    if data == b"FROM \\\n":
        assert "Dockerfile: its base ''" in project.run("init", status=2).stderr
        return
    made = project.run("init")
    assert len(made.stdout) < 1000
    path = project.root / "specs/project.yaml"
    load_spec(str(path), verbs=VERBS, environ={})
    assert path.stat().st_size < 20000 and path.read_text().replace("\n", "").isprintable()


def test_a_variable_of_a_dockerfile_may_be_unknown() -> None:
    for text in ("FROM $A", "ARG A\nFROM a:${A}", "ARG A=$B\nFROM $A", "FROM ${A}\nARG A=1"):
        with pytest.raises(Unknown):
            base_of(list(instructions(text)))


def test_half_a_spec_is_not_left_behind(project: Any) -> None:
    (project.root / "new").mkdir()
    limited = ["prlimit", "--fsize=100", sys.executable, "-m", "builder", "init"]
    made = subprocess.run(limited, cwd=project.root / "new", capture_output=True, text=True)
    assert made.returncode == 2
    assert "specs/new.yaml' cannot be written: File too large" in made.stderr
    assert not [each for each in (project.root / "new").rglob("*") if each.is_file()]
