"""Dockerfiles on the command line: how they are named, what is told of them, and `convert`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Project

TEXT = """\
ARG NAME=world
FROM scratch AS base
LABEL name=$NAME
COPY a.txt /a/
FROM base AS other
COPY b.txt /b/
FROM base
COPY --from=other /b /c/
"""


@pytest.fixture
def folder(tmp_path: Path) -> Project:
    project = Project(tmp_path / "My App")
    project.root.mkdir()
    project.write(Dockerfile=TEXT, a_dot_txt="a", b_dot_txt="b")
    return project


def tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


NAMED: dict[str, tuple[tuple[str, ...], str]] = {
    "the file": (("Dockerfile",), "my-app"),
    "a path": (("./Dockerfile",), "my-app"),
    "its folder": ((".",), "my-app"),
    "-f and a folder": (("-f", "Dockerfile", "."), "my-app"),
    "-f alone": (("-f", "Dockerfile"), "my-app"),
    "another name": (("web.Dockerfile",), "web"),
    "another name, -f": (("-f", "Dockerfile.web", "."), "web"),
    "elsewhere": (("-f", "docker/Dockerfile.web", "."), "web"),
    "elsewhere, context": (("docker/Dockerfile.web", "--context", "."), "web"),
    "Containerfile": (("Containerfile",), "my-app"),
}


@pytest.mark.parametrize("name", NAMED)
def test_ways_to_name_one(folder: Project, name: str) -> None:
    arguments, image = NAMED[name]
    for path in ("web.Dockerfile", "Dockerfile.web", "docker/Dockerfile.web", "Containerfile"):
        folder.file(path, TEXT)
    made = folder.build(*arguments, "-o", "dir:out", "-t", "team/app:1")
    assert list(made) == [f"{image}:base", f"{image}:other", image]
    assert tree(folder.root / "out") == {"a/a.txt": "a", "c/b.txt": "b"}
    digest = made[image]["digest"]
    assert digest in folder.run("inspect", "team/app:1").stdout
    if "-f" not in arguments:  # all that take an IMAGE take it by these names
        assert digest in folder.run("inspect", "--no-build", *arguments).stdout
        assert "COPY --from=other" in folder.run("history", *arguments).stdout
        folder.run("tag", *arguments, "team/app:2")
        assert digest in folder.run("inspect", "team/app:2").stdout
        said = folder.run("push", *arguments, status=2).stderr
        assert "no `tags`, so where to push is not known" in said
    assert {status for steps in folder.plan(*arguments).values() for status, _ in steps} == {"hit"}


def test_target_and_arguments(folder: Project) -> None:
    made = folder.build(".", "--target", "OTHER", "-o", "dir:out", "--build-arg", "NAME=x")
    assert list(made) == ["my-app:base", "my-app"]
    assert tree(folder.root / "out") == {"a/a.txt": "a", "b/b.txt": "b"}
    assert list(folder.build(".", "--target", "0")) == ["my-app"]
    other = folder.run("inspect", ".", "--target", "other").stdout
    assert other != folder.run("inspect", ".").stdout
    said = folder.run("build", ".", "--target", "nope", status=2).stderr
    assert "no such stage" in said and "hint: its stages: base, other" in said
    said = folder.run("build", ".", "--build-arg", "NAEM=x", status=2).stderr
    assert "no such variable, did you mean 'NAME'?" in said
    said = folder.run("build", "--target", "x", status=2).stderr
    assert "no Dockerfile is named" in said


def test_a_folder_that_is_made_for_workdir_is_of_its_line_or_none(folder: Project) -> None:
    folder.file("Dockerfile", "FROM scratch\nENV A=b\nWORKDIR /srv\nCMD x\n")
    assert " 1  working_dir /srv " in folder.run("plan", ".").stdout
    folder.file("Dockerfile", "FROM scratch\nWORKDIR /srv\nCOPY Dockerfile .\nWORKDIR x\n")
    assert "line 4: working_dir /srv/x" in folder.run("plan", ".").stdout


def test_a_spec_goes_before_a_folder_of_its_name(folder: Project) -> None:
    folder.file("web/Dockerfile", "FROM scratch\nLABEL x=1\n")
    assert list(folder.build("web")) == ["web"]
    assert "FROM scratch" not in folder.run("inspect", "web/").stdout
    folder.spec("web", "from: scratch\nsteps: [{file: /x, content: x}]\n")
    assert folder.build("web")["web"]["layers"]
    assert not folder.build("web/")["web"]["layers"]


def test_a_file_that_is_not_there(folder: Project) -> None:
    folder.file("docker/web.Dockerfile", TEXT)
    for path, hint in (
        ("Dockerfil", "there is Dockerfile"),
        ("docker/Dockerfile.web", "there is docker/web.Dockerfile"),
        ("dokcer/web.Dockerfile", "the path is from the folder that builder runs in"),
    ):
        said = folder.run("build", "-f", path, ".", status=2).stderr
        assert said.startswith(f"error: -f {path}: there is no such file\nhint: {hint}")


def test_arguments_of_the_environment_and_platforms(folder: Project) -> None:
    text = "FROM scratch\nARG A TARGETARCH\nLABEL a=$A t=$TARGETARCH b=${B-unset}\n"
    folder.file("Dockerfile", text)

    def labels(*arguments: str) -> list[dict[str, str]]:
        shown = folder.run("plan", ".", "--json", *arguments, env={"A": "1"})
        assert shown.returncode == 0
        folder.run("build", ".", "-o", "oci:out", *arguments, env={"A": "1"})
        found = []
        for path in sorted((folder.root / "out/blobs/sha256").iterdir()):
            if b'"rootfs"' in (data := path.read_bytes())[:4096] and data.startswith(b"{"):
                found.append(json.loads(data)["config"]["Labels"])
        shutil.rmtree(folder.root / "out")
        return sorted(found, key=str)

    (own,) = labels("--build-arg", "A", "--build-arg", "B")
    assert (own["a"], own["b"]) == ("1", "unset")
    both = labels("--platform", "linux/amd64,linux/arm64")
    assert [each["t"] for each in both] == ["amd64", "arm64"]


def test_what_is_ignored(folder: Project) -> None:
    folder.file("Dockerfile", "FROM scratch\nCOPY . /\n")
    folder.file(".dockerignore", "a.txt\n.dockerignore\n*Dockerfile*")
    folder.build(".", "-o", "dir:one")
    assert tree(folder.root / "one") == {"b.txt": "b"}
    folder.file("Dockerfile.dockerignore", "*\n!a.txt\n")
    folder.build(".", "-o", "dir:two")
    assert tree(folder.root / "two") == {"a.txt": "a"}


def test_lines_are_told(folder: Project) -> None:
    plan = folder.run("plan", ".").stdout
    assert "line 4: COPY a.txt /a/" in plan and "line 8: COPY --from=other /b /c/" in plan
    folder.file(
        "Dockerfile", TEXT + "# more\nCOPY --chown=nobody:1 \\\n  none /x\nCOPY <<E /y\n${\nE\n"
    )
    said = folder.run("build", ".", status=2).stderr
    assert said.startswith("error: Dockerfile:12:1: ")
    folder.file("Dockerfile", TEXT + "# more\nCOPY \\\n  none /x\n")
    said = folder.run("build", ".", status=2).stderr
    assert said.startswith("error: Dockerfile:10:1: 'none' does not exist in the context")
    assert "`optional`" not in said  # which no Dockerfile has
    folder.file("Dockerfile", TEXT + "CPY a b\nRUN --mont=x y\n")
    said = folder.run("plan", ".", status=2).stderr
    assert "Dockerfile:9:1: 'CPY' is no instruction, did you mean 'COPY'?" in said
    assert "Dockerfile:10:5: RUN has no flag '--mont', did you mean 'mount'?" in said


def test_another_frontend_is_told(folder: Project) -> None:
    folder.file("Dockerfile", "# syntax=example/other:2\n" + TEXT)
    said = folder.run("build", ".").stderr
    assert "warning: " in said and "'example/other:2' is not followed" in said
    folder.file("Dockerfile", "# syntax=docker/dockerfile:1.7-labs\n" + TEXT)
    assert "warning" not in folder.run("build", ".").stderr


def test_onbuild_of_a_base(folder: Project) -> None:
    folder.file("Dockerfile", "FROM scratch\nONBUILD COPY a.txt /on/\nONBUILD LABEL x=$y\n")
    made = folder.build(".", "-o", "oci:base")
    digest = made["my-app"]["config"].removeprefix("sha256:")
    config = json.loads((folder.root / "base/blobs/sha256" / digest).read_text())["config"]
    assert config["OnBuild"] == ["COPY a.txt /on/", "LABEL x=$y"]
    folder.file("on.Dockerfile", "FROM oci:base\nENV y=1\nCOPY b.txt /own/\n")
    folder.build("on.Dockerfile", "-o", "dir:out")
    assert tree(folder.root / "out") == {"on/a.txt": "a", "own/b.txt": "b"}
    stages = "FROM oci:base AS a\nFROM a AS b\nCOPY b.txt /b\nFROM a\nCOPY --from=b /b /c\n"
    folder.file("three.Dockerfile", stages)
    folder.build("three.Dockerfile", "-o", "dir:three")
    assert tree(folder.root / "three") == {"on/a.txt": "a", "c": "b"}
    folder.file("two.Dockerfile", "FROM oci:base AS a\nFROM scratch\nCOPY --from=a / /all/\n")
    folder.build("two.Dockerfile", "-o", "dir:two")
    assert tree(folder.root / "two") == {"all/on/a.txt": "a"}


def test_convert_writes_a_spec_that_makes_the_same(folder: Project) -> None:
    first = folder.build(".", "-o", "dir:one")
    folder.run("convert", ".", "-o", "specs/app.yaml")
    text = (folder.root / "specs/app.yaml").read_text()
    assert yaml.safe_load(text)["vars"] == {"NAME": "world"}
    made = folder.build("app", "-o", "dir:two")
    assert tree(folder.root / "one") == tree(folder.root / "two")
    layers = [
        [layer["diff_id"] for layer in image["layers"] if "diff_id" in layer]
        for image in (first["my-app"], made["app"])
    ]
    assert layers[0] == layers[1]
    said = folder.run("convert", ".", "-o", "specs/app.yaml", status=2).stderr
    assert "--force" in said
    folder.run("convert", ".", "-o", "specs/app.yaml", "--force")
    assert (folder.root / "specs/app.yaml").read_text() == text
    assert folder.run("convert", "Dockerfile").stdout == text


def test_times_are_kept_and_do_not_count(folder: Project) -> None:
    folder.file(
        "Dockerfile", "FROM scratch AS a\nCOPY . /all/\nFROM scratch\nCOPY --from=a /all /x\n"
    )
    folder.file(".dockerignore", "out*")
    for time in (1_500_000_000, 1_600_000_000):
        for path in folder.root.rglob("*"):
            os.utime(path, (time, time))
        folder.build(".", "-o", "dir:out")
        assert (folder.root / "out/x/a.txt").stat().st_mtime == 1_500_000_000
        shutil.rmtree(folder.root / "out")
    statuses = {status for steps in folder.plan(".").values() for status, _ in steps}
    assert statuses == {"hit"}
    folder.run("cache", "check", "--deep")
    folder.file("a.txt", "b")
    assert "/all/a.txt: content" in folder.plan(".")["my-app:a"][0][1]


def test_a_spec_on_a_dockerfile(folder: Project) -> None:
    folder.file("api/Dockerfile", "FROM scratch\nLABEL x=1\nCOPY f g* /f/\n")
    folder.file("api/f", "f")
    folder.file("api/g", "g")
    folder.file("api/.dockerignore", "g")
    folder.spec(
        "web",
        "from: dockerfile:api/Dockerfile\nsteps:\n"
        "- {copy: /f/f, from: 'dockerfile:api/Dockerfile', dest: /h}\n"
        "- {file: /x, content: '{{ base.labels.x }}'}\n",
    )
    assert list(folder.build("web", "-o", "dir:out")) == ["dockerfile-api", "web"]
    assert tree(folder.root / "out") == {"f/f": "f", "h": "f", "x": "1"}
    folder.run("lint")
    folder.spec("web", "from: dockerfile:api/Nope.Dockerfile\n")
    said = folder.run("plan", "web", status=2).stderr
    assert "specs/web.yaml:1:7: base 'dockerfile:api/Nope.Dockerfile' is not there" in said


def test_a_converted_spec_has_the_dockerfiles_context(folder: Project) -> None:
    folder.file("api/Dockerfile", "FROM scratch\nCOPY . /f/\n")
    folder.file("api/f", "f")
    folder.run("convert", "api", "-o", "specs/api.yaml")
    assert yaml.safe_load((folder.root / "specs/api.yaml").read_text())["context"] == "api/"
    folder.build("api", "-o", "dir:out")
    assert tree(folder.root / "out") == {"f/Dockerfile": "FROM scratch\nCOPY . /f/\n", "f/f": "f"}
