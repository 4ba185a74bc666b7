"""Unpacking: an archive's members as a layer's changes."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from builder.errors import BuilderError, LayerError
from builder.layer.archive import read_archive
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, SYMLINK, Content, Entry
from builder.layer.read import Limits, room
from builder.layer.record import pack
from builder.layer.record import unpack as unpack_record
from builder.layer.sorter import Listing
from builder.layer.spool import Spool
from builder.layer.tree import Tree as Members
from builder.oci.digest import hasher
from builder.plan.changes import Changes, Draft, Ground, plain
from builder.plan.spilled import Row
from builder.rootfs.accounts import is_account_file, resolve_owner
from builder.rootfs.view import View
from builder.steps.target import target

if TYPE_CHECKING:
    from builder.steps.download import Download
    from builder.steps.git import Git
    from builder.steps.unpack import Unpack

_CHUNK = 1 << 20
_MANY = 100_000  # entries at most that are held in memory
_MORE = struct.Struct("<QQ32s")  # where a file's bytes are in all files', their size and digest
NOTHING = _MORE.pack(0, 0, hasher().digest())
"""Of an empty file."""


class Archive(NamedTuple):
    """Where members come from."""

    open: Callable[[], BinaryIO]
    """Its bytes, seekable. Raises OSError."""
    name: str  # as errors have it
    strip: int = 0  # how many leading folders of each path are left out
    left_out: Callable[..., bool] | None = None  # (path, is_dir=...): what does not count
    members: Callable[[BinaryIO, Limits], Iterator[tuple[Entry, BinaryIO]]] = read_archive


def unpack(
    step: Unpack | Download | Git,
    archives: Sequence[Archive],
    ground: Ground,
    *,
    keep_times: bool = False,
) -> Changes:
    """Modes, links and xattrs as the archives have them, owners too unless the step names one;
    times are the clock's unless they are kept. Several are as one that holds them in order. A
    directory that exists gets the archive's mode and owner, as with Docker's ADD; the destination
    itself only when it is made."""
    view, time = ground.view, ground.time
    owner = resolve_owner(step.owner, view) if step.owner else None
    to = target(view, step.dest)
    if to.entry is not None and to.entry.type != DIRECTORY:
        raise BuilderError(f"{step.dest!r} is a file in the image, not a directory")
    draft = Draft(ground, owner)
    landing = _Landing(view, to.path)
    if to.entry is None:
        uid, gid = draft.owner
        draft.add(Entry(to.path, DIRECTORY, 0o755, uid, gid, time))
        draft.make_parents()
        landing.folders.add(to.path)
    # tar may link a symlink; a copy says the same
    members = Members(copied=SYMLINK, mixed=False)
    for made, _, _ in draft.entries.values():
        members.add(made)
    contents = Contents(archives)
    for entry, more in contents.listed():
        is_directory = entry.type == DIRECTORY
        path = landing.path_of(entry.path, directory=is_directory)
        if not entry.path and not (is_directory and path in landing.folders):
            continue
        if is_directory:
            landing.folders.add(path)
        link = entry.link
        if entry.type == HARDLINK:
            link = landing.path_of(link, directory=False)
        uid, gid = owner or (entry.uid, entry.gid)
        members.add(
            entry._replace(
                path=path, uid=uid, gid=gid, mtime=entry.mtime if keep_times else time, link=link
            ),
            more,
        )

    def parent(path: bytes) -> Entry | None:
        """As Draft.make_parents."""
        found = view.lookup(path)
        if found is None:
            return Entry(path, DIRECTORY, 0o755, *draft.owner, time)
        if found.entry.type != DIRECTORY:
            raise BuilderError(
                f"'/{os.fsdecode(path)}' is not a directory in the image, so nothing can"
                " stand below it"
            )
        return None if plain(found.entry) else found.entry._replace(path=path, mtime=time)

    return changes_of(lambda: members.entries(parent), contents)


def changes_of(rows: Callable[[], Iterator[tuple[Entry, bytes]]], contents: Contents) -> Changes:
    """`rows` gives a layer's entries in its order, each with what `contents` knows of its bytes, as
    often as it is called."""
    found: list[Row] = []
    for entry, more in rows():
        content: Content = None
        digest = b""
        if entry.type == FILE:
            offset, size, digest = _MORE.unpack(more)
            content = partial(contents.open, offset, size)
        found.append((entry, content, digest))
        if len(found) > _MANY:
            listed = _Listed(rows(), contents)
            return Changes(listed, accounts=listed.accounts)
    return Changes(found, accounts=any(is_account_file(entry.path) for entry, _, _ in found))


class _Listed:
    """Rows that are read from disk, being more than memory should hold."""

    def __init__(self, entries: Iterator[tuple[Entry, bytes]], contents: Contents) -> None:
        """`entries` in the order of a layer, each FILE with its _MORE."""
        self._contents = contents
        self._count = 0
        self.accounts = False  # a file of users or groups is among them
        self._listed = Listing(self._records(entries))

    def _records(self, entries: Iterator[tuple[Entry, bytes]]) -> Iterator[bytes]:
        for entry, more in entries:
            self._count += 1
            self.accounts = self.accounts or is_account_file(entry.path)
            yield pack(entry) + more

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        for record in self._listed:
            entry, end = unpack_record(record)
            if entry.type == FILE:
                offset, size, digest = _MORE.unpack_from(record, end)
                yield entry, partial(self._contents.open, offset, size), digest
            else:
                yield entry, None, b""


class _Landing:
    """Where an archive's members land in the image, symlinks of the image followed."""

    def __init__(self, view: View, base: bytes) -> None:
        self._view = view
        self._where: dict[bytes, bytes] = {b"": base}  # archive directory -> image path
        self.folders: set[bytes] = set()  # image paths that the step makes directories

    def path_of(self, name: bytes, *, directory: bool) -> bytes:
        """The image path of a member. Raises BuilderError where the image, or the archive before
        it, has a directory there and the member is none, or the other way around."""
        if not name:
            return self._where[b""]
        parent, _, last = name.rpartition(b"/")
        folder = self._where.get(parent)
        if folder is None:
            parts = parent.split(b"/")  # from the top: it may have more parts than Python's stack
            for end in range(1, len(parts) + 1):
                above = b"/".join(parts[:end])
                if above not in self._where:
                    self.path_of(above, directory=True)
            folder = self._where[parent]
        path = folder + b"/" + last if folder else last
        if path in self.folders:
            if not directory:
                raise BuilderError(
                    f"{os.fsdecode(name)!r} is a directory and something else in the archive"
                )
            self._where[name] = path
            return path
        if directory:
            path = self._where[name] = self._view.resolve(path, follow_last=True)
        found = self._view.lookup(path)
        if found and path and (found.entry.type == DIRECTORY) != directory:
            kinds = ("file", "directory") if directory else ("directory", "file")
            raise BuilderError(
                f"'/{os.fsdecode(path)}' is a {kinds[0]} in the image and a {kinds[1]} in the"
                " archive"
            )
        return path


