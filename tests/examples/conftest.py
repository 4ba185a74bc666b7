"""The projects of docs/examples, built once in one store that all test processes share."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.conftest import Project

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/builder.yaml"))
BASE = "base.tar"
"""What all of them stand on, as an archive of Docker's, beside the projects."""
SUITE = "debian:bookworm-slim"
"""What their Dockerfiles call it."""


def example(name: str, folder: Path, store: Path) -> Project:
    """A copy of a project, with modes that no umask decided: Docker takes them over."""
    project = Project(folder / name)
    shutil.copytree(EXAMPLES / name, project.root)
    for path in (project.root, *project.root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    project.store = store
    return project


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "examples"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            _build_all(folder)
            (folder / "built").touch()
    found = {}
    for name in NAMES:
        found[name] = Project(folder / name)
        found[name].store = folder / "store"
    return found


def _build_all(folder: Path) -> None:
    (folder / "specs").mkdir()
    (folder / "specs/base.yaml").write_text("from: debootstrap:bookworm\n")
    _build(folder, folder / "store", "-o", f"docker-archive:{BASE}:{SUITE}")
    projects = [example(name, folder, folder / "store") for name in NAMES]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(_build, each.root, each.store) for each in projects]:
            done.result()


def _build(root: Path, store: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "builder", "build", "--cache-dir", store, *arguments],
        cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
