"""Files of rpm's databases: each gives the headers that it holds.

`sqlite` (rpm 4.16 and later), `ndb` (SUSE), and `bdb`, a hash of Berkeley DB, which older ones had.
They are hostile: positions and lengths are compared with the file, and nothing is read twice.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator

from builder.errors import LayerError

_MAX_HEADER = 256 << 20
_STEPS = 20_000_000  # of SQLite's machine, a hundred times what reading a large database takes


def sqlite(path: str) -> Iterator[bytes]:
    """What its journal holds is read too. As SQLite's documentation has it for files that are not
    trusted: nothing of the schema runs, and steps are counted."""
    try:
        import sqlite3
    except ImportError:
        raise LayerError("this Python has no sqlite3") from None
    from urllib.parse import quote

    steps = read = 0
    size = sum(os.path.getsize(each) for each in (path, path + "-wal") if os.path.exists(each))

    def counted() -> int:
        nonlocal steps
        steps += 1
        return steps > _STEPS // 1000

    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True)) as opened:
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"):
                opened.execute(f"PRAGMA {pragma}")
            opened.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_HEADER)
            opened.set_progress_handler(counted, 1000)
            kinds = opened.execute("SELECT type FROM sqlite_schema WHERE name = 'Packages'")
            if kinds.fetchall() != [("table",)]:
                raise LayerError("it has no table of packages")
            for (blob,) in opened.execute("SELECT blob FROM Packages NOT INDEXED ORDER BY rowid"):
                if not isinstance(blob, bytes):
                    raise LayerError("a header that is none")
                read += len(blob)
                if read > size:  # a column that is computed
                    raise LayerError("its headers have more bytes than it has")
                yield blob
    except (sqlite3.Error, UnicodeError, MemoryError) as error:
        raise LayerError(f"SQLite: {error}") from error


@contextlib.contextmanager
def _mapped(path: str) -> Iterator[mmap.mmap]:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise LayerError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


_PAGE, _SLOT, _BLOCK = 4096, 16, 16
_NDB = struct.Struct("<4sIII")  # magic, version, generation, pages of slots
_SLOTS = struct.Struct("<4sIII")  # magic, package, where it is and how long, in blocks
_BLOB = struct.Struct("<4sIII")  # magic, package, generation, bytes


def ndb(path: str) -> Iterator[bytes]:
    with _mapped(path) as data:
        if len(data) < _PAGE:
            raise LayerError("it is cut short")
        magic, version, _, pages = _NDB.unpack_from(data)
        if magic != b"RpmP" or version != 0 or not 0 < pages <= len(data) // _PAGE:
            raise LayerError("it is no database of rpm's")
        read = 0
        for at in range(2 * _SLOT, pages * _PAGE, _SLOT):  # two places of the first are its head
            magic, package, block, _ = _SLOTS.unpack_from(data, at)
            if magic != b"Slot":
                raise LayerError("a slot that is none")
            start = block * _BLOCK
            if not package:
                continue
            if start < pages * _PAGE or start + _BLOB.size > len(data):
                raise LayerError("a slot that points outside it")
            magic, of, _, size = _BLOB.unpack_from(data, start)
            start += _BLOB.size
            read += size
            if magic != b"BlbS" or of != package or start + size > len(data) or read > len(data):
                raise LayerError("a header that is none")
            yield data[start : start + size]


_HASH_MAGIC, _HASH_META = 0x061561, 8
_HASH_UNSORTED, _HASH, _OVERFLOW = 2, 13, 7
_KEYDATA, _OFFPAGE = 1, 3
_HEAD = 26  # bytes of a page's head


def bdb(path: str) -> Iterator[bytes]:
    """Whatever the order of bytes on the machine that wrote it."""
    with _mapped(path) as data:
        if len(data) < 512:
            raise LayerError("it is cut short")
        order = next((o for o in "<>" if _u32(data, 12, o) == _HASH_MAGIC), "")
        if not order or data[25] != _HASH_META or data[24]:
            raise LayerError("it is no hash of Berkeley DB")
        size = _u32(data, 20, order)
        if size not in (512 << n for n in range(8)):
            raise LayerError("its pages have no size that pages have")
        seen = bytearray(len(data) // size + 1)
        for page in range(len(data) // size):
            at = page * size
            if page and data[at + 25] in (_HASH, _HASH_UNSORTED):
                yield from _of_page(data[at : at + size], data, order, seen)


def _of_page(page: bytes, data: mmap.mmap, order: str, seen: bytearray) -> Iterator[bytes]:
    """The values of a page: keys and values stand by turns, from its end down."""
    count = struct.unpack_from(order + "H", page, 20)[0]
    if _HEAD + 2 * count > len(page):
        raise LayerError("a page that is none")
    places = struct.unpack_from(f"{order}{count}H", page, _HEAD)
    for number in range(0, count - 1, 2):
        key, value = places[number : number + 2]
        before = places[number - 1] if number else len(page)
        if not _HEAD <= value < key < before <= len(page):
            raise LayerError("a page that is none")
        if page[key + 1 : before] == bytes(4):
            continue  # not a package: the last number that was given
        if page[value] == _OFFPAGE and key - value >= 12:
            first, size = struct.unpack_from(order + "II", page, value + 4)
            yield _overflow(data, len(page), order, first, size, seen)
        elif page[value] == _KEYDATA:
            yield page[value + 1 : key]
        else:
            raise LayerError("an entry of a kind that is not known")


def _overflow(
    data: mmap.mmap, page: int, order: str, number: int, size: int, seen: bytearray
) -> bytes:
    """A value that has pages of its own, each of which is read once."""
    parts, left = [], size
    while left > 0:
        at = number * page
        if not number or at + page > len(data) or data[at + 25] != _OVERFLOW or seen[number]:
            raise LayerError("a header whose pages do not follow one another")
        seen[number] = 1
        used = min(left, page - _HEAD)
        parts.append(data[at + _HEAD : at + _HEAD + used])
        left -= used
        number = _u32(data, at + 16, order)
    return b"".join(parts)


def _u32(data: mmap.mmap, at: int, order: str) -> int:
    return int(struct.unpack_from(order + "I", data, at)[0])
