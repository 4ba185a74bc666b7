"""Store: blobs by digest and small named entries, in an OCI layout (0700) that other tools can read.

<root>/oci-layout index.json blobs/sha256/   the layout: every image built, by name
<root>/records/ documents/ layers/ ...       entries: what is known, each with its checksum
<root>/tables/                               path tables, one per diff_id
<root>/unpacked/                             layers as overlay lower dirs, one per diff_id
<root>/tmp/                                  what is being written; published by rename
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib  # noqa: TID251  # moves to oci/digest.Hasher
import json
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from builder.errors import CorruptBlob
from builder.events import Emit, Noted, Warned, ignore
from builder.oci import media
from builder.oci.digest import Digest
from builder.oci.image import Descriptor, encode

KINDS = ("records", "documents", "layers", "bases", "memos", "trees", "specs", "builds")


class Store:
    """One folder; safe for many processes at once. `emit` gets one Warned per corrupt thing found."""

    def __init__(self, root: str, emit: Emit = ignore) -> None:
        self.root = os.path.abspath(root)
        self.emit = emit
        for folder in ("blobs/sha256", "tables", "unpacked", "tmp", "locks", *KINDS):
            os.makedirs(os.path.join(self.root, folder), mode=0o700, exist_ok=True)
        if not os.path.exists(os.path.join(self.root, "oci-layout")):
            self._publish("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')

    # -- blobs ------------------------------------------------------------------------------

    def blob_path(self, digest: Digest) -> str:
        return os.path.join(self.root, "blobs", "sha256", digest.removeprefix("sha256:"))

    def has(self, blob: Descriptor) -> bool:
        """A regular file of the right size stands there (its bytes are checked when they are read)."""
        try:
            return os.stat(self.blob_path(blob.digest), follow_symlinks=False).st_size == blob.size
        except OSError:
            return False

    def read(self, blob: Descriptor) -> bytes:
        """A small blob whole, checked. Raises CorruptBlob."""
        try:
            with open(self.blob_path(blob.digest), "rb") as file:
                data = file.read(blob.size + 1)
        except OSError as error:
            raise CorruptBlob(f"blob {blob.digest}: {error.strerror}") from error
        if "sha256:" + hashlib.sha256(data).hexdigest() != blob.digest:
            raise CorruptBlob(f"blob {blob.digest}: its bytes are not what its name says")
        return data

    def open(self, blob: Descriptor) -> BinaryIO:
        """Stream a blob; the read that reaches its end raises CorruptBlob if size or digest differ."""
        return open(self.blob_path(blob.digest), "rb")

    def put(self, data: bytes, media_type: str) -> Descriptor:
        digest = Digest("sha256:" + hashlib.sha256(data).hexdigest())
        self._publish(os.path.relpath(self.blob_path(digest), self.root), data)
        return Descriptor(media_type, digest, len(data))

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """A blob being written: write() it, then publish(); without publish() nothing remains."""
        handle, path = tempfile.mkstemp(dir=os.path.join(self.root, "tmp"))
        with os.fdopen(handle, "wb") as file:
            incoming = Incoming(self, file, path)
            try:
                yield incoming
            finally:
                if os.path.exists(path):
                    os.unlink(path)

    # -- entries: small named bytes, with a checksum ------------------------------------------

    def load(self, kind: str, name: str) -> bytes | None:
        """The bytes saved under (kind, name), or None: never saved, or corrupt (one Warned)."""
        try:
            with open(os.path.join(self.root, kind, name), "rb") as file:
                checksum, _, data = file.read().partition(b"\n")
        except OSError:
            return None
        if checksum.decode("ascii", "replace") != hashlib.sha256(data).hexdigest():
            self.emit(Warned(f"{kind}/{name} is corrupt; it is made again"))
            return None
        return data

    def save(self, kind: str, name: str, data: bytes) -> None:
        checksum = hashlib.sha256(data).hexdigest().encode()
        self._publish(os.path.join(kind, name), checksum + b"\n" + data)

    # -- names: index.json ----------------------------------------------------------------------

    def tag(self, name: str, manifest: Descriptor) -> None:
        """Let `name` mean this manifest; the last one wins."""
        with self.lock("index"):
            entries = {
                entry["annotations"]["org.opencontainers.image.ref.name"]: entry
                for entry in self._index()["manifests"]
            }
            document = manifest.document()
            document["annotations"] = {"org.opencontainers.image.ref.name": name}
            entries[name] = document
            index = {"schemaVersion": 2, "mediaType": media.INDEX}
            self._publish("index.json", encode({**index, "manifests": list(entries.values())}))

    def names(self) -> dict[str, Descriptor]:
        """Every name with its manifest, in the order of index.json."""
        return {
            entry["annotations"]["org.opencontainers.image.ref.name"]: Descriptor(
                entry["mediaType"], Digest(entry["digest"]), entry["size"]
            )
            for entry in self._index()["manifests"]
        }

    def _index(self) -> dict[str, list[dict[str, object]]]:  # type: ignore[return]  # draft
        try:
            with open(os.path.join(self.root, "index.json"), "rb") as file:
                return json.loads(file.read())  # type: ignore[no-any-return]
        except OSError:
            return {"manifests": []}

    # -- locks -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold `name` exclusively among all processes; says whom it waits for."""
        handle = os.open(
            os.path.join(self.root, "locks", name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.emit(Noted(f"waiting for another builder ({name})"))
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def table_path(self, diff_id: str) -> str:
        return os.path.join(self.root, "tables", diff_id.removeprefix("sha256:"))

    def unpacked_path(self, diff_id: str) -> str:
        return os.path.join(self.root, "unpacked", diff_id.removeprefix("sha256:"))

    def temporary(self, suffix: str = "") -> str:
        """A new empty folder below tmp/; whoever asks removes it, gc what a killed builder left."""
        return tempfile.mkdtemp(suffix, dir=os.path.join(self.root, "tmp"))

    def _publish(self, name: str, data: bytes) -> None:
        handle, path = tempfile.mkstemp(dir=os.path.join(self.root, "tmp"))
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(path, os.path.join(self.root, name))


class Incoming:
    """A blob on its way in; hashes while it is written."""

    def __init__(self, store: Store, file: BinaryIO, path: str) -> None:
        self._store, self._file, self._path = store, file, path
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def digest(self) -> Digest:
        return Digest("sha256:" + self._hash.hexdigest())

    def publish(self, media_type: str) -> Descriptor:
        self._file.flush()
        os.fsync(self._file.fileno())
        os.rename(self._path, self._store.blob_path(self.digest))
        return Descriptor(media_type, self.digest, self.size)
