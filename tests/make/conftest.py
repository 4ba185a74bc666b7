"""A small base with a shell, and projects on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def busybox_tar(path: Path, folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "etc").mkdir()
    shutil.copy("/bin/busybox", folder / "bin/busybox")
    for name in ("sh", "sleep", "cat", "true", "mkdir", "rm", "dd", "touch"):
        (folder / "bin" / name).symlink_to("busybox")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, ".")


class Scene:
    """A project with `base.tar`, and builders as processes of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root / "project"
        self.store = root / "store"
        (self.root / "specs").mkdir(parents=True)
        busybox_tar(self.root / "base.tar", root / "base")

    def spec(self, name: str, text: str) -> None:
        (self.root / f"specs/{name}.yaml").write_text(text)

    def start(
        self, *arguments: str, env: dict[str, str] | None = None, said: Path | None = None
    ) -> subprocess.Popen[str]:
        """`said`: a file for what it says on stderr."""
        return subprocess.Popen(
            [sys.executable, "-m", "builder", *arguments],
            cwd=self.root,
            env={**os.environ, "BUILDER_CACHE_DIR": str(self.store), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said.open("wb") if said else subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert process.returncode == status, (process.returncode, out, err)
        assert "Traceback" not in err and "itself failed" not in err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def build(self, *arguments: str) -> dict[str, Any]:
        """The document of `build --json`, by image."""
        made = self.run("build", "--json", *arguments)
        return {image["name"]: image for image in json.loads(made.stdout)["images"]}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def until() -> Callable[..., None]:
    def wait(condition: Callable[[], Any], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s"
            time.sleep(0.01)

    return wait
