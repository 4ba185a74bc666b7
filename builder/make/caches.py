"""Caches as tars: out of the store, and into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

from builder.errors import UsageError
from builder.executor.changes import Tree, Xattrs, changeset
from builder.executor.overlay import NOWHERE
from builder.layer.archive import read_archive
from builder.layer.entry import DIRECTORY, HARDLINK, Change
from builder.layer.write import write_layer
from builder.oci.image import LAST_SECOND
from builder.rootfs.jail import FOLDER, Jail
from builder.store import caches
from builder.store.files import failure
from builder.store.store import Store

_DATA = b"data/"


def export(store: Store, name: str, platform: str, out: BinaryIO) -> int:
    """Write a cache as a tar, the same bytes for the same files; gives their number. Raises
    UsageError where there is none."""
    known = {each.name for each in caches.listed(store)}
    if not known:
        raise UsageError(f"no cache {name!r}: the store has none")
    use = caches.Use(store, name, platform, "shared", f"cache export {name}")
    if name not in known or not use.there():
        from builder.spec.source import did_you_mean

        raise UsageError(
            f"no cache {name!r} for {platform}{did_you_mean(name, sorted(known - {name}))}",
            "builder cache ls tells all of them",
        )
    with use.held() as copy:
        folder = os.path.dirname(copy.data)
        upper = Tree(os.fsencode(folder))
        try:
            changes = list(_entries(upper))
            written = write_layer(iter(changes), store, "none")
            if written is None:
                out.write(bytes(1024))
                return 0
            with store.open(written.layer.blob) as blob:
                shutil.copyfileobj(blob, out, 1 << 20)
        finally:
            upper.close()
    return len(changes)


def _entries(upper: Tree) -> Iterator[Change]:
    for entry, content in changeset(upper, _Nothing(), LAST_SECOND, etc=NOWHERE):
        if entry.path.startswith(_DATA):
            link = entry.link
            if entry.type == HARDLINK:
                link = link.removeprefix(_DATA)
            yield entry._replace(path=entry.path.removeprefix(_DATA), link=link), content


class _Nothing:
    """The tree that a cache is compared with."""

    def lstat(self, path: bytes) -> os.stat_result | None:
        return None

    def names(self, path: bytes) -> list[bytes]:
        return []

    def xattrs(self, path: bytes) -> Xattrs:
        return ()

    def readlink(self, path: bytes) -> NoReturn:
        raise FileNotFoundError(path)

    def open(self, path: bytes) -> NoReturn:
        raise FileNotFoundError(path)


def import_(store: Store, name: str, platform: str, archive: BinaryIO) -> int:
    """Put the files of a tar, which may be compressed, in a cache's place; gives their number.
    Raises LayerError for what is none or names what lies outside."""
    folder = store.temporary()
    data = os.path.join(folder, "data")
    try:
        os.mkdir(data, 0o755)
        number = _unpack(archive, data)
        caches.replace(store, name, platform, folder)
    except OSError as error:
        raise failure(error, "write", data, store.root) from error
    finally:
        if os.path.lexists(folder):
            store.folder.session().discard(folder)
    return number


def _unpack(archive: BinaryIO, data: str) -> int:
    jail = Jail(os.open(data, FOLDER), devices=False, owners=os.geteuid() == 0)
    folders, number = {}, 0
    try:
        for entry, content in read_archive(archive):
            number += 1
            jail.add(entry, content)
            if entry.type == DIRECTORY and entry.path:
                folders[entry.path] = entry
        for path in sorted(folders, reverse=True):
            jail.settle(path, folders[path])
    finally:
        jail.close()
    os.chmod(data, 0o755)
    return number
