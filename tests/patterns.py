"""Random trees, ignore files and exclude lists, made so that they often meet; and what of a tree
this builder keeps."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from builder.plan.context import Context
from builder.spec.model import Place
from builder.steps.copy import Copy
from builder.store.store import Store

NAMES = (
    "a", "b", "ab", "abc", ".env", ".hid", "tmp", "node_modules", "x.pyc", "y.txt", "Build",
    "README.md", "keep", "a]b", "a*b", "!b", "#c", "a-b", "ä", "a.b", "[a]", "a\\b", "^a", "+x",
    "a(b)", "a b",
)  # fmt: skip
_PIECES = (
    "*", "*", "**", "***", "?", "a", "b", "ab", ".", "tmp", "x.pyc", ".env", "*.txt", "[a-c]",
    "[^a]", "[!a]", "\\*", "\\#", "\\!", "[*]", "[\\]]", "keep", "ä", "[ä-ö]", "^", "+", "(", "a.b",
    "[[:alpha:]]", "*.*", "a*", "?b", "[a", "a-b", "[a-]", "\\", "[z-a]", "!", "#", "\\a", "[.]",
    "[\\-a]", " ",
)  # fmt: skip
_GIT = (
    "[]a]", "[[:punct:]]", "[[:space:]]", "[[:foo:]]", "[[:alpha:]-z]", "[a-", "[/]", "[a/]",
    "[!/]", "[-]", "\\ ", "\t", "[\\a-\\c]", "[[:]", "[[:a]", "[]", "[!]a]", "[^]]", "[--0]",
)  # fmt: skip


def tree(rng: random.Random) -> list[str]:
    """Paths of files, and of folders with a slash at the end."""
    files: set[str] = set()
    folders: set[str] = set()
    made = []
    for _ in range(rng.randrange(10, 26)):
        parts = [rng.choice(NAMES) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))]
        path, is_folder = "/".join(parts), rng.random() < 0.15
        above = {"/".join(parts[:end]) for end in range(1, len(parts))}
        if above & files or path in (files if is_folder else files | folders):
            continue
        folders |= above
        (folders if is_folder else files).add(path)
        made.append(path + "/" * is_folder)
    return made


def _part(rng: random.Random, pieces: Sequence[str]) -> str:
    chance = rng.random()
    if chance < 0.45:
        return rng.choice(NAMES)
    if chance < 0.6:
        return rng.choice(("**", "*", "**", "?b", "a*", "*b", "*.*", "[a-b]*"))
    return "".join(rng.choice(pieces) for _ in range(rng.choice((1, 1, 2, 2, 3))))


def _line(rng: random.Random, paths: Sequence[str], pieces: Sequence[str]) -> str:
    if rng.random() < 0.3 and paths:
        parts = rng.choice(paths).rstrip("/").split("/")
        parts = parts[: rng.randrange(1, len(parts) + 1)]
        line = "/".join(part if rng.random() < 0.7 else _part(rng, pieces) for part in parts)
    else:
        line = "/".join(_part(rng, pieces) for _ in range(rng.choice((1, 1, 1, 2, 2, 3))))
    for chance, change in (
        (0.1, "/{}"), (0.1, "{}/"), (0.12, "**/{}"), (0.08, "{}/**"), (0.03, "./{}"),
        (0.03, "../{}"), (0.05, "{}//b"), (0.28, "!{}"), (0.03, "#{}"),
    ):  # fmt: skip
        if rng.random() < chance:
            line = change.format(line)
    return line


def ignore_file(rng: random.Random, paths: Sequence[str]) -> str:
    lines = []
    for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 6))):
        line = _line(rng, paths, _PIECES)
        if line.startswith("!") and rng.random() < 0.2:
            line = "! " + line[1:]
        if rng.random() < 0.05:
            line = f" {line}" + rng.choice((" ", "\t", "\r", "\f", "\xa0"))
        lines.append(line)
    return "\ufeff" * (rng.random() < 0.02) + "\n".join(lines) + "\n" * rng.randrange(2)


def exclude_list(rng: random.Random, paths: Sequence[str]) -> list[str]:
    lines = [_line(rng, paths, _PIECES + _GIT) for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 6)))]
    if rng.random() < 0.3:
        ends = (" ", "  ", "\t", "\\ ", "\\  ", " \\", "\\\\ ")
        lines = [line + rng.choice(ends) for line in lines]
    return lines


def make(root: Path, paths: Iterable[str]) -> None:
    for path in paths:
        where = root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            where.mkdir(exist_ok=True)
        else:
            where.touch()


def kept(root: Path, store: Store, exclude: Sequence[str] = ()) -> set[str]:
    """The paths that `copy: .` takes."""
    step = Copy(Place("a.yaml", 1, 1), None, (".",), "/", tuple(exclude))
    ((_, found),) = step.scan(Context(str(root), store))
    return {os.fsdecode(node[0]) for nodes in found.parts() for node in nodes} - {""}


def files(paths: Iterable[str], root: Path) -> set[str]:
    """Those of them that are no folders, nor the builders' own files."""
    own = (".dockerignore", "Dockerfile")
    return {path for path in paths if path not in own and not (root / path).is_dir()}
