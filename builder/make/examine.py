"""Examine: hold what a store says of its layers against the layers' bytes.

Beside `store.check`, which knows bytes and names alone. Pairs of blob and diff_id always; `deep`
also file layers against the documents that their keys are the hashes of, path tables and contents
against layers, and unpacked trees against both. What a command came to cannot be told from
anything: its record is believed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from builder.errors import CorruptBlob, LayerError, StoreError
from builder.layer.decompress import open_layer
from builder.layer.entry import BLOCK, CHAR, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Entry
from builder.layer.read import read_layer, show
from builder.oci import media
from builder.oci.digest import CacheKey, DiffID, Hasher, hasher
from builder.plan import keys
from builder.plan.changes import Heads, line
from builder.rootfs.contents import Contents
from builder.rootfs.jail import is_kept
from builder.rootfs.reading import PathTable
from builder.rootfs.writing import write_table
from builder.store import unpacked
from builder.store.check import Problem
from builder.store.records import load_document, load_layer, load_record

if TYPE_CHECKING:
    from builder.oci.image import Descriptor
    from builder.store.store import Store

_CHUNK = 1 << 20
_TYPES = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK,
}
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def examine(store: Store, *, deep: bool, repair: bool) -> list[Problem]:
    """Everything that is wrong, as `check` tells it. Raises nothing for what it finds."""
    return list(_Examination(store, deep, repair).run())


class _Seen(NamedTuple):
    """A layer as its bytes are."""

    table: PathTable
    digests: dict[bytes, bytes]  # of each FILE and HARDLINK by path: raw sha256
    keys: set[str]  # what a file step of this layer has, for each platform that was asked for


class _Examination:
    def __init__(self, store: Store, deep: bool, repair: bool) -> None:
        self._store, self._deep, self._repair = store, deep, repair
        self._keys: dict[DiffID | None, list[CacheKey]] = {}  # of records, by what they came to
        self._trees: dict[str, list[str]] = {}  # names of unpacked trees, by diff_id

    def run(self) -> Iterator[Problem]:
        store = self._store
        with store.folder.unmarked():
            if self._deep:
                self._list()
                yield from self._empty()
            for name in store.entries("layers"):
                yield from self._layer(DiffID(f"sha256:{name}"))

    def _list(self) -> None:
        store = self._store
        for name in store.entries("records"):
            record = load_record(store, CacheKey(name))
            if record:
                self._keys.setdefault(record.diff_id, []).append(CacheKey(name))
        with contextlib.suppress(OSError):
            for name in store.files.listdir(os.path.join(store.root, "unpacked")):
                with contextlib.suppress(StoreError):
                    diff_id = unpacked.layer_of(store, name)
                    if diff_id:
                        self._trees.setdefault(diff_id, []).append(name)

    def _problem(self, where: str, text: str, *out: Callable[[], object]) -> Problem:
        """`out` takes it out of the store, where that is wanted."""
        repaired = self._repair and bool(out)
        if repaired:
            for each in out:
                with contextlib.suppress(OSError, StoreError):
                    each()
        return Problem(f"{where}: {text}", repaired)

    # -- pairs ------------------------------------------------------------------------------------

    def _layer(self, diff_id: DiffID) -> Iterator[Problem]:
        store = self._store
        info = load_layer(store, diff_id)
        seen: _Seen | None = None
        wrong = []
        for name, blob in info.blobs.items() if info else ():
            if not store.has(blob):
                continue
            if self._deep and seen is None:
                seen, text = self._read_whole(diff_id, blob)
            else:
                _, text = self._hash(diff_id, blob, lambda plain: plain)
            if text:
                wrong.append(name)
                yield self._problem(f"layers/{diff_id[7:]}", text, partial(self._unpair, diff_id))
        if seen and not wrong:
            yield from self._tables(diff_id, seen)

    def _unpair(self, diff_id: DiffID) -> None:
        """Forget what is known of a layer, and what was made by it."""
        store = self._store
        store.forget("layers", diff_id[7:])
        store.folder.move_away(store.table_path(diff_id))
        for name in self._trees.get(diff_id, [diff_id[7:]]):
            store.folder.move_away(store.unpacked_path(name))

    def _hash(
        self, diff_id: DiffID, blob: Descriptor, read: Callable[[BinaryIO], object]
    ) -> tuple[bool, str]:
        """Whether the blob is this layer, and what is wrong with it if not; `read` gets its bytes
        first. Damage is for `check` to tell."""
        running = hasher()
        try:
            with self._store.reading(blob) as stream:
                plain = open_layer(stream, media.CODECS[blob.media_type])
                hashed = cast(BinaryIO, _Hashed(plain, running))
                read(hashed)
                while hashed.read(_CHUNK):
                    pass
        except CorruptBlob:
            return False, ""
        except LayerError as error:
            return False, f"blob {blob.digest} is no such layer: {error.message}"
        found = "sha256:" + running.hexdigest()
        return found == diff_id, "" if found == diff_id else f"blob {blob.digest} is {found}"

    def _read_whole(self, diff_id: DiffID, blob: Descriptor) -> tuple[_Seen | None, str]:
        digests: dict[bytes, bytes] = {}
        platforms = {self._platform(key) for key in self._keys.get(diff_id, ())} - {None}
        told = [
            (hasher(keys.files_head(str(platform))), timeless)
            for platform in platforms
            for timeless in (False, True)
        ]
        heads: dict[bool, Heads] = {False: {}, True: {}}

        def entries(plain: BinaryIO) -> Iterator[Entry]:
            for entry, content in read_layer(plain):
                digest = b""
                if entry.type == FILE:
                    running = hasher()
                    while chunk := content.read(_CHUNK):
                        running.update(chunk)
                    digest = running.digest()
                elif entry.type == HARDLINK:
                    digest = digests.get(entry.link, b"")
                digests[entry.path] = digest
                for each, timeless in told:
                    each.update(line(entry, digest, heads[timeless], timeless))
                yield entry

        folder = self._store.temporary()
        try:
            path = os.path.join(folder, "table")
            good, text = self._hash(
                diff_id, blob, lambda plain: write_table(path, entries(plain), {})
            )
            if not good:
                return None, text
            found = {each.hexdigest() for each, _ in told}
            return _Seen(PathTable.open(path), digests, found), ""
        finally:
            shutil.rmtree(folder)

    # -- deep -------------------------------------------------------------------------------------

    def _empty(self) -> Iterator[Problem]:
        """Steps that are said to have changed nothing."""
        for key in self._keys.get(None, ()):
            platform = self._platform(key)
            if platform is not None and hasher(keys.files_head(platform)).hexdigest() != key:
                yield self._wrong_record(key, "its document tells of changes")

    def _platform(self, key: CacheKey) -> str | None:
        """As the document of a file step has it; None for a command, or without a document."""
        document = load_document(self._store, key) or b""
        try:
            fields = keys.parse(document)
        except ValueError:
            return None
        return str(fields.get("platform")) if fields.get("kind") == "files" else None

    def _wrong_record(self, key: CacheKey, text: str) -> Problem:
        return self._problem(f"records/{key}", text, partial(self._store.forget, "records", key))

    def _tables(self, diff_id: DiffID, seen: _Seen) -> Iterator[Problem]:
        store = self._store
        for key in self._keys.get(diff_id, ()):
            if key not in seen.keys and self._platform(key) is not None:
                yield self._wrong_record(key, f"layer {diff_id} is not what its key is made of")
        path = store.table_path(diff_id)
        try:
            table = PathTable.open(path, diff_id)
            same = _same(table, seen.table)
        except CorruptBlob:
            same = not os.path.lexists(path)  # a table that is not there is made again
        if not same:
            out = partial(store.folder.move_away, path)
            yield self._problem(f"tables/{diff_id[7:]}", "it is not the layer's", out)
        path = store.contents_path(diff_id)
        if os.path.lexists(path) and not _same_contents(path, diff_id, seen):
            out = partial(store.folder.move_away, path)
            yield self._problem(f"contents/{diff_id[7:]}", "they are not the layer's", out)
        for name in self._trees.get(diff_id, ()):
            root = store.unpacked_path(name)
            text = _tree_fault(os.fsencode(root), seen)
            if text:
                out = partial(store.folder.move_away, root)
                yield self._problem(f"unpacked/{os.path.basename(root)}", text, out)


class _Hashed:
    """A stream, hashed as it is read."""

    def __init__(self, stream: BinaryIO, running: Hasher) -> None:
        self._stream, self._running = stream, running

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._running.update(data)
        return data


def _same(one: PathTable, other: PathTable) -> bool:
    """All but the contents of account files, of which a maker may keep more than another."""
    sides = ("whiteouts", "opaque", "implied")
    if any(getattr(one, name) != getattr(other, name) for name in sides):
        return False
    if one.get(b"") != other.get(b"") or len(one) != len(other):
        return False
    pairs = zip(one.subtree(b""), other.subtree(b""), strict=False)
    return all(mine == theirs for mine, theirs in pairs)


def _same_contents(path: str, diff_id: DiffID, seen: _Seen) -> bool:
    try:
        contents = Contents.open(path, diff_id, seen.table)
    except CorruptBlob:
        return False
    paths = [entry.path for entry in seen.table.subtree(b"")]
    return all((contents.get(path) or b"") == seen.digests[path] for path in paths)


def _tree_fault(root: bytes, seen: _Seen) -> str:
    """What is first found wrong in an unpacked tree; "" when nothing is. Devices may be missing,
    which only root can make, and whiteouts that hide nothing."""
    table = seen.table
    left = {entry.path for entry in table.subtree(b"")} | table.implied - {b""}
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root + b"/" + folder) as found:
                entries = [(each.name, each.stat(follow_symlinks=False)) for each in found]
        except OSError as error:
            return f"{show(folder)}: {error.strerror}"
        for name, status in entries:
            path = folder + b"/" + name if folder else name
            left.discard(path)
            if stat.S_ISDIR(status.st_mode):
                waiting.append(path)
            try:
                text = _path_fault(root + b"/" + path, path, status, seen)
            except OSError as error:
                text = error.strerror or "it cannot be read"
            if text:
                return f"{show(path)}: {text}"
    for path in sorted(left):
        entry = table.get(path)
        if entry is None or entry.type not in (CHAR, BLOCK):
            return f"{show(path)} is missing"
    return ""


def _path_fault(host: bytes, path: bytes, status: os.stat_result, seen: _Seen) -> str:
    table = seen.table
    entry, type_ = table.get(path), _TYPES.get(stat.S_IFMT(status.st_mode))
    if entry is None:
        if type_ == CHAR and status.st_rdev == 0 and path in table.whiteouts:
            return ""
        return "" if type_ == DIRECTORY and path in table.implied else "it is not of the layer"
    if type_ != entry.type:
        return "it is of another type"
    mode = entry.mode if type_ != SYMLINK else 0o777
    if (status.st_uid, status.st_gid) != (entry.uid, entry.gid):
        return "it has another owner"
    if stat.S_IMODE(status.st_mode) != mode:
        return "it has another mode"
    if int(status.st_mtime_ns // 10**9) != entry.mtime:
        return "it has another time"
    if type_ == SYMLINK:
        return "" if os.readlink(host) == entry.link else "it leads elsewhere"
    if type_ in (CHAR, BLOCK):
        device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        return "" if device == entry.device else "it is another device"
    if type_ in (FILE, DIRECTORY):
        names = set(os.listxattr(host, follow_symlinks=False))
        opaque = not names.isdisjoint(_OPAQUE)
        if opaque and path not in table.opaque | table.whiteouts:
            return "it hides what is below"
        theirs = {name: os.getxattr(host, name) for name in map(os.fsencode, names)}
        mine = dict(entry.xattrs)
        if any(mine.get(key) != value for key, value in theirs.items() if is_kept(key)):
            return "it has another extended attribute"
    if type_ == FILE:
        if status.st_size != entry.size:
            return "it has another size"
        running = hasher()
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(host, flags), "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                running.update(chunk)
        if running.digest() != seen.digests.get(path):
            return "it holds other bytes"
    return ""
