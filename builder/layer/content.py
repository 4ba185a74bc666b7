"""Reading what an entry holds: as many bytes as it says, and those that its key was made of."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from builder.errors import LayerError
from builder.layer.entry import Content, Entry, HostFile
from builder.oci.digest import hasher

CHUNK = 1 << 20


def read_whole(entry: Entry, content: Content) -> bytes:
    """A small file's bytes, exactly entry.size of them."""
    if isinstance(content, HostFile):
        data = _read_file(entry, content)
    elif isinstance(content, bytes):
        data = content
    else:
        data = b"".join(read_chunks(entry, content))
    if len(data) != entry[6]:
        raise _changed(entry)
    return data


def _read_file(entry: Entry, file: HostFile) -> bytes:
    digest, size = file[1], entry[6]
    try:
        handle = file.open()
    except OSError as error:
        raise _unreadable(entry, error) from error
    try:
        # what has the right digest needs no look at its type
        if digest is None and not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _changed(entry)
        data = os.read(handle, size + 1)
        while len(data) < size and (more := os.read(handle, size + 1 - len(data))):
            data += more
    except OSError as error:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _changed(entry) from error
        raise _unreadable(entry, error) from error
    finally:
        os.close(handle)
    if digest is not None and hasher(data).digest() != digest:
        raise _changed(entry)
    return data


def read_chunks(entry: Entry, content: Content) -> Iterator[bytes]:
    """A file's bytes in chunks, exactly entry.size of them in all."""
    if isinstance(content, bytes):
        if len(content) != entry.size:
            raise _changed(entry)
        yield content
        return
    wanted: bytes | None = None
    file: BinaryIO
    if isinstance(content, HostFile):
        file = os.fdopen(_open(entry, content), "rb", buffering=0)
        wanted = content.digest
    elif callable(content):
        file = content()
    else:
        raise LayerError(f"{os.fsdecode(entry.path)!r}: a file without content")
    running = hasher() if wanted is not None else None
    left = entry.size
    with file:
        while left:
            try:
                chunk = file.read(min(left, CHUNK))
            except OSError as error:
                raise _unreadable(entry, error) from error
            if not chunk:
                raise _changed(entry)
            if running:
                running.update(chunk)
            left -= len(chunk)
            yield chunk
        if isinstance(content, HostFile) and file.read(1):
            raise _changed(entry)
    if running and running.digest() != wanted:
        raise _changed(entry)


def _open(entry: Entry, file: HostFile) -> int:
    try:
        handle = file.open()
    except OSError as error:
        raise _unreadable(entry, error) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _changed(entry)
    return handle


def _changed(entry: Entry) -> LayerError:
    return LayerError(
        f"{os.fsdecode(entry.path)!r} changed while it was read", "build again when it is at rest"
    )


def _unreadable(entry: Entry, error: OSError) -> LayerError:
    return LayerError(f"{os.fsdecode(entry.path)!r} cannot be read: {error.strerror}")
