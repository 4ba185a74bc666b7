"""What one layer's paths add up to: whiteouts apart, folders implied; or refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator

from builder.errors import LayerError
from builder.layer.entry import DIRECTORY, HARDLINK, OPAQUE, WHITEOUT, Entry
from builder.layer.record import SEPARATOR, Folders, key_of, pack, path_of, shown, unpack
from builder.layer.sorter import Sorter

MAX_LINKS = 40  # hard links to hard links followed


class Sides:
    """Collects what stands beside the records while a layer's entries pass: first in the order they
    come (`take`), then sorted by key, each path once (`sorted`)."""

    def __init__(self) -> None:
        self.whiteouts: set[bytes] = set()
        self.opaque: set[bytes] = set()
        self.implied: set[bytes] = set()  # folders that have no entry of their own; see `finish`
        self._parents: set[bytes] = set()  # keys of folders around whiteouts: they exist here
        self._folders = Folders()
        self._root = False

    def take(self, path: bytes) -> bool:
        """Whether `path` is a whiteout; then it is noted here and is no entry."""
        folder, _, name = path.rpartition(b"/")
        if not name.startswith(WHITEOUT):
            return False
        if name == OPAQUE:
            self.opaque.add(folder)
        else:
            name = name[len(WHITEOUT) :]
            self.whiteouts.add(folder + b"/" + name if folder else name)
        for each in (folder, *ancestors(folder)):
            key = key_of(each)
            if key in self._parents:
                break
            self._parents.add(key)
        return True

    def sorted(self, key: bytes, type_: str) -> None:
        """Raises LayerError for an entry, or a whiteout, below something that is no folder."""
        for folder in self._folders.enter(key, type_):
            self.implied.add(path_of(folder))
        if not key:
            self._root = True
        elif key in self._parents:
            self._parents.discard(key)
            if type_ != DIRECTORY:
                raise LayerError(
                    f"a whiteout lies below {shown(key)}, "
                    "which is not a directory in the same layer"
                )

    def finish(self) -> None:
        """After the last of the sorted ones."""
        self.implied.update(path_of(key) for key in self._parents if key)
        if not self._root:
            self.implied.add(b"")


def ancestors(path: bytes) -> Iterator[bytes]:
    """Proper ancestors from the nearest to the root b""."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def follow(entry: Entry, get: Callable[[bytes], Entry | None]) -> Entry:
    """What a hard link shares, under the link's path."""
    target = get(entry.link)
    if target is None:
        link, name = os.fsdecode(entry.path), os.fsdecode(entry.link)
        raise LayerError(f"hard link {link!r} points at {name!r}, which is missing")
    return target._replace(path=entry.path)


def link_item(path: bytes, target: bytes) -> bytes:
    """A hard link, for `check_links`; for `outlived` with its number behind it."""
    return key_of(target) + SEPARATOR + key_of(path)


def outlived(links: Sorter, entries: Sorter) -> dict[bytes, bytes]:
    """Records of the hard links whose target a later entry replaced: what it was when they came, as
    tar and the engines make them. `entries` are keys, numbers of 8 bytes that count down, and
    records; so are the names of what is given, which are keys and numbers."""
    found: dict[bytes, bytes] = {}
    todo: Iterable[tuple[bytes, bytes, bytes]] = map(_numbered, links)
    for _ in range(MAX_LINKS + 1):
        versions: list[tuple[bytes, bytes]] = []  # of one path, the last first
        of: bytes | None = None
        rows = iter(entries)
        row = next(rows, None)
        further = []
        for target, name, number in todo:
            if target != of:
                of, versions = target, []
                while row is not None:
                    key, _, rest = row.partition(SEPARATOR)
                    if key > target:
                        break
                    if key == target:
                        versions.append((rest[:8], rest[8:]))
                    row = next(rows, None)
            at = next((n for n, each in enumerate(versions) if each[0] > number), 0)
            if at == 0 and name not in found:
                continue  # it is what its target is in the end, or what check_links refuses
            before, record = versions[at] if versions else (b"", b"")
            entry = unpack(record)[0] if record else None
            if entry is None or entry.type == DIRECTORY:
                raise _no_file(name[:-8], target)
            found[name] = pack(entry._replace(path=path_of(name[:-8])))
            if entry.type == HARDLINK:
                further.append((key_of(entry.link), name, before))
        if not further:
            return found
        todo = sorted(further)
    raise _no_file(name[:-8], target)


def _numbered(item: bytes) -> tuple[bytes, bytes, bytes]:
    """A hard link's target, its name with its number, and that alone."""
    target, _, rest = item.partition(SEPARATOR)
    return target, rest[:-10] + rest[-8:], rest[-8:]


def check_links(
    links: Sorter,
    entries: Callable[[], Iterable[tuple[bytes, str, bytes]]],
    but: Collection[bytes] = (),
) -> None:
    """Refuse hard links to folders and to files of other layers, as Docker and containerd do.
    `entries` gives key, type and link of every path, sorted; each time it is called anew. `but`:
    links that are no longer looked at (`outlived`)."""
    for _ in range(MAX_LINKS + 1):
        found = iter(entries())
        here: tuple[bytes, str, bytes] | None = (b"", DIRECTORY, b"")
        further = links.like()  # those that point at other hard links, with what those point at
        for item in links:
            target, _, rest = item.partition(SEPARATOR)
            name, _, number = rest.partition(SEPARATOR)
            if name + number in but:
                continue
            while here and here[0] < target:
                here = next(found, None)
            if not here or here[0] != target or here[1] == DIRECTORY:
                raise _no_file(name, target)
            if here[1] == HARDLINK:
                further.add(link_item(path_of(name), here[2]))
        links.close()
        links = further
        if not links:
            return
    raise _no_file(name, target)


def _no_file(name: bytes, target: bytes) -> LayerError:
    return LayerError(
        f"hard link {shown(name)} points at {shown(target)}, which is no file of the same layer"
    )
