"""Packages of dpkg: `var/lib/dpkg/status`, and a file each in `status.d`, as distroless images have
them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.look.packages import (
    MAX_DATABASE,
    Owned,
    Package,
    Say,
    contents,
    number,
    stanzas,
    text,
)

if TYPE_CHECKING:
    from builder.look.tree import Tree

_STATUS = b"var/lib/dpkg/status"
_INFO = b"var/lib/dpkg/info/"
_FOLDER = b"var/lib/dpkg/status.d"
_SUMS = b".md5sums"
_HERE = (b"installed", b"unpacked", b"half-configured", b"triggers-awaited", b"triggers-pending")
"""States in which a package's files are there (dpkg(1), Package states)."""


def read(tree: Tree, say: Say, owned: Owned | None) -> Iterator[Package]:
    found: dict[bytes, Package] = {}  # by what lists its files
    for path, data in contents(tree, [_STATUS], say, MAX_DATABASE):
        for fields in stanzas(data):
            if fields.get(b"status", b"").split(b" ")[-1] in _HERE and b"package" in fields:
                names = [
                    _INFO + fields[b"package"] + of + b".list"
                    for of in (b":" + fields.get(b"architecture", b""), b"")
                ]
                name = next((each for each in names if each in tree.files), names[1])
                found.setdefault(name, _package(path, fields))
    for path, data in contents(tree, tree.below(_FOLDER), say):
        if not path.endswith(_SUMS):
            for fields in stanzas(data):
                if b"package" in fields:
                    found.setdefault(path + _SUMS, _package(path, fields))
    for name, data in contents(tree, found, say) if owned else ():
        package = found.pop(name, None)
        if owned and package:
            files, size = owned.paths(_paths(data, sums=name.endswith(_SUMS)))
            yield package._replace(files=files, size=size)
    yield from found.values()


def _package(source: bytes, fields: dict[bytes, bytes]) -> Package:
    return Package(
        "dpkg",
        text(fields[b"package"]),
        text(fields.get(b"version")),
        source,
        text(fields.get(b"architecture")),
        number(fields.get(b"installed-size")) << 10,
    )


def _paths(data: bytes, *, sums: bool) -> Iterator[bytes]:
    for line in io.BytesIO(data):
        yield (line.partition(b"  ")[2] if sums else line).rstrip(b"\n")
