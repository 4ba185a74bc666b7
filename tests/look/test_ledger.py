"""A ledger holds what the merged tree holds; each byte that a layer wrote is seen or wasted."""

from __future__ import annotations

import random
from pathlib import Path

from builder.errors import LayerError
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, OPAQUE, SYMLINK, WHITEOUT, Entry
from builder.look.ledger import How, Ledger, Node, ledger_of
from builder.look.tree import Merged
from builder.rootfs.reading import PathTable
from builder.rootfs.table import make_table
from builder.store.store import Store
from tests.look.test_tree import ROUNDS


def random_entries(chosen: random.Random) -> list[Entry]:
    found: dict[bytes, Entry] = {}
    for _ in range(chosen.randrange(1, 12)):
        parts = [chosen.choice((b"a", b"b", b"c")) for _ in range(chosen.randrange(1, 5))]
        kind = chosen.randrange(8)
        if kind < 2:
            parts[-1] = (OPAQUE, WHITEOUT + parts[-1])[kind]
        path = b"/".join(parts)
        if kind < 2:
            found[path] = Entry(path, FILE, 0o600)
        elif kind < 4:
            found[path] = Entry(path, DIRECTORY, 0o755)
        elif kind == 4:
            found[path] = Entry(path, SYMLINK, 0o777, link=b"a")
        elif kind == 5 and found:
            found[path] = Entry(path, HARDLINK, 0o644, link=chosen.choice(list(found)))
        else:
            found[path] = Entry(path, FILE, 0o644, size=chosen.randrange(1, 5))
    return list(found.values())


def paths(found: Ledger) -> dict[bytes, Node]:
    listed: dict[bytes, Node] = {}
    waiting = list(found.root.children.items())
    while waiting:
        path, node = waiting.pop()
        listed[path] = node
        waiting += [(path + b"/" + name, each) for name, each in node.children.items()]
    return listed


def test_it_holds_what_is_seen_and_counts_each_byte_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), print)
    wasted = 0
    for seed in range(ROUNDS):
        chosen = random.Random(seed)
        tables: list[PathTable] = []
        while len(tables) < 4:
            diff_id = f"sha256:{seed * 1000 + len(tables):064x}"
            try:
                tables.append(make_table(store, diff_id, random_entries(chosen), {}))
            except LayerError:
                continue  # what no layer can be
        found = ledger_of(tables, lambda index, path: None)
        listed = paths(found)
        seen = Merged(tables).files
        assert listed.keys() == seen.keys(), seed
        for path, node in listed.items():
            truth = seen[path]
            assert node.entry.type == truth.entry.type, (seed, path)
            assert truth.entry.type == DIRECTORY or node.layer == truth.table, (seed, path)
        standing = sum(node.size for node in listed.values())
        waste = sum(each.size for each in found.waste)
        assert sum(found.written) == standing + waste, seed
        assert all(each.written < each.hidden for each in found.waste), seed
        wasted += waste
    assert wasted > ROUNDS


def test_the_same_bytes_again_are_attributes(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), print)
    files = [
        make_table(store, f"sha256:{n:064x}", [Entry(b"a", FILE, 0o600 + n, size=3)], {})
        for n in range(3)
    ]
    found = ledger_of(files, lambda index, path: (b"x", b"x", b"y")[index])
    assert [(each.written, each.how) for each in found.waste] == [
        (0, How.ATTRIBUTES),
        (1, How.WRITTEN_AGAIN),
    ]
