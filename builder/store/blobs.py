"""Blobs on their way out: checked while they are read."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.errors import BuilderError, CorruptBlob
from builder.oci.digest import Digest, hasher
from builder.oci.image import Descriptor
from builder.store.files import Files

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Checked(io.RawIOBase):
    """A blob being read: the read that would hand over its last byte checks size and digest.

    `corrupt` is called, once, with the reason and gives the error to raise.
    """

    def __init__(
        self, files: Files, handle: int, blob: Descriptor, corrupt: Callable[[str], BuilderError]
    ) -> None:
        super().__init__()
        self._files, self._handle, self._blob, self._corrupt = files, handle, blob, corrupt
        self._hash = hasher()
        self._left = blob.size
        self._failed: BuilderError | None = None
        if not blob.size:
            self._check()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._failed:
            raise self._failed
        view = memoryview(buffer).cast("B")[: self._left]
        if not view:
            return 0
        try:
            count = self._files.readinto(self._handle, view)
        except OSError as error:
            raise self._fail(error.strerror or "it cannot be read") from error
        if not count:
            raise self._fail(f"it ends {self._left} bytes early")
        self._hash.update(view[:count])
        self._left -= count
        if not self._left:
            self._check()
        return count

    def close(self) -> None:
        if not self.closed:
            with contextlib.suppress(OSError):
                self._files.close(self._handle)
        super().close()

    def _check(self) -> None:
        if "sha256:" + self._hash.hexdigest() != self._blob.digest:
            raise self._fail("its bytes are not what its name says")

    def _fail(self, reason: str) -> BuilderError:
        self._failed = self._corrupt(reason)
        return self._failed


def corrupt_blob(digest: Digest, reason: str) -> CorruptBlob:
    return CorruptBlob(f"blob {digest}: {reason}", "build again: it is made or fetched anew")
