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
IMAGES = {
    "monorepo": {"lib", "clock", "echo"},
    "node-site": {"site:build", "site:server", "site"},
    "python-app": {"app:python", "app:build", "app"},
    "service": {"counter"},
    "static-program": {"hello:tools", "hello:build", "hello"},
    "variants": {"tools-plain", "tools-tls", "tools-tls-debug"},
}
"""By project; those with a colon are stages."""
BASE = "base"
"""What all of them stand on."""
COMMIT = "6dcb09b5b57875f334f61aebed695e2e4193db5e"
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
    for name in IMAGES:
        found[name] = Project(folder / name)
        found[name].store = folder / "store"
    return found


def archive(examples: dict[str, Project], image: str) -> Path:
    """What `docker load` takes: an image called IMAGE:ours, or what all stand on as SUITE."""
    return examples["service"].root.parent / f"{image}.tar"


def _build_all(folder: Path) -> None:
    (folder / "specs").mkdir()
    (folder / "specs/base.yaml").write_text("from: debootstrap:bookworm\n")
    _build(folder, folder, BASE, SUITE)
    projects = [example(name, folder, folder / "store") for name in IMAGES]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(_build_one, folder, each.root) for each in projects]:
            done.result()


def _build_one(folder: Path, root: Path) -> None:
    for image in sorted(IMAGES[root.name]):
        if ":" not in image:
            _build(folder, root, image, f"{image}:ours")


def _build(folder: Path, root: Path, image: str, reference: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "builder", "build", image, "--cache-dir", folder / "store",
         "-o", f"docker-archive:{folder}/{image}.tar:{reference}"],
        cwd=root, env={**os.environ, "CI_COMMIT": COMMIT}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
