"""Packages of apk: the installed database (apk-tools, apk-package(5) and its fields F and R)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.look.packages import MAX_DATABASE, Owned, Package, Say, contents, number, text

if TYPE_CHECKING:
    from builder.look.tree import Tree

_DATABASES = (b"lib/apk/db/installed", b"usr/lib/apk/db/installed")  # one may link to the other


def read(tree: Tree, say: Say, owned: Owned | None) -> Iterator[Package]:
    there = dict.fromkeys(filter(None, map(tree.resolve, _DATABASES)))
    for path, data in contents(tree, there, say, MAX_DATABASE):
        fields: dict[bytes, bytes] = {}
        files: list[bytes] = []
        folder = b""
        for line in (*io.BytesIO(data), b"\n"):
            name, _, value = line.rstrip(b"\n").partition(b":")
            if not name:
                if b"P" in fields:
                    paths, size = owned.paths(files) if owned else (None, 0)
                    yield Package(
                        "apk",
                        text(fields[b"P"]),
                        text(fields.get(b"V")),
                        path,
                        text(fields.get(b"A")),
                        size if paths else number(fields.get(b"I")),
                        paths,
                    )
                fields, files, folder = {}, [], b""
            elif name == b"F":
                folder = value
            elif name == b"R":
                files.append(folder + b"/" + value)
            else:
                fields.setdefault(name, value)
