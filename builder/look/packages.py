"""Packages of an image, as what installed them wrote down: read, never run.

Whatever these files say is shown, not believed: a path counts where the image has it, numbers and
lengths are bounded, and of what cannot be read there is a line that says so.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from builder.layer.entry import DIRECTORY

if TYPE_CHECKING:
    from builder.look.tree import Tree

MAX_DATABASE = 64 << 20  # bytes of a text that lists packages
MAX_RECORD = 8 << 20  # bytes of what one package wrote down
_MAX_PACKAGES = 100_000  # of a kind
_SHOWN = 200  # characters of a name or a version

KINDS = ("dpkg", "apk", "rpm", "pip", "npm")
"""Each has a reader: the module of this room with its name."""


class Package(NamedTuple):
    """`kind` is one of KINDS. `files` are paths that the image has and the package put there, no
    folders, sorted; None where that is not written down. `size` is their bytes, or what the
    package says of itself. `source` is the path of the file that all this is from."""

    kind: str
    name: str
    version: str
    source: bytes
    architecture: str = ""
    size: int = 0
    files: tuple[bytes, ...] | None = None


class Packages(NamedTuple):
    found: tuple[Package, ...]  # by kind, then by name and version
    unread: tuple[str, ...] = ()
    """What is there and was not read: a line each."""

    def owners(self) -> dict[bytes, Package]:
        """Whose a path is. A system's package goes before one that came within it, as Python's do
        in Debian's."""
        found: dict[bytes, Package] = {}
        for each in self.found:
            for path in each.files or ():
                found.setdefault(path, each)
        return found


Say = Callable[[str], None]
"""Takes the lines of what was not read."""
Reader = Callable[["Tree", Say, "Owned | None"], Iterator[Package]]
"""None: files are not asked for."""


def find_packages(tree: Tree, kinds: Iterable[str] = KINDS, *, files: bool = True) -> Packages:
    """All packages of these kinds. Without `files` their files are None, which spares a read of
    the layers that have the lists. Raises CorruptBlob and TransportError, where a layer's bytes
    cannot be had."""
    unread: list[str] = []
    found: list[Package] = []
    for kind in kinds:
        read: Reader = importlib.import_module(f"builder.look.{kind}").read
        some = list(
            islice(read(tree, unread.append, Owned(tree) if files else None), _MAX_PACKAGES + 1)
        )
        if len(some) > _MAX_PACKAGES:
            unread.append(f"more than {_MAX_PACKAGES} packages of {kind}: the others were not read")
        found += sorted(some[:_MAX_PACKAGES], key=lambda each: (each.name, each.version))
    return Packages(tuple(found), tuple(dict.fromkeys(unread)))


def text(data: bytes | None) -> str:
    """A field as text of one line, cut where it is longer than any name."""
    return (data or b"").decode("utf-8", "replace").strip()[:_SHOWN]


def shown(path: bytes) -> str:
    return "/" + path.decode("utf-8", "backslashreplace")


def number(data: bytes | None) -> int:
    """0 where it is none, or none that a size could be."""
    field = (data or b"").strip()
    return int(field) if field.isdigit() and len(field) < 16 else 0


def stanzas(data: bytes) -> Iterator[dict[bytes, bytes]]:
    """Paragraphs of `Name: value` lines: of a field its first line, by its name in lower case."""
    fields: dict[bytes, bytes] = {}
    for line in io.BytesIO(data):
        if line.isspace():
            if fields:
                yield fields
            fields = {}
        elif line[:1] not in b" \t":
            name, colon, value = line.partition(b":")
            if colon:
                fields.setdefault(name.strip().lower(), value.strip())
    if fields:
        yield fields


class Owned:
    """Tells of paths as packages write them which the image has. One that several packages name is
    the first's."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._folders: dict[bytes, bytes | None] = {}
        self._taken: set[bytes] = set()

    def paths(self, written: Iterable[bytes]) -> tuple[tuple[bytes, ...], int]:
        """Those that are no folders, sorted, and their bytes. Symlinks above them are followed:
        `/bin/ls` may be `/usr/bin/ls`."""
        found: dict[bytes, int] = {}
        files, taken = self._tree.files, self._taken
        paths = [each.strip(b"/") for each in written]
        folders = {each.rpartition(b"/")[0] for each in paths}
        for at in paths:
            if at in folders:
                continue  # also where the image has a symlink to a folder
            here = files.get(at)
            if here is None:
                folder, _, name = at.rpartition(b"/")
                resolved = self._resolved(folder)
                if resolved is None:
                    continue
                at = resolved + b"/" + name if resolved else name
                here = files.get(at)
            if here is not None and here.entry.type != DIRECTORY and at not in taken:
                found[at] = here.entry.size
                taken.add(at)
        return tuple(sorted(found)), sum(found.values())

    def _resolved(self, folder: bytes) -> bytes | None:
        if folder not in self._folders:
            self._folders[folder] = self._tree.resolve(folder) if folder else b""
        return self._folders[folder]


def contents(
    tree: Tree, paths: Iterable[bytes], say: Say, limit: int = MAX_RECORD
) -> Iterator[tuple[bytes, bytes]]:
    """The bytes of files, symlinks followed, with the paths that were asked for; those that are
    not there are left out."""
    meant: dict[bytes, list[bytes]] = {}
    for path in paths:
        resolved = tree.resolve(path)
        if resolved is not None:
            meant.setdefault(resolved, []).append(path)
    for path, data in tree.read(meant, limit):
        if data is None:
            say(f"{shown(path)} has more than {limit >> 20} MiB and was not read")
            continue
        for each in meant[path]:
            yield each, data
