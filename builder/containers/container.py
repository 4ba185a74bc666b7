"""Containers of a store: made, run, found, removed.

containers/NAME/ is one that is kept, for as long as the user wants it. One that goes with its
command has the same in a folder of tmp/, so what a killed builder leaves goes as all there does.
Whoever runs one holds a lock on its file `lock`, in which the number of its process is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from builder.containers.about import MOST, Container, from_bytes, to_bytes
from builder.containers.command import Above, Settings, command_of
from builder.containers.files import changes
from builder.errors import CannotRun, StoreError, UsageError
from builder.executor.base import Command, File, Folder, Parent, Standing, Streams
from builder.store.files import LOCK, READ, failure, write_all

if TYPE_CHECKING:
    from builder.executor.base import Executor
    from builder.oci.image import Image
    from builder.rootfs.layers import Layers
    from builder.store.store import Store

__all__ = ["Container", "On", "Settings", "Streams", "changes", "find", "kept", "remove", "run"]

NAME = re.compile("[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}")
_PASSING = re.compile(r"[0-9a-f]{16}\.[0-9]+\.(run-[0-9a-f]{6})")
"""The folder of one that is not kept, in tmp/."""
_LONGEST = 30.0  # seconds that one has to end in that was killed


class On(NamedTuple):
    """The image that a container is to stand on."""

    name: str  # as the user wrote it
    digest: str  # of its manifest
    image: Image


def run(
    executor: Executor,
    layers: Layers,
    on: On | Container,
    settings: Settings | Command,
    streams: Streams,
    keep: str = "",
) -> int:
    """Run a command in a new container, or in one that is kept, and give its exit status. A new one
    is removed afterwards unless `keep` names it; of one that is kept it is noted what ran last,
    unless the command is given whole. Raises UsageError: a name in use, a container that
    runs, nothing to run; CommandFailed with the status 124, 126 or 127; CannotRun.
    """
    from builder.executor.confine import Overlaid

    check_has_containers(executor.name)
    assert isinstance(executor, Overlaid)
    with _stand(layers, on, settings, streams, keep) as (container, handle):
        _check_mounts(container.command)
        read_only = isinstance(settings, Settings) and settings.read_only
        volumes = (container.config.get("config") or {}).get("Volumes") or {}

        def started(process: int) -> None:
            os.pwrite(handle, b"%-20d" % process, 0)

        return executor.attach(
            container.command._replace(timeout=settings.timeout),
            Parent(container.stands_on(), layers),
            Standing(container.upper, read_only, tuple(volumes)),
            streams,
            started,
        )


def check_has_containers(executor: str) -> None:
    """Raises UsageError."""
    if executor == "chroot":
        hint = "as root or with subordinate ids: `--executor sandbox`, or runc"
    elif executor == "docker":
        hint = "`--executor sandbox`; or `builder load IMAGE`, then `docker run`"
    else:
        return
    raise UsageError(f"the executor {executor!r} has no containers", hint)


@contextlib.contextmanager
def _stand(
    layers: Layers, on: On | Container, settings: Settings | Command, streams: Streams, keep: str
) -> Iterator[tuple[Container, int]]:
    """The container with its lock held."""
    store = layers.store
    if isinstance(on, Container):
        if isinstance(settings, Command):
            with held(on) as handle:
                yield on._replace(command=settings), handle
            return
        command = command_of(
            on.config,
            Above(on.upper, layers.view(on.layers)),
            settings,
            terminal=streams.terminal,
            before=on.command,
        )
        with held(on) as handle:
            container = on._replace(command=command)
            _write(store, container)
            yield container, handle
        return
    if keep:
        check_name(store, keep)
    command = (
        settings
        if isinstance(settings, Command)
        else command_of(
            on.image.config,
            layers.view(on.image.layers),
            settings,
            terminal=streams.terminal,
            before=None,
        )
    )
    name = keep or f"run-{os.urandom(3).hex()}"
    container = Container(
        name, on.name, on.digest, on.image.layers, on.image.config, command, int(time.time())
    )
    with make(store, container, kept=bool(keep)) as made:
        yield made


@contextlib.contextmanager
def make(store: Store, container: Container, *, kept: bool) -> Iterator[tuple[Container, int]]:
    """Have the folder of a new container, with its lock held; one that is not kept is removed
    afterwards. Raises UsageError where its name is in use."""
    folder = store.temporary(f".{container.name}")
    container = container._replace(folder=folder)
    try:
        os.mkdir(container.upper, 0o755)
        _write(store, container)
        handle = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise failure(error, "make a container in", folder, store.root) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if kept:
            target = os.path.join(store.root, "containers", container.name)
            _place(store, folder, target)
            folder = ""
            container = container._replace(folder=target)
        yield container, handle
    finally:
        if folder:
            store.folder.session().discard(folder)
        os.close(handle)


def _place(store: Store, folder: str, target: str) -> None:
    """Rename it to where it is kept, if nothing is there."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.rename(folder, target)
    except OSError as error:
        if os.path.lexists(target):
            raise in_use(os.path.basename(target)) from None
        raise failure(error, "make a container in", target, store.root) from error


