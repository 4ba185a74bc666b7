"""Packages of Node: what lies in a `node_modules` with a `package.json`, whatever put it there. Not
what a lock file lists: that says what was to be installed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.look.packages import Owned, Package, Say, contents, text

if TYPE_CHECKING:
    from builder.look.tree import Tree

_FOLDER = re.compile(rb"(?:.*/)?node_modules/(?:@[^/]+/)?[^/@.][^/]*", re.DOTALL)
"""A package's, at the start of a path: the innermost, as the first part takes all it can."""
_JSON = b"/package.json"


def read(tree: Tree, say: Say, owned: Owned | None) -> Iterator[Package]:
    below: dict[bytes, list[bytes]] = {}  # by a package's folder what lies there, of no other's
    for path in tree.files:
        if b"node_modules/" in path and (match := _FOLDER.match(path)):
            below.setdefault(match[0], []).append(path)
    for path, data in contents(tree, [each + _JSON for each in below], say):
        name, version = _told(data)
        if name and version:
            of = below[path.removesuffix(_JSON)]
            files, size = owned.paths(of) if owned else (None, 0)
            yield Package("npm", name, version, path, "", size, files)


def _told(data: bytes) -> tuple[str, str]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(document, dict):
        return "", ""
    name, version = document.get("name"), document.get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        return "", ""
    return text(name.encode("utf-8", "replace")), text(version.encode("utf-8", "replace"))
