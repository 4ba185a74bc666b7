"""gc: remove what was not used for long, least recently used first.

Kept always: what a name or a kept container holds on to, what led to it (so that it is found again
without being made), and what was used since an hour before the oldest living
builder began. A name whose project's folder is gone holds nothing. What `let_go` marked goes in any
case. Decisions are made on what is seen beforehand; each removal looks again while builders' claims
wait, for an instant.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from builder.oci.digest import CacheKey
from builder.store import locks
from builder.store.files import failure
from builder.store.folder import HOUR
from builder.store.names import parse_descriptor
from builder.store.reach import LET_GO, Held, forget_gone, held, held_blobs
from builder.store.records import load_record, parse_object
from builder.store.session import Session
from builder.store.store import KINDS, Store
from builder.store.trees import tree_size

_OURS = re.compile(r"([a-z]+-)*[0-9a-f]{64}")  # what has another name was put there by others
_TOGETHER = 64  # removals while claims wait
MAX_AGE = 7 * 86400.0  # seconds
MAX_SIZE = 20_000_000_000  # bytes
"""Where nobody says it: what a run of `cache gc` leaves."""
_ALWAYS = {"names"}
_OF = {
    **dict.fromkeys(("tables", "contents", "unpacked"), "layers"),
    **dict.fromkeys(("documents", "logs"), "records"),
    "trees": "blobs",
}
"""What only goes with another thing: a build that uses that one may not have looked at these."""


class Item(NamedTuple):
    """One thing that gc may remove."""

    kind: str  # "blobs", "tables", "contents", "unpacked" or a kind of entry
    name: str
    path: str
    size: int  # bytes on disk
    used: float  # wall clock, seconds


class Report(NamedTuple):
    removed: int  # things
    freed: int  # bytes on disk
    kept: int  # bytes on disk that remain


def gc(
    store: Store,
    *,
    max_size: int | None = None,
    max_age: float | None = None,
    dry_run: bool = False,
) -> Report:
    """Remove what was let go of, what is older than `max_age` seconds, then the least recently used
    until the store has at most `max_size` bytes. Leftovers of dead builders go in any case, unless
    `dry_run`."""
    passing = not store.folder.registered
    try:
        session = store.folder.session()
        if not dry_run:
            _clean(store)
        with store.folder.unmarked():
            return _collect(store, session, max_size, max_age, dry_run)
    except OSError as error:
        raise failure(error, "collect in", store.root, store.root) from error
    finally:
        if passing:
            store.close()


def _collect(
    store: Store, session: Session, max_size: int | None, max_age: float | None, dry_run: bool
) -> Report:
    seen, holding = _names_stamp(store), held(store)
    found = _with_their_own(items(store))
    stays = _staying(store, found, holding)
    now = time.time()
    since = session.oldest_other()
    total = sum(item.size for item in found)
    chosen: list[Item] = []
    left = total
    for item in found:
        if item.kind in _ALWAYS or (item.kind, item.name) in stays:
            continue
        if item.used > now + HOUR:  # its age counts from now on: the clock was ahead
            if not dry_run and (since is None or item.used > since + HOUR):
                with contextlib.suppress(OSError):
                    mark = _mark(store, item)
                    if store.files.lstat(mark).st_nlink == 1:  # else it may be somebody's elsewhere
                        store.files.utime(mark, now)
            continue
        old = item.used <= LET_GO or (max_age is not None and now - item.used >= max_age)
        if (old or (max_size is not None and left > max_size)) and not _recent(item.used, since):
            chosen.append(item)
            left -= item.size
    removed = chosen if dry_run else list(_remove(store, chosen, seen))
    if removed and not dry_run:
        forget_gone(store)
    freed = sum(item.size for item in removed)
    return Report(len(removed), freed, total - freed)


def default_size(store: Store) -> int:
    """What a store may have where nobody says it: MAX_SIZE bytes, or a fifth of a smaller disk."""
    try:
        return min(MAX_SIZE, store.files.disk(store.root) // 5)
    except OSError as error:
        raise failure(error, "look at", store.root, store.root) from error


def _with_their_own(found: Iterable[Item]) -> list[Item]:
    """By age. What only goes with another thing is as old as that one, once it was let go of; so
    are always what a step's key is of and its log, which a hit does not read."""
    listed = list(found)
    times = {(item.kind, item.name): item.used for item in listed}
    aged = []
    for item in listed:
        whose = _OF.get(item.kind, "")
        if whose == "records" or (whose and item.used <= LET_GO):
            used = max(item.used, times.get((whose, item.name[-64:]), LET_GO))
            item = item._replace(used=used)
        aged.append(item)
    return sorted(aged, key=lambda item: (item.used, item.path))


def _staying(store: Store, found: Iterable[Item], holding: Held) -> set[tuple[str, str]]:
    """Kind and name of what names hold on to, and of what leads there: records of steps, how bases
    were made, what builds were."""
    stays = {("blobs", each) for each in holding.blobs}
    stays |= {("layers", each) for each in holding.layers}
    for kind, name in ((item.kind, item.name) for item in found):
        if kind == "records" and name not in holding.steps:
            record = load_record(store, CacheKey(name))
            led = bool(record and record.diff_id and record.diff_id[7:] in holding.layers)
        elif kind == "bases":
            led = _is_made_of(store.load("bases", name), holding)
        else:
            led = kind in ("records", "builds", "logs", "documents") and name in holding.steps
        if led:
            stays |= {(kind, name), *((("documents", name), ("logs", name)) if kind == "records"
                                      else ())}  # fmt: skip
    return stays