def check_name(store: Store, name: str) -> None:
    """Raises UsageError for what is no name, and for one that is in use."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of a container",
            "letters, digits and . _ - in it, and a letter or a digit first",
        )
    if os.path.lexists(os.path.join(store.root, "containers", name)):
        raise in_use(name)


def in_use(name: str) -> UsageError:
    return UsageError(
        f"there is a container {name!r} already",
        f"`builder run container:{name}` runs it again, `builder rm {name}` removes it",
    )


@contextlib.contextmanager
def held(container: Container) -> Iterator[int]:
    """The lock of a kept container. Raises UsageError where it runs or is gone."""
    try:
        handle = os.open(f"{container.folder}/lock", LOCK | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise UsageError(f"the container {container.name!r} has just been removed") from None
    except OSError as error:
        raise CannotRun(f"{container.folder}/lock cannot be opened: {error.strerror}") from error
    try:
        if not _locked(handle):
            raise UsageError(
                f"the container {container.name!r} runs",
                f"wait for it, or `builder rm -f {container.name}` ends and removes it",
            )
        yield handle
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    """Who only looks whether it is held has it for an instant, too."""
    for _ in range(20):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.01)
    return False


def _write(store: Store, container: Container) -> None:
    path = f"{container.folder}/about.json"
    try:
        new, handle = store.folder.create()
        try:
            write_all(store.files, handle, to_bytes(container))
        finally:
            store.files.close(handle)
        os.rename(new, path)
    except OSError as error:
        raise failure(error, "write", path, store.root) from error


def _check_mounts(command: Command) -> None:
    """What is mounted is there: of a kept container it was there when that was made."""
    for each in command.mounts:
        if isinstance(each, Folder | File) and not os.path.exists(each.source):
            raise CannotRun(f"{each.source!r}, which is to be mounted at {each.target!r}, is gone")


# -- those that are there -------------------------------------------------------------------------


class Status(NamedTuple):
    container: Container
    kept: bool
    process: int  # that runs it; 0: none does


def listed(store: Store) -> list[Status]:
    """All that run or are kept, by name."""
    found = []
    for name in _names(store, "containers"):
        container = _read(os.path.join(store.root, "containers", name))
        if container:
            found.append(Status(container, True, _process(container)))
    for name in _names(store, "tmp"):
        if _PASSING.fullmatch(name):
            container = _read(os.path.join(store.root, "tmp", name))
            if container and (process := _process(container)):
                found.append(Status(container, False, process))
    return sorted(found, key=lambda each: each.container.name)


def kept(store: Store) -> list[Container]:
    return [each.container for each in listed(store) if each.kept]


def find(store: Store, name: str) -> Container:
    """Raises UsageError where there is none."""
    return find_listed(store, name).container


def find_listed(store: Store, name: str) -> Status:
    import difflib

    found = listed(store)
    for each in found:
        if each.container.name == name:
            return each
    if _is_damaged(store, name):
        raise UsageError(f"the container {name!r} is damaged", f"`builder rm {name}` removes it")
    near = difflib.get_close_matches(name, [each.container.name for each in found], 1)
    hint = f"did you mean {near[0]!r}?" if near else "`builder ps -a` lists what there is"
    raise UsageError(f"no container {name!r}", hint)


def remove(store: Store, name: str, force: bool = False) -> None:
    """Raises UsageError where there is none, or where it runs and `force` is not given."""
    if _is_damaged(store, name):
        _move_away(store, os.path.join(store.root, "containers", name))
        return
    status = find_listed(store, name)
    if status.process and not force:
        raise UsageError(f"the container {name!r} runs", f"builder rm -f {name}")
    if status.process:
        _kill(status.container, status.process)
        if not status.kept:
            return  # whoever runs it removes it
    with held(status.container):
        _move_away(store, status.container.folder)


def _move_away(store: Store, folder: str) -> None:
    try:
        store.folder.move_away(folder)
    except OSError as error:
        raise failure(error, "remove", folder, store.root) from error


def _is_damaged(store: Store, name: str) -> bool:
    """Whether something stands in the place of a kept one that is none."""
    path = os.path.join(store.root, "containers", name)
    return bool(NAME.fullmatch(name)) and os.path.lexists(path) and _read(path) is None


def _names(store: Store, folder: str) -> list[str]:
    try:
        return sorted(os.listdir(os.path.join(store.root, folder)))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failure(error, "read", os.path.join(store.root, folder), store.root) from error


def _read(folder: str) -> Container | None:
    """The container of a folder; None where there is none, or not whole. What is mounted and
    written to later are folders of the store's own: no link leads out of it."""
    try:
        if not all(stat.S_ISDIR(os.lstat(each).st_mode) for each in (folder, f"{folder}/upper")):
            return None
        return from_bytes(read_about(f"{folder}/about.json"), folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def read_about(path: str) -> bytes:
    """A file of ours in a container's folder, whatever may stand there. Raises OSError."""
    with open(os.open(path, READ | os.O_CLOEXEC), "rb") as file:
        return file.read(MOST)


def _process(container: Container) -> int:
    """What runs it: the number of its process, 1 while that is being made, 0 for none."""
    try:
        handle = os.open(f"{container.folder}/lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(handle, 20, 0).strip()
        return int(text) if text.isdigit() else 1
    finally:
        os.close(handle)
    return 0


def _kill(container: Container, process: int) -> None:
    """End the process, if it is still this container's, and wait until nobody holds its lock."""
    until = time.monotonic() + _LONGEST
    while now := _process(container):
        if now > 1 and (handle := _opened(now)) is not None:
            with contextlib.suppress(ProcessLookupError):
                if _process(container) == now:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    select.select((handle,), (), (), _LONGEST)
            os.close(handle)
        if time.monotonic() > until:
            raise StoreError(f"the container {container.name!r} does not end")
        time.sleep(0.01)


def _opened(process: int) -> int | None:
    try:
        return os.pidfd_open(process)
    except ProcessLookupError:
        return None
