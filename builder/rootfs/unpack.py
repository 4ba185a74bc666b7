"""Unpack a layer into a folder as an overlay lower dir, jailed.

The bytes are hostile. The folder is new and nobody else's; every name is one component, used with
the handle of its folder, which was opened without following a symlink: nothing outside can be
named, whatever the archive says. Whiteouts become character devices 0:0, opaque folders an xattr.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from builder.errors import LayerError, StoreError
from builder.events import Warned
from builder.layer.ahead import ahead, runs_ahead
from builder.layer.compress import codec_of
from builder.layer.decompress import open_layer
from builder.layer.entry import (
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    OPAQUE,
    SYMLINK,
    WHITEOUT,
    Entry,
)
from builder.layer.read import DEFAULT, Limits, read_layer, show
from builder.layer.runs import index_name, sizes
from builder.layer.sparse import skip_hole
from builder.oci import media
from builder.oci.digest import digest_of
from builder.rootfs.arrange import ancestors
from builder.rootfs.view import View
from builder.store import unpacked
from builder.store.files import failure

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from builder.oci.image import Descriptor, Layer
    from builder.rootfs.table import Table
    from builder.store.store import Store

_T = TypeVar("_T")

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FOLDERS = 64
_CHUNK = 1 << 20
_KEPT = (b"user.", b"security.capability")
_DROPPED = b"user.overlay."


def unpack_layer(
    stream: BinaryIO,
    target: str,
    *,
    privileged: bool,
    below: Callable[[bytes], Entry | None] = lambda path: None,
    hides: Callable[[bytes], bool] = lambda path: True,
    limits: Limits = DEFAULT,
) -> list[str]:
    """Unpack an uncompressed layer tar into the empty folder `target`; gives notes, a line each.

    `privileged`: real root; else root of a user namespace, which makes no devices (they are left
    out with a note) and marks opaque folders with `user.` instead of `trusted.`.
    `below` gives the folders of the layers below: folders that the layer only implies get their
    metadata, or 0755 0:0. `hides` tells whether a whiteout finds something to hide; if not it is
    left out: overlayfs would list its name in a folder that only this layer has.
    Of several entries with one path the last counts. Raises LayerError and StoreError.
    """
    jail = _Jail(target, privileged)
    try:
        for entry, content in read_layer(stream, limits):
            try:
                jail.add(entry, content)
            except OSError as error:
                raise _failure(entry, error, target) from error
        jail.finish(below, hides)
    finally:
        jail.close()
    return jail.notes


class _Jail:
    def __init__(self, target: str, privileged: bool) -> None:
        self.notes: list[str] = []
        self._target, self._privileged = target, privileged
        self._opaque_name = ("trusted" if privileged else "user") + ".overlay.opaque"
        self._root = os.open(target, _FOLDER)
        os.fchmod(self._root, 0o700)  # no set-group-id to be inherited
        self._open: dict[bytes, int] = {}  # folders, least recently used first
        self._folders: dict[bytes, Entry | None] = {b"": None}  # None: implied so far
        self._opaque: set[bytes] = set()
        self._whiteouts: list[bytes] = []
        status = os.fstat(self._root)
        self._own = (status.st_uid, status.st_gid)

    def close(self) -> None:
        for handle in self._open.values():
            os.close(handle)
        os.close(self._root)

    def add(self, entry: Entry, content: BinaryIO) -> None:
        path = entry.path
        if not path:
            self._folders[b""] = entry
            return
        parent, _, name = path.rpartition(b"/")
        folder = self._folder(parent)
        if name.startswith(WHITEOUT):
            if name == OPAQUE:
                self._opaque.add(parent)
            else:
                self._whiteouts.append(path[: len(path) - len(name)] + name[len(WHITEOUT) :])
            return
        if entry.type == DIRECTORY:
            if path not in self._folders:
                self._make(entry, name, lambda: os.mkdir(name, 0o700, dir_fd=folder), folder)
            self._folders[path] = entry
        elif entry.type == FILE:
            handle = self._make(
                entry, name, lambda: os.open(name, _NEW, 0o600, dir_fd=folder), folder
            )
            try:
                self._fill(handle, entry, content)
            finally:
                os.close(handle)
        elif entry.type == SYMLINK:
            self._make(entry, name, lambda: os.symlink(entry.link, name, dir_fd=folder), folder)
            self._settle_name(entry, name, folder)
        elif entry.type == HARDLINK:
            self._link(entry, name, folder)
        else:
            self._special(entry, name, folder)

    def _make(self, entry: Entry, name: bytes, make: Callable[[], _T], folder: int) -> _T:
        """Make something new; what an earlier entry put there goes."""
        try:
            return make()
        except FileExistsError:
            self._remove(entry.path, name, folder)
            return make()

    def _remove(self, path: bytes, name: bytes, folder: int) -> None:
        if path in self._folders:
            self._forget(path)
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise LayerError(
                    f"entry {show(path)} replaces a folder that holds entries of the same layer"
                ) from error
            del self._folders[path]
        else:
            os.unlink(name, dir_fd=folder)

    def _fill(self, handle: int, entry: Entry, content: BinaryIO) -> None:
        left = entry.size
        while left:
            if hole := skip_hole(content):
                left -= hole
                os.lseek(handle, hole, os.SEEK_CUR)
                if not left:
                    os.ftruncate(handle, entry.size)
                    break
            data = content.read(min(left, _CHUNK))
            if not data:
                raise LayerError(f"entry {show(entry.path)} is cut short")
            left -= len(data)
            while data:
                data = data[os.write(handle, data) :]
        self._settle(handle, entry)

    def _settle(self, handle: int, entry: Entry) -> None:
        """Owner before mode and xattrs: chown clears set-id bits and capabilities."""
        if (entry.uid, entry.gid) != self._own:
            os.fchown(handle, entry.uid, entry.gid)
        os.fchmod(handle, entry.mode)
        for key, value in entry.xattrs:
            self._set_xattr(handle, entry, key, value)
        os.utime(handle, ns=(entry.mtime * 10**9,) * 2)

    def _set_xattr(self, handle: int, entry: Entry, key: bytes, value: bytes) -> None:
        if not is_kept(key):
            return
        try:
            os.setxattr(handle, key, value)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.ENODATA):
                raise
            self._note(entry, f"cannot have the extended attribute {key.decode(errors='replace')}")

    def _link(self, entry: Entry, name: bytes, folder: int) -> None:
        parent, _, source = entry.link.rpartition(b"/")
        if entry.link == entry.path:
            return
        missing = LayerError(
            f"hard link {show(entry.path)} points at {show(entry.link)}, "
            "which is no file before it in the same layer"
        )
        if entry.link in self._folders or parent not in self._folders:
            raise missing
        folder = os.dup(folder)  # the way to the other folder may close it
        try:
            handle = self._folder(parent)

            def make() -> None:
                os.link(source, name, src_dir_fd=handle, dst_dir_fd=folder, follow_symlinks=False)

            self._make(entry, name, make, folder)
        except FileNotFoundError as error:
            raise missing from error
        finally:
            os.close(folder)

    def _special(self, entry: Entry, name: bytes, folder: int) -> None:
        if entry.type == FIFO:
            self._make(entry, name, lambda: os.mkfifo(name, 0o600, dir_fd=folder), folder)
        elif not self._privileged:
            self._note(entry, "is a device, which only root can make; it is left out")
            return
        else:
            kind = stat.S_IFCHR if entry.type == CHAR else stat.S_IFBLK
            number = os.makedev(*entry.device)
            self._make(
                entry, name, lambda: os.mknod(name, kind | 0o600, number, dir_fd=folder), folder
            )
        self._settle_name(entry, name, folder)

    def _settle_name(self, entry: Entry, name: bytes, folder: int) -> None:
        if (entry.uid, entry.gid) != self._own:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        if entry.type != SYMLINK:
            os.chmod(name, entry.mode, dir_fd=folder)  # just made by us: not a symlink
        os.utime(name, ns=(entry.mtime * 10**9,) * 2, dir_fd=folder, follow_symlinks=False)

    # -- folders ----------------------------------------------------------------------------------

    def _folder(self, path: bytes) -> int:
        """A handle of the folder, made (as implied) with its parents where it is missing. Good
        until the next call but one."""
        if not path:
            return self._root
        handle = self._open.pop(path, None)
        if handle is not None:
            self._open[path] = handle
            return handle
        # From the nearest open ancestor down.
        parts = path.split(b"/")
        depth = len(parts)
        handle = self._root
        while depth := depth - 1:
            known = self._open.get(b"/".join(parts[:depth]))
            if known is not None:
                handle = known
                break
        for end in range(depth + 1, len(parts) + 1):
            here = b"/".join(parts[:end])
            if here not in self._folders:
                try:
                    os.mkdir(parts[end - 1], 0o700, dir_fd=handle)
                except FileExistsError:
                    raise LayerError(
                        f"entries lie below {show(here)}, "
                        "which is not a directory in the same layer"
                    ) from None
                self._folders[here] = None
            handle = self._open[here] = os.open(parts[end - 1], _FOLDER, dir_fd=handle)
            if len(self._open) > _OPEN_FOLDERS:
                oldest = next(iter(self._open))
                os.close(self._open.pop(oldest))
        return handle

    def _forget(self, path: bytes) -> None:
        handle = self._open.pop(path, None)
        if handle is not None:
            os.close(handle)

    # -- the end ----------------------------------------------------------------------------------

    def finish(
        self, below: Callable[[bytes], Entry | None], hides: Callable[[bytes], bool]
    ) -> None:
        """Whiteouts, then the folders' metadata, deepest first: mtimes are right at the end, and a
        folder that we may not enter is entered no more."""
        anew = [path for path in self._whiteouts if path in self._folders]
        self._opaque.update(anew)  # removed below and made anew here
        for path in self._whiteouts:
            parent, _, name = path.rpartition(b"/")
            if path in self._folders or not hides(path):
                continue
            if not self._opaque.isdisjoint(ancestors(path)):
                continue
            with contextlib.suppress(FileExistsError):  # replaced here
                os.mknod(name, stat.S_IFCHR | 0o000, 0, dir_fd=self._folder(parent))
        for path in sorted(self._folders, reverse=True):
            entry = self._folders[path] or below(path)
            if entry is None or entry.type != DIRECTORY:
                entry = Entry(path, DIRECTORY, 0o755)
            if not path:  # an engine's own folder lies over it: 0755 0:0 whatever a layer says
                entry = Entry(b"", DIRECTORY, 0o755, mtime=entry.mtime)
            handle = self._folder(path)
            try:
                if path in self._opaque:
                    os.setxattr(handle, self._opaque_name, b"y")
                self._settle(handle, entry)
            except OSError as error:
                raise _failure(entry, error, self._target) from error
            if path:
                self._forget(path)

    def _note(self, entry: Entry, what: str) -> None:
        if len(self.notes) < 20:
            self.notes.append(f"{show(entry.path)} {what}")


def is_kept(xattr: bytes) -> bool:
    """Whether an extended attribute of a layer is one of the image's."""
    return xattr.startswith(_KEPT) and not xattr.startswith(_DROPPED)


