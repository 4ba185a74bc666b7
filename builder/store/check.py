"""check: read all of the store again, and say what is wrong in it."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from typing import NamedTuple

from builder.oci.digest import CacheKey, DiffID, hasher
from builder.store import records
from builder.store.files import READ
from builder.store.gc import Item, items
from builder.store.reach import containers, reach, stands_on
from builder.store.store import Store, checksum

_BLOCK = 1 << 20


class Problem(NamedTuple):
    """Something wrong; `repaired`: it was taken out, and is made again when it is needed."""

    text: str
    repaired: bool


def check(store: Store, *, repair: bool = False) -> list[Problem]:
    """Every blob and entry, then what records and names stand on. Nothing wrong in the store is an
    exception; uses are not counted."""
    problems = []
    with store.folder.unmarked():
        for item in items(store):
            text = _wrong(store, item)
            if text:
                where = f"{item.kind}/{item.name}: {text}"
                problems.append(Problem(where, repair and _take_out(store, item.path)))
        for kind, name, text in _dangling(store):
            repaired = False
            if repair:
                store.forget(kind, name)
                repaired = True
            problems.append(Problem(f"{kind}/{name}: {text}", repaired))
        for image, manifest in store.names().items():
            reached = reach(store, manifest)
            missing = [
                f"blob {blob.digest} is missing" for blob in reached.blobs if not store.has(blob)
            ]
            problems += [Problem(f"image {image}: {text}", False) for text in missing]
        problems += [Problem(text, False) for text in _wrong_containers(store)]
    return problems


def _wrong(store: Store, item: Item) -> str | None:
    try:
        mode = store.files.lstat(item.path).st_mode
        if item.kind in ("unpacked", "caches"):
            return None if stat.S_ISDIR(mode) else "not a folder"
        if not stat.S_ISREG(mode):
            return "not a regular file"
        if item.kind in ("tables", "contents", "partials"):
            return None
        handle = store.files.open(item.path, READ)
    except FileNotFoundError:
        return None  # gc was faster
    except OSError as error:
        return error.strerror or "cannot be read"
    try:
        return _wrong_bytes(store, item, handle)
    except OSError as error:
        return error.strerror or "cannot be read"
    finally:
        with contextlib.suppress(OSError):
            store.files.close(handle)


def _wrong_bytes(store: Store, item: Item, handle: int) -> str | None:
    if item.kind == "blobs":
        state, named = hasher(), item.name.encode()
    else:
        state, named = checksum(item.kind, item.name), store.files.read(handle, 65)[:64]
    while block := store.files.read(handle, _BLOCK):
        state.update(block)
    if state.hexdigest().encode() == named:
        return None
    return (
        "its bytes are not what its name says" if item.kind == "blobs" else "its checksum differs"
    )


def _dangling(store: Store) -> Iterator[tuple[str, str, str]]:
    """Layers without a blob, records without a layer: gc may leave them, they are misses."""
    for name in store.entries("layers"):
        info = records.load_layer(store, DiffID(f"sha256:{name}"))
        if info and not any(store.has(blob) for blob in info.blobs.values()):
            yield "layers", name, "none of its blobs is there"
    standing = set(store.entries("layers"))
    for name in store.entries("records"):
        record = records.load_record(store, CacheKey(name))
        if record and record.diff_id and record.diff_id[7:] not in standing:
            yield "records", name, f"its layer {record.diff_id} is not there"


def _wrong_containers(store: Store) -> Iterator[str]:
    """They are the user's, and nothing makes them again: none is taken out."""
    for name, path in containers(store):
        layers = stands_on(store, name, path)
        if layers is None:
            yield f"containers/{name}: damaged; `builder rm {name}` removes it"
        for _, blob in layers or ():
            if not store.has(blob):
                yield f"containers/{name}: blob {blob.digest} is missing"


def _take_out(store: Store, path: str) -> bool:
    try:
        return store.folder.move_away(path)
    except OSError:
        return False
