"""A project in a folder of its own, and the builder as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


class Project:
    """A scratch project; `run` calls the builder in it with a store of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root.parent / "store"

    def write(self, **files: str) -> None:
        """Files by path, `__` for `/` and `_dot_` for `.` where a keyword cannot hold them."""
        for name, text in files.items():
            self.file(name.replace("__", "/").replace("_dot_", "."), text)

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def spec(self, name: str, text: str) -> Path:
        return self.file(f"specs/{name}.yaml", text)

    def run(
        self, *arguments: str, status: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        made = subprocess.run(
            [sys.executable, "-m", "builder", *arguments],
            cwd=self.root,
            env={**os.environ, "BUILDER_CACHE_DIR": str(self.store), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert made.returncode == status, (made.returncode, made.stdout, made.stderr)
        assert "Traceback" not in made.stderr and "itself failed" not in made.stderr, made.stderr
        return made

    def build(self, *arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
        """The document of `build --json`, by image."""
        made = self.run("build", "--json", *arguments, env=env)
        return {image["name"]: image for image in json.loads(made.stdout)["images"]}

    def plan(self, *arguments: str) -> dict[str, list[tuple[str, str]]]:
        """(status, why) of each step, by image."""
        made = self.run("plan", "--json", *arguments)
        return {
            image["name"]: [(step["status"], step["why"]) for step in image["steps"]]
            for image in json.loads(made.stdout)["images"]
        }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    (root / "specs").mkdir(parents=True)
    return Project(root)
