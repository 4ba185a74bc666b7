"""Caches as tars: out of the store, and into it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from typing import BinaryIO

from builder.errors import StoreError, UsageError
from builder.executor.docker_folders import entries
from builder.layer.archive import read_archive
from builder.layer.entry import DIRECTORY, HARDLINK, Change
from builder.layer.header import end_of_archive
from builder.layer.write import write_layer
from builder.rootfs.jail import FOLDER, Jail
from builder.store import caches
from builder.store.files import failure
from builder.store.store import Store


def export(store: Store, name: str, platform: str, out: BinaryIO) -> None:
    """Write a cache as a tar, the same bytes for the same files. Raises UsageError where there is
    none."""
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
    try:
        if store.files.read_only(store.root):
            raise OSError(errno.EROFS, "")
        with use.held() as copy:
            if copy.new:
                raise StoreError(f"the cache {name!r} has nothing to export: see above")
            written = write_layer(_entries(copy.data), store, "none")
    except OSError as error:
        raise failure(error, "put a tar together in", store.root, store.root) from error
    if written is None:
        out.write(end_of_archive())
        return
    with store.open(written.layer.blob) as blob:
        shutil.copyfileobj(blob, out, 1 << 20)


def _entries(data: str) -> Iterator[Change]:
    """What is below a folder, by path from there."""
    folder, top = os.path.split(data)
    name = os.fsencode(top) + b"/"
    for entry, content in entries(folder, os.fsencode(top)):
        if entry.path.startswith(name):
            link = entry.link.removeprefix(name) if entry.type == HARDLINK else entry.link
            yield entry._replace(path=entry.path.removeprefix(name), link=link), content


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
