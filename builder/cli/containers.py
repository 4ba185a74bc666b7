"""`builder run`, `ps`, `rm`, `cp`, and `diff` of a container."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.cli import screen, wiring
from builder.containers.container import On, Settings, Streams, find, listed
from builder.errors import BuilderError, CommandFailed, UsageError
from builder.events import Warned
from builder.oci.image import host_platform
from builder.ui import human
from builder.ui.tables import table
from builder.ui.text import harmless

if TYPE_CHECKING:
    from builder.cli.wanted import Wanted
    from builder.containers.container import Container
    from builder.executor.base import Command, Executor
    from builder.oci.image import Image
    from builder.rootfs.layers import Layers
    from builder.store.store import Store

NOT_RUN = 125
"""The status where the builder itself failed, and the command did not run; Docker's."""
_AGAIN = "container:"


def run(arguments: argparse.Namespace) -> int:
    """The status of the command; 126 or 127 where it cannot be executed, 124 where it took too
    long."""
    with of_command():
        return _run(arguments)


@contextlib.contextmanager
def of_command() -> Iterator[None]:
    """Have errors end the builder with the status that `docker run` gives them."""
    try:
        yield
    except CommandFailed as error:
        error.exit_code = error.exit_status
        raise
    except BuilderError as error:
        error.exit_code = NOT_RUN
        raise


def _run(arguments: argparse.Namespace) -> int:
    from builder.cli.running import settings_of, streams_of

    settings, streams = settings_of(arguments), streams_of(arguments)
    check_executor(arguments)
    fault = wiring.become_root()  # before the first thread
    if fault:
        raise fault
    layers, on = _standing(arguments)
    if arguments.keep and not isinstance(on, On):
        raise UsageError("--keep names a new container, and this one has a name")
    with layers.store.live():
        return start(arguments, layers, on, settings, streams, arguments.keep)


def check_executor(arguments: argparse.Namespace) -> None:
    """Raises UsageError where the one that is asked for by name has no containers."""
    from builder.containers.container import check_has_containers
    from builder.project import Project

    check_has_containers(Project(wiring.options(arguments)).executor_name)


def _standing(arguments: argparse.Namespace) -> tuple[Layers, On | Container]:
    """What IMAGE means: a container that is kept, or an image, which is built if need be."""
    from builder.rootfs.layers import Layers

    text = arguments.image
    if text.startswith(_AGAIN):
        store = _store(arguments)
        return Layers(store), find(store, text.removeprefix(_AGAIN))
    from builder.cli import wanted

    def image(found: Wanted) -> tuple[Layers, On]:
        part = found.one()
        return found.layers, On(text, part.manifest.digest, part.image)

    try:
        return wanted.use(arguments, image, host_platform)
    except UsageError as error:
        if not error.what.startswith(f"no image {text!r}"):
            raise
        if all(status.container.name != text for status in listed(_store(arguments))):
            raise
        raise UsageError(error.what, f"a container has that name: {_AGAIN}{text}") from None


def start(
    arguments: argparse.Namespace,
    layers: Layers,
    on: On | Container,
    settings: Settings | Command,
    streams: Streams,
    keep: str = "",
) -> int:
    """Run it on the executor that is asked for."""
    from builder.containers import container

    executor = _executor(arguments, layers.store)
    _check_runs(on.image if isinstance(on, On) else on.stands_on(), layers.store)
    return container.run(executor, layers, on, settings, streams, keep)


def _executor(arguments: argparse.Namespace, store: Store) -> Executor:
    from builder.executor.choose import choose
    from builder.project import Project

    name = Project(wiring.options(arguments)).executor_name
    return choose(name, store, screen.renderer("plain"), environ=os.environ)


def _check_runs(image: Image, store: Store) -> None:
    from builder.errors import CannotRun
    from builder.executor.emulator import emulation, hint_for

    platform = image.platform
    found = emulation(platform.architecture, store.temporary)
    if not found.works:
        raise CannotRun(f"no emulator for {platform}: {found.why}", hint_for(platform))


