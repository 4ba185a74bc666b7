"""Links of an archive that its own later members are written through: after `a -> b`, a member
`a/x` lands at `b/x`, as tar and the engines extract it. Nothing is looked up but the archive's own
names, so nothing outside of its root can be meant."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from builder.errors import LayerError
from builder.layer.entry import HARDLINK, MAX_PATH, SYMLINK, Entry

MAX_LINKS = 40  # followed for one name, as in the kernel
_HELD = 32 << 20  # bytes of memory for links; of those that come later it is known where they are
_OVERHEAD = 250  # bytes a link takes besides its texts


def placed(
    members: Iterable[tuple[Entry, BinaryIO]], *, rooted: bool
) -> Iterator[tuple[Entry, BinaryIO]]:
    """The members, each where extracting the archive puts it. See Links."""
    links = Links(rooted=rooted)
    for entry, content in members:
        if links.any or entry[1] == SYMLINK:
            entry = links.place(entry)
        yield entry, content


class Links:
    """Goes along with an archive's members in their order. `rooted`: the archive's root is the
    image's, so that absolute links, and those that climb above the root, are known to stay in it;
    others are not followed."""

    def __init__(self, *, rooted: bool) -> None:
        self._rooted = rooted
        self._links: dict[bytes, bytes] = {}
        self.any = False
        self._held = 0
        self._others: set[int] = set()  # hashes of the paths of links that are not held
        self._folders: dict[bytes, bytes] = {}  # where they really are, as asked before

    def place(self, entry: Entry) -> Entry:
        """The entry with the path, and the hard link's target, where extracting puts them."""
        path, type_ = entry[0], entry[1]
        links = self._links
        if links:
            moved = self._moved(path)
            if moved != path:
                entry = entry._replace(path=moved)
                path = moved
            if type_ == HARDLINK:
                target = self._moved(entry.link)
                if target != entry.link:
                    entry = entry._replace(link=target)
            if path in links and links.pop(path):  # replaced
                self._folders.clear()
            if self._others:
                self._others.discard(hash(path))
        if type_ == SYMLINK:
            if self._held < _HELD:
                links[path] = entry.link
                self.any = True
                self._held += len(path) + len(entry.link) + _OVERHEAD
            else:
                self._others.add(hash(path))
            self._folders.clear()
        return entry

    def _moved(self, path: bytes) -> bytes:
        folder, slash, name = path.rpartition(b"/")
        if not slash:
            return path
        found = self._folders.get(folder)
        if found is None:
            if len(self._folders) > 1000:
                self._folders.clear()
            found = self._folders[folder] = self._follow(folder)
        moved = found + slash + name if found else name
        if len(moved) > MAX_PATH:
            raise LayerError(f"{os.fsdecode(path[:100])!r}: the way through symlinks is too long")
        return moved

    def _follow(self, folder: bytes) -> bytes:
        todo = folder.split(b"/")[::-1]
        done: list[bytes] = []
        followed = 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if not done and not self._rooted:
                    return folder
                del done[-1:]
                continue
            done.append(part)
            path = b"/".join(done)
            link = self._links.get(path)
            if link is None:
                if self._others and hash(path) in self._others:
                    raise LayerError(
                        f"{os.fsdecode(folder[:100])!r} runs through the symlink"
                        f" {os.fsdecode(path[:100])!r}, which comes behind more of them than are"
                        " followed in an archive",
                        "pack what lies below the symlink by its real path",
                    )
                continue
            followed += 1
            if followed > MAX_LINKS:
                raise LayerError(
                    f"{os.fsdecode(folder)!r} runs through more than {MAX_LINKS} symlinks"
                )
            done.pop()
            if link.startswith(b"/"):
                if not self._rooted:
                    return folder
                done.clear()
            todo.extend(link.split(b"/")[::-1])
        return b"/".join(done)
