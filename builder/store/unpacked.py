"""Unpacked layers: trees below unpacked/, one per diff_id, for overlays to stand on.

A tree is not synced when it is published: that would cost more than unpacking did. So its mark,
uses/<diff_id>, holds for this boot of the machine only, until the kernel has surely written the
tree back. The mark's mtime is when it was last used: the tree's own mtime belongs to the image.

A mark is `2 STATE DIFF_ID`: STATE is this boot's id or `settled`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

from builder.errors import StoreError
from builder.store.files import failure
from builder.store.incoming import write
from builder.store.store import Store

_VERSION = b"2"  # raised when trees made before must not be used any more
_SETTLED = b"settled"
_SETTLED_AFTER = 600.0  # seconds; the kernel writes dirty pages back after 30


def publish(store: Store, temporary: str, name: str, diff_id: str) -> str:
    """Let a tree below tmp/ be the unpacked layer `diff_id`, under this name; gives its path.
    Raises StoreError.

    Another builder's, if it was faster, is kept; `temporary` is then left to its owner.
    """
    target = store.unpacked_path(name)
    with store.folder.beside_collector():
        if not _stands(store, name):
            try:
                write(store.folder, mark_path(store, name), _mark(_boot(store), diff_id.encode()))
                store.folder.place(temporary, target)
            except OSError as error:
                raise failure(error, "write", target, store.root) from error
    return target


def claim(store: Store, name: str) -> bool:
    """The layer stands unpacked, and whole; gc leaves it alone as long as this builder lives."""
    with store.folder.beside_collector():
        return _stands(store, name)


def layer_of(store: Store, name: str) -> str | None:
    """The diff_id of the layer that stands unpacked under this name, if one does, and whole."""
    with store.folder.beside_collector():
        if not _stands(store, name):
            return None
    _, diff_id = _read(store, name)
    return diff_id.decode("ascii", "replace")


def mark_path(store: Store, name: str) -> str:
    return os.path.join(store.root, "uses", os.path.basename(store.unpacked_path(name)))


def _mark(state: bytes, diff_id: bytes) -> bytes:
    return b" ".join((_VERSION, state, diff_id))


def _read(store: Store, name: str) -> tuple[bytes, bytes]:
    """A mark's state and diff_id; both empty where there is none."""
    path = mark_path(store, name)
    mark = store.folder.read(path, f"uses/{os.path.basename(path)}", 200)  # marks it as used, too
    version, _, rest = (mark or b"").partition(b" ")
    state, _, diff_id = rest.partition(b" ")
    return (state, diff_id) if version == _VERSION else (b"", b"")


def _stands(store: Store, name: str) -> bool:
    try:
        status = store.files.lstat(store.unpacked_path(name))
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        return False
    state, diff_id = _read(store, name)
    if state == _SETTLED:
        return True
    if not state or state != _boot(store):
        return False  # the machine may have stopped before all of it was on disk
    if time.time() - status.st_ctime > _SETTLED_AFTER:
        with contextlib.suppress(StoreError):
            write(store.folder, mark_path(store, name), _mark(_SETTLED, diff_id))
    return True


def _boot(store: Store) -> bytes:
    try:
        return store.files.boot_id()
    except OSError as error:
        raise failure(error, "read", "/proc/sys/kernel/random/boot_id", store.root) from error
