"""Store: blobs by digest and small named entries, in an OCI layout that other tools can read.

<root>/oci-layout index.json blobs/sha256/   the layout: every image built, by name
<root>/names/                                the same names, an entry each: see store.names
<root>/records/ documents/ layers/ ...       entries: what is known, each with its checksum
<root>/tables/ contents/                     path tables and digests of files, one per diff_id
<root>/unpacked/ uses/                       layers as overlay lower dirs, one per diff_id; marks
<root>/partials/                             what was fetched in part: store.partial
<root>/tmp/ live/ locks/                     what is being written, by whom; published by rename

A file's mtime is when it was last used, to the hour. Whatever is missing or corrupt is a miss; what
is corrupt is told once. Errors that say nothing about the thing read or written are StoreErrors.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from builder.errors import CorruptBlob, LayerError, StoreError
from builder.events import Emit, Noted, ignore
from builder.oci.digest import Digest, Hasher, digest_of, hasher
from builder.oci.image import Descriptor
from builder.store import layout, locks
from builder.store.blobs import Checked, corrupt_blob
from builder.store.files import NO_ROOM, NO_WRITING, OWN_TROUBLE, READ, Files, failure
from builder.store.folder import Folder
from builder.store.incoming import Incoming, incoming, write
from builder.store.layout import KINDS
from builder.store.names import ImageName, Names

__all__ = ["KINDS", "Incoming", "Store"]

_LARGE = {
    "trees": 256 << 20,
    "logs": 64 << 20,
    "documents": 64 << 20,
    "bases": 32 << 20,
    "specs": 16 << 20,
}
_MOST = 8 << 20
"""Bytes of an entry, by kind. What is JSON takes up to thirty times as much memory when it is read,
whatever it is."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@:=,-]{0,199}")
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{64}")


