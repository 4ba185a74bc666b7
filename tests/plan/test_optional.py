"""Sources that may be missing, and archives of which there are several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Project

SPEC = """\
from: scratch
steps:
- copy: package.json
  optional: [yarn.lock*, "deep/*/x", left/out]
  dest: /app/
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project")
    made.spec("site", SPEC)
    made.file("package.json", "{}")
    return made


def layer(project: Project) -> dict[str, bytes | None]:
    """The files of the one image's last layer."""
    store = project.store
    shown = json.loads(project.run("inspect", "site", "--no-build").stdout)
    blob = store / "blobs/sha256" / shown["layers"][-1]["digest"][7:]
    with tarfile.open(blob) as tar:
        return {
            member.name: tar.extractfile(member).read() if member.isreg() else None  # type: ignore[union-attr]
            for member in tar
        }


def test_a_source_that_comes_and_goes_is_seen(project: Project) -> None:
    project.file(".dockerignore", "left\n")
    project.file("left/out", "x")
    project.run("lint")
    project.build()
    assert sorted(layer(project)) == ["app", "app/package.json"]
    assert project.plan()["site"] == [("hit", "unchanged")]
    for path in ("yarn.lock", "yarn.lock2", "deep/a/x"):
        where = project.file(path, "x")
        ((status, why),) = project.plan()["site"]
        assert status == "build" and path.rpartition("/")[2] in why
        assert path.rpartition("/")[2] in project.run("why", "site", "1").stdout
        project.build()
        assert project.plan()["site"] == [("hit", "unchanged")]
        where.touch()
        assert project.plan()["site"] == [("hit", "unchanged")]
    assert sorted(layer(project)) == [
        "app", "app/a", "app/a/x", "app/package.json", "app/yarn.lock", "app/yarn.lock2",
    ]  # fmt: skip
    (project.root / "deep/a/x").unlink()
    (project.root / "yarn.lock2").unlink()
    ((status, why),) = project.plan()["site"]
    assert (status, why) != ("build", "") and status == "hit"  # it was built before
    project.build()
    assert sorted(layer(project)) == ["app", "app/package.json", "app/yarn.lock"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x", "leaves the context"),
        ("out", "leads out of the context through a symlink"),
        ("loop", "leads through symlinks in a circle"),
        ("file/", "is not a directory"),
    ],
)
def test_what_is_wrong_is_not_missing(project: Project, name: str, message: str) -> None:
    (project.root / "out").symlink_to("/etc/passwd")
    (project.root / "loop").symlink_to("loop")
    project.file("file", "x")
    project.spec("site", SPEC.replace("yarn.lock*", name))
    for verb in ("lint", "plan", "build"):
        said = project.run(verb, status=2).stderr
        assert "specs/site.yaml:" in said and message in said


def test_it_needs_a_folder_and_a_source(project: Project) -> None:
    project.spec("site", SPEC.replace("/app/", "/app"))
    assert "4 sources need a directory" in project.run("lint", status=2).stderr
    project.spec("site", SPEC.replace("package.json", "none"))
    assert "'none' does not exist in the context" in project.run("lint", status=2).stderr


@pytest.mark.needs("make")
def test_make_knows_what_may_come(project: Project) -> None:
    project.file(
        "Makefile",
        "site.stamp:\n\t@echo built >> log\n\t@$(PYTHON) -m builder build --progress quiet site"
        " --iidfile $@ --depfile site.d > /dev/null\n-include site.d\n",
    )

    def built() -> bool:
        log = project.root / "log"
        log.unlink(missing_ok=True)
        subprocess.run(
            ["make", "-s", f"PYTHON={sys.executable}", "site.stamp"],
            cwd=project.root,
            env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)},
            check=True,
            timeout=60,
        )
        return log.exists()

    assert built() and not built()
    project.file("deep/b c/x", "make knows no such names")
    built()
    assert not built()
    for path in ("yarn.lock", "deep/b/x", "left/out"):
        where = project.file(path, "x")
        assert built() and not built(), path
        where.unlink()
        assert built() and not built(), path


