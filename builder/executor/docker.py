"""Command steps in a Docker engine, near or far: nothing assumes files that both sides see.

The image below is sent to the engine (only what it lacks), the command runs in a container of it,
and what changed comes back as the tar of the container's own layer. That tar passes through the
same comparison as the embedded executors' upper directories: the layer is the same to the byte.

An engine's archives hold `security.capability` and no other extended attribute. `user.*` is asked
for where its storage lets us (see docker_xattrs), elsewhere it is lost, with a warning. What Docker
mounts (/etc/hosts, /etc/hostname, /etc/resolv.conf) cannot be changed. The command is process 1 of
its container, so signals that it does not handle do not end it. Storage drivers that copy trees
(vfs, btrfs) lose which files of the layers below were hard links.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from builder.errors import BuilderError, CannotRun, CommandFailed, ExecutorError, TransportError
from builder.events import Lines
from builder.executor.base import (
    HOSTNAME,
    Command,
    File,
    Folder,
    Keep,
    Memory,
    Mounted,
    Parent,
    Value,
)
from builder.executor.changes import changeset
from builder.executor.docker_changes import StoppedContainer, read_changes, storage_of
from builder.executor.docker_folders import Folders
from builder.executor.docker_program import MACHINES
from builder.executor.docker_session import LABEL, owner, sweep
from builder.executor.docker_tree import LayerTree, LowerTree
from builder.executor.mounting import in_order, missing
from builder.executor.overlay import remove_tree
from builder.executor.process import failed, not_started, timed_out
from builder.layer.entry import DIRECTORY, FILE, Change, Entry
from builder.oci.digest import ChainID
from builder.oci.image import Image, Platform, empty_image, encode
from builder.transport.engine import Engine, connect
from builder.transport.engine_send import send_image
from builder.work.cancel import Cancel

if TYPE_CHECKING:
    from builder.executor.docker_vault import Shown
    from builder.rootfs.layers import Layers
    from builder.rootfs.view import View
    from builder.store.store import Store

_TAIL = 20  # lines
_CHUNK = 1 << 20
_NETWORKS = {"host": "host", "none": "none", "private": "bridge"}


class Docker:
    """`environ` says where the engine is. Connects at the first step; what it has in the engine is
    removed when the object is, at the latest when the program ends. With `quick` unset changes are
    always taken the general way (see docker_changes)."""

    name = "docker"
    elsewhere = True

    def __init__(
        self,
        environ: Mapping[str, str],
        store: Store,
        warn: Callable[[str], None],
        cancel: Cancel | None = None,
        *,
        quick: bool = True,
    ) -> None:
        self._environ, self._store, self._warn = environ, store, warn
        self._cancel, self._quick = cancel or Cancel(), quick
        self._turn = threading.Lock()
        self._session: _Session | None = None

    def probe(self) -> str | None:
        from builder.executor.docker_program import Assembler
        from builder.layer.write import write_layer
        from builder.rootfs.layers import Layers
        from builder.rootfs.table import make_table

        try:
            machine = os.uname().machine
            program = Assembler(machine, 2).elf(status=0)
            entries = [Entry(b"true", FILE, 0o755, size=len(program))]
            written = write_layer([(entries[0], program)], self._store)
            assert written is not None
            make_table(self._store, written.layer.diff_id, entries, {})
            image = empty_image(_machine()).append(written.layer, {})
            parent = Parent(image, Layers(self._store))
            command = Command(("/true",), {}, 0, 0, (), "/", "none")
            with self.run(command, parent, lambda chunk: None, 0):
                return None
        except (ExecutorError, CommandFailed) as error:
            return error.message
        finally:
            self.close()

    def close(self) -> None:
        """Remove what is left in the engine."""
        if self._session is not None:
            self._session.end()
            self._session = None

    @contextlib.contextmanager
    def run(
        self,
        command: Command,
        parent: Parent,
        output: Callable[[bytes], None],
        epoch: int,
        keep: Keep | None = None,
    ) -> Iterator[Iterable[Change]]:
        if any(isinstance(each, File) and _is_socket(each.source) for each in command.mounts):
            raise CannotRun(
                "docker: an agent cannot be had in an engine, which may be far away",
                "`--executor sandbox` or runc has it",
            )
        # the SDK's client is not for several threads
        with self._turn, contextlib.ExitStack() as stack:
            folder = self._store.temporary()
            stack.callback(remove_tree, folder)
            try:
                if self._session is None:
                    self._session = _Session(connect(self._environ), self._quick, self._warn)
                session = self._session
                image = session.parent(parent.image, _layers(parent))
                points, places, folders = frozenset[bytes](), dict[str, str](), None
                files = [each for each in command.mounts if isinstance(each, Folder | File)]
                others = tuple(each for each in command.mounts if not isinstance(each, Value))
                if files:
                    labels = {LABEL: session.owner}
                    folders = Folders(session.engine, image, labels, files, folder)
                    stack.callback(folders.close)
                    places = {each.target: folders.place(at) for at, each in enumerate(files)}
                if command.hidden or len(others) < len(command.mounts):
                    shown = session.shown(image, command)
                    stack.callback(shown.vault.close)
                    places |= shown.places
                    command = shown.command._replace(mounts=(*others, *shown.command.mounts))
                container = _Container(session, image, command, places)
                stack.callback(container.remove)
                view = _layers(parent).view(parent.image.layers)
                if command.mounts:
                    points = missing(
                        command,
                        lambda path: view.resolve(path, follow_last=True),
                        lambda path: view.lookup(path) is not None,
                    )
                container.make_working_dir(view, epoch)
                with self._cancel.ending(container.kill):
                    container.run(output)
                if folders:
                    folders.bring()
                upper = container.changes(folder)
            except TransportError as error:
                raise ExecutorError(error.message, error.hint) from error
            except BuilderError as error:
                raise _foreign(error, parent.image.platform) or error from None
            if upper is None:
                yield ()
                return
            stack.callback(upper.close)
            lower = LowerTree(view, folder)
            lower.extract(upper, epoch, parent.image.layers, _layers(parent))
            etc = view.resolve(b"etc", follow_last=True)
            yield changeset(upper, lower, epoch, etc=etc, points=points, note=self._warn)


def _is_socket(path: str) -> bool:
    return stat.S_ISSOCK(os.lstat(path).st_mode)


def _read_only(mounted: Mounted) -> bool:
    return not (isinstance(mounted, Folder) and mounted.writable)


def _layers(parent: Parent) -> Layers:
    if parent.layers is None:
        raise ExecutorError("docker: it runs nothing on an image without layers")
    return parent.layers


def _machine() -> Platform:
    from builder.oci.image import host_platform

    return host_platform()


class _Session:
    """The images of one builder in one engine."""

    def __init__(self, engine: Engine, quick: bool, warn: Callable[[str], None]) -> None:
        self.engine, self.owner = engine, owner()
        self._images: dict[ChainID, str] = {}
        sweep(engine)
        storage = storage_of(engine)
        known = storage.machine in MACHINES
        self.upper, self.machine = quick and storage.upper and known, storage.machine
        if storage.copies:
            warn(
                f"the engine's storage driver is {storage.driver}: a step that touches hard links"
                " of the image below may give another layer than on overlay2"
            )
        if not self.upper:
            warn(
                f"the engine's storage ({storage.driver} on {storage.machine}) does not give away"
                " user.* extended attributes: layers of steps that set them lack them"
            )
        self._finalizer = weakref.finalize(self, _end, engine, self.owner)

    def end(self) -> None:
        self._finalizer()

    def parent(self, image: Image, layers: Layers) -> str:
        """The engine's id of an image with these layers and an empty configuration: no environment,
        no volumes whose content a layer would lack, no health check."""
        chain = image.chain_id
        known = self._images.get(chain)
        if known is not None and self.engine.inspect_image(known):
            return known
        sent = send_image(self.engine, layers, image, _bare_config(image, self.owner), ())
        self._images[chain] = sent.image
        return sent.image

    def shown(self, image: str, command: Command) -> Shown:
        """Have what a command sees of secrets in the engine's memory."""
        from builder.executor.docker_vault import show

        return show(self.engine, image, {LABEL: self.owner}, self.machine, command)


