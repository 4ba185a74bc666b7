"""Placing: where in the image that lands which a `copy` takes, told from context and view below.

Nothing is written here, and no file is read but for its digest.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from builder.errors import BuilderError
from builder.layer.beneath import Beneath
from builder.layer.entry import (
    DIRECTORY,
    FIFO,
    FILE,
    SYMLINK,
    WHITEOUT,
    Entry,
    HostFile,
)
from builder.plan.changes import Changes, Draft, Unread, reserved
from builder.plan.clock import content_time
from builder.plan.known import UNKNOWN, Pieces, split
from builder.plan.materials import Materials
from builder.plan.modes import apply_mode
from builder.plan.nodes import Node, Tree
from builder.plan.spilled import Row
from builder.rootfs.accounts import resolve_owner
from builder.steps.copy import Copy
from builder.steps.target import target

NO_DEVICE = (0, 0)
_MANY = 60_000  # entries at most that are held in memory
TYPES = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK, stat.S_IFIFO: FIFO}


def copy(step: Copy, given: Materials) -> Changes:
    """Docker's COPY rules: see docs/docker.md. Files whose times are told by what they hold never
    stay unread."""
    scanned, ground = given.scanned, given.ground
    owner = resolve_owner(step.owner, ground.view) if step.owner else None
    draft = Draft(ground, owner)
    if step.rules and not scanned:
        return draft.done()
    place = Landing(step, draft, globbed=any(source.globbed for source, _ in scanned))
    for source, tree in scanned:
        below = source.below.encode("utf-8", "surrogateescape")
        base, whole = place.of(below, is_dir=source.is_dir, globbed=source.globbed)
        digests = given.context.digests(tree, read_later=given.read_later and step.times is None)
        _place(step, tree, digests, base, draft, owner, contents=whole)
    return draft.done()


class Landing:
    """Where the sources of a copy land."""

    def __init__(self, step: Copy, draft: Draft, *, globbed: bool) -> None:
        """`globbed`: a source is what a glob matched. Makes the directory that is wanted."""
        to = target(draft.view, step.dest)
        is_dir = to.slash or (to.entry is not None and to.entry.type == DIRECTORY)
        several = len(step.sources) + len(step.optional) > 1 or globbed
        if several and not is_dir:
            raise BuilderError(
                f"several sources need a directory, but {step.dest!r} is not one",
                f"write {step.dest + '/'!r}",
            )
        if to.entry is not None and to.entry.type != DIRECTORY and (to.slash or several):
            raise BuilderError(f"{step.dest!r} is a file in the image, not a directory")
        if is_dir and to.entry is None:
            # as its parents: it is not the source directory, whose contents alone are copied
            draft.add(Entry(to.path, DIRECTORY, 0o755, *draft.owner, draft.time))
        self._path, self._is_dir = to.path, is_dir

    def of(self, below: bytes, *, is_dir: bool, globbed: bool) -> tuple[bytes, bool]:
        """The path of one source, which is `below` a directory; and whether only what it holds is
        copied, not itself."""
        path = self._path
        if self._is_dir and (globbed or not is_dir):
            path = _join(path, below)
        return path, is_dir and path == self._path


def _place(
    step: Copy,
    tree: Tree,
    digests: Pieces,
    base: bytes,
    draft: Draft,
    owner: tuple[int, int] | None,
    *,
    contents: bool,
) -> None:
    """Put a source's nodes at and below `base`. `contents`: the source directory itself is not
    copied, what it holds is."""
    view, ground = draft.view, draft.ground
    # source directory -> its image path with a slash, exists below
    landed: dict[bytes, tuple[bytes, bool]] = {}
    keep_mtime, keep_xattrs = "mtime" in step.preserve, "xattrs" in step.preserve
    keep_owner, by_content = "owner" in step.preserve, step.times == "content"
    modes: dict[int, tuple[str | None, int]] = {}
    uid, gid = owner or (0, 0)
    mtime = ground.time
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    beneath, root = tree.beneath, tree.at + b"/" if tree.at else b""
    unread = False
    overlaps = bool(draft.entries)  # perhaps with what another source has put there
    linked: dict[tuple[int, ...], Row] = {}  # first rows of files with several paths, by inode
    make = tuple.__new__  # thrice as fast as the named tuples' own, in a loop over all files
    for node, digest in _with_digests(tree, digests, draft):
        source, bits, size = node[:3]
        if source:
            parent, _, name = source.rpartition(b"/")
            folder, exists = landed[parent]
            path = folder + name
            host = root + source
        else:
            path, exists, name = base, True, base.rpartition(b"/")[2]
            host = tree.at
        known = modes.get(bits)
        if known is None:
            known = modes[bits] = (
                TYPES.get(bits & 0o170000),
                _mode(step, bits, stat.S_ISDIR(bits)),
            )
        kind, mode = known
        if kind is None:
            shown = os.fsdecode(beneath.whole(host))
            draft.notes.append(f"{shown!r} is a socket or device and is left out")
            continue
        there: Entry | None = None
        if exists:
            if kind == DIRECTORY:
                path = view.resolve(path, follow_last=True)
            found = view.lookup(path)
            there = found.entry if found else None
            if not path:
                there = Entry(b"", DIRECTORY, 0o755)
            check_replace(kind, there, path)
        if overlaps:
            check_other(kind, draft, path)
        if keep_owner:
            uid, gid = node[7:9]
        if keep_mtime:
            mtime = node[5] // 1_000_000_000
        if keep_xattrs:
            xattrs = _xattrs(beneath, host) if kind in (FILE, DIRECTORY) else ()
        if kind == FILE:
            if name.startswith(WHITEOUT):
                raise reserved(path)
            if digest == UNKNOWN:
                unread, digest = True, b""
            when = content_time(ground.epoch, digest) if by_content else mtime
            if node[9] > 1:
                row = linked.get(node[3:5])
                if row is not None:
                    draft.link(row, path)
                    continue
            draft.entries[path] = (
                make(Entry, (path, FILE, mode, uid, gid, when, size, b"", xattrs, NO_DEVICE)),
                make(HostFile, (host, digest or None, beneath)),
                digest,
            )
            if node[9] > 1:
                linked[node[3:5]] = draft.linked[path] = draft.entries[path]
        elif kind == DIRECTORY:
            landed[source] = (path + b"/" if path else path, there is not None)
            if contents and not source:
                if there is None and not draft.holds(path):
                    draft.add(Entry(path, DIRECTORY, 0o755, *draft.owner, draft.time))
            elif there is None:
                draft.add(Entry(path, DIRECTORY, mode, uid, gid, mtime, xattrs=xattrs))
            elif path:
                _keep(step, draft, there, path, (mode, uid, gid, mtime), owner is not None)
        elif kind == SYMLINK:
            try:
                link = beneath.readlink(host)
            except OSError as error:
                raise _unreadable(error) from error
            draft.add(Entry(path, SYMLINK, 0o777, uid, gid, mtime, link=link, xattrs=xattrs))
        else:
            draft.add(Entry(path, kind, mode, uid, gid, mtime, xattrs=xattrs))
    if unread:
        draft.unread.append(Unread(tree, digests))


def _with_digests(tree: Tree, digests: Pieces, draft: Draft) -> Iterator[tuple[Node, bytes]]:
    """Each node with the digest of its file. Between two parts, what came of them is spilled when
    it is too much to be held."""
    for nodes, piece in zip(tree.parts(), digests, strict=True):
        yield from zip(nodes, split(piece, nodes), strict=True)
        if len(draft.entries) > _MANY:
            draft.spill()


def _keep(
    step: Copy,
    draft: Draft,
    there: Entry,
    path: bytes,
    wanted: tuple[int, int, int, int],
    owned: bool,
) -> None:
    """A source directory that the image has already keeps what the step does not ask for; by
    Docker's rules nothing. `wanted`: mode, user, group and time of the source."""
    mode, uid, gid, mtime = wanted
    if step.rules:
        draft.add(there._replace(path=path, mode=mode, uid=uid, gid=gid, mtime=mtime))
        return
    if not (step.mode or step.preserve or owned):
        return
    if not (owned or "owner" in step.preserve):
        uid, gid = there.uid, there.gid
    if not (step.mode or "mode" in step.preserve):
        mode = there.mode
    readdress(draft, there, path, (mode, uid, gid))


