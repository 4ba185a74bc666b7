"""The project as a whole: the Makefile, the specs that it ships, what no file may say."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import builder

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "builder").rglob("*.py"))


def tracked() -> list[Path]:
    """The files of the checkout; those of an unpacked archive where there is no git."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = list(ROOT.rglob("*"))
    return [path for path in paths if path.is_file() and ".venv" not in path.parts]


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # What a make above this one says to its children is not for this one.
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=environ, capture_output=True, text=True, timeout=60
    )


@pytest.mark.needs("make")
def test_make_help_lists_every_target_that_a_person_calls() -> None:
    run = make("help")
    assert run.returncode == 0, run.stderr
    listed = set(re.findall(r"^make (\S+) +\S", run.stdout, re.MULTILINE))
    assert listed == {
        *("help", "setup", "demo", "images", "image-NAME", "plan", "lint", "fmt", "types"),
        *("test", "check", "bench", "clean", "docs", "man"),
    }
    assert "base nginx site" in run.stdout


@pytest.mark.needs("make")
def test_an_old_python_is_named_with_what_to_do(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "old").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "old").chmod(0o755)
    run = make("venv", "PYTHON=./old", cwd=tmp_path)
    assert run.returncode == 2
    assert "error: './old' is not Python 3.11 or newer\nhint: " in run.stderr


@pytest.mark.needs("make")
def test_what_stands_on_an_image_is_made_again_only_when_its_digest_changed(
    tmp_path: Path,
) -> None:
    """With a builder that copies `page` as the digest and names it in the depfile."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "site.yaml").touch()
    fake = tmp_path / "fake"
    fake.write_text('#!/bin/sh\necho "built $2"\ncp page "$6"\necho "$6: page\npage:" >"$4"\n')
    fake.chmod(0o755)
    (tmp_path / "user.mk").write_text(
        "include Makefile\ndeploy: build/site.digest\n\t@echo deployed; touch deploy\n"
    )

    def deploy() -> list[str]:
        # -o: nothing to install
        run = make(
            *("-f", "user.mk", "deploy", "BUILDER=./fake", "-o", "venv", "-o", "demo-packages"),
            cwd=tmp_path,
        )
        assert run.returncode == 0, run.stderr
        return [line for line in run.stdout.splitlines() if not line.startswith("make:")]

    page = tmp_path / "page"
    page.write_text("one")
    assert deploy() == ["built site", "deployed"]
    assert deploy() == []
    os.utime(page)
    assert deploy() == ["built site"]
    assert deploy() == []
    page.write_text("two")
    assert deploy() == ["built site", "deployed"]
    assert deploy() == []


@pytest.mark.needs("bash")
@pytest.mark.parametrize("script", [".ci/run", ".ci/packages", "specs/demo.sh"])
def test_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def test_packages_that_are_there_are_not_installed_again() -> None:
    run = subprocess.run(
        [ROOT / ".ci" / "packages", "any-package-name=sh"], capture_output=True, check=True
    )
    assert run.stdout == run.stderr == b""


def test_the_version_is_said_once() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["project"]["dynamic"] == ["version"]
    assert version("builder") == builder.__version__


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is(path: Path) -> None:
    source = path.read_text()
    if path.name == "__init__.py" and not source.strip():
        return  # a room whose modules speak for themselves
    assert ast.get_docstring(ast.parse(source)), "no docstring"


def test_no_file_names_a_machine_or_a_registrys_host() -> None:
    forbidden = re.compile(
        "|".join(
            [
                r"(?<![\w}])/" + "work/",
                # not /proc/1/root, nor what an image has in its root's home
                r"(?<![\w}])/"
                + r"root/(?!\.(?:cache|npm|npmrc|netrc|m2|rpmdb|[a-z]+_history|ssh)\b)[.a-z]",
                "/" + r"home/(?!app\b|user\b)[a-z]+/",
                "pypi" + r"\.org",
                "pythonhosted" + r"\.org",
                "deb" + r"\.debian\.org",
                "registry\\.npm" + "js",
            ]
        )
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_specs_that_are_shipped_are_right() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "builder", "lint"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