class Contents:
    """The members of archives, one after the other: listed once for the plan; read once more, into
    a spool, for the layer, which wants them in another order."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        self._archives = archives
        self._digests: list[bytes] = []  # of all files' digests, by archive
        self._spool: Spool | None = None

    def listed(self) -> Iterator[tuple[Entry, bytes]]:
        """Entries, each with what is known of its bytes."""
        nothing = hasher().digest()
        offset = 0
        self._digests = []
        for archive in self._archives:
            digests = hasher()
            for entry, content in _read(archive):
                digest = nothing
                if entry.size:
                    running = hasher()
                    while chunk := content.read(_CHUNK):
                        running.update(chunk)
                    digest = running.digest()
                digests.update(digest)
                yield entry, _MORE.pack(offset, entry.size, digest)
                offset += entry.size
            self._digests.append(digests.digest())

    def content(self, offset: int, size: int) -> Content:
        if not size:
            return b""
        if self._spool is None:
            self._spool = self._fill()
        return self._spool.content(offset, size)

    def open(self, offset: int, size: int) -> BinaryIO:
        content = self.content(offset, size)
        return content() if callable(content) else io.BytesIO(cast(bytes, content))

    def _fill(self) -> Spool:
        spool = Spool()
        for archive, known in zip(self._archives, self._digests, strict=True):
            digests = hasher()
            for entry, content in _read(archive):
                running = hasher()
                if entry.size:
                    spool.add(content, entry.size, running.update)
                digests.update(running.digest())
            if digests.digest() != known:
                raise LayerError(
                    f"{archive.name!r} changed while it was read",
                    "build again when it is at rest",
                )
        return spool


def _read(archive: Archive) -> Iterator[tuple[Entry, BinaryIO]]:
    from tempfile import gettempdir

    _, name, strip, left_out, members = archive
    try:
        with archive.open() as file:
            for entry, content in members(file, room(gettempdir())):
                if strip:
                    path = _stripped(entry.path, strip)
                    if path is None:
                        continue
                    link = entry.link
                    if entry.type == HARDLINK:
                        stripped = _stripped(link, strip)
                        link = stripped if stripped is not None else link
                    entry = entry._replace(path=path, link=link)
                if left_out and left_out(entry.path, is_dir=entry.type == DIRECTORY):
                    continue
                yield entry, content
    except OSError as error:
        raise BuilderError(f"{name!r} cannot be read: {error.strerror or error}") from error


def _stripped(path: bytes, count: int) -> bytes | None:
    """`path` without its first components; None when nothing is left of it."""
    parts = path.split(b"/") if path else []
    return b"/".join(parts[count:]) if len(parts) > count else None
