"""Files on their way in: hashed while they are written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from builder.oci.digest import Digest, hasher
from builder.oci.image import Descriptor
from builder.store.files import failure, write_all
from builder.store.folder import Folder

_GATHERED = 1 << 18


class Incoming:
    """A file being written below tmp/: a blob, once `publish` names it by its digest."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        try:
            self._path, self._handle = folder.create()
        except OSError as error:
            path = os.path.join(folder.root, "tmp")
            raise failure(error, "write in", path, folder.root) from error
        self._hash = hasher()
        self._gathered = bytearray()
        self._open = True
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Takes all of it. Small writes are gathered. Raises StoreError."""
        self._hash.update(data)
        size = len(data)
        self.size += size
        if len(self._gathered) + size < _GATHERED:
            self._gathered += data
        else:
            self.flush()
            self._write(data)
        return size

    def flush(self) -> None:
        if self._gathered:
            self._write(self._gathered)
            self._gathered = bytearray()

    @property
    def digest(self) -> Digest:
        """Of what was written so far."""
        return Digest("sha256:" + self._hash.hexdigest())

    def publish(self, media_type: str) -> Descriptor:
        """On disk and under its digest, or not at all. Raises StoreError."""
        digest = self.digest
        self.place(os.path.join(self._folder.root, "blobs", "sha256", digest[7:]))
        return Descriptor(media_type, digest, self.size)

    def place(self, path: str) -> None:
        """On disk and at `path`, replacing what stands there. Raises StoreError."""
        self.flush()
        folder = self._folder
        try:
            folder.files.fsync(self._handle)
            self._close()
            folder.place(self._path, path)
        except OSError as error:
            raise failure(error, "write", path, folder.root, self.size) from error

    def drop(self) -> None:
        """Forget it, unless it was placed. Raises nothing: the error on the way matters more."""
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            self._folder.files.unlink(self._path)

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._folder.files.close(self._handle)

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        folder = self._folder
        try:
            write_all(folder.files, self._handle, data)
        except OSError as error:
            raise failure(error, "write", self._path, folder.root, self.size) from error


@contextlib.contextmanager
def incoming(folder: Folder) -> Iterator[Incoming]:
    """A file being written; without place() or publish() nothing remains."""
    made = Incoming(folder)
    try:
        yield made
    finally:
        made.drop()


def write(folder: Folder, path: str, *parts: bytes) -> None:
    """Put `parts` at `path`, replacing what stands there."""
    with incoming(folder) as made:
        for part in parts:
            made.write(part)
        made.place(path)
