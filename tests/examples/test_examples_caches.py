"""What a cache mount saves: programs from source distributions, of which pip makes wheels once."""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Project

pytestmark = [pytest.mark.root, pytest.mark.needs("mmdebstrap")]

PARTS = 8
INSTALL = (
    "pip install --break-system-packages --no-index --no-build-isolation --no-compile"
    " --find-links /sdists --target /opt/app -r /requirements.txt"
)


def sdist(folder: Path, name: str) -> None:
    files = {
        "setup.py": "from setuptools import setup\n"
        f"setup(name='{name}', version='1.0', py_modules=['{name}'])\n",
        f"{name}.py": "",
        "PKG-INFO": f"Metadata-Version: 1.0\nName: {name}\nVersion: 1.0\n",
    }
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(f"{name}-1.0/{path}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))


def test_a_changed_requirement_takes_less_than_half(examples: dict[str, Project]) -> None:
    app = examples["python-app"]
    stages = yaml.safe_load((app.root / "specs/app.yaml").read_text())["stages"]
    stages["build"]["steps"] = stages["build"]["steps"][:1]  # pip
    step = {
        "run": INSTALL,
        "network": "none",
        "env": {"PIP_ROOT_USER_ACTION": "ignore"},
        "mounts": [
            {"bind": "sdists", "target": "/sdists"},
            {"bind": "requirements.txt", "target": "/requirements.txt"},
            {"cache": "pip-of-tests", "target": "/root/.cache/pip"},
        ],
    }
    spec = {"stages": stages, "from": "stage:build", "steps": [step]}
    project = Project(app.root.parent / "cached")
    project.spec("cached", yaml.safe_dump(spec, sort_keys=False))
    project.store = app.store
    (project.root / "sdists").mkdir()
    for number in range(PARTS + 1):
        sdist(project.root / "sdists", f"part{number}")

    def build(parts: int) -> float:
        names = "".join(f"part{number}\n" for number in range(parts))
        project.file("requirements.txt", names)
        began = time.monotonic()
        project.build("cached")
        return time.monotonic() - began

    project.run("build", "cached:build")  # what it stands on
    first, second = build(PARTS), build(PARTS + 1)
    assert second < first / 2, (first, second)
    project.run("cache", "rm", "pip-of-tests")
    print(f"{first:.1f} s, then {second:.1f} s")