def readdress(draft: Draft, there: Entry, path: bytes, wanted: tuple[int, int, int]) -> None:
    """Give what the image has another mode, user and group."""
    mode, uid, gid = wanted
    if wanted != (there.mode, there.uid, there.gid):
        draft.add(there._replace(path=path, mode=mode, uid=uid, gid=gid, mtime=draft.time))


def check_replace(kind: str, there: Entry | None, path: bytes) -> None:
    if there is None:
        return
    shown = f"'/{os.fsdecode(path)}'"
    if kind == DIRECTORY and there.type != DIRECTORY:
        raise BuilderError(f"{shown} is a file in the image; a directory cannot be copied over it")
    if kind != DIRECTORY and there.type == DIRECTORY:
        raise BuilderError(f"{shown} is a directory in the image; a file cannot be copied over it")


def check_other(kind: str, draft: Draft, path: bytes) -> None:
    """Of several sources none puts a directory where another puts something else."""
    other = draft.entries.get(path)
    if other is not None and (kind == DIRECTORY) != (other[0].type == DIRECTORY):
        raise BuilderError(
            f"'/{os.fsdecode(path)}' is a directory in one source of the step and none in another",
            "copy one of the two elsewhere, or leave it out by 'exclude'",
        )


def _mode(step: Copy, mode: int, directory: bool) -> int:
    """Context files get 0644 or 0755, so that a umask never reaches a layer."""
    if "mode" in step.preserve:
        base = stat.S_IMODE(mode)
    else:
        base = 0o755 if directory or mode & 0o100 else 0o644
    return apply_mode(step.mode, base, directory=directory) if step.mode else base


def _xattrs(beneath: Beneath, path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """security.capability and user.* of a file or folder as they stand on the host, sorted."""
    try:
        handle = beneath.open(path)
    except OSError as error:
        raise _unreadable(error) from error
    try:
        names = os.listxattr(handle)
        return tuple(
            (os.fsencode(name), os.getxattr(handle, name))
            for name in sorted(names)
            if name == "security.capability"
            or (name.startswith("user.") and not name.startswith("user.overlay."))
        )
    except OSError:
        return ()  # a file system without xattrs has none
    finally:
        os.close(handle)


def _unreadable(error: OSError) -> BuilderError:
    return BuilderError(f"{os.fsdecode(error.filename)!r} cannot be read: {error.strerror}")


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder and name else folder or name
