"""The tree that extracting an archive makes, in a layer's order: each path once, the last that
came; of hard-linked paths the first is the file; parents that did not come are added.

Members wait in a Sorter, so memory does not grow with them; it does with hard links, about 0.3 kB
each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator

from builder.errors import LayerError
from builder.layer.entry import DIRECTORY, HARDLINK, Entry
from builder.layer.record import SEPARATOR, TYPE_AT, Folders, key_of, pack, path_of, shown, unpack
from builder.layer.sorter import Sorter

_LAST = (1 << 64) - 1
_DIRECTORY = ord(DIRECTORY)

Parent = Callable[[bytes], Entry | None]
"""The entry of a folder that did not come but has something below it; None: it needs none."""


class Tree:
    """Takes an archive's members in their order, then gives the tree, several times if need be.
    Close it."""

    def __init__(
        self,
        folder: str | None = None,
        *,
        keep: Callable[[bytes], bool] | None = None,
        copied: str = "",
        mixed: bool = True,
    ) -> None:
        """`folder`: where members wait that do not fit in memory. Paths for which `keep` is false
        are left out. Hard links to the types `copied` become copies. `mixed`: a path may be a
        folder and something else, the last counts."""
        self._sorter = Sorter(folder)
        self._keep, self._copied, self._mixed = keep, copied, mixed
        self._next = _LAST  # counts down: the last of several with one path comes first
        # Path -> when and to what it was linked, as one value, since there may be a million; of
        # those that are hard links at the last.
        self._links: dict[bytes, bytes] = {}
        # Path -> record and more of what it shares, and the first path of that.
        self._shared: dict[bytes, tuple[bytes, bytes]] | None = None

    def add(self, entry: Entry, more: bytes = b"") -> None:
        """`more` comes back with the entry, and with every path that shares it."""
        path = entry[0]
        when = self._next.to_bytes(8, "big")
        if entry[1] == HARDLINK:
            self._links[path] = self._links.get(entry[7]) or when + entry[7]
        elif self._links:
            self._links.pop(path, None)
        key = path.replace(b"/", b"\0")
        self._sorter.add(key + SEPARATOR + when + pack(entry) + more)
        self._next -= 1

    def entries(self, parent: Parent) -> Iterator[tuple[Entry, bytes]]:
        """Raises LayerError for a hard link to no file before it, for what lies below something
        that is no folder, and where it is not `mixed`."""
        if self._shared is None:
            self._shared = self._settle() if self._links else {}
        shared, keep = self._shared, self._keep
        enter = Folders().enter
        previous = None
        type_ = 0
        for item in self._sorter:
            key, _, rest = item.partition(SEPARATOR)
            if key == previous:
                if not self._mixed and (rest[8 + TYPE_AT] == _DIRECTORY) != (type_ == _DIRECTORY):
                    raise LayerError(f"{shown(key)} is a directory and something else")
                continue
            previous, type_ = key, rest[8 + TYPE_AT]
            entry, end = unpack(rest, 8)
            path = entry[0]
            if keep and not keep(path):
                continue
            more = rest[end:]
            if path in shared:
                record, first = shared[path]
                entry, end = unpack(record)
                more = record[end:]
                if path == first or entry[1] in self._copied:
                    entry = entry._replace(path=path)
                else:
                    entry = entry._replace(path=path, type=HARDLINK, size=0, link=first)
            for folder in enter(key, entry[1]):
                above = parent(path_of(folder))
                if above:
                    yield above, b""
            yield entry, more

    def _settle(self) -> dict[bytes, tuple[bytes, bytes]]:
        """What every path shares that is a hard link or has one: what the other path was then."""
        wanted: dict[bytes, list[bytes]] = {}  # by the target's key: link, path, link, path ...
        for path, link in self._links.items():
            wanted.setdefault(key_of(link[8:]), []).extend((link, path))
        self._links = {}
        shared: dict[bytes, tuple[bytes, bytes]] = {}
        came: list[bytes] = []  # to one path, the last first
        current = b""
        for item in self._sorter:
            key, _, rest = item.partition(SEPARATOR)
            if key not in wanted:
                continue
            if came and key != current:
                self._share(current, came, wanted.pop(current), shared)
                came = []
            current = key
            came.append(rest)
        if came:
            self._share(current, came, wanted.pop(current), shared)
        for key, links in wanted.items():
            raise _nothing(links[1], key)
        return shared

    def _share(
        self,
        key: bytes,
        came: list[bytes],
        links: list[bytes],
        shared: dict[bytes, tuple[bytes, bytes]],
    ) -> None:
        groups: dict[int, list[bytes]] = {}  # by what of `came` they share
        times = [rest[:8] for rest in came]
        for link, path in zip(links[::2], links[1::2], strict=True):
            at = bisect_right(times, link[:8])
            if at == len(came) or came[at][8 + TYPE_AT] == _DIRECTORY:
                raise _nothing(path, key)
            groups.setdefault(at, []).append(path)
        if 0 in groups:
            groups[0].append(path_of(key))  # it is that still
        for at, paths in groups.items():
            if self._keep:
                paths = [path for path in paths if self._keep(path)]
            first = min(paths, key=key_of, default=b"")
            what = (came[at][8:], first)
            for path in paths:
                shared[path] = what

    def close(self) -> None:
        self._sorter.close()


def _nothing(path: bytes, key: bytes) -> LayerError:
    return LayerError(f"hard link {shown(key_of(path))}: no {shown(key)} before it")
