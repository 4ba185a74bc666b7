"""Archives of `unpack` steps as entries: tar, plain or compressed, and zip; all hostile."""

from __future__ import annotations

import calendar
import os
import stat
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.errors import LayerError
from builder.layer.decompress import open_layer
from builder.layer.entry import DIRECTORY, FILE, MAX_PATH, SYMLINK, WHITEOUT, Entry
from builder.layer.links import placed
from builder.layer.read import DEFAULT, Limits, clean_path, read_tar, show

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_END = b"PK\x05\x06"
_DIRECTORY_LIMIT = 64 << 20  # bytes of a zip's central directory, which is held in memory
_UNIX = 3
_TYPES = {0: FILE, stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}


def read_archive(archive: BinaryIO, limits: Limits = DEFAULT) -> Iterator[tuple[Entry, BinaryIO]]:
    """The members of a seekable archive in their order, duplicates included; the kind is told by
    its first bytes. The second value reads a FILE's content until the next member is asked for.

    Owners of a zip's members are 0:0 and its times are taken as UTC; without Unix modes they are
    0644 and 0755. Raises LayerError: damage, encryption, names that leave the archive or mean
    whiteouts in a layer, and more than `limits` allow.
    """
    head = archive.read(4)
    archive.seek(0)
    if head in _ZIP:
        members = placed(_read_zip(archive, limits), rooted=False)
    else:
        # The tar's own bytes: a header and padding for each file.
        size = limits.size + 4096 * limits.entries
        members = read_tar(open_layer(archive, limit=size), limits, rooted=False)
    for entry, content in members:
        if any(part.startswith(WHITEOUT) for part in entry.path.split(b"/")):
            raise LayerError(f"entry {show(entry.path)} would remove files when it is in a layer")
        yield entry, content


def _read_zip(archive: BinaryIO, limits: Limits) -> Iterator[tuple[Entry, BinaryIO]]:
    import zipfile
    import zlib

    _check_directory(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            if len(members) > limits.entries:
                raise LayerError(f"the archive has more than {limits.entries} entries")
            if sum(member.file_size for member in members) > limits.size:
                raise LayerError(f"the archive's files are more than {limits.size} bytes")
            for member in members:
                if member.flag_bits & 1:
                    raise LayerError(f"entry {show(_name(member))} is encrypted")
                entry = _zip_entry(opened, member)
                with opened.open(member) as content:
                    yield entry, cast(BinaryIO, _Member(content, entry))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, zlib.error) as error:
        raise LayerError(f"the zip archive is damaged or of an unknown kind: {error}") from error


class _Member:
    """A zip member's content: exactly the size that the directory says."""

    def __init__(self, content: object, entry: Entry) -> None:
        self._content = cast(BinaryIO, content)
        self._left, self._path = entry.size if entry.type == FILE else 0, entry.path

    def read(self, size: int = -1) -> bytes:
        import lzma
        import zipfile
        import zlib

        wanted = self._left if size < 0 else min(size, self._left)
        try:
            data = self._content.read(wanted)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, lzma.LZMAError) as error:
            raise LayerError(f"entry {show(self._path)} is damaged: {error}") from error
        if len(data) != wanted:
            raise LayerError(f"entry {show(self._path)} is cut short")
        self._left -= wanted
        return data


def _name(member: ZipInfo) -> bytes:
    """The name's own bytes: zipfile has decoded them as UTF-8 or as code page 437."""
    return member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437")


def _zip_entry(opened: ZipFile, member: ZipInfo) -> Entry:
    name = _name(member)
    path = clean_path(name)
    attributes = member.external_attr >> 16 if member.create_system == _UNIX else 0
    type_ = _TYPES.get(stat.S_IFMT(attributes))
    if type_ is None:
        raise LayerError(f"entry {show(path)} is no file, folder or symlink")
    if name.endswith(b"/"):
        type_ = DIRECTORY
    if not path and type_ != DIRECTORY:
        raise LayerError(f"entry {show(name)} is the root, which must be a directory")
    mode = attributes & 0o7777 or (0o755 if type_ == DIRECTORY else 0o644)
    mtime = calendar.timegm((*member.date_time, 0, 0, 0))
    if type_ == DIRECTORY:
        return Entry(path, type_, mode, mtime=mtime)
    if type_ == FILE:
        return Entry(path, type_, mode, mtime=mtime, size=member.file_size)
    if not 0 < member.file_size <= MAX_PATH:
        raise LayerError(f"symlink {show(path)} has a target of {member.file_size} bytes")
    with opened.open(member) as content:
        link = content.read(MAX_PATH)
    if b"\0" in link:
        raise LayerError(f"symlink {show(path)} has the target {os.fsdecode(link[:80])!r}")
    return Entry(path, type_, 0o777, mtime=mtime, link=link)


def _check_directory(archive: BinaryIO) -> None:
    """Refuse a central directory that would not fit in memory, before it is read whole."""
    size = archive.seek(0, 2)
    start = max(0, size - 65557)  # the end record with its longest comment
    archive.seek(start)
    tail = archive.read(65557)
    archive.seek(0)
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22:
        raise LayerError("the zip archive is cut short")
    (length,) = struct.unpack_from("<I", tail, at + 12)
    if length == 0xFFFFFFFF:  # zip64: the record before it says how much
        locator = tail.rfind(b"PK\x06\x06", 0, at)
        length = struct.unpack_from("<Q", tail, locator + 40)[0] if locator >= 0 else length
    if length > _DIRECTORY_LIMIT:
        raise LayerError(f"the zip archive's directory is more than {_DIRECTORY_LIMIT} bytes")
