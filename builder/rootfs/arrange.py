"""What one layer's paths add up to: whiteouts apart, folders implied; or refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from builder.errors import LayerError
from builder.layer.entry import DIRECTORY, HARDLINK, OPAQUE, WHITEOUT, Entry
from builder.layer.record import SEPARATOR, Folders, key_of, path_of, shown
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
    """A hard link, for `check_links`."""
    return key_of(target) + SEPARATOR + key_of(path)


def check_links(links: Sorter, entries: Callable[[], Iterable[tuple[bytes, str, bytes]]]) -> None:
    """Refuse hard links to folders and to files of other layers, as Docker and containerd do.
    `entries` gives key, type and link of every path, sorted; each time it is called anew."""
    for _ in range(MAX_LINKS + 1):
        found = iter(entries())
        here: tuple[bytes, str, bytes] | None = (b"", DIRECTORY, b"")
        further = links.like()  # those that point at other hard links, with what those point at
        for item in links:
            target, _, name = item.partition(SEPARATOR)
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
