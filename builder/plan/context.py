"""The context: the folder that sources come from, what is ignored in it, and what its files hold.

Nothing outside the context is read: every path is resolved first and must stay inside.
"""

from __future__ import annotations

import marshal
import os
import stat
import time
from collections.abc import Iterator, Mapping
from operator import attrgetter, itemgetter
from typing import NamedTuple

from builder.errors import BuilderError, UsageError
from builder.oci.digest import hasher, hex_of
from builder.plan.ignore import MAGIC, Rules, glob_of, remembered
from builder.spec.model import Copy, File, Step, Unpack
from builder.store.store import Store

RACY = 2_000_000_000
"""Nanoseconds. A file younger than this when it was read may change again within its time stamp's
grain, so what was read of it is not remembered (git's racy rule)."""

_CHUNK = 1 << 20
_MANY = 64  # unread files from which on leaving them is worth it
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAME = attrgetter("name")
_MTIME, _CTIME = itemgetter(5), itemgetter(6)


Node = tuple[bytes, int, int, int, int, int, int, int, int]
"""One path as lstat saw it: path relative to the source (b"" is the source itself), mode, size,
inode, device, mtime and ctime in nanoseconds, uid, gid. A plain tuple, of which there are as many
as files: making named ones takes as long as lstat itself."""


class Source(NamedTuple):
    """What one source text matched. `path` is relative to the context, symlinks resolved; `below`
    is where it lands below a destination directory: its base name, or with a glob the path below
    the glob's fixed prefix."""

    path: str
    below: str
    is_dir: bool
    globbed: bool


class Tree(NamedTuple):
    """The nodes of a source in layer order, and a way to their bytes."""

    root: bytes  # host path
    nodes: list[Node]
    young: int  # what was touched since then, in nanoseconds, may change unseen
    settled: bool  # nothing in it is so young

    def host_path(self, path: bytes) -> bytes:
        return self.root + b"/" + path if path else self.root

    def paths(self) -> Iterator[str]:
        """Host paths of all nodes."""
        return (os.fsdecode(self.host_path(node[0])) for node in self.nodes)

    def fingerprint(self) -> str:
        """Identity of what lstat saw. Equal fingerprints of settled trees: equal bytes."""
        return hex_of(marshal.dumps(self.nodes, 2))


Scanned = list[tuple[Source, Tree]]
"""The sources of a step, each with what lstat saw of it."""


class Context:
    """A context folder. `store` keeps what was hashed before; without it all is read again."""

    def __init__(self, root: str, store: Store) -> None:
        self.root = os.path.realpath(root)
        self._store = store
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
        if not stat.S_ISREG(tree.nodes[0][1]):
            raise BuilderError(f"{text!r} is not a file, expected a file: the {what}")
        return found[0], tree

    # -- reading trees -------------------------------------------------------------------

    def tree(self, source: Source, exclude: tuple[str, ...] = (), *, full: bool = False) -> Tree:
        """Everything below a source, ignored paths left out, in layer order. `full` looks at times
        and owners of directories too (`preserve:`). Raises BuilderError for what cannot be read."""
        young = time.time_ns() - RACY
        root = os.path.join(self.root, source.path) if source.path else self.root
        host = root.encode("utf-8", "surrogateescape")
        nodes: list[Node] = []
        rules = self._rules(source, exclude)
        try:
            nodes.append(_node(b"", os.lstat(host), full))
            if stat.S_ISDIR(nodes[0][1]):
                _walk(host, nodes, rules, full)
        except OSError as error:
            raise _unreadable(error.filename or host, error) from error
        newest = max(max(map(_MTIME, nodes)), max(map(_CTIME, nodes)))
        if rules:
            rules.save()
        return Tree(host, nodes, young, newest < young)

    def digests(self, tree: Tree, *, leave: bool = False) -> dict[bytes, bytes]:
        """Raw sha256 of every regular file of a tree, by path. What lstat shows unchanged since it
        was hashed is not read again. `leave`: many that are not known are left out, to be read
        when the layer is made, and told to `learn` then."""
        known = self._known(tree)
        lookup = known.get
        found: dict[bytes, bytes] = {}
        unread: list[tuple[bytes, int]] = []
        regular = stat.S_IFREG
        for node in tree.nodes:
            if node[1] & 0o170000 == regular:
                # the path is not part of it: a renamed file keeps its digest
                digest = lookup(node[1:7])
                if digest is None:
                    unread.append((node[0], node[2]))
                else:
                    found[node[0]] = digest
        if leave and len(unread) >= _MANY:
            return found
        root = tree.root + b"/"
        for path, size in unread:
            found[path] = _hash(root + path if path else tree.root, size)
        if unread or len(found) != len(known):
            self.learn(tree, found)
        return found

    def learn(self, tree: Tree, digests: Mapping[bytes, bytes]) -> None:
        """Keep digests of a tree's files, by path, for the next time."""
        young = tree.young
        keep = {
            node[1:7]: digests[node[0]]
            for node in tree.nodes
            if node[0] in digests and node[5] < young and node[6] < young
        }
        if keep != self._known(tree):
            self._store.remember("trees", hex_of(tree.root), marshal.dumps(keep))

    def _known(self, tree: Tree) -> dict[tuple[int, ...], bytes]:
        saved = self._store.load("trees", hex_of(tree.root))
        return remembered(saved) if saved else {}

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


def _walk(root: bytes, nodes: list[Node], rules: Rules | None, full: bool) -> None:
    """Append what is below `root`, sorted. A directory that is left out comes along only when
    something below it is kept. Not recursive: a tree may be deeper than Python's stack."""
    append = nodes.append
    # of each open directory: its entries to come, its path, and where in `nodes` it begins if it
    # goes again when nothing follows
    stack = [(iter(_listed(root)), b"", 0)]
    while stack:
        entries, prefix, begins = stack[-1]
        for entry in entries:
            path = prefix + entry.name
            is_dir = entry.is_dir(follow_symlinks=False)
            verdict = rules(path, is_dir) if rules else 0
            if verdict == 2 or (verdict and not is_dir):
                continue
            state = entry.stat(follow_symlinks=False)
            if is_dir:
                append(_node(path, state, full))
                begins = len(nodes) if verdict else 0
                stack.append((iter(_listed(entry.path)), path + b"/", begins))
                break
            append(
                (
                    path,
                    state.st_mode,
                    state.st_size,
                    state.st_ino,
                    state.st_dev,
                    state.st_mtime_ns,
                    state.st_ctime_ns,
                    state.st_uid,
                    state.st_gid,
                )
            )
        else:
            stack.pop()
            if begins == len(nodes):
                nodes.pop()


def _listed(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=_NAME)


def _node(path: bytes, state: os.stat_result, full: bool) -> Node:
    if stat.S_ISDIR(state.st_mode) and not full:
        # what else lstat tells of a directory changes with its children, which are looked at anyway
        return (path, state.st_mode, 0, 0, 0, 0, 0, 0, 0)
    return (
        path,
        state.st_mode,
        state.st_size,
        state.st_ino,
        state.st_dev,
        state.st_mtime_ns,
        state.st_ctime_ns,
        state.st_uid,
        state.st_gid,
    )


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
