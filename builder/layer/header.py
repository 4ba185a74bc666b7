"""Tar headers: ustar where it can say it, PAX records where it cannot (POSIX.1-2001 pax).

uname, gname, atime and ctime are never written, and a name that is not ASCII always goes into a PAX
record: readers disagree on the encoding of the ustar fields.
"""

from __future__ import annotations

import os

from builder.errors import LayerError
from builder.layer.entry import DIRECTORY, FILE, MAX_ID, MAX_NAME, MAX_PATH, Entry, fits

BLOCK = 512
_USTAR_ID = 0o7777777  # seven octal digits
_USTAR_SIZE = 0o77777777777  # eleven


class Headers:
    """Makes header bytes. Keeps one template per kind of file: most files of a layer differ only
    in name and size, and summing the 512 bytes of a whole header would be the largest cost."""

    def __init__(self) -> None:
        self._templates: dict[tuple[int, int, int, int], tuple[bytes, bytes, bytes, int]] = {}

    def of(self, entry: Entry) -> bytes:
        """The header blocks of one entry, PAX records included; a multiple of 512 bytes."""
        path, type_, mode, uid, gid, mtime, size, link, xattrs, _ = entry
        if (
            type_ == FILE
            and len(path) <= 100
            and size <= _USTAR_SIZE
            and not link
            and not xattrs
            and path.isascii()
        ):
            template = self._templates.get((mode, uid, gid, mtime))
            if template is None:
                template = self._template(mode, uid, gid, mtime)
            if template[3]:
                ids, time, tail, base = template
                length = b"%011o" % size
                checksum = base + sum(path) + sum(length)
                return b"".join(
                    (
                        path.ljust(100, b"\0"),
                        ids,
                        length,
                        time,
                        b"%06o" % checksum,
                        tail,
                    )
                )
        return _any(entry)

    def _template(
        self, mode: int, uid: int, gid: int, mtime: int
    ) -> tuple[bytes, bytes, bytes, int]:
        if uid > _USTAR_ID or gid > _USTAR_ID or not 0 <= mtime <= _USTAR_SIZE:
            made = (b"", b"", b"", 0)  # needs PAX: the slow way each time
        else:
            header = _ustar(b"", FILE, mode, uid, gid, 0, mtime, b"", (0, 0), b"")
            # bytes 100-124 are mode, uid, gid; 124-135 the size; 135-148 NUL and mtime
            made = (
                header[100:124],
                header[135:148],
                header[154:],
                _checksum(header) - sum(header[124:135]),
            )
        self._templates[mode, uid, gid, mtime] = made
        return made


def end_of_archive() -> bytes:
    return bytes(2 * BLOCK)


def padding(size: int) -> int:
    """How many zero bytes follow `size` bytes of content."""
    return -size % BLOCK


def _any(entry: Entry) -> bytes:
    path, type_, mode, uid, gid, mtime, size, link, xattrs, device = entry
    _check(entry)
    name = path + b"/" if type_ == DIRECTORY and path else path or b"./"
    records: dict[bytes, bytes] = {}
    prefix = b""
    if not name.isascii():
        records[b"path"], name = name, _ascii(name)[-100:]
    elif len(name) > 100:
        split = _split(name)
        if split:
            prefix, name = split
        else:
            records[b"path"], name = name, name[:100]
    if len(link) > 100 or not link.isascii():
        records[b"linkpath"], link = link, _ascii(link)[:100]
    if size > _USTAR_SIZE:
        records[b"size"], size = b"%d" % size, 0
    if uid > _USTAR_ID:
        records[b"uid"], uid = b"%d" % uid, 0
    if gid > _USTAR_ID:
        records[b"gid"], gid = b"%d" % gid, 0
    if not 0 <= mtime <= _USTAR_SIZE:
        records[b"mtime"], mtime = b"%d" % mtime, 0
    for key, value in xattrs:
        records[b"SCHILY.xattr." + key] = value
    header = _ustar(name, type_, mode, uid, gid, size, mtime, link, device, prefix)
    if not records:
        return header
    if not all(_is_utf8(records.get(key, b"")) for key in (b"path", b"linkpath")):
        records[b"hdrcharset"] = b"BINARY"
    # hdrcharset governs what follows it, so it comes first; the rest is sorted
    body = b"".join(
        _record(key, records[key]) for key in sorted(records, key=lambda k: (k != b"hdrcharset", k))
    )
    pax = _ustar(
        b"PaxHeaders/" + _ascii(path.rpartition(b"/")[2])[:80],
        "x", 0o644, 0, 0, len(body), 0, b"", (0, 0), b"",
    )  # fmt: skip
    return pax + body + bytes(padding(len(body))) + header


def _check(entry: Entry) -> None:
    path = entry.path
    if b"\0" in path or b"\0" in entry.link:
        raise LayerError(f"{os.fsdecode(path)!r}: a name cannot hold a NUL byte")
    if not fits(path):
        raise LayerError(
            f"{os.fsdecode(path[:60])!r}...: longer than a path may be",
            f"at most {MAX_PATH} bytes, {MAX_NAME} between two slashes",
        )
    if not (0 <= entry.uid <= MAX_ID and 0 <= entry.gid <= MAX_ID):
        raise LayerError(
            f"{os.fsdecode(path)!r}: owner {entry.uid}:{entry.gid} is out of range 0..{MAX_ID}"
        )


def _ustar(
    name: bytes, type_: str, mode: int, uid: int, gid: int, size: int, mtime: int,
    link: bytes, device: tuple[int, int], prefix: bytes,
) -> bytes:  # fmt: skip
    header = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0%07o\0%07o\0" % (mode & 0o7777, uid, gid),
            b"%011o\0%011o\0" % (size, mtime),
            b"        ",
            type_.encode(),
            link.ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            b"%07o\0%07o\0" % device,
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    return b"%b%06o\0 %b" % (header[:148], _checksum(header), header[156:])


def _checksum(header: bytes) -> int:
    return sum(header[:148]) + 8 * 32 + sum(header[156:])


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH key=value\\n`, where LENGTH counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """A long name as ustar's prefix and name fields."""
    at = name.rfind(b"/", 0, 156)
    while at > 0:
        if 0 < len(name) - at - 1 <= 100:
            return name[:at], name[at + 1 :]
        if len(name) - at - 1 > 100:
            return None
        at = name.rfind(b"/", 0, at)
    return None


def _ascii(name: bytes) -> bytes:
    return bytes(byte if 32 <= byte < 127 else 95 for byte in name)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
