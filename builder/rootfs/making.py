"""Making path tables: of a layer's tar, and of what a layer will be made of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from builder.layer.entry import FILE, HARDLINK, Content, Entry, HostFile
from builder.layer.read import read_layer
from builder.rootfs.accounts import ACCOUNT_FILE, is_account_file
from builder.rootfs.table import MemoryTable, PathTable, make_table

if TYPE_CHECKING:
    from builder.rootfs.base import Listing
    from builder.store.store import Store


def table_of_tar(store: Store, diff_id: str, plain: BinaryIO) -> PathTable:
    """The path table of a layer of the store, whose uncompressed tar is read for it."""
    files: dict[bytes, bytes] = {}

    def entries() -> Iterator[Entry]:
        for entry, content in read_layer(plain):
            small = entry.type == FILE and entry.size <= ACCOUNT_FILE
            if small and is_account_file(entry.path):
                files[entry.path] = b"".join(iter(partial(content.read, 1 << 16), b""))
            yield entry

    return make_table(store, diff_id, entries(), files)


def table_of(listing: Listing) -> MemoryTable:
    """The paths of a layer that is planned."""
    table = MemoryTable((entry for entry, _ in listing.sorted()), _accounts(listing))
    table.read = partial(_read_listed, listing)
    return table


def _read_listed(listing: Listing, path: bytes) -> bytes | None:
    for entry, content in listing.sorted():
        if entry.path == path:
            if entry.type == HARDLINK:
                return _read_listed(listing, entry.link)
            return read_account(content)
    return None


def _accounts(listing: Listing) -> dict[bytes, bytes]:
    """The contents of account files that a step writes, for owners named in later steps."""
    if not listing.accounts:
        return {}
    return {
        entry.path: read_account(content)
        for entry, content in listing.sorted()
        if entry.type == FILE and is_account_file(entry.path)
    }


def read_account(content: Content) -> bytes:
    """An account file's bytes; only the first of one that is too large to be one."""
    if isinstance(content, bytes):
        return content[:ACCOUNT_FILE]
    if isinstance(content, HostFile):
        with open(content.open(), "rb") as file:
            return file.read(ACCOUNT_FILE)
    if content is None:
        return b""
    with content() as stream:
        return stream.read(ACCOUNT_FILE)
