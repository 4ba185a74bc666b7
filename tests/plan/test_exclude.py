"""`exclude` beside git: what `git ls-files --others --exclude-from` lists."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from builder.store.store import Store
from tests.patterns import exclude_list, files, kept, make, tree

COUNT = 5000 if os.environ.get("RELIABILITY") == "full" else 60
SEED = int(os.environ.get("RELIABILITY_SEED", "1"))

Git = Callable[[Path, Sequence[str]], set[str]]

TREE = (
    "a.txt", "b.md", "c c.txt", "sub/a.txt", "sub/x", "sub/deep/b.txt", "sub/deep/keep.md",
    "build/a.o", "build/keep/x", "build/keep/y.o", "foo/bar/x", "foo/x", "abc/x", "a/b/c/d",
    "a/x/y/b", "ax/y/b", "ab", "x.o", "lib/x.o", "lib.o/y", "#x", "!x", "[x]", "*x", "a\\b",
    " lead", "end ", "tab\t", "ä", "drafts/d.txt", "drafts/sub/e", "z]", "z-", "z9", "zä", "-",
    "empty/",
)  # fmt: skip

LISTS: tuple[Sequence[str], ...] = (
    ["*", "!*/", "!*.txt"], ["*", "!*/"], ["*", "!sub/"], ["*", "!sub/", "!sub/**"],
    ["build/**", "!build/keep/"], ["build/*", "!build/keep/"], ["build/", "!build/keep/"],
    ["build/**", "!build/**/"], ["/*", "!/sub"], ["[[:alpha:]]*"], ["z[[:digit:]]"],
    ["z[![:alnum:]]"], ["z[[:foo:]]"], ["z[]]"], ["z[]-]"], ["z[!]]"], ["z[^9]"], ["z[z-a]"],
    ["[z-a]*"], ["z[a-"], ["["], ["a[/]b"], ["a[!x]b"], ["sub[/]x"], ["sub?x"], ["sub*x"],
    ["sub**x"], ["**x"], ["**/x"], ["x/**"], ["sub/**"], ["sub/**/"], ["**/deep"], ["**/deep/**"],
    ["a/**/b"], ["a/**/**/d"], ["a**/b"], ["a**b"], ["/a**/b"], ["***"], ["**"], ["*"], ["*/"],
    ["**/"], ["/"], ["//"], ["!"], ["\\"], ["!\\"], ["", "!", "#"], ["#x"], ["\\#x"], ["!x"],
    ["\\!x"], ["\\*x"], ["\\[x]"], ["[[]x]"], ["a\\\\b"], ["a\\b"], ["end "], ["end\\ "], ["end  "],
    ["end\\  "], ["tab\t"], ["tab"], [" lead"], ["c c.txt"], ["c\\ c.txt"], ["?"], ["??"], ["z?"],
    ["z??"], ["ä"], ["[ä]"], ["drafts"], ["drafts/"], ["/drafts/"], ["drafts/*"],
    ["drafts/**", "!drafts/d.txt"], ["sub/a.txt/"], ["a.txt/"], ["*.txt", "!a.txt"],
    ["!a.txt", "*.txt"], ["*.txt", "!/a.txt"], ["/*.txt"], ["sub/*.txt"], ["sub/**/*.txt"],
    ["**/*.txt", "!sub/deep/*.txt"], ["foo/bar"], ["foo/bar/"], ["bar"], ["/bar"], ["*/bar"],
    ["lib"], ["lib*"], ["*.o"], ["*.o/"], ["*.o", "!lib.o"], ["./a.txt"], ["a/./b"], ["../a.txt"],
    ["sub/../a.txt"], ["sub//x"], ["/sub/x"], ["sub\\/x"], ["**\\/x"], ["empty"], ["-"], ["[-]"],
    ["[--9]"], ["[a-c-e]*"], ["[\\a-\\c]*"], ["[a\\]]*"], ["z[\\]]"], ["z[[:]"], ["z[[:a]"],
    ["*.txt\r"], ["a.txt\r"], ["a.txt\nb.md"], ["\ufeffa.txt"],
)  # fmt: skip


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Git:
    home = tmp_path_factory.mktemp("git")
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(["git", "init", "-q", home], check=True, env=environ)

    def listed(root: Path, lines: Sequence[str]) -> set[str]:
        (home / "lines").write_text("\n".join(["#", *lines]) + "\n", newline="")
        command = [
            "git",
            "--git-dir",
            home / ".git",
            "--work-tree",
            root,
            "ls-files",
            "--others",
            "-z",
        ]
        done = subprocess.run(
            [*command, f"--exclude-from={home}/lines"],
            cwd=root,
            env=environ,
            capture_output=True,
            check=True,
        )
        return {os.fsdecode(path) for path in done.stdout.split(b"\0") if path}

    return listed


@pytest.mark.needs("git")
def test_lists_leave_out_what_git_leaves_out(tmp_path: Path, git: Git) -> None:
    root, store = tmp_path / "root", Store(str(tmp_path / "store"))
    make(root, TREE)
    for lines in LISTS:
        assert files(kept(root, store, lines), root) == git(root, lines), lines


@pytest.mark.needs("git")
def test_random_lists_leave_out_what_git_leaves_out(tmp_path: Path, git: Git) -> None:
    store, rng = Store(str(tmp_path / "store")), random.Random(SEED)
    for number in range(COUNT):
        root = tmp_path / "root"
        root.mkdir()
        paths = tree(rng)
        make(root, paths)
        lines = exclude_list(rng, paths)
        assert files(kept(root, store, lines), root) == git(root, lines), (number, paths, lines)
        shutil.rmtree(root)
