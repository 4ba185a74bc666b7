"""The hook, as pre-commit installs and runs it from a repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHOLE = ("builder", "pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml")


def git(folder: Path, *arguments: str) -> str:
    folder.mkdir(exist_ok=True)
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    made = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, check=True)
    return made.stdout.decode().strip()


@pytest.mark.needs("git")
def test_the_hook_checks_specs_before_a_commit(tmp_path: Path) -> None:
    hooks, project = tmp_path / "hooks", tmp_path / "project"
    git(hooks, "init", "-q")
    for name in WHOLE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, hooks / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, hooks / name)
    git(hooks, "add", "-A")
    git(hooks, "commit", "-q", "-m", "all")
    revision = git(hooks, "rev-parse", "HEAD")
    git(project, "init", "-q")
    (project / ".pre-commit-config.yaml").write_text(
        f"repos:\n- repo: {hooks}\n  rev: {revision}\n  hooks: [{{id: builder-lint}}]\n"
    )
    (project / "specs").mkdir()
    spec = project / "specs/site.yaml"

    def run() -> subprocess.CompletedProcess[str]:
        git(project, "add", "-A")
        return subprocess.run(
            [sys.executable, "-m", "pre_commit", "run"],
            cwd=project,
            env={**os.environ, "PRE_COMMIT_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
        )

    (project / "notes.yaml").write_text("steps: [{wrong: x}]\n")
    assert "no files to check" in run().stdout
    spec.write_text("from: scratch\nsteps: [{wrong: x}]\n")
    made = run()
    if "No matching distribution" in made.stdout + made.stderr:
        pytest.skip("no package index is there")
    assert made.returncode == 1, made
    assert "error: specs/site.yaml:2:" in made.stdout
    spec.write_text("from: scratch\nsteps: [{file: /a, content: x}]\n")
    made = run()
    assert made.returncode == 0 and "Passed" in made.stdout, made
