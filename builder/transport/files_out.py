"""An image's files as an output, without its layers: `dir:DIR` and `tar:FILE`."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import LayerError, TransportError
from builder.events import Noted, Warned
from builder.layer.entry import BLOCK, CHAR, DIRECTORY, FILE, HARDLINK, Entry
from builder.layer.header import Headers, end_of_archive, padding
from builder.layer.read import DEFAULT, room, show
from builder.layer.sparse import skip_hole
from builder.rootfs.flat import Flat, Source
from builder.rootfs.jail import Jail
from builder.rootfs.layers import Layers
from builder.transport.base import Delivered
from builder.transport.importing import CHUNK
from builder.transport.target import check_target, writing
from builder.transport.target_folder import check_folder, filling

if TYPE_CHECKING:
    from builder.oci.image import Image
    from builder.store.store import Store

_DEVICES = (CHAR, BLOCK)


class FilesTar:
    """One tar, sorted as layers are, the same bytes for the same image. How long every member is
    is known before a layer is read, so each file is written where it belongs as it comes."""

    def __init__(self, store: Store, path: str) -> None:
        self._store, self.path = store, os.path.abspath(path)
        self._where = f"tar:{self.path}"

    def check(self) -> None:
        with _named(self._where):
            check_target(self.path)

    takes_index = False

    def put(self, images: Sequence[Image]) -> Delivered:
        (image,) = images
        flat = Flat(Layers(self._store), image.layers)
        with _named(self._where), writing(self.path) as file:
            places = [array("q", bytes(8 * flat.paths(n))) for n in range(len(image.layers))]
            sizes = [array("q", bytes(8 * flat.paths(n))) for n in range(len(image.layers))]
            handle, end, header = file.fileno(), 0, Headers().of
            for entry, source in flat.entries():
                end += _write(handle, header(entry), end)
                if source:
                    places[source.layer][source.place] = end
                    sizes[source.layer][source.place] = entry.size
                    end += entry.size + padding(entry.size)
            end += _write(handle, end_of_archive(), end)
            wrong: dict[Source, bytes] = {}
            for source, entry, content, again in flat.files(room(os.path.dirname(self.path))):
                layer, index = source
                size = sizes[layer][index]
                _fill(handle, places[layer][index], min(size, entry.size), content, again=again)
                wrong.pop(source, None)
                if entry.size != size:  # unless it comes again
                    wrong[source] = entry.path
            for path in wrong.values():
                raise LayerError(f"{show(path)} is not as long as is noted of it")
        return Delivered(self._where, end)


class FilesFolder:
    """The files themselves, of the image's owners and with its devices where root writes them, else
    the user's own. A folder that was written so before is replaced whole."""

    def __init__(self, store: Store, path: str) -> None:
        self._store, self.path = store, os.path.abspath(path)
        self._where = f"dir:{self.path}"

    def check(self) -> None:
        with _named(self._where, self.path):
            check_folder(self.path, self._store)

    takes_index = False

    def put(self, images: Sequence[Image]) -> Delivered:
        (image,) = images
        from builder.executor.syscalls import initial_user_namespace

        flat = Flat(Layers(self._store), image.layers)
        root = os.geteuid() == 0 and initial_user_namespace()
        with _named(self._where, self.path), filling(self.path, self._store) as handle:
            jail = Jail(os.dup(handle), devices=root, owners=root)
            try:
                sent = _fill_jail(jail, flat, devices=root)
                os.fchmod(handle, 0o755)  # as of the root of a container
            finally:
                jail.close()
        if not root:
            self._tell(jail)
        return Delivered(self._where, sent)

    def _tell(self, jail: Jail) -> None:
        """What an ordinary user's folder has not of the image."""
        text = f"{self._where}: all of it is yours, whoever owns it in the image"
        if not jail.left_out:
            self._store.emit(Noted(text))
            return
        kinds = ", ".join(f"{n} {what}{'s' * (n > 1)}" for what, n in jail.left_out.items())
        self._store.emit(Warned(f"{text}; left out: {kinds}. tar:FILE keeps all"))


def _fill_jail(jail: Jail, flat: Flat, *, devices: bool) -> int:
    """All but the contents of files first; then these, then other names of them, and what a folder
    is itself at the end. Gives how many bytes the files hold."""
    nothing = io.BytesIO()
    folders: list[Entry] = []
    links: list[Entry] = []
    absent: set[bytes] = set()
    sent = 0
    for entry, _ in flat.entries():
        if entry.type == HARDLINK:
            links.append(entry)
        elif entry.type != FILE:
            with _at(entry):
                jail.add(entry, nothing)
            if entry.type == DIRECTORY:
                folders.append(entry)
            elif entry.type in _DEVICES and not devices:
                absent.add(entry.path)
    for _, entry, content, _ in flat.files(DEFAULT):
        with _at(entry):
            jail.add(entry, content)
        sent += entry.size
    for entry in links:
        if entry.link not in absent:
            with _at(entry):
                jail.add(entry, nothing)
    for entry in reversed(folders):
        with _at(entry):
            jail.settle(entry.path, entry)
    return sent


def _fill(handle: int, at: int, size: int, content: BinaryIO, *, again: bool) -> None:
    """Write what a member holds. `again`: something else was written there."""
    end = at + size
    while at < end:
        if hole := min(skip_hole(content), end - at):
            if again:
                for start in range(at, at + hole, CHUNK):
                    _write(handle, bytes(min(CHUNK, at + hole - start)), start)
            at += hole
        else:
            data = content.read(min(CHUNK, end - at))
            if not data:
                return
            at += _write(handle, data, at)


def _write(handle: int, data: bytes, at: int) -> int:
    left = memoryview(data)
    while left:
        count = os.pwrite(handle, left, at)
        left, at = left[count:], at + count
    return len(data)


@contextlib.contextmanager
def _at(entry: Entry) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{show(entry.path)}: {error.strerror}") from error


@contextlib.contextmanager
def _named(where: str, folder: str = "") -> Iterator[None]:
    """Errors of what `where` names; `folder` is there where a folder is to be filled."""
    try:
        yield
    except OSError as error:
        hint = None
        if folder and error.errno == errno.ENOTEMPTY:
            hint = f"name a new folder: dir:{os.path.join(folder, 'rootfs')}"
        raise TransportError(f"{where}: {error.strerror}", hint) from error
