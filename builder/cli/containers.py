"""`builder run`, `ps`, `rm`."""

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
from builder.oci.image import host_platform
from builder.ui import human
from builder.ui.tables import table

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
    fault = wiring.become_root()  # before the first thread
    if fault:
        raise fault
    layers, on = _standing(arguments)
    if arguments.keep and not isinstance(on, On):
        raise UsageError("--keep names a new container, and this one has a name")
    with layers.store.live():
        return start(arguments, layers, on, settings, streams, arguments.keep)


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

    return wanted.use(arguments, image, host_platform)


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
