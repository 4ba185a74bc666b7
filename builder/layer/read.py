"""Read a tar stream as entries: ustar, PAX, GNU long names and numbers, GNU sparse files.

The bytes are hostile. Names come out relative and without `..`; sizes, counts and extended headers
are bounded; every checksum is verified; a stream that ends early is an error. Names decided as
Docker and containerd decide them: a leading `/` is dropped, `.` and empty parts too. Unlike them,
`..` is refused wherever it stands: no tool writes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, cast
from zlib import adler32

from builder.errors import LayerError
from builder.layer.entry import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    MAX_ID,
    MAX_NAME,
    MAX_PATH,
    OPAQUE,
    SYMLINK,
    WHITEOUT,
    Entry,
    fits,
)
from builder.layer.links import placed
from builder.layer.source import Content, Source
from builder.layer.sparse import (
    Segments,
    SparseContent,
    check_map,
    parse_map,
    read_old_map,
    read_pax_map,
)

_ZEROS = bytes(512)


class Limits(NamedTuple):
    """What a stream may hold at most before it is refused."""

    entries: int = 4_000_000
    size: int = 1 << 40  # bytes of all files together, sparse ones expanded
    extended: int = 1 << 20  # bytes of PAX and long-name records before one entry, as Go allows
    holes: int = 1 << 40  # bytes of all files that the stream does not hold
    hint: str | None = None  # why `holes` are what they are


DEFAULT = Limits()


def room(folder: str) -> Limits:
    """For an archive whose files are spooled in `folder`: a sparse one of a kilobyte may say that
    they are more than the disk holds."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    return Limits(holes=free, hint=f"{free} bytes are free in {folder}")


# mode, uid, gid, size, mtime, checksum of a header that any common tool writes
_PLAIN = re.compile(
    rb"([0-7]{7})[\0 ]([0-7]{7})[\0 ]([0-7]{7})[\0 ]([0-7]{11})[\0 ]([0-7]{11})[\0 ]"
    rb"([0-7]{6})\0 "
)
_OCTAL = re.compile(rb" *([0-7]*) *(?:\0.*)?", re.DOTALL)
_RECORD = re.compile(rb"([0-9]{1,8}) ([^=\n]+)=")
_SECONDS = re.compile(rb"(-?)([0-9]{1,18})(?:\.([0-9]*))?")

_TYPES = {
    b"\0": FILE,
    b"0": FILE,
    b"7": FILE,  # contiguous
    b"S": FILE,  # GNU sparse
    b"1": HARDLINK,
    b"2": SYMLINK,
    b"3": CHAR,
    b"4": BLOCK,
    b"5": DIRECTORY,
    b"6": FIFO,
}
_LINKS = (HARDLINK, SYMLINK)
_XATTR = b"SCHILY.xattr."
_AUFS = WHITEOUT * 2
_NAMELESS = (WHITEOUT, WHITEOUT + b".", WHITEOUT + b"..")
_MTIMES = range(-(2**63), 2**63)


def read_layer(stream: BinaryIO, limits: Limits = DEFAULT) -> Iterator[tuple[Entry, BinaryIO]]:
    """The entries of a layer's tar in their order, duplicates included.

    The second value reads the content (size bytes for FILE, nothing for others) until the next
    entry is asked for; what is not read is skipped. After the last entry the stream is read to its
    end, so that a verifying stream verifies. Global PAX headers do not count, as in Docker.
    Whiteouts are FILEs of size 0 whatever they were; what AUFS kept for itself is left out. What
    comes through an earlier link of the layer has the path that this leads to.
    """
    for entry, content in placed(_read(stream, limits, use_globals=False), rooted=True):
        if WHITEOUT in entry.path:
            folder, _, name = entry.path.rpartition(b"/")
            if entry.path.startswith(_AUFS) and entry.path != OPAQUE:
                continue
            if WHITEOUT in folder and any(each.startswith(WHITEOUT) for each in folder.split(b"/")):
                raise LayerError(f"entry {show(entry.path)} lies below a whiteout")
            if name in _NAMELESS:
                raise LayerError(f"whiteout {show(entry.path)} names nothing")
            if name.startswith(WHITEOUT):
                entry = Entry(entry.path, FILE, entry.mode, mtime=entry.mtime)
        yield entry, content