def _is_made_of(data: bytes | None, holding: Held) -> bool:
    """Whether an entry tells of a base that was made or pulled, of layers that are held."""
    document = parse_object(data) or {}
    if isinstance(pulled := document.get("manifest"), str):
        document = parse_object(pulled.encode("utf-8", "replace")) or {}
    layers = document.get("layers")
    if not isinstance(layers, list) or not layers:
        return False
    blobs = [parse_descriptor(each) for each in layers]
    return all(blob is not None and blob.digest[7:] in holding.blobs for blob in blobs)


def items(store: Store) -> Iterator[Item]:
    """All that the store holds, but for its own few files. Sizes of unpacked layers take a walk."""
    blobs = os.path.join("blobs", "sha256")
    plain = ("tables", "contents", "partials", *KINDS)
    for kind, folder in (("blobs", blobs), *((each, each) for each in plain)):
        for path, name, status in _in(store, folder):
            yield Item(kind, name, path, status.st_blocks * 512, status.st_mtime)
    marks = {name: status for _, name, status in _in(store, "uses")}
    for path, name, status in _in(store, "unpacked"):
        mark, size = marks.get(name), status.st_blocks * 512 + tree_size(store.files, path)
        if mark:  # the tree's own mtime belongs to the image
            yield Item("unpacked", name, path, size + mark.st_blocks * 512, mark.st_mtime)
        else:
            yield Item("unpacked", name, path, size, status.st_ctime)
    for path, name, status in _in(store, "caches"):
        used, size = status.st_ctime, status.st_blocks * 512 + tree_size(store.files, path)
        with contextlib.suppress(OSError):
            used = store.files.lstat(os.path.join(path, "about")).st_mtime
        yield Item("caches", name, path, size, used)


def _in(store: Store, folder: str) -> Iterator[tuple[str, str, os.stat_result]]:
    path = os.path.join(store.root, folder)
    try:
        names = store.files.listdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise failure(error, "read", path, store.root) from error
    for name in filter(_OURS.fullmatch, names):
        inner = os.path.join(path, name)
        with contextlib.suppress(OSError):
            yield inner, name, store.files.lstat(inner)


def _recent(used: float, since: float | None) -> bool:
    return since is not None and used >= since - HOUR


def _names_stamp(store: Store) -> tuple[int, ...]:
    """Another one: names or containers have changed, or may have within the clock's last tick."""
    stamp: list[int] = []
    for name in ("names", "index.json", "containers"):
        with contextlib.suppress(OSError):
            status = store.files.lstat(os.path.join(store.root, name))
            stamp += [status.st_ino, status.st_mtime_ns]
            if time.time() - status.st_mtime < 1:
                stamp.append(time.monotonic_ns())
    return tuple(stamp)


def _remove(store: Store, chosen: list[Item], seen: tuple[int, ...]) -> Iterator[Item]:
    """Renamed away while claims wait, removed afterwards: a large tree takes long."""
    session = store.folder.session()
    holding: set[str] = set()
    for start in range(0, len(chosen), _TOGETHER):
        moved: list[tuple[Item, str]] = []
        handle = None
        try:
            handle = locks.hold_collector(store.files, store.root, exclusive=True)
            since = session.oldest_other()
            stamp = _names_stamp(store)
            if stamp != seen:
                seen, holding = stamp, held_blobs(store)
            for item in chosen[start : start + _TOGETHER]:
                if item.kind == "blobs" and item.name in holding:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    if _recent(_last_use(store, item), since):
                        continue
                    target = session.name()
                    store.files.rename(item.path, target)
                    moved.append((item, target))
        except OSError as error:
            raise failure(error, "collect in", store.root, store.root) from error
        finally:
            if handle is not None:
                store.folder.close_quietly(handle)
            stuck = [item for item, target in moved if not session.discard(target)]
        for item, _ in moved:
            if item.kind == "unpacked":
                with contextlib.suppress(OSError):
                    store.files.unlink(os.path.join(store.root, "uses", item.name))
            if item in stuck:
                store.folder.warn(f"cannot remove all of {item.kind}/{item.name}; it is in tmp/")
            else:
                yield item


def _mark(store: Store, item: Item) -> str:
    """Whose mtime says when it was last used."""
    if item.kind == "caches":
        return os.path.join(item.path, "about")
    return os.path.join(store.root, "uses", item.name) if item.kind == "unpacked" else item.path


def _last_use(store: Store, item: Item) -> float:
    try:
        return store.files.lstat(_mark(store, item)).st_mtime
    except FileNotFoundError:
        return store.files.lstat(item.path).st_ctime


def _clean(store: Store) -> None:
    """What the dead left: temporary files, marks and locks."""
    for path in store.sweep()[:1]:
        store.folder.warn(f"cannot remove {path}, left by an earlier build")
