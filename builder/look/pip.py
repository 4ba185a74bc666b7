"""Packages of Python, whatever installed them: `*.dist-info` (PyPA's core metadata and recording
installed projects) and `*.egg-info`, a folder or a file."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.look.packages import Owned, Package, Say, contents, stanzas, text

if TYPE_CHECKING:
    from builder.look.tree import Tree

_RECORDS = {b"METADATA": b"RECORD", b"PKG-INFO": b"installed-files.txt"}


def read(tree: Tree, say: Say, owned: Owned | None) -> Iterator[Package]:
    found: dict[bytes, Package] = {}  # by what lists its files
    for path, data in contents(tree, list(_metadata(tree)), say):
        folder, _, name = path.rpartition(b"/")
        # only what stands before the first empty line: a description follows
        fields = next(stanzas(data), {})
        if b"name" in fields and b"version" in fields:
            record = _RECORDS.get(name)
            of = folder + b"/" + record if record else path
            found[of] = Package("pip", text(fields[b"name"]), text(fields[b"version"]), path)
    lists = [each for each in found if found[each].source != each]
    for path, data in contents(tree, lists, say) if owned else ():
        assert owned
        files, size = owned.paths(_paths(path, data))
        yield found.pop(path)._replace(files=files, size=size)
    yield from found.values()


def _metadata(tree: Tree) -> Iterator[bytes]:
    for path in tree.files:
        if path.endswith((b".dist-info/METADATA", b".egg-info/PKG-INFO", b".egg-info")):
            yield path


def _paths(record: bytes, data: bytes) -> Iterator[bytes]:
    """What a RECORD lists is relative to the folder around the dist-info, or absolute; what an
    installed-files.txt lists, to the egg-info."""
    folder = posixpath.dirname(record)
    lines = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")
    if record.endswith(b"/RECORD"):
        folder = posixpath.dirname(folder)
        written = _first_column(lines)
    else:
        written = (line.rstrip("\r\n") for line in lines)
    for each in written:
        path = posixpath.normpath(
            b"/" + posixpath.join(folder, each.encode("utf-8", "surrogateescape"))
        )
        yield path.lstrip(b"/")


def _first_column(lines: io.StringIO) -> Iterator[str]:
    try:
        for row in csv.reader(lines):
            if row and row[0]:
                yield row[0]
    except csv.Error:
        return  # what came before it counts