def read_tar(
    stream: BinaryIO, limits: Limits = DEFAULT, *, upper: bool = False, rooted: bool = True
) -> Iterator[tuple[Entry, BinaryIO]]:
    """The members of any tar, as read_layer but with global headers and without whiteouts. `upper`:
    it is of an overlay's upper directory, where a character device 0:0 means a removed file.
    `rooted`: its root is an image's, see Links."""
    return placed(_read(stream, limits, use_globals=True, upper=upper), rooted=rooted)


def _read(
    stream: BinaryIO, limits: Limits, *, use_globals: bool, upper: bool = False
) -> Iterator[tuple[Entry, BinaryIO]]:
    source = Source(stream)
    shared: dict[bytes, bytes] = {}
    nothing = cast(BinaryIO, Content(source, 0))
    count = total = missing = 0
    while (found := _next(source, limits, shared)) is not None:
        header, numbers, records = found
        if use_globals and shared:
            records = {**shared, **records}
        entry, stored, holes = _entry(source, header, numbers, records)
        if entry.type == CHAR and entry.device == (0, 0) and not upper:
            place = show(entry.path)
            raise LayerError(f"device {place} is 0:0, which means a removed file to overlayfs")
        count += 1
        total += entry.size
        if count > limits.entries:
            raise LayerError(f"the archive has more than {limits.entries} entries")
        if total > limits.size:
            raise LayerError(f"the archive's files are more than {limits.size} bytes")
        missing += entry.size - stored if holes is not None else 0
        if missing > limits.holes:
            raise LayerError(
                f"the archive's sparse files are {missing} bytes larger than what it holds",
                limits.hint,
            )
        if not stored and holes is None:
            yield entry, nothing
            continue
        content = Content(source, stored)
        if holes is None:
            yield entry, cast(BinaryIO, content)
        else:
            yield entry, cast(BinaryIO, SparseContent(content.read, holes, entry.size))
        source.skip(content.close() + -stored % 512)
    source.drain(limits.size)


class _Numbers(NamedTuple):
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int


def _next(
    source: Source, limits: Limits, shared: dict[bytes, bytes]
) -> tuple[bytes, _Numbers, dict[bytes, bytes]] | None:
    """The next member's header, its numbers, and the extended records before it, long names among
    them as path and linkpath. Global records go into `shared`. None at the archive's end."""
    records: dict[bytes, bytes] = {}
    long: dict[bytes, bytes] = {}
    extended = 0
    while (header := source.block()) is not None and header != _ZEROS:
        numbers = _numbers(header)
        kind = header[156:157]
        if kind not in b"xXgLKV":
            return header, numbers, {**long, **records} if long else records
        extended += numbers.size + 512
        if extended > limits.extended:
            raise LayerError(f"extended headers of more than {limits.extended} bytes")
        data = source.take(numbers.size + -numbers.size % 512)[: numbers.size]
        if kind == b"g":
            shared.update(_parse_records(data))
            if sum(map(len, shared)) + sum(map(len, shared.values())) > limits.extended:
                raise LayerError(f"global headers of more than {limits.extended} bytes")
        elif kind in b"xX":
            records = _parse_records(data)
        elif kind in b"LK":
            long[b"path" if kind == b"L" else b"linkpath"] = data.partition(b"\0")[0]
    if records or long:
        raise LayerError("the archive ends after an extended header")
    if header is not None and (second := source.block()) is not None and second != _ZEROS:
        raise LayerError("a block of zeros stands in the middle of the archive: it is damaged")
    return None


