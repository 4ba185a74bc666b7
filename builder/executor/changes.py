"""What a command changed: the upper directory of an overlay beside the tree below, as a changeset.

image-spec layer.md (Representing Changes, Whiteouts, Hardlinks); kernel overlayfs.rst for what an
upper directory holds: a deletion is a character device 0:0. A directory made anew carries the
`opaque` xattr, be there one below or not; one made within it carries none and hides as much. The
xattr is `trusted.` where ids are the kernel's own, else `user.`; a command may set the other one.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Iterator, Set
from typing import BinaryIO, NamedTuple, Protocol

from builder.errors import LayerError
from builder.executor import syscalls
from builder.layer.entry import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    MAX_NAME,
    MAX_PATH,
    SYMLINK,
    WHITEOUT,
    Change,
    Content,
    Entry,
    HostFile,
    whiteout,
)

_IGNORED = (b"proc", b"sys", b"dev", b".dockerenv", b"etc/resolv.conf", b"etc/hosts")
"""Paths which, with everything below, belong to the sandbox and never to a layer."""

_OWN_NAMES = {b"resolv.conf", b"hosts"}
_BLOCK_SIZE = 1 << 20
Xattrs = tuple[tuple[bytes, bytes], ...]


class Lower(Protocol):
    """The tree as it was before the command. Paths are relative, and their parents known to be
    real directories in it."""

    def lstat(self, path: bytes) -> os.stat_result | None: ...
    def names(self, path: bytes) -> list[bytes]: ...
    def xattrs(self, path: bytes) -> Xattrs: ...
    def readlink(self, path: bytes) -> bytes: ...
    def open(self, path: bytes) -> BinaryIO: ...


class Tree:
    """A directory as a tree: a merged view of layers, or what a command left. Closed by its
    owner."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._handle)

    def lstat(self, path: bytes) -> os.stat_result | None:
        try:
            return os.stat(path, dir_fd=self._handle, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, path: bytes) -> list[bytes]:
        handle = self._open(path or b".", os.O_DIRECTORY)
        try:
            return [os.fsencode(name) for name in os.listdir(handle)]
        finally:
            os.close(handle)

    def xattrs(self, path: bytes) -> Xattrs:
        """Of a file or directory, those that a layer keeps, sorted by name."""
        handle = self._open(path)
        try:
            return tuple(
                sorted(
                    (os.fsencode(name), os.getxattr(handle, name))
                    for name in os.listxattr(handle)
                    if kept_xattr(name)
                )
            )
        finally:
            os.close(handle)

    def opaque(self, path: bytes) -> bool:
        """Whether an overlay says that this directory, on its upper side, hides those below."""
        handle = self._open(path, os.O_DIRECTORY)
        try:
            return is_opaque(handle)
        finally:
            os.close(handle)

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(path, dir_fd=self._handle)

    def open(self, path: bytes) -> BinaryIO:
        return open(self._open(path), "rb")

    def content(self, path: bytes) -> Content:
        """For a writer: a host file where the kernel takes a path of that length."""
        whole = self.root + b"/" + path
        return HostFile(whole) if len(whole) < MAX_PATH else functools.partial(self.open, path)

    def _open(self, path: bytes, flags: int = 0) -> int:
        # NONBLOCK: should a fifo ever stand here, opening it must not wait for a writer.
        flags |= os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(path, flags, dir_fd=self._handle)


def is_opaque(folder: int | bytes) -> bool:
    """What overlays mounted here take for the mark; a command cannot set it."""
    name = opaque_name()
    return name in os.listxattr(folder) and os.getxattr(folder, name) == b"y"


@functools.cache
def opaque_name() -> str:
    kind = "trusted" if syscalls.initial_user_namespace() else "user"
    return f"{kind}.overlay.opaque"


def kept_xattr(name: str) -> bool:
    """Capabilities and the user's own attributes. Not those of overlayfs, nor labels, ACLs and
    hashes that belong to one machine."""
    return name == "security.capability" or (
        name.startswith("user.") and not name.startswith("user.overlay.")
    )


