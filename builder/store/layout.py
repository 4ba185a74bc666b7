"""The store's folder: made, recognised, refused.

`version` is written last, so a folder that has it is whole; folders below are made when a write
misses one.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

from builder.errors import StoreError
from builder.oci.digest import hex_of
from builder.store.files import CREATE, READ, Files, failure, write_all
from builder.store.names import encode_index
from builder.store.trees import remove_tree

VERSION = b"1"
_MADE = {
    "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
    "index.json": encode_index([]),
    "CACHEDIR.TAG": b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# This folder holds a cache of `builder`, which can be made again.\n",
}
_PARTIAL = {*_MADE, "tmp", "blobs", "locks", "live"}
"""What a builder that was killed while making a store may leave; a foreign layout has no tmp/."""


def open_root(files: Files, root: str, warn: Callable[[str], None]) -> None:
    """Recognise the store, or make it. Raises StoreError."""
    try:
        status = files.stat(root)
    except FileNotFoundError:
        try:
            _make_folder(files, root)
        except OSError as error:
            raise failure(error, "make the store's folder", root, root) from error
        _make_in(files, root)
        return
    except NotADirectoryError:
        raise _foreign(root, "its parent is not a folder") from None
    except OSError as error:
        raise failure(error, "open", root, root) from error
    _check_owner(files, root, status.st_uid)
    if status.st_mode & 0o022:
        with contextlib.suppress(OSError):  # others must not be able to plant layers
            files.chmod(root, 0o700)
    version = _version(files, root)
    if version == VERSION:
        return
    if version is None:
        _make_in(files, root)
    elif version.isdigit():
        raise StoreError(
            f"{root}: a store of version {version.decode()}, this builder knows {VERSION.decode()}",
            "use a newer builder, or name another folder with --cache-dir",
        )
    else:
        warn("the store's version file is corrupt; it is made again")
        with contextlib.suppress(OSError):
            _write(files, root, "version", _stamped(VERSION))


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


def _make_in(files: Files, root: str) -> None:
    try:
        found = set(files.listdir(root))
        if "version" in found:
            return  # another builder was faster
        if found and not ("tmp" in found and found <= _PARTIAL) and not _tagged(files, root):
            raise _foreign(root, f"it holds {min(found)!r}")
        files.chmod(root, 0o700)
        for folder in ("tmp", "locks", "live", "blobs", "blobs/sha256"):
            with contextlib.suppress(FileExistsError):
                files.mkdir(os.path.join(root, folder))
        for name, data in _MADE.items():
            _write(files, root, name, data, keep=True)
        _write(files, root, "version", _stamped(VERSION), keep=True)
    except OSError as error:
        raise failure(error, "make a store in", root, root) from error


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


def _tagged(files: Files, root: str) -> bool:
    """Our CACHEDIR.TAG stands there: a store that lost its version file."""
    try:
        handle = files.open(os.path.join(root, "CACHEDIR.TAG"), READ)
    except OSError:
        return False
    try:
        return files.read(handle, 200) == _MADE["CACHEDIR.TAG"]
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
        if error.errno in (errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EIO):
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
