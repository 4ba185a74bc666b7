"""What the documents show is what happens: every block of the tutorial and the guides is done."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import Reader, blocks, commands, matches

ROOT = Path(__file__).parents[2]
PAGES = {
    "install": 2,
    "tutorial": 18,
    "from-dockerfile": 2,
    "secrets-and-caches": 2,
    "packages": 1,
    "store": 1,
    "commit": 1,
    "running": 2,
    "debugging": 4,
    "testing": 1,
    "looking": 7,
    "ci": 4,
}
"""With how many blocks are done at least."""


@pytest.fixture
def reader(tmp_path: Path, registry: str) -> Reader:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "builder").write_text(f'#!/bin/sh\nexec {sys.executable} -m builder "$@"\n')
    (programs / "builder").chmod(0o755)
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy("/bin/busybox", folder)
    (tmp_path / ".npmrc").write_text("registry=https://npm.example/\n")
    environ = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",  # what stdout and stderr say is in its order, as on a terminal
        "PYTHONPATH": str(ROOT),
        "BUILDER_CACHE_DIR": str(tmp_path / "store"),
        "REGISTRY": registry,
        "NPM_TOKEN": "a-token-of-the-page",
        "TOKEN": "a-token-of-the-page",
    }
    return Reader(folder, environ)


@pytest.mark.needs("busybox")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_followed_to_its_end(reader: Reader, page: str) -> None:
    scene = Path(__file__).parent / "scenes" / page
    if scene.is_dir():
        shutil.copytree(scene, reader.folder, dirs_exist_ok=True)
    if (scene / "before.sh").is_file():
        reader.run((scene / "before.sh").read_text())
    assert reader.follow(ROOT / f"docs/{page}.md") >= PAGES[page]


def test_every_page_with_commands_is_followed() -> None:
    pages = (ROOT / "docs").glob("*.md")
    shown = {
        page.stem for page in pages if {"sh", "console"} & {each.kind for each in blocks(page)}
    }
    assert shown - {"spec"} == set(PAGES)  # the reference shows parts of files and commands


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert made.returncode == 0, made.stderr
    assert "--no-cache" in (tmp_path / "site/reference/command-line.html").read_text()
    assert "make_plan" in (tmp_path / "site/reference/python.html").read_text()


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / target).exists(), target


def test_what_is_printed_is_compared(tmp_path: Path) -> None:
    assert matches("a...c\n...\nend\n", "abc\n1\n2\nend\n")
    assert matches("...\n", "") and matches("", "")
    assert not matches("a\n", "a\nb\n") and not matches("", "b\n") and not matches("a.c\n", "abc\n")
    page = tmp_path / "p.md"
    page.write_text('```sh\nx\n```\n\n```yaml title="a/b"\nc\n```\n```\ntext\n```\n')
    assert [each[:3] for each in blocks(page)] == [
        ("sh", "", "x\n"), ("yaml", "a/b", "c\n"), ("", "", "text\n"),
    ]  # fmt: skip
    assert list(commands("$ a\n1\n$ b\n")) == [("a", "1\n"), ("b", "")]