def changeset(
    upper: Tree,
    below: Lower,
    epoch: int,
    *,
    etc: bytes = b"etc",
    points: Set[bytes] = frozenset(),
    complete: bool = False,
    untouched: Callable[[bytes, os.stat_result], bool] = lambda path, status: False,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Change]:
    """What `upper` makes of `below`, in a layer's order: a directory's whiteouts, then its other
    children by name, each before what it holds.

    Written are: what is new; files whose bytes, mode, owner, kept xattrs or clamped mtime differ;
    directories whose mode, owner or kept xattrs differ; and the parents of all these. A directory
    that was there before keeps its mtime, so that touching one leaves no trace, and so does a file
    whose mtime the command left alone. A file with several names is always written whole: a layer
    cannot link to one below it. That one lost a name, or was parted from another by being copied
    up, is no change.

    `etc` is where /etc really is. `points` were made to mount something on, and are written only
    for what else is in them. `complete`: upper is the whole tree after the command, so that what it
    lacks was deleted. `untouched` may say that a path is certainly as before. `note` gets a line
    per thing left out. Raises LayerError for what no layer can hold.
    """
    return _Walk(upper, below, epoch, etc, points, complete, untouched, note).run()


class _Walk:
    def __init__(
        self,
        upper: Tree,
        below: Lower,
        epoch: int,
        etc: bytes,
        points: Set[bytes],
        complete: bool,
        untouched: Callable[[bytes, os.stat_result], bool],
        note: Callable[[str], None],
    ) -> None:
        self._upper, self._below, self._epoch = upper, below, epoch
        self._complete, self._untouched, self._note = complete, untouched, note
        self._etc, self._points = etc, points
        self._ignored = {*_IGNORED, *(etc + b"/" + name for name in _OWN_NAMES)}
        self._links: dict[tuple[int, int], Entry] = {}

    def run(self) -> Iterator[Change]:
        """Explicit stack, one frame per directory: a tree may be deeper than Python recurses."""
        stack = [_Frame(self._children(b"", True, self._complete), None)]
        while stack:
            for step in stack[-1].children:
                if isinstance(step, _Descent):
                    stack.append(
                        _Frame(self._children(step.path, step.existed, step.opaque), step.waiting)
                    )
                    break
                for frame in stack:
                    if frame.waiting is not None:
                        yield frame.waiting, None
                        frame.waiting = None
                yield step
            else:
                stack.pop()

    def _children(self, path: bytes, existed: bool, opaque: bool) -> Iterator[Change | _Descent]:
        upper, below = self._upper, self._below
        prefix = path + b"/" if path else b""
        removed: list[bytes] = []
        kept: list[tuple[bytes, os.stat_result]] = []
        names = upper.names(path)
        for name in names:
            where = prefix + name
            if where in self._ignored:
                continue
            _check(where, name)
            status = upper.lstat(where)
            if status is None:
                raise LayerError(
                    f"/{os.fsdecode(where)} vanished while the step's changes were read"
                )
            if stat.S_ISSOCK(status.st_mode):
                self._note(f"/{os.fsdecode(where)} is a socket: left out of the layer")
            elif not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
                kept.append((name, status))
                continue
            elif self._complete:
                raise LayerError(
                    f"the step left '/{os.fsdecode(where)}', a device 0:0: a layer cannot hold it",
                    "such devices mark deletions in layers: remove it in the step",
                )
            if existed and not opaque and below.lstat(where) is not None:
                removed.append(name)
        if existed and opaque:
            present = {name for name, _ in kept}
            removed += (
                name
                for name in below.names(path)
                if name not in present and prefix + name not in self._ignored
            )
        for name in sorted(removed):
            yield whiteout(prefix + name, self._epoch), None
        kept.sort()
        for name, status in kept:
            yield from self._child(prefix + name, status, existed, opaque)

    def _child(
        self, path: bytes, status: os.stat_result, existed: bool, within_opaque: bool
    ) -> Iterator[Change | _Descent]:
        before = self._below.lstat(path) if existed else None
        if stat.S_ISDIR(status.st_mode):
            entry = self._entry(path, status, self._upper.xattrs(path))
            if before is not None and stat.S_ISDIR(before.st_mode):
                entry = entry._replace(mtime=before.st_mtime_ns // 10**9)
                opaque = within_opaque or self._upper.opaque(path)
                same = _owned(before) == _owned(status) and self._below.xattrs(path) == entry.xattrs
            else:
                # The sandbox makes /etc for its own files: that alone is no change.
                before, opaque = None, False
                same = path == self._etc and set(self._upper.names(path)) <= _OWN_NAMES
                same = same or path in self._points
            if not same:
                yield entry, None
            yield _Descent(path, before is not None, opaque, entry if same else None)
        else:
            yield from self._other(path, status, before)

    def _other(
        self, path: bytes, status: os.stat_result, before: os.stat_result | None
    ) -> Iterator[Change]:
        if path in self._points and not status.st_size:
            return
        if status.st_nlink > 1:
            key = (status.st_dev, status.st_ino)
            first = self._links.get(key)
            if first is not None:
                yield first._replace(path=path, type=HARDLINK, size=0, link=first.path), None
                return
        elif before is not None and self._untouched(path, status):
            return
        regular = stat.S_ISREG(status.st_mode)
        entry = self._entry(path, status, self._upper.xattrs(path) if regular else ())
        if before is not None and _seconds(status) == _seconds(before):
            entry = entry._replace(mtime=_seconds(before))  # chmod and chown leave it alone
        if status.st_nlink > 1:
            self._links[key] = entry
        elif before is not None and self._same(entry, status, before):
            return
        yield entry, self._upper.content(path) if regular else None

    def _same(self, entry: Entry, status: os.stat_result, before: os.stat_result) -> bool:
        """Whether a path is as it was. A file written anew with equal bytes is, once its mtime is
        clamped to what it was."""
        path, upper, below = entry.path, self._upper, self._below
        mtime = before.st_mtime_ns // 10**9
        if _owned(status) != _owned(before) or mtime not in (
            entry.mtime,
            status.st_mtime_ns // 10**9,
        ):
            return False
        if entry.type == SYMLINK:
            return below.readlink(path) == entry.link
        if entry.type in (CHAR, BLOCK):
            return status.st_rdev == before.st_rdev
        if entry.type != FILE:
            return True
        if status.st_size != before.st_size or entry.xattrs != below.xattrs(path):
            return False
        with upper.open(path) as new, below.open(path) as old:
            while block := new.read(_BLOCK_SIZE):
                if block != old.read(len(block)):
                    return False
        return True

    def _entry(self, path: bytes, status: os.stat_result, xattrs: Xattrs) -> Entry:
        kind = _TYPES[stat.S_IFMT(status.st_mode)]
        return Entry(
            path,
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            min(status.st_mtime_ns // 10**9, self._epoch),
            status.st_size if kind == FILE else 0,
            self._upper.readlink(path) if kind == SYMLINK else b"",
            xattrs,
            (os.major(status.st_rdev), os.minor(status.st_rdev))
            if kind in (CHAR, BLOCK)
            else (0, 0),
        )


class _Descent(NamedTuple):
    """Go on below this directory."""

    path: bytes
    existed: bool  # below, as a directory
    opaque: bool  # which it hides: itself, or as a part of one that does
    waiting: Entry | None  # the directory itself, if only a parent


class _Frame:
    def __init__(self, children: Iterator[Change | _Descent], waiting: Entry | None) -> None:
        self.children, self.waiting = children, waiting


_TYPES = {
    stat.S_IFREG: FILE,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFIFO: FIFO,
}


def _seconds(status: os.stat_result) -> int:
    return int(status.st_mtime_ns // 10**9)


def _owned(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def _check(path: bytes, name: bytes) -> None:
    shown = f"'/{os.fsdecode(path[:200])}'"
    if name.startswith(WHITEOUT):
        raise LayerError(
            f"the step left {shown}: a layer cannot hold a name that begins with '.wh.'",
            "such names mark deletions in layers: remove or rename it in the step",
        )
    if len(path) > MAX_PATH or len(name) > MAX_NAME:
        raise LayerError(
            f"the step left {shown}...: a path of {len(path)} bytes, at most {MAX_PATH}"
        )
