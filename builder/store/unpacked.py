"""Unpacked layers: trees below unpacked/, one per diff_id, for overlays to stand on.

A tree is not synced when it is published: that would cost more than unpacking did. So its mark,
uses/<diff_id>, holds for this boot of the machine only, until the kernel has surely written the
tree back. The mark's mtime is when it was last used: the tree's own mtime belongs to the image.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

from builder.errors import StoreError
from builder.store.files import failure
from builder.store.store import Store

_SETTLED = b"settled"
_SETTLED_AFTER = 600.0  # seconds; the kernel writes dirty pages back after 30


def publish(store: Store, temporary: str, diff_id: str) -> str:
    """Let a tree below tmp/ be the unpacked layer; gives its path. Raises StoreError.

    Another builder's, if it was faster, is kept; `temporary` is then left to its owner.
    """
    target = store.unpacked_path(diff_id)
    with store.folder.beside_collector():
        if not _stands(store, diff_id):
            try:
                store.folder.write(mark_path(store, diff_id), _boot(store))
                store.folder.place(temporary, target)
            except OSError as error:
                raise failure(error, "write", target, store.root) from error
    return target


def claim(store: Store, diff_id: str) -> bool:
    """The layer stands unpacked, and whole; gc leaves it alone as long as this builder lives."""
    with store.folder.beside_collector():
        return _stands(store, diff_id)


def mark_path(store: Store, diff_id: str) -> str:
    return os.path.join(store.root, "uses", os.path.basename(store.unpacked_path(diff_id)))


def _stands(store: Store, diff_id: str) -> bool:
    path = mark_path(store, diff_id)
    try:
        status = store.files.lstat(store.unpacked_path(diff_id))
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        return False
    mark = store.folder.read(path, f"uses/{os.path.basename(path)}", 100)  # marks it as used, too
    if mark == _SETTLED:
        return True
    if mark is None or mark != _boot(store):
        return False  # the machine may have stopped before all of it was on disk
    if time.time() - status.st_ctime > _SETTLED_AFTER:
        with contextlib.suppress(StoreError):
            store.folder.write(path, _SETTLED)
    return True


def _boot(store: Store) -> bytes:
    """/proc files say that they have no size."""
    try:
        handle = store.files.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY)
        try:
            return store.files.read(handle, 100).strip()
        finally:
            store.files.close(handle)
    except OSError as error:
        raise failure(error, "read", "/proc/sys/kernel/random/boot_id", store.root) from error
