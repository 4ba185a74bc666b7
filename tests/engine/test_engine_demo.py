"""The demo's images by an engine: Debian, apt, nginx. The digest is the embedded executor's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SPECS = Path(__file__).parents[2] / "specs"


@pytest.mark.root
@pytest.mark.needs("mmdebstrap")
def test_the_demo_is_the_same_whichever_executor_runs_its_steps(
    engine: Any, tmp_path: Path
) -> None:
    shutil.copytree(SPECS, tmp_path / "specs")

    def build(name: str, store: str, executor: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "builder", "build", name, "--json", "--executor", executor,
             "--cache-dir", str(tmp_path / store)],
            cwd=tmp_path,
            env={**os.environ, "DOCKER_HOST": engine.socket},
            capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        images = json.loads(done.stdout)["images"]
        return [layer.get("diff_id") for image in images for layer in image["layers"]]

    build("base", "one", "sandbox")
    shutil.copytree(tmp_path / "one", tmp_path / "two")  # the base, which takes long, once
    assert build("nginx", "two", "docker") == build("nginx", "one", "sandbox")
    assert engine.docker("ps", "--all", "--quiet") == b""
