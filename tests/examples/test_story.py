"""docs/examples/story: every block of it, in its order, and what comes of it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.examples.conftest import EXAMPLES

pytestmark = [pytest.mark.root, pytest.mark.needs("/bin/busybox", "docker-registry")]


def _module(name: str) -> Any:
    path = Path(__file__).parents[1] / name
    spec = importlib.util.spec_from_file_location(f"story_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


start_registry = _module("registry/conftest.py").start_registry


def test_the_whole_story(tmp_path: Path, start_registry: Any) -> None:
    root = tmp_path / "story"
    shutil.copytree(EXAMPLES / "story", root)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "builder").symlink_to(Path(sys.executable).parent / "builder")
    env = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "BUILDER_CACHE_DIR": str(tmp_path / "store"),
    }
    registry = start_registry()
    said = {}
    parts = re.split(r"^## (.*)$", (root / "README.md").read_text(), flags=re.M)
    for title, text in zip(["", *parts[1::2]], parts[::2], strict=True):
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S):
            script = block.replace("localhost:5000", registry)
            done = subprocess.run(
                ["sh", "-e", "-c", script],
                cwd=root,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, (title, done.stdout, done.stderr)
            said[title] = done
    assert "Three towers" in said["A container"].stdout
    assert said["A container"].stdout.endswith("Hello, Ada\n")
    assert said["Changed by hand"].stdout.endswith("index.html\nnews.html\n")
    assert "D /etc/httpd.conf" in said["A file of the repository"].stdout
    assert said["A file of the repository"].stderr.count("/root/.ash_history") == 1
    assert "layer: layers/work.tar.zst" in said["A file of the repository"].stdout
    difference = said["What is the difference?"].stdout
    assert "/srv/www/news.html" in difference and "ash_history" not in difference
    assert "layers/work.tar.zst" in difference
    away = said["To a registry, and elsewhere"].stdout
    assert "team/site" in away and away.endswith("<p>Four towers, since today.</p>\n")
    assert not [line for line in said["Away"].stdout.splitlines() if "sha256" in line]