class Store:
    """One folder; safe for many processes and threads at once. `emit` gets one Warned per corrupt
    thing found. Raises StoreError when `root` is no store and cannot become one."""

    def __init__(self, root: str, emit: Emit = ignore, files: Files | None = None) -> None:
        self.root = os.path.abspath(root)
        self.emit = emit
        self.files = files or Files()
        self.folder = Folder(self.root, emit, self.files)
        self._names = Names(self)
        layout.open_root(self.files, self.root, self.folder.warn)

    # -- blobs ------------------------------------------------------------------------------

    def blob_path(self, digest: Digest) -> str:
        return os.path.join(self.root, "blobs", "sha256", _hex(digest))

    def has(self, blob: Descriptor) -> bool:
        """A regular file of the right size stands there (bytes are checked when read)."""
        return self._status(blob) is not None

    def blob(self, digest: Digest, media_type: str) -> Descriptor | None:
        """A blob of which only the digest is known, if something stands in its place."""
        try:
            size = self.files.lstat(self.blob_path(digest)).st_size
        except OSError:
            return None
        return Descriptor(media_type, digest, size)

    def claim(self, blob: Descriptor) -> bool:
        """As `has`; if so, gc leaves the blob alone as long as this builder lives."""
        with self.folder.beside_collector():
            status = self._status(blob)
            if status is None:
                return False
            self.folder.touch(self.blob_path(blob.digest), status)
            return True

    def read(self, blob: Descriptor) -> bytes:
        """A small blob whole, checked. Raises CorruptBlob."""
        with self.open(blob) as file:
            return file.read()

    def open(self, blob: Descriptor) -> BinaryIO:
        """Stream a blob; the read of its last byte raises CorruptBlob if size or digest differ."""
        path = self.blob_path(blob.digest)
        try:
            handle = self.files.open(path, READ)
        except FileNotFoundError:
            raise corrupt_blob(blob.digest, "it is not in the store") from None
        except OSError as error:
            if error.errno in OWN_TROUBLE:
                raise failure(error, "read", path, self.root) from error
            raise self._corrupt(blob, error.strerror or "it cannot be read") from error
        try:
            status = self.files.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise self._corrupt(blob, "it is not a regular file")
            if status.st_size != blob.size:  # perhaps the descriptor lies: it stays
                self.folder.warn(_damaged(blob, status))
                text = f"it has {status.st_size} bytes, expected {blob.size}"
                raise corrupt_blob(blob.digest, text)
            checked = Checked(self.files, handle, blob, lambda why: self._corrupt(blob, why))
        except OSError as error:
            self.folder.close_quietly(handle)
            raise failure(error, "read", path, self.root) from error
        except BaseException:
            self.folder.close_quietly(handle)
            raise
        return io.BufferedReader(checked, 1 << 17)

    @contextlib.contextmanager
    def reading(self, blob: Descriptor) -> Iterator[BinaryIO]:
        """As `open`. What a reader finds wrong with bytes that are corrupt is said as CorruptBlob:
        a decompressor stumbles before the last byte is there to be checked."""
        with self.open(blob) as file:
            try:
                yield file
            except LayerError:
                while file.read(1 << 20):
                    pass
                raise

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Store a small blob. Costs no write when it is there already, byte for byte."""
        blob = Descriptor(media_type, digest_of(data), len(data))
        if self.claim(blob):
            with contextlib.suppress(StoreError):
                self.read(blob)
                return blob
        with self.incoming() as incoming:
            incoming.write(data)
            return incoming.publish(media_type)

    def incoming(self) -> AbstractContextManager[Incoming]:
        """A blob being written: write() it, then publish(); without publish() nothing remains."""
        return incoming(self.folder)

    def discard(self, digest: Digest) -> None:
        """Take a blob out, whatever stands in its place; the next build makes it again."""
        with contextlib.suppress(OSError, StoreError):
            self.folder.move_away(self.blob_path(digest))

    # -- entries: small named bytes, with a checksum ------------------------------------------

    def load(self, kind: str, name: str) -> bytes | None:
        """The bytes saved under (kind, name), or None: never saved, or corrupt (one Warned)."""
        data = self.folder.read(self._entry_path(kind, name), f"{kind}/{name}", _most(kind))
        if data is None:
            return None
        if data[:65] != _checksum_of(kind, name, memoryview(data)[65:]) + b"\n":
            self.folder.warn(f"{kind}/{name} is corrupt; it is made again")
            return None
        return data[65:]

    def save(self, kind: str, name: str, data: bytes) -> None:
        """Replace what is saved under (kind, name)."""
        path = self._entry_path(kind, name)
        if len(data) > _most(kind) - 65:
            raise StoreError(
                f"{path}: an entry of {len(data)} bytes, at most {_most(kind)} are kept"
            )
        write(self.folder, path, _checksum_of(kind, name, data) + b"\n", data)

    def remember(self, kind: str, name: str, data: bytes) -> None:
        """As `save`, for what only makes the next run faster: kept where that is possible."""
        with contextlib.suppress(StoreError):
            self.save(kind, name, data)

    def entries(self, kind: str) -> list[str]:
        """The names under a kind, sorted."""
        try:
            return self.files.listdir(os.path.join(self.root, kind))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise failure(error, "read", os.path.join(self.root, kind), self.root) from error

    def forget(self, kind: str, name: str) -> None:
        """Remove an entry, if it is there."""
        path = self._entry_path(kind, name)
        try:
            self.files.lstat(path)
        except OSError:
            return  # nothing is to be written then
        try:
            self.folder.move_away(path)
        except OSError as error:
            raise failure(error, "remove", path, self.root) from error

    # -- names ----------------------------------------------------------------------------------

    def tag(self, name: ImageName, manifest: Descriptor) -> None:
        """Let `name` mean this manifest; the last one wins. Nothing is written when it does."""
        self._names.put(name, manifest)

    def untag(self, name: ImageName) -> bool:
        """Forget a name; its blobs stay until gc. False: there is no such name."""
        return self._names.remove(name)

    def named(self, name: ImageName) -> Descriptor | None:
        """The manifest that a name means."""
        return self._names.find(name)

    def names(self) -> dict[ImageName, Descriptor]:
        """Every name with its manifest, sorted."""
        return self._names.all()

    # -- other builders ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, name: str, what: str = "") -> Iterator[None]:
        """Hold `name` exclusively among all processes; says whom it waits for.

        `what` tells waiters what is being done. After it is held, look again whether the work is
        still to do. Order: a step's inputs, its key, "index"; one of each at a time. A store
        that can only be read needs no locks, and has none.
        """
        path = self._named("locks", name)
        try:
            handle = locks.take(
                self.files,
                path,
                what,
                lambda holder: self.emit(Noted(f"{name}: waiting for {holder}")),
            )
        except OSError as error:
            if error.errno not in NO_WRITING:
                raise failure(error, "lock", path, self.root) from error
            yield
            return
        try:
            yield
        finally:
            locks.release(self.files, path, handle)

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Around a build: gc keeps what is used, and what dead builders left is swept away."""
        try:
            self._sweep()
            self._names.later = True
            yield
        finally:
            self._names.later = False
            self.close()

    def _sweep(self) -> None:
        try:
            stuck = self.sweep()
        except OSError as error:
            if error.errno in OWN_TROUBLE:
                raise failure(error, "use", self.root, self.root) from error
            return  # a full or read-only store still serves what it has
        for path in stuck[:1]:
            self.folder.warn(
                f"cannot remove {path}, left by an earlier build; `builder cache gc` may"
            )

    def sweep(self) -> list[str]:
        """Remove what dead builders left; gives what could not be removed. Raises OSError."""
        return self.folder.session().sweep(self._names.rebuild_index)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Around what writes below the root by calls of its own: a full disk is a StoreError."""
        try:
            yield
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            path = os.fsdecode(error.filename or os.path.join(self.root, "tmp"))
            raise failure(error, "write", path, self.root) from error

    def close(self) -> None:
        """Remove what this builder left below tmp/; writing starts anew."""
        try:
            self._names.write_index()
        except StoreError as error:
            # its mark stays, as that of a builder that died: the next one writes the index
            self.folder.warn(f"index.json lacks names: {error.message}")
            return
        self.folder.close()

    # -- paths ------------------------------------------------------------------------------------

    def table_path(self, diff_id: str) -> str:
        return os.path.join(self.root, "tables", _hex(diff_id))

    def contents_path(self, diff_id: str) -> str:
        return os.path.join(self.root, "contents", _hex(diff_id))

    def unpacked_path(self, diff_id: str) -> str:
        return os.path.join(self.root, "unpacked", _hex(diff_id))

    def temporary(self, suffix: str = "") -> str:
        """A new empty folder below tmp/; whoever asks removes it, gc what a killed builder left."""
        return self.folder.temporary(suffix)

    def _entry_path(self, kind: str, name: str) -> str:
        if kind not in KINDS:
            raise StoreError(f"{kind!r} is no kind of entry, expected one of {', '.join(KINDS)}")
        return self._named(kind, name)

    def _named(self, kind: str, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise StoreError(f"{name[:100]!r} cannot name a file below {kind}/")
        return os.path.join(self.root, kind, name)

    # -- blobs, within -------------------------------------------------------------------------

    def _status(self, blob: Descriptor) -> os.stat_result | None:
        try:
            status = self.files.lstat(self.blob_path(blob.digest))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in OWN_TROUBLE:
                raise failure(error, "read", self.blob_path(blob.digest), self.root) from error
            self.folder.warn(f"blob {blob.digest}: {error.strerror}")
            return None
        if stat.S_ISREG(status.st_mode) and status.st_size == blob.size:
            return status
        self.folder.warn(_damaged(blob, status))
        return None

    def _corrupt(self, blob: Descriptor, reason: str) -> CorruptBlob:
        """Its bytes are wrong: out of the way, so that it is a miss from now on."""
        self.folder.warn(f"blob {blob.digest} is corrupt ({reason}); it is made again")
        self.discard(blob.digest)
        return corrupt_blob(blob.digest, reason)


def _most(kind: str) -> int:
    return _LARGE.get(kind, _MOST)


def _hex(digest: str) -> str:
    """The 64 digits; they become a file's name."""
    if not _DIGEST.fullmatch(digest):
        raise StoreError(f"{digest[:100]!r} is not a digest, expected sha256:<64 hex digits>")
    return digest[-64:]


def _damaged(blob: Descriptor, status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return f"blob {blob.digest} is not a regular file; it is made again"
    return f"blob {blob.digest} has {status.st_size} bytes, not {blob.size}; it is made again"


def checksum(kind: str, name: str) -> Hasher:
    """Begin an entry's checksum. It covers the place too: under another's name it is corrupt."""
    return hasher(f"{kind}/{name}\n".encode())


def _checksum_of(kind: str, name: str, data: bytes | memoryview) -> bytes:
    state = checksum(kind, name)
    state.update(data)
    return state.hexdigest().encode()