def _end(engine: Engine, mine: str) -> None:
    with contextlib.suppress(TransportError):
        sweep(engine, mine)
    engine.close()


def _bare_config(image: Image, label: str) -> bytes:
    document: dict[str, Any] = {
        "architecture": image.platform.architecture,
        "os": image.platform.os,
        "config": {"Labels": {LABEL: label}},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
    }
    if image.platform.variant:
        document["variant"] = image.platform.variant
    return encode(document)


class _Container:
    """One container for one command. Its labels say whose it is."""

    def __init__(
        self, session: _Session, image: str, command: Command, places: Mapping[str, str]
    ) -> None:
        """`places`: files of the engine's machine that are shown, by their targets."""
        from docker.errors import APIError
        from docker.types import Mount

        self._session, self._engine = session, session.engine
        self._image, self._command = image, command
        api = self._engine.api
        # A name without a value takes a variable away that Docker would add.
        environment = [f"{name}={value}" for name, value in command.env.items()]
        environment += [name for name in ("HOSTNAME", "PATH") if name not in command.env]
        with self._engine.asking():
            host = api.create_host_config(
                network_mode=_NETWORKS[command.network],
                group_add=[str(group) for group in command.groups],
                log_config={"Type": "none"},
                mounts=[
                    Mount(each.target, places[each.target], type="bind", read_only=_read_only(each))
                    for each in in_order(command.mounts)
                    if each.target in places
                ],
                tmpfs={
                    each.target: "mode=1777,exec" + (f",size={each.size}" if each.size else "")
                    for each in command.mounts
                    if isinstance(each, Memory)
                },
            )
            try:
                made = api.create_container(
                    image,
                    list(command.argv),
                    environment=environment,
                    user=f"{command.uid}:{command.gid}",
                    working_dir=command.working_dir,
                    hostname=HOSTNAME,
                    labels={LABEL: session.owner},
                    host_config=host,
                    use_config_proxy=False,
                )
            except APIError as error:
                raise _not_started(command, str(error.explanation or error)) from error
        self._id = str(made["Id"])

    def remove(self) -> None:
        api = self._engine.api
        with contextlib.suppress(TransportError), self._engine.asking():
            api.remove_container(self._id, force=True, v=True)

    def make_working_dir(self, view: View, time: int) -> None:
        """As the other executors do: an engine gives what it makes to root."""
        command = self._command
        missing = view.missing(os.fsencode(command.working_dir))
        if not missing or command.folder_owner == (0, 0):
            return
        from docker.errors import APIError

        from builder.layer.header import Headers, end_of_archive

        owner = command.folder_owner
        folders = [Entry(each, DIRECTORY, 0o755, *owner, time) for each in missing]
        archive = b"".join([*map(Headers().of, folders), end_of_archive()])
        with self._engine.asking():
            try:
                self._engine.api.put_archive(self._id, "/", archive)
            except APIError as error:
                raise _not_started(command, str(error.explanation or error)) from error

    def kill(self) -> None:
        from docker.errors import APIError

        with contextlib.suppress(APIError, TransportError), self._engine.asking():
            self._engine.api.kill(self._id)

    def run(self, output: Callable[[bytes], None]) -> None:
        """Run the command to its end. Raises CommandFailed, ExecutorError, TransportError."""
        from docker.errors import APIError

        api = self._engine.api
        tail: deque[str] = deque(maxlen=_TAIL)
        lines = Lines(lambda text: tail.extend(text.split("\n")))
        with self._engine.asking():
            stream = api.attach(self._id, stdout=True, stderr=True, stream=True, logs=False)
            try:
                api.start(self._id)
            except APIError as error:
                raise _not_started(self._command, str(error.explanation or error)) from error
            with self._ended_after(self._command.timeout) as late:
                for chunk in stream:
                    output(chunk)
                    lines.feed(chunk)
                status = int(api.wait(self._id, timeout=None)["StatusCode"])
            state = api.inspect_container(self._id)["State"] if status else {}
        lines.close()
        if late:
            raise timed_out(self._command.timeout or 0, tuple(tail))
        if state.get("OOMKilled"):
            message = "killed: out of memory"
            raise CommandFailed(message, exit_status=status, tail=tuple(tail))
        if status:
            raise failed(status, tuple(tail))

    @contextlib.contextmanager
    def _ended_after(self, timeout: float | None) -> Iterator[list[bool]]:
        """Kill the container then; the list is no longer empty when that was so."""
        late: list[bool] = []

        def end() -> None:
            late.append(True)
            self.kill()

        if timeout is None:
            yield late
            return
        timer = threading.Timer(timeout, end)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def changes(self, folder: str) -> LayerTree | None:
        """What the command left in the container's layer; None: nothing."""
        session = self._session
        labels = {LABEL: session.owner}
        stopped = StoppedContainer(self._engine, self._id, self._image, labels, session.machine)
        return read_changes(stopped, folder, upper=session.upper)


def _foreign(error: BuilderError, platform: Platform) -> CannotRun | None:
    """What it is when the engine's kernel knows no way to start a program."""
    lines = [error.what, *(error.tail if isinstance(error, CommandFailed) else ())]
    if not any("exec format error" in line for line in lines) or platform == _machine():
        return None
    from builder.executor.emulator import hint_for

    return CannotRun(f"no emulator for {platform} in the Docker engine", hint_for(platform))


def _not_started(command: Command, said: str) -> BuilderError:
    """Why an engine could not start the command: a fault of the step, or of the engine."""
    if command.network == "private" and "bridge" in said:
        return CannotRun(
            "docker: `network: private` is the engine's bridge network, and it has none",
            "start the engine with one (`dockerd --bridge`), or `--executor sandbox`",
        )
    return not_started(command, said) or ExecutorError(f"docker: {' '.join(said.split())[:500]}")
