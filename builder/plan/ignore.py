"""Patterns over the context: what .dockerignore and `exclude` leave out, and globs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from builder.errors import BuilderError
from builder.oci.digest import hex_of
from builder.plan.packed import pack_verdicts, unpack_verdicts
from builder.store.store import Store

MAGIC = re.compile(r"[*?\[]")


class Rules:
    """What is left out of a source: .dockerignore patterns on paths below the context, .gitignore
    rules on paths below the source. A decision depends on nothing but the path, so decisions are
    kept: loading the two matchers takes longer than a build in which nothing changed."""

    def __init__(
        self, store: Store, prefix: str, ignore: tuple[str, ...], exclude: tuple[str, ...]
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._ignore, self._exclude = ignore, exclude
        self._name = hex_of(repr((prefix, ignore, exclude)).encode("utf-8", "surrogateescape"))
        self._known = unpack_verdicts(store.load("trees", self._name) or b"")
        self._count = len(self._known)
        self._docker: Callable[[str], bool] | None = None
        self._git: Callable[[str], bool] | None = None
        self.prunes = not any(line.startswith("!") for line in ignore)

    def __call__(self, path: bytes, is_dir: bool) -> int:
        """0: kept; 1: left out, but something below may be kept; 2: left out with all below."""
        key = path + b"/" if is_dir else path
        verdict = self._known.get(key)
        if verdict is None:
            verdict = self._known[key] = self._decide(os.fsdecode(path), is_dir)
        return verdict

    def _decide(self, path: str, is_dir: bool) -> int:
        if self._exclude and self._gitignored(path + "/" if is_dir else path):
            return 2
        if self._ignore and self.docker(f"{self._prefix}/{path}" if self._prefix else path):
            return 2 if self.prunes else 1
        return 0

    def docker(self, path: str) -> bool:
        if self._docker is None:
            from docker.utils.build import PatternMatcher

            matcher = PatternMatcher(list(self._ignore))
            matcher.patterns.pop()  # the SDK sends .dockerignore always; an image gets it by rule
            # the stubs want a PathLike, the matcher splits text
            self._docker = lambda path: bool(matcher.matches(path))  # type: ignore[arg-type]
        return self._docker(path)

    def _gitignored(self, path: str) -> bool:
        if self._git is None:
            from pathspec import GitIgnoreSpec

            self._git = GitIgnoreSpec.from_lines(self._exclude).match_file
        return self._git(path)

    def save(self) -> None:
        if len(self._known) != self._count:
            self._store.remember("trees", self._name, pack_verdicts(self._known))


def glob_of(pattern: str) -> re.Pattern[str]:
    """One path component with `*`, `?`, `[a-z]`, `[^a]`, `[!a]` and backslash escapes."""
    out = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "\\" and at < len(pattern):
            out.append(re.escape(pattern[at]))
            at += 1
        elif char == "[" and (end := pattern.find("]", at + 1)) > 0:
            inside = pattern[at:end]
            negated = inside[0] in "^!"
            inside = inside[negated:].replace("\\", "\\\\").replace("[", "\\[")
            out.append(f"[{'^' if negated else ''}{inside}]")
            at = end + 1
        else:
            out.append(re.escape(char))
    try:
        return re.compile("".join(out), re.DOTALL)
    except re.error as error:
        raise BuilderError(f"{pattern!r} is not a glob: {error}") from error
