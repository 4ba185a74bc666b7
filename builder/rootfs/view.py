"""View: an image's file system as its layers make it, seen through their path tables.

Whiteouts, opaque folders and replaced folders count as overlayfs counts them. Folders that a layer
only implies keep the metadata they have below, as containerd gives them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

from builder.errors import LayerError
from builder.layer.entry import DIRECTORY, FILE, SYMLINK, Entry
from builder.rootfs.arrange import ancestors
from builder.rootfs.table import Table

MAX_SYMLINKS = 40  # as in the kernel
_MEMO = 50_000  # lookups remembered
_UNASKED = "unasked"


class Found(NamedTuple):
    entry: Entry
    table: int
    """Index of the table the metadata comes from, bottom 0. -1: no table has any (implied)."""


class View:
    """Tables bottom first. A value for any thread: what changes is what it remembers."""

    def __init__(self, tables: tuple[Table, ...] = ()) -> None:
        self.tables = tables
        self._memo: dict[bytes, Found | None] = {}
        self._covered: dict[tuple[int, bytes], bool] = {}  # by table and folder
        self._implied_in: dict[int, dict[bytes, set[bytes]]] = {}

    def push(self, table: Table) -> View:
        """The view after one more layer on top."""
        return View((*self.tables, table))

    def lookup(self, path: bytes) -> Found | None:
        """What stands at `path`, final and inner symlinks not followed; None: nothing, or an
        ancestor is no folder. The root always exists."""
        memo = self._memo
        known = memo.get(path, _UNASKED)  # another thread may clear it
        if not isinstance(known, str):
            return known
        if len(memo) >= _MEMO:
            memo.clear()
            self._covered.clear()
        found = memo[path] = self._lookup(path)
        return found

    def _lookup(self, path: bytes) -> Found | None:
        parent = path.rpartition(b"/")[0]
        implied = not path
        for index in range(len(self.tables) - 1, -1, -1):
            table = self.tables[index]
            entry = table.get(path)
            if entry is not None:
                if implied and entry.type != DIRECTORY:
                    break  # a folder implied above has replaced it
                return Found(entry, index)
            implied = implied or path in table.implied
            if path in table.whiteouts or (path and self._covers(index, parent)):
                break
        return Found(Entry(path, DIRECTORY, 0o755), -1) if implied else None

    def _covers(self, index: int, folder: bytes) -> bool:
        """Whether a table hides what lies in `folder` in the tables below it."""
        table, memo = self.tables[index], self._covered
        passed = []  # as the folder around them
        covers = False
        for path in (folder, *ancestors(folder)):
            known = memo.get((index, path))
            if known is not None:
                covers = known
                break
            passed.append(path)
            covers = path in table.whiteouts or path in table.opaque
            if not covers and path and (entry := table.get(path)):
                covers = entry.type != DIRECTORY
            if covers:
                break
        memo.update(dict.fromkeys(((index, each) for each in passed), covers))
        return covers

    def resolve(self, path: bytes, *, follow_last: bool) -> bytes:
        """`path` with symlinks followed inside the image: absolute ones from its root, `..` never
        above it. From the first name that does not exist on, the rest stays as written.
        Raises LayerError after 40 links."""
        todo = path.split(b"/")[::-1]
        done: list[bytes] = []
        links = 0
        missing = 0  # how many of `done` it takes to a name that does not exist; 0: all exist
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del done[-1:]
                if len(done) < missing:
                    missing = 0
                continue
            if missing:
                done.append(part)
                continue
            found = self.lookup(b"/".join((*done, part)))
            if found is None:
                missing = len(done) + 1
            if found is None or found.entry.type != SYMLINK or not (follow_last or any(todo)):
                done.append(part)
                continue
            links += 1
            if links > MAX_SYMLINKS:
                raise LayerError(
                    f"{os.fsdecode(path)!r} runs through more than {MAX_SYMLINKS} symlinks"
                )
            if found.entry.link.startswith(b"/"):
                done.clear()
            todo.extend(found.entry.link.split(b"/")[::-1])
        return b"/".join(done)

    def find(self, path: bytes, *, follow_last: bool) -> Found | None:
        """What stands at `path` as a program of the image finds it: symlinks are followed, and what
        leads through a name that is not there, no folder or more than 40 links leads nowhere."""
        todo, done, links = path.split(b"/")[::-1], list[bytes](), 0
        while todo:
            part = todo.pop()
            here = self.lookup(b"/".join(done))
            if here is None or here.entry.type != DIRECTORY:
                return None
            if part in (b"", b"."):
                continue
            if part == b"..":
                del done[-1:]
                continue
            done.append(part)
            found = self.lookup(b"/".join(done))
            if found is None or found.entry.type != SYMLINK or not (follow_last or any(todo)):
                continue
            links += 1
            if links > MAX_SYMLINKS:
                return None
            done = [] if found.entry.link.startswith(b"/") else done[:-1]
            todo.extend(found.entry.link.split(b"/")[::-1])
        return self.lookup(b"/".join(done))

    def missing(self, path: bytes) -> list[bytes]:
        """What has to be made for `path` to be a directory, parents first, symlinks followed."""
        parts = self.resolve(path, follow_last=True).split(b"/")
        paths = (b"/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return [each for each in paths if self.lookup(each) is None]

    def children(self, path: bytes) -> list[Found]:
        """What stands directly in the folder `path` (not followed), sorted by name."""
        here = self.lookup(path)
        if here is None or here.entry.type != DIRECTORY:
            return []
        depth = len(path) + 1 if path else 0
        prefix = path + b"/" if path else b""
        levels: list[tuple[int, dict[bytes, Entry], Collection[bytes]]] = []  # the topmost first
        names: set[bytes] = set()
        for index in range(len(self.tables) - 1, -1, -1):
            entries = {entry.path[depth:]: entry for entry in self.tables[index].children(path)}
            implied = self._implied(index).get(path, ())
            if entries or implied or self.tables[index].whiteouts:
                levels.append((index, entries, implied))
                names.update(entries, implied)
            if self._covers(index, path):
                break
        found = (self._topmost(prefix + name, name, levels) for name in sorted(names))
        return [each for each in found if each is not None]

    def _topmost(
        self,
        path: bytes,
        name: bytes,
        levels: list[tuple[int, dict[bytes, Entry], Collection[bytes]]],
    ) -> Found | None:
        """As `_lookup`, of what tables have in one folder."""
        is_implied = False
        for index, entries, implied in levels:
            entry = entries.get(name)
            if entry is not None:
                if is_implied and entry.type != DIRECTORY:
                    break
                return Found(entry, index)
            is_implied = is_implied or name in implied
            if path in self.tables[index].whiteouts:
                break
        return Found(Entry(path, DIRECTORY, 0o755), -1) if is_implied else None

    def _implied(self, index: int) -> dict[bytes, set[bytes]]:
        """Names of a table's implied folders, by the folder they are in."""
        if index not in self._implied_in:
            found: dict[bytes, set[bytes]] = {}
            for path in self.tables[index].implied:
                parent, _, name = path.rpartition(b"/")
                if name:
                    found.setdefault(parent, set()).add(name)
            self._implied_in[index] = found
        return self._implied_in[index]

    def subtree(self, path: bytes) -> Iterator[Found]:
        """Everything below the folder `path`, parents before their children, its own not."""
        waiting = self.children(path)[::-1]  # a stack: images may be deeper than Python's
        while waiting:
            found = waiting.pop()
            yield found
            if found.entry.type == DIRECTORY:
                waiting.extend(self.children(found.entry.path)[::-1])

    def read_small(self, path: bytes) -> bytes | None:
        """The contents of an account file, symlinks followed, whatever it is called there; None
        when it does not exist."""
        resolved = self.resolve(path, follow_last=True)
        found = self.lookup(resolved)
        if found is None or found.entry.type != FILE:
            return None
        data = self.tables[found.table].files.get(resolved)
        if data is None and found.entry.size == 0:
            return b""
        if data is None and (read := self.tables[found.table].read):
            data = read(resolved)
        if data is None:
            raise LayerError(
                f"/{resolved.decode(errors='replace')}: its contents are not known, "
                "expected a plain file of at most 1 MiB",
                "give owners and users as numbers",
            )
        return data
