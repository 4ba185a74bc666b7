"""Partial: what has come so far of a file that is fetched from elsewhere. It outlives its builder.

Nothing is believed of what an earlier run left: whoever goes on with it hashes it first, and it
becomes a blob only under the digest of all of its bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time

from builder.errors import StoreError
from builder.oci.digest import Digest, Hasher, hasher, hasher_of, is_key
from builder.oci.image import Descriptor
from builder.store.files import APPEND, NOT_A_FILE, failure, owned, readable, write_all
from builder.store.folder import Folder

PARTIALS = "partials"
KEPT = 3 * 86400.0  # seconds for which one that nobody goes on with is kept
_CHUNK = 1 << 20
_LEAVE = 64 << 20  # bytes that stay free on the disk, however much comes
_LOOK = 16 << 20  # bytes after which the disk is looked at again


class Partial:
    """`partials/<name>`, for one thread of one builder at a time: whoever has it holds a lock.
    `close` it. `size` bytes are there. Raises StoreError."""

    def __init__(self, folder: Folder, name: str, algorithm: str) -> None:
        self._folder, self._algorithm = folder, algorithm
        self._path = os.path.join(folder.root, PARTIALS, name)
        self._left_until = 0  # the size at which the disk is looked at
        try:
            folder.session()  # the collector knows us from now on
            self._handle = self._open()
            self._start()
            while chunk := folder.files.read(self._handle, _CHUNK):
                self._take(chunk)
        except OSError as error:
            raise failure(error, "open", self._path, folder.root) from error

    def write(self, data: bytes) -> None:
        """Takes all of it, while there is room on the disk."""
        if self.size + len(data) > self._left_until:
            self.check_room(len(data))
            self._left_until = self.size + _LOOK
        try:
            write_all(self._folder.files, self._handle, data)
        except OSError as error:
            self.drop()
            raise failure(error, "write", self._path, self._folder.root, self.size) from error
        self._take(data)

    def check_room(self, more: int) -> None:
        """Whether so many bytes more have room on the disk. What is there is dropped otherwise."""
        free = self._folder.files.free(self._folder.root)
        if free - more >= _LEAVE:
            return
        root, came = self._folder.root, self.size
        self.drop()
        raise StoreError(
            f"no room for {readable(came + more)} on the disk that holds {root}:"
            f" {readable(free)} are free, {readable(_LEAVE)} of them stay so",
            "`builder cache gc` frees space; --cache-dir takes another disk",
        )

    def hexdigest(self) -> str:
        """By the algorithm that was asked for, of what is there."""
        return (self._other or self._hash).hexdigest()

    def restart(self) -> None:
        """Begin with nothing."""
        try:
            self._folder.files.truncate(self._handle)
        except OSError as error:
            raise failure(error, "write", self._path, self._folder.root) from error
        self._start()

    def publish(self, media_type: str) -> Descriptor:
        """On disk as a blob."""
        digest = Digest("sha256:" + self._hash.hexdigest())
        folder = self._folder
        path = os.path.join(folder.root, "blobs", "sha256", digest[7:])
        try:
            folder.files.fsync(self._handle)
            folder.place(self._path, path)
        except OSError as error:
            raise failure(error, "write", path, folder.root, self.size) from error
        return Descriptor(media_type, digest, self.size)

    def drop(self) -> None:
        """Keep nothing of it."""
        with contextlib.suppress(OSError):
            self._folder.files.truncate(self._handle)  # at once, though this has it open still
            self._folder.files.unlink(self._path)

    def close(self) -> None:
        """What has come is kept; of nothing, nothing."""
        if not self.size:
            with contextlib.suppress(OSError):
                self._folder.files.unlink(self._path)
        self._folder.close_quietly(self._handle)

    def _open(self) -> int:
        """What else stands in its place, or has a name elsewhere, is moved out of the way."""
        folder = self._folder
        try:
            handle = folder.open(self._path, APPEND)
        except OSError as error:
            if error.errno not in (NOT_A_FILE, errno.ELOOP):
                raise
        else:
            status = folder.files.fstat(handle)
            alone = status.st_nlink == 1 and stat.S_ISREG(status.st_mode)
            if alone and owned(folder.files, status):
                return handle
            folder.close_quietly(handle)
        folder.move_away(self._path)
        return folder.open(self._path, APPEND)

    def _start(self) -> None:
        self.size = 0
        self._hash = hasher()
        self._other: Hasher | None = None
        if self._algorithm != "sha256":
            self._other = hasher_of(self._algorithm)

    def _take(self, data: bytes) -> None:
        self.size += len(data)
        self._hash.update(data)
        if self._other:
            self._other.update(data)


def forget_old(folder: Folder) -> None:
    """Remove what nobody went on with for long."""
    above = os.path.join(folder.root, PARTIALS)
    with contextlib.suppress(OSError):
        for name in filter(is_key, folder.files.listdir(above)):
            path = os.path.join(above, name)
            if time.time() - folder.files.lstat(path).st_mtime > KEPT:
                folder.move_away(path)
