"""ADD of what is on servers without saying which version: each build takes what is there now."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Project
from tests.transport.gitserver import GitServer, Repository
from tests.transport.web import Fault, Site


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site(b"one")
    yield made
    made.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "served").mkdir()
    made = GitServer(tmp_path / "served")
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Project:
    project = Project(tmp_path / "app")
    project.root.mkdir()
    return project


def built(folder: Project) -> tuple[str, dict[str, tuple[int, bytes]]]:
    """The last step's status, and the image's files with their modes."""
    made = folder.run("build", ".", "--json", "-o", "tar:out.tar")
    files = {}
    with tarfile.open(folder.root / "out.tar") as tar:
        for member in tar:
            if file := tar.extractfile(member) if member.isfile() else None:
                files[member.name] = (member.mode, file.read())
    layers: list[dict[str, Any]] = json.loads(made.stdout)["images"][-1]["layers"]
    return str(layers[-1]["status"]), files


def test_a_file_is_what_is_there_now(folder: Project, site: Site) -> None:
    folder.write(Dockerfile=f"FROM scratch\nARG AT={site.base}\nADD $AT/file.bin /\n")
    assert built(folder) == ("built", {"file.bin": (0o600, b"one")})
    assert len(site.seen) == 1  # what was asked for is what is taken
    assert built(folder)[0] == "hit"
    assert len(site.seen) == 2 and not site.seen[1].sent  # 304
    site.data, site.etag = b"two", '"2"'
    assert built(folder) == ("built", {"file.bin": (0o600, b"two")})
    site.data, site.etag = b"three", ""  # no version is told: it comes each time
    assert built(folder) == ("built", {"file.bin": (0o600, b"three")})
    site.data = b"four"
    assert built(folder) == ("built", {"file.bin": (0o600, b"four")})


def test_what_broke_off_is_never_put_together(folder: Project, site: Site) -> None:
    site.data = bytes(range(256)) * 1024
    site.faults = [Fault(cut=70_000), Fault(reset=True)]
    folder.write(Dockerfile=f"FROM scratch\nADD {site.url} /a/b\n")
    assert built(folder) == ("built", {"a/b": (0o600, site.data)})
    assert not any("Range" in each.headers for each in site.seen)


def test_a_stage_that_is_not_used_asks_nobody(folder: Project, site: Site) -> None:
    text = f"FROM scratch AS x\nADD {site.url} /\nFROM scratch\nCOPY a.txt /\n"
    folder.write(Dockerfile=text, a_dot_txt="a")
    assert built(folder)[1] == {"a.txt": (built(folder)[1]["a.txt"][0], b"a")}
    assert not site.seen


def test_lint_asks_nobody(folder: Project, site: Site) -> None:
    folder.write(Dockerfile=f"FROM scratch\nADD {site.url} /\n")
    folder.run("lint", "Dockerfile")
    assert not site.seen


def test_an_ordinary_user_has_one_thread_once_a_server_was_asked(
    folder: Project, site: Site
) -> None:
    """A user namespace is entered before anything runs, and only by a process of one thread."""
    folder.write(Dockerfile=f"FROM scratch\nADD {site.url} /\nRUN true\n")
    code = """
import os, sys
import builder.executor.userns
from builder.project import Options, Project
project = Project(Options(sys.argv[1], context=".", environ=dict(os.environ)))
specs, _ = project.load(["Dockerfile"])
print(len(os.listdir("/proc/self/task")) > 1)
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
project.become_root(specs)
print(len(os.listdir("/proc/self/task")))
"""
    made = subprocess.run(
        [sys.executable, "-c", code, str(folder.store)],
        cwd=folder.root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert made.stdout == "True\n1\n"
    assert len(site.seen) == 1


def test_what_is_not_there_is_told_at_its_line(folder: Project, site: Site) -> None:
    folder.write(Dockerfile=f"FROM scratch\nADD {site.url} /\n")
    site.faults = [Fault(status=404)]
    said = folder.run("plan", ".", status=2).stderr
    assert f"Dockerfile:2:5: {site.url}: the server answered 404" in said
    assert "hint: there is no such file: check the address" in said


@pytest.mark.needs("git")
def test_a_repository_is_what_is_there_now(folder: Project, served: GitServer) -> None:
    repository = Repository(served.root / "it.git")
    first = repository.commit({"a.txt": b"one", "sub/b.txt": b"b"})
    repository.git("tag", "-a", "-m", "v1", "v1")
    repository.commit({"a.txt": b"two"})
    url = f"{served.url}it.git"
    lines = [f"ADD {url}{what} /{number}/" for number, what in enumerate(
        ("", "#main", "#v1", "#v1:sub", f"#{first}", "#refs/heads/main")
    )]  # fmt: skip
    folder.write(Dockerfile="\n".join(["FROM scratch", *lines, ""]))
    files = {name: data for name, (_, data) in built(folder)[1].items()}
    assert {each: files[f"{each}/a.txt"] for each in "01245"} == {
        "0": b"two", "1": b"two", "2": b"one", "4": b"one", "5": b"two",
    }  # fmt: skip
    assert files["3/b.txt"] == b"b" and "3/a.txt" not in files
    repository.commit({"a.txt": b"three"})
    files = {name: data for name, (_, data) in built(folder)[1].items()}
    assert files["0/a.txt"] == b"three" and files["2/a.txt"] == b"one"
    folder.write(Dockerfile=f"FROM scratch\nADD {url}#nope /\n")
    said = folder.run("build", ".", status=2).stderr
    assert f"Dockerfile:2:5: {url}: there is no branch or tag 'nope'" in said
