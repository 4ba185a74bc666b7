"""The `unpack` step: an archive's members as a layer's changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from builder.errors import BuilderError, LayerError
from builder.layer.archive import read_archive
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, SYMLINK, Content, Entry
from builder.layer.spool import Spool
from builder.oci.digest import hasher
from builder.plan.context import Tree
from builder.plan.files import Changes, target
from builder.rootfs.accounts import resolve_owner
from builder.rootfs.view import View
from builder.spec.model import Unpack

_CHUNK = 1 << 20


def unpack(step: Unpack, tree: Tree, view: View, epoch: int) -> Changes:
    """Modes, links and xattrs as the archive has them, owners too unless the step names one; times
    are the epoch. A directory that exists gets the archive's mode and owner, as with Docker's ADD;
    the destination itself only when it is made."""
    owner = resolve_owner(step.owner, view) if step.owner else None
    changes = Changes(view, epoch, owner)
    to = target(view, step.dest)
    if to.entry is not None and to.entry.type != DIRECTORY:
        raise BuilderError(f"{step.dest!r} is a file in the image, not a directory")
    if to.entry is None:
        uid, gid = changes.owner
        changes.add(Entry(to.path, DIRECTORY, 0o755, uid, gid, epoch))
    members = _Members(tree, step.strip_components)
    where: dict[bytes, bytes] = {b"": to.path}  # archive directory -> image path
    for number, entry, digest in members.listed():
        path, new = _lands(entry, where, changes, to.path)
        if path == to.path and (not new or entry.type != DIRECTORY):
            continue
        uid, gid = owner or (entry.uid, entry.gid)
        link = entry.link
        if entry.type == HARDLINK:
            link = _lands(entry._replace(path=link, type=FILE), where, changes, to.path)[0]
            there = changes.entries.get(link)
            if there is None or there[0].type == DIRECTORY:
                raise BuilderError(
                    f"{step.source!r}: {os.fsdecode(entry.path)!r} is a hard link to"
                    f" {os.fsdecode(entry.link)!r}, which is no file of the archive"
                )
        content: Content = members.content(number, entry.size) if entry.type == FILE else None
        changes.add(
            entry._replace(path=path, uid=uid, gid=gid, mtime=epoch, link=link), content, digest
        )
    _settle_links(changes)
    changes.make_parents()
    return changes


def _lands(
    entry: Entry, where: dict[bytes, bytes], changes: Changes, base: bytes
) -> tuple[bytes, bool]:
    """The image path of a member, its parents' symlinks in the image followed; and whether it is
    not there yet or may be written over."""
    parent, _, name = entry.path.rpartition(b"/")
    if not entry.path:
        return base, base in changes.entries
    folder = where.get(parent)
    if folder is None:
        parts = parent.split(b"/")  # from the top: a path may have more parts than Python's stack
        for end in range(1, len(parts) + 1):
            above = b"/".join(parts[:end])
            if above not in where:
                where[above] = _lands(Entry(above, DIRECTORY, 0o755), where, changes, base)[0]
        folder = where[parent]
    path = folder + b"/" + name if folder else name
    view = changes.view
    planned = changes.entries.get(path)
    if planned is not None:
        if (planned[0].type == DIRECTORY) != (entry.type == DIRECTORY):
            raise BuilderError(
                f"{os.fsdecode(entry.path)!r} is a directory and something else in the archive"
            )
        if entry.type == DIRECTORY:
            where[entry.path] = path
        return path, True
    if entry.type == DIRECTORY:
        path = view.resolve(path, follow_last=True)
        where[entry.path] = path
    found = view.lookup(path)
    if found and path and (found.entry.type == DIRECTORY) != (entry.type == DIRECTORY):
        kinds = ("file", "directory") if entry.type == DIRECTORY else ("directory", "file")
        raise BuilderError(
            f"'/{os.fsdecode(path)}' is a {kinds[0]} in the image and a {kinds[1]} in the archive"
        )
    return path, True


def _settle_links(changes: Changes) -> None:
    """Hard links as a layer wants them: the first path in order is the file, the others point to
    it and repeat its metadata."""
    from builder.layer.write import sort_key

    groups: dict[bytes, list[bytes]] = {}
    for path, (entry, _, _) in changes.entries.items():
        if entry.type == HARDLINK:
            root = entry.link
            seen = {path}
            while changes.entries[root][0].type == HARDLINK:
                if root in seen:
                    raise BuilderError(f"{os.fsdecode(path)!r} is a hard link to itself")
                seen.add(root)
                root = changes.entries[root][0].link
            groups.setdefault(root, []).append(path)
    for root, paths in groups.items():
        first, *others = sorted([root, *paths], key=sort_key)
        entry, content, digest = changes.entries[root]
        changes.entries[first] = (entry._replace(path=first), content, digest)
        for path in others:
            if entry.type == SYMLINK:  # tar may link a symlink; a copy says the same
                changes.entries[path] = (entry._replace(path=path), None, b"")
            else:
                linked = entry._replace(path=path, type=HARDLINK, size=0, link=first)
                changes.entries[path] = (linked, None, b"")


class _Members:
    """An archive's members: listed once for the plan; read once more, into a spool, for the layer,
    which wants them in another order."""

    def __init__(self, tree: Tree, strip: int) -> None:
        self._path = tree.root
        self._strip = strip
        self._digests: dict[int, bytes] = {}
        self._spool: Spool | None = None

    def listed(self) -> Iterator[tuple[int, Entry, bytes]]:
        for number, entry, content in self._read():
            digest = b""
            if entry.type == FILE:
                running = hasher()
                while chunk := content.read(_CHUNK):
                    running.update(chunk)
                digest = self._digests[number] = running.digest()
            yield number, entry, digest

    def content(self, number: int, size: int) -> Content:
        def opened() -> BinaryIO:
            if self._spool is None:
                self._spool = self._fill()
            return self._spool.open(number)

        return opened

    def _fill(self) -> Spool:
        spool = Spool()
        found: dict[int, bytes] = {}
        for number, entry, content in self._read():
            if entry.type == FILE:
                running = hasher()
                spool.add(number, content, entry.size, running.update)
                found[number] = running.digest()
        if found != self._digests:
            raise LayerError(
                f"{os.fsdecode(self._path)!r} changed while it was read",
                "build again when it is at rest",
            )
        return spool

    def _read(self) -> Iterator[tuple[int, Entry, BinaryIO]]:
        try:
            # O_NONBLOCK: a FIFO that took the archive's place must not block
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(self._path, flags), "rb") as archive:
                for number, (entry, content) in enumerate(read_archive(archive)):
                    path = _stripped(entry.path, self._strip)
                    if path is None:
                        continue
                    link = entry.link
                    if entry.type == HARDLINK:
                        stripped = _stripped(link, self._strip)
                        link = stripped if stripped is not None else link
                    yield number, entry._replace(path=path, link=link), content
        except OSError as error:
            raise BuilderError(
                f"{os.fsdecode(self._path)!r} cannot be read: {error.strerror or error}"
            ) from error


def _stripped(path: bytes, count: int) -> bytes | None:
    """`path` without its first components; None when nothing is left of it."""
    if not count:
        return path
    parts = path.split(b"/") if path else []
    return b"/".join(parts[count:]) if len(parts) > count else None
