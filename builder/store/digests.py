"""Digests of files outside the store, by what lstat shows of them, wherever they lie: as git's
index, but across folders, so that a file that is linked, moved with its folder, or in several
sources is read once.

Device, inode, size, mtime and ctime tell a file's content from any other that was ever seen, as
long as it was not younger than `beneath.RACY` when it was looked at; that is the caller's to see
to. A file that takes a removed one's inode has another ctime.

Files lie in buckets by their inodes' numbers, each bucket an entry: rows of a state, 40 bytes, and
a raw sha256. There are so many rows in each at most, the latest first. Of two builders that add to
one at the same time one's may be lost: that costs time alone.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from builder.oci.digest import hex_of

if TYPE_CHECKING:
    from builder.store.store import Store

State = tuple[int, int, int, int, int]
"""Inode, device, size, mtime and ctime, these in nanoseconds."""

_KEY = struct.Struct("<QQQqq")
_FILE = 16  # bytes of a row that tell which file it is of
_MOST = 1 << 14  # rows in a bucket, of which there are 32
_WRITING = threading.Lock()  # this process's threads lose nothing to each other


def find(store: Store, states: Iterable[State]) -> dict[State, bytes]:
    """Raw sha256 of those that are known."""
    found: dict[State, bytes] = {}
    for number, wanted in _by_bucket(states).items():
        rows = {row[: _KEY.size]: row[_KEY.size :] for row in _load(store, number)}
        for state in wanted if rows else ():
            digest = rows.get(_packed(state))
            if digest is not None:
                found[state] = digest
    return found


def add(store: Store, digests: Iterable[tuple[State, bytes]]) -> None:
    buckets: dict[int, list[bytes]] = {}
    for state, digest in digests:
        if key := _packed(state):
            buckets.setdefault(_bucket(state), []).append(key + digest)
    for number, rows in buckets.items():
        with _WRITING:
            if before := _load(store, number):
                again = {row[:_FILE] for row in rows}
                rows += [row for row in before if row[:_FILE] not in again]
            _save(store, number, rows)


def forget(store: Store, states: Iterable[State]) -> None:
    for number, listed in _by_bucket(states).items():
        gone = set(map(_packed, listed))
        with _WRITING:
            before = _load(store, number)
            rows = [row for row in before if row[: _KEY.size] not in gone]
            if len(rows) < len(before):
                _save(store, number, rows)


def _by_bucket(states: Iterable[State]) -> dict[int, list[State]]:
    found: dict[int, list[State]] = {}
    for state in states:
        found.setdefault(_bucket(state), []).append(state)
    return found


def _bucket(state: State) -> int:
    """Neighbours share one, as a folder's files mostly are."""
    return state[0] >> 13 & 31


def _packed(state: State) -> bytes:
    """b"" where a time does not fit, as those of a few file systems may not."""
    try:
        return _KEY.pack(*state)
    except struct.error:
        return b""


def _name(number: int) -> str:
    return "files-" + hex_of(b"%d" % number)


def _load(store: Store, number: int) -> list[bytes]:
    data = store.load("trees", _name(number)) or b""
    size = _KEY.size + 32
    return [data[at : at + size] for at in range(0, len(data) - size + 1, size)]


def _save(store: Store, number: int, rows: list[bytes]) -> None:
    store.remember("trees", _name(number), b"".join(rows[:_MOST]))
