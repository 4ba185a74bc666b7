"""A tree holds what the view of the same layers shows path by path."""

from __future__ import annotations

import os
import random

from builder.errors import LayerError
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, OPAQUE, SYMLINK, WHITEOUT, Entry
from builder.look.tree import Merged
from builder.rootfs.table import MemoryTable
from builder.rootfs.view import View

ROUNDS = int(os.environ.get("LOOK_ROUNDS", "200"))


def random_table(chosen: random.Random) -> MemoryTable:
    """Few names, so that layers cover one another in all ways."""
    entries = []
    for _ in range(chosen.randrange(1, 12)):
        parts = [chosen.choice((b"a", b"b", b"c")) for _ in range(chosen.randrange(1, 5))]
        kind = chosen.randrange(8)
        if kind == 0:
            parts[-1] = OPAQUE
        elif kind == 1:
            parts[-1] = WHITEOUT + parts[-1]
        path = b"/".join(parts)
        if kind < 2:
            entries.append(Entry(path, FILE, 0o600))
        elif kind < 5:
            entries.append(Entry(path, DIRECTORY, chosen.choice((0o755, 0o700))))
        elif kind == 5:
            entries.append(Entry(path, SYMLINK, 0o777, link=b"a"))
        elif kind == 6 and entries:
            entries.append(Entry(path, HARDLINK, 0o644, link=chosen.choice(entries).path))
        else:
            entries.append(Entry(path, FILE, 0o644, size=chosen.randrange(3)))
    return MemoryTable(entries)


def table(chosen: random.Random) -> MemoryTable:
    while True:
        try:
            return random_table(chosen)
        except LayerError:
            continue  # what no layer can be


def test_as_the_view_has_it() -> None:
    for seed in range(ROUNDS * 5):
        chosen = random.Random(seed)
        tables = tuple(table(chosen) for _ in range(chosen.randrange(1, 6)))
        view = View(tables)
        truth = {found.entry.path: found for found in view.subtree(b"")}
        assert Merged(tables).files == truth, seed


def test_a_folder_as_deep_as_a_path_may_be() -> None:
    path = b"/".join([b"a"] * 2000)
    tables = (MemoryTable([Entry(path, FILE, 0o644)]), MemoryTable([Entry(path, FILE, 0o600)]))
    found = Merged(tables).files
    assert len(found) == 2000
    assert found[path].entry.mode == 0o600