def _numbers(header: bytes) -> _Numbers:
    """The numeric fields of a header whose checksum is right."""
    match = _PLAIN.match(header, 100)
    if match:
        mode, uid, gid, size, mtime, checksum = [int(each, 8) for each in match.groups()]
    else:
        mode = _number(header[100:108])
        uid = _number(header[108:116])
        gid = _number(header[116:124])
        size = _number(header[124:136])
        mtime = _number(header[136:148])
        checksum = _number(header[148:156])
    blank = 256 - sum(header[148:156])
    # The lower half of adler32 is one more than the sum, as long as that is below 65521.
    total = (adler32(header) & 0xFFFF) - 1 if header.isascii() else sum(header)
    if total + blank != checksum:
        # Some old tars summed signed bytes.
        signed = sum(memoryview(header).cast("b")) - sum(memoryview(header[148:156]).cast("b"))
        if signed + 256 != checksum:
            raise LayerError("a tar header's checksum is wrong: not a tar archive, or damaged")
    if size < 0:
        raise LayerError(f"a tar header has the size {size}")
    return _Numbers(mode, uid, gid, size, mtime)


def _number(field: bytes) -> int:
    """Octal text, or GNU's base-256: the top bit set, two's complement behind it."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if value >> (bits - 1) else value
    match = _OCTAL.fullmatch(field)
    if not match:
        raise LayerError(f"tar header field {os.fsdecode(field)!r} is not a number")
    return int(match[1] or b"0", 8)


def _parse_records(data: bytes) -> dict[bytes, bytes]:
    """PAX records `length key=value\\n`. Sparse format 0.0's repeated keys become one map."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        match = _RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if not match or end > len(data) or match.end() >= end or data[end - 1 : end] != b"\n":
            raise LayerError(f"PAX record {os.fsdecode(data[at : at + 40])!r} is malformed")
        key, value = match[2], data[match.end() : end - 1]
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            before = records.get(b"GNU.sparse.map")
            key, value = b"GNU.sparse.map", value if before is None else before + b"," + value
        records[key] = value
        at = end
    return records


def _entry(
    source: Source, header: bytes, numbers: _Numbers, records: dict[bytes, bytes]
) -> tuple[Entry, int, Segments | None]:
    """The entry, how many bytes of the stream are its data, and the map when it is sparse."""
    flag = header[156:157]
    type_ = _TYPES.get(flag)
    raw = header[:100].partition(b"\0")[0]
    if header[345] and header[257:263] == b"ustar\0":
        # star keeps times behind a shorter prefix
        prefix = header[345 : 476 if header[508:] == b"tar\0" else 500].partition(b"\0")[0]
        raw = prefix + b"/" + raw
    mode, uid, gid, size, mtime = numbers
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    target = b""
    if type_ in _LINKS:
        target = records.get(b"linkpath") or header[157:257].partition(b"\0")[0]
    if records:
        # An empty value takes a record back: the header's own counts again.
        raw = records.get(b"GNU.sparse.name") or records.get(b"path") or raw
        uid = _decimal(records, b"uid", uid)
        gid = _decimal(records, b"gid", gid)
        size = _decimal(records, b"size", size)
        mtime = _seconds(records, mtime)
        xattrs = tuple(
            sorted((key[13:], value) for key, value in records.items() if key.startswith(_XATTR))
        )
    path = clean_path(raw)
    if type_ is None:
        raise LayerError(f"entry {show(path)} has the unknown type {os.fsdecode(flag)!r}")
    if flag == b"\0" and raw.endswith(b"/"):
        type_ = DIRECTORY  # as before POSIX
    if not path and type_ != DIRECTORY:
        raise LayerError(f"entry {show(raw)} is the root, which must be a directory")
    if not (0 <= uid <= MAX_ID and 0 <= gid <= MAX_ID):
        raise LayerError(f"entry {show(path)} has the owner {uid}:{gid}, at most {MAX_ID} is valid")
    if mtime not in _MTIMES:
        raise LayerError(f"entry {show(path)} has the time {mtime}")
    for name, _ in xattrs:
        if not name or len(name) > 255 or b"\0" in name:
            raise LayerError(
                f"entry {show(path)} has the extended attribute {os.fsdecode(name[:40])!r}"
            )
    if type_ == FILE:
        holes = None
        stored = size
        if flag == b"S" or b"GNU.sparse.major" in records or b"GNU.sparse.map" in records:
            holes, size, stored = _sparse(source, header, records, size)
        return Entry(path, FILE, mode & 0o7777, uid, gid, mtime, size, b"", xattrs), stored, holes
    link, device = b"", (0, 0)
    if type_ == SYMLINK:
        if not target or len(target) > MAX_PATH or b"\0" in target:
            raise LayerError(f"symlink {show(path)} has the target {os.fsdecode(target[:80])!r}")
        link = target
    elif type_ == HARDLINK:
        link = clean_path(target)
        if not link:
            raise LayerError(f"hard link {show(path)} has the target {os.fsdecode(target[:80])!r}")
    elif type_ in (CHAR, BLOCK):
        device = (_number(header[329:337]), _number(header[337:345]))
        if not (0 <= device[0] < 1 << 12 and 0 <= device[1] < 1 << 20):
            raise LayerError(f"device {show(path)} has the number {device[0]}:{device[1]}")
    return Entry(path, type_, mode & 0o7777, uid, gid, mtime, 0, link, xattrs, device), 0, None


