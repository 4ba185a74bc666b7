"""The store's folder: recognised, made, refused. Nothing of what is refused is changed.

A store is a folder with a `version` file or, where that was lost, with our CACHEDIR.TAG. One is
made in a new or an empty folder: the tag comes first and `version` last, so what a killed maker
left can be told from a folder of somebody else's. Folders below are made when a write misses one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from builder.errors import StoreError
from builder.oci.digest import hex_of
from builder.store.files import CREATE, LIST, NOT_A_FILE, READ, Files, failure, owned, write_all
from builder.store.names import encode_index
from builder.store.trees import remove_tree
from builder.store.writers import OTHERS_WRITE, tell_of_writers

VERSION = b"1"
KINDS = (
    *("records", "documents", "layers", "bases", "memos", "trees", "specs", "builds", "logs"),
    "names",
)
"""Kinds of entries, each a folder."""
_MADE_FOLDERS = ("tmp", "locks", "live", "blobs", "blobs/sha256")
_FOLDERS = (
    *_MADE_FOLDERS,
    "partials",
    "tables",
    "contents",
    "unpacked",
    "uses",
    "caches",
    "containers",
    *KINDS,
)
_MADE = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": encode_index([])}
TAG = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# This folder holds a cache of `builder`, which can be made again.\n"
)


def open_root(files: Files, root: str, warn: Callable[[str], None]) -> None:
    """Recognise the store, or make it. Raises StoreError."""
    try:
        status = files.enter(root)
    except FileNotFoundError:
        if os.path.islink(root):
            raise _foreign(root, "it is a symlink to nothing") from None
        try:
            _make_folder(files, root)
            status = files.enter(root)
        except OSError as error:
            raise failure(error, "make the store's folder", root, root) from error
    except NotADirectoryError:
        raise _foreign(root, "not a folder") from None
    except OSError as error:
        raise failure(error, "open", root, root) from error
    _check_owner(files, root, status.st_uid)
    version = _version(files, root)
    if version == VERSION:
        folders = _check_folders(files, root)
    elif version:
        raise StoreError(
            f"{root}: a store of version {version.decode()}, this builder knows {VERSION.decode()}",
            "use a newer builder, or name another folder with --cache-dir",
        )
    else:
        tagged = _recognise(files, root, status)
        folders = _check_folders(files, root)
        try:
            _make_in(files, root, tagged=tagged)
            if version is not None:
                warn("the store's version file is corrupt; it is made again")
                with contextlib.suppress(OSError):
                    _write(files, root, "version", _stamped(VERSION))
        except OSError as error:
            raise failure(error, "make a store in", root, root) from error
    tell_of_writers(files, root, {root: status, **folders}, warn)


def _make_folder(files: Files, path: str) -> None:
    """Make a folder with its parents."""
    try:
        files.mkdir(path)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_folder(files, os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            files.mkdir(path)  # fails again where nothing can be made, as below /proc


def _recognise(files: Files, root: str, status: os.stat_result) -> bool:
    """Of a folder without a version: True for a store, False where one may be made: in an empty
    folder, or in what a maker left that was killed at once. Raises StoreError for any other."""
    try:
        found = set(files.listdir(root))
        tag = _tag(files, root)  # after that: another builder may be making the store
    except OSError as error:
        raise failure(error, "open", root, root) from error
    if tag == TAG:
        return True
    if tag is not None and TAG.startswith(tag):
        found.discard("CACHEDIR.TAG")
    if found:
        raise _foreign(root, f"it holds {min(found)!r}")
    if status.st_mode & stat.S_ISVTX and status.st_mode & OTHERS_WRITE:
        raise StoreError(
            f"{root}: not a store of builder, but a folder for everybody's files"
            f" (mode {stat.S_IMODE(status.st_mode):o})",
            f"name a folder of your own: --cache-dir {os.path.join(root, 'builder')}",
        )
    return False


def _check_folders(files: Files, root: str) -> dict[str, os.stat_result]:
    """The store's own folders that are there: folders indeed, and its owner's. A symlink in the
    place of one would let us write, and remove, where it leads. Raises StoreError."""
    found = {}
    for name in _FOLDERS:
        path = os.path.join(root, name)
        try:
            status = files.lstat(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise failure(error, "open", path, root) from error
        if not stat.S_ISDIR(status.st_mode):
            what = "a symlink" if stat.S_ISLNK(status.st_mode) else "not a folder"
            raise StoreError(
                f"{path}: {what}, where the store has a folder of its own",
                "find out who put it there; then remove it, and the folder is made again",
            )
        if not owned(files, status):
            raise StoreError(
                f"{path}: belongs to user {status.st_uid}, the store does not",
                "find out who put it there; then remove it, and the folder is made again",
            )
        found[path] = status
    return found


def _make_in(files: Files, root: str, *, tagged: bool) -> None:
    if not tagged:
        _write_tag(files, root)
    for folder in _MADE_FOLDERS:
        with contextlib.suppress(FileExistsError):
            files.mkdir(os.path.join(root, folder))
    for name, data in _MADE.items():
        _write(files, root, name, data, keep=True)
    _write(files, root, "version", _stamped(VERSION), keep=True)


def _write_tag(files: Files, root: str) -> None:
    """On disk before anything else. Another maker may be writing the same bytes there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    handle = files.open(os.path.join(root, "CACHEDIR.TAG"), flags)
    try:
        write_all(files, handle, TAG)
        files.fsync(handle)
    finally:
        files.close(handle)
    handle = files.open(root, LIST)
    try:
        files.fsync(handle)
    finally:
        files.close(handle)


