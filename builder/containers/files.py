"""The files of a container, whether it runs or not: what it changed of its image's, and its root as
a folder."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from builder.errors import CannotRun
from builder.executor.base import Parent

if TYPE_CHECKING:
    from builder.containers.about import Container
    from builder.containers.container import Status
    from builder.executor.changes import Tree
    from builder.executor.merged import Merged
    from builder.layer.entry import Change
    from builder.rootfs.layers import Layers

_T = TypeVar("_T")


class Line(NamedTuple):
    """A path that is not as it is in the image."""

    path: bytes  # relative
    kind: str  # A: added, C: changed, or a folder in which something is; D: deleted


def changes(layers: Layers, container: Container, epoch: int) -> Iterable[Change]:
    """What the container has that its image has not, as a layer takes it; no time is later than
    `epoch`. As root, or in a user namespace."""
    from builder.executor.changes import changeset
    from builder.executor.overlay import NOWHERE, own_folder

    with _trees(layers, container) as (upper, below):
        yield from changeset(upper, below, epoch, etc=own_folder(below) or NOWHERE)


def lines(layers: Layers, container: Container) -> list[Line]:
    """What was changed, sorted by path."""
    from builder.executor.changes import changeset
    from builder.executor.overlay import NOWHERE, own_folder
    from builder.layer.entry import WHITEOUT
    from builder.oci.image import LAST_SECOND

    found = []
    with _trees(layers, container) as (upper, below):
        for entry, _ in changeset(upper, below, LAST_SECOND, etc=own_folder(below) or NOWHERE):
            folder, slash, name = entry.path.rpartition(b"/")
            if name.startswith(WHITEOUT):
                found.append(Line(folder + slash + name.removeprefix(WHITEOUT), "D"))
            else:
                there = below.lstat(entry.path) is not None
                found.append(Line(entry.path, "C" if there else "A"))
    return sorted(found, key=lambda line: line.path.split(b"/"))


@contextlib.contextmanager
def _trees(layers: Layers, container: Container) -> Iterator[tuple[Tree, Merged]]:
    from builder.executor.changes import Tree
    from builder.executor.merged import Merged

    with contextlib.ExitStack() as stack:
        nothing = layers.store.temporary()
        stack.callback(layers.store.folder.session().discard, nothing)
        lowers = Parent(container.stands_on(), layers).lowers() or (nothing,)
        below = Merged([os.fsencode(each) for each in lowers])
        upper = Tree(os.fsencode(container.upper))
        stack.callback(upper.close)
        yield upper, below


def with_root(layers: Layers, status: Status, action: Callable[[int], _T]) -> _T:
    """Let `action` have a handle of the container's root: of one that runs as it is there, else the
    overlay that it would have, mounted for nobody else. Raises CannotRun."""
    if status.process:
        return _of_running(status, action)
    from builder.containers.container import held

    with held(status.container):
        return _mounted(layers, status.container, action)


def _of_running(status: Status, action: Callable[[int], _T]) -> _T:
    from builder.executor.signals import command_process

    name = status.container.name
    found = command_process(status.process)
    if found is None:
        raise CannotRun(f"the container {name!r} is about to begin or to end", "try again")
    handle, about = found
    os.close(handle)
    try:
        root = os.open(f"/proc/{about['Pid'].strip()}/root", os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise CannotRun(
            f"the files of {name!r} cannot be had while it runs: {error.strerror}",
            "as an ordinary user: when it has ended, with --keep",
        ) from error
    try:
        again = command_process(status.process)
        if again is None or again[1]["Pid"] != about["Pid"]:
            raise CannotRun(f"the container {name!r} has just ended")
        os.close(again[0])
        return action(root)
    finally:
        os.close(root)


def _mounted(layers: Layers, container: Container, action: Callable[[int], _T]) -> _T:
    """In a thread with mounts of its own, with which they end."""
    from builder.executor import syscalls
    from builder.executor.overlay import Overlay

    lowers = Parent(container.stands_on(), layers).lowers()
    results: list[_T] = []
    faults: list[BaseException] = []
    folder = layers.store.temporary()

    def work() -> None:
        try:
            syscalls.own_mounts()
            place = Overlay(folder, lowers, container.upper)
            place.bare()
            root = os.open(place.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                results.append(action(root))
            finally:
                os.close(root)
        except BaseException as error:
            faults.append(error)

    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        layers.store.folder.session().discard(folder)
    for fault in faults:
        raise fault
    return results[0]
