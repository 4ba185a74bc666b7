"""The examples of docs/examples are built, with what their README says they need first."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


@pytest.fixture
def examples(project: Any) -> Any:
    shutil.rmtree(project.root)
    shutil.copytree(EXAMPLES, project.root)
    (project.root / "bin").mkdir()
    shutil.copy("/bin/busybox", project.root / "bin/busybox")
    tree = project.root.parent / "tree"
    for name in ("usr/share/doc/a", "usr/share/man/b", "usr/share/docs/c", "etc/hostname"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    archive = project.root / "rootfs.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", tree, "."], check=True)
    return project


@pytest.mark.needs("busybox")
def test_the_examples_are_right(examples: Any) -> None:
    examples.run("lint")


@pytest.mark.root
@pytest.mark.needs("busybox", "umoci")
def test_the_examples_build(examples: Any) -> None:
    built = examples.build()
    assert set(built) == {"app", "shell", "trim"}
    for name in built:
        examples.run("build", name, "--output", f"oci:out:{name}")
        unpack = ["umoci", "unpack", "--image", f"out:{name}", f"tree-{name}"]
        subprocess.run(unpack, cwd=examples.root, check=True, capture_output=True)
    made = examples.root / "tree-shell/rootfs/made"
    assert made.read_text() == "made on Linux\n"
    app = examples.root / "tree-app/rootfs/srv/app"
    assert (app / "settings.ini").stat().st_uid == 1000
    assert not (examples.root / "tree-trim/rootfs/usr/share/doc").exists()
    assert (examples.root / "tree-trim/rootfs/docs").is_symlink()


@pytest.mark.root
@pytest.mark.needs("busybox")
def test_a_failed_command_caches_nothing_and_keeps_what_was_before(examples: Any) -> None:
    spec = examples.root / "specs/shell.yaml"
    text = spec.read_text()
    spec.write_text(text.replace('echo "made', 'echo before; exit 3; echo "made'))
    said = examples.run("build", "shell", status=1).stderr
    assert "specs/shell.yaml:12:10: step 'a file made by a command' failed" in said
    assert "3" in said and "before" in said
    statuses = [
        step["status"]
        for step in json.loads(examples.run("plan", "shell", "--json").stdout)["images"][0]["steps"]
    ]
    assert statuses == ["hit", "hit", "build"]
