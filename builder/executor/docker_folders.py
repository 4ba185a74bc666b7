"""Files and folders that a step's container sees in an engine: in a volume of the engine's, filled
and read by archives, since nothing says that both sides see the same files. Each is then mounted
from where the volume lies on the engine's machine."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, BinaryIO, NoReturn, cast

from builder.errors import ExecutorError
from builder.executor import syscalls
from builder.executor.base import File, Folder
from builder.executor.changes import Tree, Xattrs, changeset
from builder.executor.docker_vault import remove
from builder.executor.overlay import NOWHERE
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, Change, HostFile
from builder.layer.header import Headers, end_of_archive, padding
from builder.layer.read import read_layer
from builder.oci.image import LAST_SECOND
from builder.rootfs.jail import FOLDER, Jail

if TYPE_CHECKING:
    from builder.transport.engine import Engine

_FOLDER = "/.builder-shows"
_CHUNK = 1 << 20


class Folders:
    """`image` is one that the engine has, `labels` say whose all of it is, `folder` is for archives
    on their way. Raises ExecutorError, TransportError."""

    def __init__(
        self,
        engine: Engine,
        image: str,
        labels: Mapping[str, str],
        mounts: Sequence[Folder | File],
        folder: str,
    ) -> None:
        self._engine, self._volume, self._holder = engine, "", ""
        self._mounts, self._folder = mounts, folder
        try:
            self._open(image, dict(labels))
        except BaseException:
            self.close()
            raise

    def _open(self, image: str, labels: dict[str, str]) -> None:
        from docker.errors import APIError
        from docker.types import Mount

        api = self._engine.api
        with self._engine.asking():
            try:
                self._volume = str(api.create_volume(driver="local", labels=labels)["Name"])
                mount = Mount(_FOLDER, self._volume, type="volume", no_copy=True)
                config = api.create_host_config(network_mode="none", mounts=[mount])
                holder = api.create_container(
                    image, ["/"], labels=labels, host_config=config, use_config_proxy=False
                )  # never started
                self._holder = str(holder["Id"])
                for number, each in enumerate(self._mounts):
                    with self._archive() as file:
                        _write(file, each, b"%d" % number)
                        file.seek(0)
                        api.put_archive(self._holder, _FOLDER, file)
                self._place = str(api.inspect_volume(self._volume)["Mountpoint"])
            except APIError as error:
                said = " ".join(str(error.explanation or error).split())[:300]
                raise ExecutorError(
                    f"docker: the engine takes no files to mount: {said}"
                ) from error

    def place(self, number: int) -> str:
        """Where it is on the engine's machine."""
        return os.path.join(self._place, str(number))

    def bring(self) -> None:
        """Put what the step made of the writable ones in their places here."""
        for number, each in enumerate(self._mounts):
            if isinstance(each, Folder) and each.writable:
                with self._archive() as file, self._engine.asking():
                    chunks, _ = self._engine.api.get_archive(
                        self._holder, f"{_FOLDER}/{number}", chunk_size=_CHUNK
                    )
                    for chunk in chunks:
                        file.write(chunk)
                    file.seek(0)
                    self._replace(each.source, file, b"%d" % number)

    def _replace(self, source: str, archive: IO[bytes], top: bytes) -> None:
        fresh = tempfile.mkdtemp(dir=self._folder)
        folders = []
        jail = Jail(os.open(fresh, FOLDER), devices=syscalls.initial_user_namespace())
        try:
            for entry, content in read_layer(cast(BinaryIO, archive)):
                path = entry.path.removeprefix(top).lstrip(b"/")
                if entry.type == HARDLINK:
                    entry = entry._replace(link=entry.link.removeprefix(top + b"/"))
                entry = entry._replace(path=path)
                if entry.type == DIRECTORY:
                    folders.append(entry)
                jail.add(entry, content)
            for entry in sorted(folders, key=lambda each: each.path, reverse=True):
                jail.settle(entry.path, entry)
        finally:
            jail.close()
        os.rename(source, tempfile.mkdtemp(dir=self._folder) + "/before")
        os.rename(fresh, source)

    @contextlib.contextmanager
    def _archive(self) -> Iterator[IO[bytes]]:
        with tempfile.TemporaryFile(dir=self._folder) as file:
            yield file

    def close(self) -> None:
        remove(self._engine, self._holder, self._volume)


def _write(file: IO[bytes], mount: Folder | File, name: bytes) -> None:
    """What is mounted as a tar, under `name`."""
    headers, top = Headers(), os.path.basename(os.fsencode(mount.source))
    for entry, content in entries(os.path.dirname(mount.source), top):
        path = name + entry.path.removeprefix(top)
        if entry.type == HARDLINK:
            entry = entry._replace(link=name + entry.link.removeprefix(top))
        file.write(headers.of(entry._replace(path=path)))
        if entry.type == FILE and entry.size:
            assert isinstance(content, HostFile) or callable(content)
            with open(content.path, "rb") if isinstance(content, HostFile) else content() as data:
                while block := data.read(_CHUNK):
                    file.write(block)
            file.write(bytes(padding(entry.size)))
    file.write(end_of_archive())


def entries(folder: str, top: bytes) -> Iterator[Change]:
    """What lies at and below `top` in a folder, in a layer's order; no link is followed."""
    tree = Tree(os.fsencode(folder))
    try:
        for entry, content in changeset(tree, _Nothing(), LAST_SECOND, etc=NOWHERE):
            if entry.path == top or entry.path.startswith(top + b"/"):
                yield entry, content
    finally:
        tree.close()


class _Nothing:
    """The tree that all of it is new beside."""

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