def _sparse(
    source: Source, header: bytes, records: dict[bytes, bytes], stored: int
) -> tuple[Segments, int, int]:
    """Map, size as its reader sees it, and how many bytes of data stand behind the map."""
    if header[156:157] == b"S":
        holes, size = read_old_map(header, source.take, _number)
    elif b"GNU.sparse.map" in records:
        holes = parse_map(records[b"GNU.sparse.map"])
        size = _decimal(records, b"GNU.sparse.size", stored)
    else:
        if (records[b"GNU.sparse.major"], records.get(b"GNU.sparse.minor")) != (b"1", b"0"):
            raise LayerError("a sparse file is of an unknown format, expected GNU 0.0, 0.1 or 1.0")
        holes, used = read_pax_map(source.take)
        stored -= used
        size = _decimal(records, b"GNU.sparse.realsize", stored)
    return check_map(holes, size, stored), size, stored


def _decimal(records: dict[bytes, bytes], key: bytes, otherwise: int) -> int:
    text = records.get(key)
    if not text:
        return otherwise
    if not text.isdigit() or len(text) > 19:
        raise LayerError(f"PAX record {key.decode()}={os.fsdecode(text[:40])!r} is not a number")
    return int(text)


def _seconds(records: dict[bytes, bytes], otherwise: int) -> int:
    """Whole seconds, rounded down."""
    text = records.get(b"mtime")
    if not text:
        return otherwise
    match = _SECONDS.fullmatch(text)
    if not match:
        raise LayerError(f"PAX record mtime={os.fsdecode(text[:40])!r} is not a time")
    if match[1]:
        return -int(match[2]) - bool((match[3] or b"").strip(b"0"))
    return int(match[2])


def clean_path(raw: bytes) -> bytes:
    """An archive's name as an image path: relative, no `.`, no empty parts. Refuses `..`."""
    parts = raw.split(b"/")
    if b"" in parts or b"." in parts:
        parts = [part for part in parts if part not in (b"", b".")]
    if b".." in parts:
        raise LayerError(f"entry {show(raw)} has '..' in its name")
    path = b"/".join(parts)
    if b"\0" in path:
        raise LayerError(f"entry {show(raw)} has a NUL in its name")
    if len(path) > MAX_NAME and not fits(path):
        raise LayerError(
            f"entry {show(raw)} has a name that is too long, "
            f"at most {MAX_NAME} bytes a part and {MAX_PATH} in all"
        )
    return path


def show(path: bytes) -> str:
    """A name from an archive in a message: one line, not too long."""
    text = path.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 120 else text[:117] + "...")