def _write(files: Files, root: str, name: str, data: bytes, keep: bool = False) -> None:
    """`keep`: what another builder put there in the meantime stays."""

    def fresh() -> str:
        return os.path.join(root, "tmp", os.urandom(8).hex())

    temporary = fresh()
    handle = files.open(temporary, CREATE)
    try:
        try:
            write_all(files, handle, data)
            files.fsync(handle)
        finally:
            files.close(handle)
        target = os.path.join(root, name)
        if keep:
            with contextlib.suppress(FileExistsError):
                files.link(temporary, target)
        else:
            try:
                files.rename(temporary, target)
            except (IsADirectoryError, FileExistsError):
                in_the_way = fresh()
                files.rename(target, in_the_way)
                files.rename(temporary, target)
                remove_tree(files, in_the_way, fresh)
    finally:
        with contextlib.suppress(OSError):
            files.unlink(temporary)


def _tag(files: Files, root: str) -> bytes | None:
    """What CACHEDIR.TAG says; b"": there is none; None: something else is in its place, or it is
    somebody else's or a file's other name."""
    try:
        handle = files.open(os.path.join(root, "CACHEDIR.TAG"), READ)
    except FileNotFoundError:
        return b""
    except OSError as error:
        if error.errno in (errno.ELOOP, NOT_A_FILE):
            return None
        raise
    try:
        status = files.fstat(handle)
        if status.st_nlink > 1 or not owned(files, status):
            return None
        return files.read(handle, 200)
    finally:
        files.close(handle)


def _version(files: Files, root: str) -> bytes | None:
    """The version; None: there is none; b"": corrupt."""
    try:
        handle = files.open(os.path.join(root, "version"), READ)
        try:
            data = files.read(handle, 200)
        finally:
            files.close(handle)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, NOT_A_FILE, errno.EIO):
            return b""
        raise failure(error, "open", root, root) from error
    version = data.rpartition(b"\n")[2]
    return version if data == _stamped(version) else b""


def _stamped(version: bytes) -> bytes:
    return hex_of(b"version " + version).encode() + b"\n" + version


def _check_owner(files: Files, root: str, owner: int) -> None:
    """Another user's store could hold anything, unless that is root or the mount is read-only."""
    if owner in (0, os.geteuid()):
        return
    try:
        if files.read_only(root):
            return
    except OSError as error:
        raise failure(error, "open", root, root) from error
    raise StoreError(
        f"{root}: belongs to user {owner}, not to user {os.geteuid()} who runs builder",
        "name a folder of your own with --cache-dir",
    )


def _foreign(root: str, why: str) -> StoreError:
    return StoreError(
        f"{root}: not a store of builder: {why}",
        "name an empty or a new folder with --cache-dir",
    )