def _store(arguments: argparse.Namespace) -> Store:
    return wiring.open_store(arguments, screen.renderer("plain"))


def ps(arguments: argparse.Namespace) -> int:
    """Those that run; with `--all` those that are kept, too."""
    rows, documents = [], []
    for status in listed(_store(arguments)):
        if not (arguments.all or status.process):
            continue
        container = status.container
        said = "runs" if status.process else "kept"
        if container.failed:
            said = f"failed: {container.failed}"
        documents.append(
            {
                "name": container.name,
                "image": container.image,
                "digest": container.digest or None,
                "command": list(container.command.argv),
                "created": container.created,
                "status": "running" if status.process else "failed" if container.failed else "kept",
                "kept": status.kept,
                **({"step": container.failed} if container.failed else {}),
            }
        )
        age = human.ago(max(0.0, time.time() - container.created))
        command = " ".join(" ".join(container.command.argv).split())
        rows.append((container.name, container.image, age, said, command))
    if arguments.json:
        import json

        sys.stdout.write(json.dumps({"containers": documents}, indent=2) + "\n")
    else:
        header = ("NAME", "IMAGE", "CREATED", "STATUS", "COMMAND")
        sys.stdout.write(table(header, rows, width=screen.width()))
    return 0


def rm(arguments: argparse.Namespace) -> int:
    from builder.containers.container import remove

    fault = wiring.become_root()
    if fault:
        raise fault
    store = _store(arguments)
    with store.live():
        for name in arguments.names:
            remove(store, name, arguments.force)
            sys.stdout.write(f"{name}\n")
    return 0


def changed(arguments: argparse.Namespace) -> int:
    """`builder diff NAME`: what a container changed of its image's files; 0 in any case."""
    from builder.containers.files import lines
    from builder.rootfs.layers import Layers

    fault = wiring.become_root()
    if fault:
        raise fault
    store = _store(arguments)
    with store.live():
        try:
            container = find(store, arguments.image)
        except UsageError as error:
            if not error.what.startswith("no container"):
                raise
            hint = f"{error.hint}; builder diff A B compares two images"
            raise UsageError(error.what, hint) from None
        found = lines(Layers(store), container)
    if arguments.json:
        import json

        changes = [{"kind": each.kind, "path": "/" + os.fsdecode(each.path)} for each in found]
        sys.stdout.write(json.dumps({"changes": changes}, indent=2) + "\n")
        return 0
    for each in found:
        sys.stdout.write(f"{each.kind} /{harmless(os.fsdecode(each.path))}\n")
    return 0


def cp(arguments: argparse.Namespace) -> int:
    from builder.containers import copying
    from builder.containers.container import find_listed
    from builder.containers.files import with_root
    from builder.executor.syscalls import initial_user_namespace
    from builder.rootfs.layers import Layers

    source, target = _named(arguments.source), _named(arguments.target)
    if bool(source[0]) == bool(target[0]):
        raise UsageError(
            "expected one path on this machine and one in a container, as NAME:PATH",
            "builder cp NAME:PATH TO, or builder cp FROM NAME:PATH",
        )
    fault = wiring.become_root()
    if fault:
        raise fault
    renderer = screen.renderer("plain")
    store = wiring.open_store(arguments, renderer)
    owner = None if source[0] else (0, 0)
    copy = copying.Copy(
        owner,
        arguments.archive,
        bool(target[0]) and initial_user_namespace(),
        lambda text: renderer(Warned(text)),
    )
    with store.live():
        status = find_listed(store, source[0] or target[0])
        act = copying.out_of if source[0] else copying.into
        with_root(Layers(store), status, lambda root: act(root, source[1], target[1], copy))
    return 0


def _named(text: str) -> tuple[str, str]:
    """The container's name, "" of a path here, and the path."""
    from builder.containers.container import NAME

    name, colon, path = text.partition(":")
    if colon and NAME.fullmatch(name):
        return name, path if path.startswith("/") else f"/{path}"
    return "", os.path.join(os.getcwd(), text)  # another thread has another working directory
