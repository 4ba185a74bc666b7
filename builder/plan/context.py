"""The context: the folder that sources come from, what is ignored in it, and what its files hold.

Nothing outside the context is read: every path is resolved first and must stay inside.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from builder.errors import BuilderError, UsageError
from builder.oci.digest import hasher
from builder.plan.ignore import MAGIC, Rules, glob_of
from builder.plan.known import Known, Pieces
from builder.plan.nodes import Tree, look
from builder.spec.model import Copy, File, Step, Unpack
from builder.store.store import Store

_CHUNK = 1 << 20
_MANY = 64  # unread files from which on leaving them is worth it
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Source(NamedTuple):
    """What one source text matched. `path` is relative to the context, symlinks resolved; `below`
    is where it lands below a destination directory: its base name, or with a glob the path below
    the glob's fixed prefix."""

    path: str
    below: str
    is_dir: bool
    globbed: bool


Scanned = list[tuple[Source, Tree]]
"""The sources of a step, each with what lstat saw of it."""


class Context:
    """A context folder. `store` keeps what was hashed before; without it all is read again."""

    def __init__(self, root: str, store: Store) -> None:
        self.root = os.path.realpath(root)
        self._store = store
        self._known = Known(store)
        self._ignore: tuple[str, ...] | None = None

    # -- finding sources -----------------------------------------------------------------

    def find(self, text: str) -> list[Source]:
        """What `text` names, sorted. Raises BuilderError: missing, ignored, out of the context."""
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if ".." in parts:
            parts = self._without_dots(parts, text)
        fixed = next((i for i, part in enumerate(parts) if MAGIC.search(part)), None)
        if fixed is None:
            path = self._inside("/".join(parts), text)
            is_dir = os.path.isdir(os.path.join(self.root, path))
            if text.endswith("/") and not is_dir:
                raise BuilderError(f"{text!r} is not a directory")
            return [Source(path, parts[-1] if parts else "", is_dir, False)]
        prefix = "/".join(parts[:fixed])
        found = []
        last = None
        for path in sorted(set(self._expand(prefix, parts[fixed:])), key=lambda p: p.split("/")):
            if last is not None and path.startswith(last + "/"):
                continue  # its directory was matched already
            if self._left_out(path):
                continue
            below = path[len(prefix) + 1 if prefix else 0 :]
            inside = self._inside(path, text)
            is_dir = os.path.isdir(os.path.join(self.root, inside))
            found.append(Source(inside, below, is_dir, True))
            last = path if is_dir else None
        if not found:
            raise BuilderError(f"{text!r} matches nothing in the context")
        return found

    def _without_dots(self, parts: list[str], text: str) -> list[str]:
        kept: list[str] = []
        for part in parts:
            if part != "..":
                kept.append(part)
            elif kept:
                kept.pop()
            else:
                raise BuilderError(
                    f"{text!r} leads out of the context",
                    "copy what is needed into the context, or set --context",
                )
        return kept

    def _inside(self, path: str, text: str) -> str:
        """`path` with its symlinks followed, relative to the context and within it."""
        whole = os.path.join(self.root, path)
        real = os.path.realpath(whole)
        if real != self.root and not real.startswith(self.root.rstrip("/") + "/"):
            raise BuilderError(
                f"{text!r} leads out of the context through a symlink",
                "copy what is needed into the context, or set --context",
            )
        inside = os.path.relpath(real, self.root)
        if os.path.islink(real):
            raise BuilderError(f"{text!r} leads through symlinks in a circle")
        if not os.path.lexists(real):
            near = self._near(path)
            raise BuilderError(
                f"{text!r} does not exist in the context",
                f"did you mean {near!r}?" if near else None,
            )
        if self._left_out(path) or self._left_out(inside):
            raise BuilderError(f"{text!r} is excluded by .dockerignore")
        return "" if inside == "." else inside

    def _near(self, path: str) -> str | None:
        import difflib

        folder, name = os.path.split(path)
        try:
            names = os.listdir(os.path.join(self.root, folder))
        except OSError:
            return None
        found = difflib.get_close_matches(name, names, 1)
        return os.path.join(folder, found[0]) if found else None

    def _expand(self, folder: str, parts: list[str]) -> Iterator[str]:
        part, *rest = parts
        here = os.path.join(self.root, folder)
        try:
            names = sorted(os.listdir(here))
        except OSError:
            return
        joined = (lambda name: f"{folder}/{name}") if folder else (lambda name: name)
        if part == "**":
            if rest:
                yield from self._expand(folder, rest)
            for name in names:
                path = os.path.join(here, name)
                if os.path.isdir(path) and not os.path.islink(path):
                    yield from self._expand(joined(name), parts)
                if not rest:
                    yield joined(name)
            return
        matches = glob_of(part).fullmatch if MAGIC.search(part) else part.__eq__
        for name in names:
            if matches(name):
                if not rest:
                    yield joined(name)
                elif os.path.isdir(os.path.join(here, name)):
                    yield from self._expand(joined(name), rest)

    def scan(self, step: Step) -> Scanned:
        """Look at what a step takes from the context; no file is read. Nothing for most kinds."""
        if isinstance(step, Copy):
            full = bool(step.preserve)
            return [
                (source, self.tree(source, step.exclude, full=full))
                for text in step.sources
                for source in self.find(text)
            ]
        if isinstance(step, Unpack):
            return [self._one_file(step.source, "archive")]
        if isinstance(step, File) and step.template:
            return [self._one_file(step.template, "template")]
        return []

    def _one_file(self, text: str, what: str) -> tuple[Source, Tree]:
        found = self.find(text)
        if len(found) != 1:
            raise BuilderError(f"{text!r} matches {len(found)} files, expected one {what}")
        tree = self.tree(found[0])
        if not stat.S_ISREG(tree.part(0)[0][1]):
            raise BuilderError(f"{text!r} is not a file, expected a file: the {what}")
        return found[0], tree

    # -- reading trees -------------------------------------------------------------------

    def tree(self, source: Source, exclude: tuple[str, ...] = (), *, full: bool = False) -> Tree:
        """Everything below a source, ignored paths left out, in layer order. `full` looks at times
        and owners of directories too (`preserve:`). Raises BuilderError for what cannot be read."""
        root = os.path.join(self.root, source.path) if source.path else self.root
        host = root.encode("utf-8", "surrogateescape")
        rules = self._rules(source, exclude)
        try:
            tree = look(host, rules, full=full)
        except OSError as error:
            raise _unreadable(error.filename or host, error) from error
        if rules:
            rules.save()
        return tree

    def digests(self, tree: Tree, *, leave: bool = False) -> Pieces:
        """Raw sha256 of every regular file of a tree. What lstat shows unchanged since it was
        hashed is not read again. `leave`: many that are not known stay so, to be read when the
        layer is made, and told to `learn` then."""
        pieces, numbers = self._known.find(tree)
        if not (leave and self._known.lacks(tree, pieces, numbers, _MANY)):
            self._known.fill(tree, pieces, numbers, _hash)
        return pieces

    def learn(self, tree: Tree, digest_of: Callable[[bytes], bytes | None]) -> None:
        """Keep digests of a tree's files for the next time: `digest_of` is asked for those that
        are not known, by host path and in the tree's order."""
        pieces, numbers = self._known.find(tree)
        self._known.fill(tree, pieces, numbers, lambda path, _: digest_of(path))

    def forget(self, trees: Iterable[Tree]) -> None:
        """Take nothing of what was read of these files for known the next time."""
        for tree in trees:
            self._known.forget(tree)

    # -- ignore rules --------------------------------------------------------------------

    @property
    def ignore_lines(self) -> tuple[str, ...]:
        """The patterns of the context's .dockerignore."""
        if self._ignore is None:
            path = os.path.join(self.root, ".dockerignore")
            try:
                text = read_regular(path).decode("utf-8-sig") if os.path.lexists(path) else ""
            except UnicodeDecodeError as error:
                raise UsageError(f".dockerignore is not UTF-8: {error}") from error
            lines = (line.strip() for line in text.splitlines())
            self._ignore = tuple(line for line in lines if line and line[0] != "#")
        return self._ignore

    def _left_out(self, path: str) -> bool:
        """Whether .dockerignore leaves out `path` with all below: of a directory, lines with `!`
        may keep something."""
        lines = self.ignore_lines
        if not lines or path in ("", "."):
            return False
        if any(line[0] == "!" for line in lines) and os.path.isdir(os.path.join(self.root, path)):
            return False
        rules = self._rules(Source(path, "", False, False), ())
        return rules is not None and rules.docker(path)

    def _rules(self, source: Source, exclude: tuple[str, ...]) -> Rules | None:
        if not self.ignore_lines and not exclude:
            return None
        return Rules(self._store, source.path, self.ignore_lines, exclude)


def _hash(path: bytes, size: int) -> bytes:
    """Raw sha256 of a file of `size` bytes. When it is written to after lstat looked at it, this
    may be the digest of what it was or of what it is: the layer gets the bytes of this digest or
    none, and lstat will tell it from the file that was looked at."""
    try:
        handle = os.open(path, _READ)
        try:
            data = os.read(handle, min(size + 1, _CHUNK))
            length = len(data)
            running = hasher(data)
            while length < size and (data := os.read(handle, _CHUNK)):
                running.update(data)
                length += len(data)
        finally:
            os.close(handle)
    except OSError as error:
        raise _unreadable(path, error) from error
    if length != size:
        raise BuilderError(
            f"{os.fsdecode(path)!r} changed while it was read", "build again when it is at rest"
        )
    return running.digest()


def _unreadable(path: bytes | str, error: OSError) -> BuilderError:
    return BuilderError(f"{os.fsdecode(path)!r} cannot be read: {error.strerror}")


def read_regular(path: str) -> bytes:
    """A small file of the context, whole. A FIFO or a device in its place is an error and does not
    block. Raises BuilderError."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BuilderError(f"{path!r} is not a regular file")
            return file.read()
    except OSError as error:
        raise _unreadable(path, error) from error