def archive(project: Project, name: str, **members: tuple[str, int]) -> None:
    with tarfile.open(project.root / name, "w:gz") as tar:
        for path, (text, mtime) in members.items():
            member = tarfile.TarInfo(path.replace("__", "/"))
            member.mtime, member.size = mtime, len(text)
            if text.startswith("-> "):
                member.type, member.linkname, member.size = tarfile.SYMTYPE, text[3:], 0
            tar.addfile(member, BytesIO(text.encode()))


def times(project: Project) -> dict[str, float]:
    shown = json.loads(project.run("inspect", "site", "--no-build").stdout)
    with tarfile.open(project.store / "blobs/sha256" / shown["layers"][-1]["digest"][7:]) as tar:
        return {member.name: member.mtime for member in tar}


def test_archives_are_unpacked_in_order(project: Project) -> None:
    (project.root / "v").mkdir()
    archive(project, "a.tar.gz", x=("of a", 5), only_a=("a", 6))
    archive(project, "v/2.tar.gz", x=("of 2", 7))
    archive(project, "v/1.tar.gz", x=("of 1", 8), d__one=("1", 9))
    for order, last in (
        (["a.tar.gz", "v/*.tar.gz"], b"of 2"),
        (["v/*.tar.gz", "a.tar.gz"], b"of a"),
        (["v/2.tar.gz", "v/1.tar.gz", "a.tar.gz", "v/1.tar.gz"], b"of 1"),
        ("v/*", b"of 2"),
    ):
        step = {"unpack": order, "dest": "/to"}
        project.spec("site", json.dumps({"from": "scratch", "steps": [step]}))
        project.run("lint")
        project.build()
        found = layer(project)
        assert found["to/x"] == last and found["to/d/one"] == b"1"
        assert ("to/only_a" in found) == (order != "v/*")
    archive(project, "v/3.tar.gz", x=("of 3", 7))
    assert project.plan()["site"][0][0] == "build"
    project.build()
    assert layer(project)["to/x"] == b"of 3"
    assert project.plan()["site"] == [("hit", "unchanged")]


def test_an_archives_times(project: Project) -> None:
    archive(project, "a.tar", x=("a", 5), d__y=("-> x", 1_700_000_000))
    step: dict[str, Any] = {"unpack": "a.tar", "dest": "/to"}
    project.spec("site", json.dumps({"from": "scratch", "steps": [step]}))
    project.build()
    ours = times(project)
    assert len(set(ours.values())) == 1
    project.spec("site", json.dumps({"from": "scratch", "steps": [{**step, "preserve": "mtime"}]}))
    project.build()
    assert times(project) == {**ours, "to/x": 5, "to/d/y": 1_700_000_000}


@pytest.mark.parametrize("second", ["d", "l__x"])
def test_archives_that_do_not_fit_together(project: Project, second: str) -> None:
    """A file in a folder's place, a file behind a symlink: as within one archive."""
    archive(project, "a.tar", d__x=("a", 5), l=("-> /etc", 5))
    archive(project, "b.tar", **{second: ("x", 1)})
    step = {"unpack": ["a.tar", "b.tar"], "dest": "/to"}
    project.spec("site", json.dumps({"from": "scratch", "steps": [step]}))
    said = project.run("build", status=1).stderr
    assert said.startswith("error: specs/site.yaml:1:")
    assert "lies below" in said and "which is not a directory" in said


def test_one_that_is_no_archive_is_named(project: Project) -> None:
    archive(project, "a.tar", x=("a", 5))
    project.file("b.tar/x", "x")
    step = {"unpack": ["*.tar"], "dest": "/to"}
    project.spec("site", json.dumps({"from": "scratch", "steps": [step]}))
    said = project.run("lint", status=2).stderr
    assert "'b.tar' is not a file, expected a file: the archive" in said


def test_of_another_image_too(project: Project) -> None:
    archive(project, "s.tar", app__a=("a", 5))
    step = {
        "copy": "/app/a", "optional": ["/app/b*", "/none"], "from": "rootfs:s.tar", "dest": "/to/",
    }  # fmt: skip
    project.spec("site", json.dumps({"from": "scratch", "steps": [step]}))
    project.run("lint")
    project.build()
    assert sorted(layer(project)) == ["to", "to/a"]
    archive(project, "s.tar", app__a=("a", 5), app__b2=("b", 5))
    project.build()
    assert sorted(layer(project)) == ["to", "to/a", "to/b2"]
    assert project.plan()["site"] == [("hit", "unchanged")]