def _failure(entry: Entry, error: OSError, target: str) -> StoreError:
    return failure(error, f"unpack {show(entry.path)} in", target, target)


# -- in the store ---------------------------------------------------------------------------------


def lower_dirs(
    store: Store, layers: Sequence[Layer], tables: Sequence[Table], *, privileged: bool
) -> tuple[str, ...]:
    """The layers as overlay lower dirs, bottom first; what is not yet unpacked is. `tables` are the
    layers' own, in the same order. Layers that a later one hides whole are left out: overlayfs
    does not look at the opaque mark of a layer's root, and takes no folder twice."""
    start = max((at for at, table in enumerate(tables) if b"" in table.opaque), default=0)
    folders = [
        ensure_unpacked(store, layers[at], View(tuple(tables[: at + 1])), privileged=privileged)
        for at in range(start, len(layers))
    ]
    return tuple(dict.fromkeys(reversed(folders)))[::-1]


def ensure_unpacked(store: Store, layer: Layer, view: View, *, privileged: bool) -> str:
    """The folder in the store that holds the unpacked layer; `view` ends with its table.

    A layer whose implied folders get their metadata from below, or whose whiteouts do not all find
    something to hide there, is unpacked once for each such case.
    Raises CorruptBlob, LayerError and StoreError; nothing half unpacked is ever visible.
    """
    lower = View(view.tables[:-1])
    idle = {path for path in view.tables[-1].whiteouts if lower.lookup(path) is None}
    name = _tree_name(layer, view, idle)
    if unpacked.claim(store, name):
        return store.unpacked_path(name)
    with store.lock(f"unpack-{name[-64:]}"):
        if unpacked.claim(store, name):
            return store.unpacked_path(name)
        temporary = store.temporary()
        try:
            with store.reading(layer.blob) as blob, plain(store, layer.blob, blob) as stream:
                notes = unpack_layer(
                    stream,
                    temporary,
                    privileged=privileged,
                    below=lambda path: found.entry if (found := view.lookup(path)) else None,
                    hides=lambda path: path not in idle,
                )
            path = unpacked.publish(store, temporary, name, layer.diff_id)
        finally:
            if os.path.lexists(temporary):
                store.folder.session().discard(temporary)
    for note in notes:
        store.emit(Warned(note))
    return path


def plain(store: Store, blob: Descriptor, file: BinaryIO) -> AbstractContextManager[BinaryIO]:
    """The blob's uncompressed bytes: from threads, several where its runs are known."""
    codec = media.CODECS[blob.media_type]
    index = store.load("trees", index_name(blob.digest))
    runs = sizes(index) if index else []
    if len(runs) > 1 and sum(compressed for compressed, _ in runs) == blob.size:
        return runs_ahead(file, runs, codec_of(codec).decompress)
    return ahead(open_layer(file, codec))


def _tree_name(layer: Layer, view: View, idle: set[bytes]) -> str:
    """The diff_id, or a digest of it with what depends on the layers below."""
    borrowed = []
    for path in sorted(view.tables[-1].implied - {b""}):
        found = view.lookup(path)
        if found is not None and found.table >= 0:
            borrowed.append(found.entry)
    if not borrowed and not idle:
        return layer.diff_id
    return digest_of(repr((layer.diff_id, borrowed, sorted(idle))).encode())
