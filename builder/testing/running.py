"""Tests that run something of an image, each in a container that goes with it."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.containers.command import Settings, command_of
from builder.errors import CannotRun, CommandFailed
from builder.executor.base import Command, Parent, Standing, Streams
from builder.testing.expect import unmet

if TYPE_CHECKING:
    from builder.executor.base import Executor
    from builder.oci.image import Image
    from builder.rootfs.layers import Layers
    from builder.spec.tests import PortTest, RunTest

_KEPT = 1 << 20  # bytes of each stream; what a command writes beyond them is dropped
_LATE = 5.0  # seconds that a container has beyond what its test may take
_SHELL = ("/bin/sh", "-e", "-c")  # as of a step


class Ended:
    """A command that has ended."""

    def __init__(self, status: int, fault: str, stdout: bytes, stderr: bytes) -> None:
        self.status, self.fault = status, fault  # fault: why it was not executed, or took too long
        self.stdout, self.stderr = _text(stdout), _text(stderr)

    @property
    def lines(self) -> tuple[str, ...]:
        """What it printed, stdout first."""
        return (*self.stdout.splitlines(), *self.stderr.splitlines())


def run(
    layers: Layers, executor: Executor, image: Image, test: RunTest
) -> tuple[list[str], tuple[str, ...]]:
    """What does not hold, and the lines that the command printed. Raises BuilderError."""
    words = test.command
    if test.entrypoint and not (image.config.get("config") or {}).get("Entrypoint"):
        return ["the image has no entrypoint"], ()
    if isinstance(words, str):
        shell = (image.config.get("config") or {}).get("Shell") or _SHELL
        words = (*shell, words)
    settings = Settings(
        argv=words,
        entrypoint=None if test.entrypoint else (),
        env=test.env,
        user=test.user or "",
        network=test.network,
    )
    command = _command(layers, image, settings)
    if test.working_dir:
        folder = os.path.normpath(os.path.join(command.working_dir, test.working_dir))
        command = command._replace(working_dir=folder)
    command = command._replace(timeout=test.timeout / 10**9)
    ended = in_container(layers, executor, image, command, test.stdin.encode())
    why = []
    if ended.status != test.status or (ended.fault and ended.status == 124):
        said = f" ({ended.fault})" if ended.fault else ""
        why.append(f"its status is {ended.status}{said}, expected {test.status}")
    why += unmet("stdout", ended.stdout, test.stdout)
    why += unmet("stderr", ended.stderr, test.stderr)
    return why, ended.lines


def listen(
    layers: Layers, executor: Executor, image: Image, test: PortTest
) -> tuple[list[str], tuple[str, ...]]:
    """As `run`, of the image's own command."""
    from builder.testing.ports import Watch

    own = image.config.get("config") or {}
    if not own.get("Entrypoint") and not own.get("Cmd"):
        return ["the image says no command"], ()
    settings = Settings(env=test.env, network="none")
    seconds = test.within / 10**9
    command = _command(layers, image, settings)._replace(timeout=seconds + _LATE)
    watch = Watch(test)
    try:
        ended = in_container(layers, executor, image, command, started=watch.start)
    finally:
        watch.end()
    why = watch.why()
    if why is None:
        said = ended.fault or f"status {ended.status}"
        return [f"the image's command ended before it listened: {said}"], ended.lines
    return why, ended.lines


def _command(layers: Layers, image: Image, settings: Settings) -> Command:
    view = layers.view(image.layers)
    return command_of(image.config, view, settings, terminal=False, before=None)


def in_container(
    layers: Layers,
    executor: Executor,
    image: Image,
    command: Command,
    stdin: bytes = b"",
    started: Callable[[int], None] = lambda process: None,
) -> Ended:
    """Run a command to its end in a container that goes with it; of what it writes the first MiB of
    each stream is kept. `started` is told the process with which all ends. Raises CannotRun."""
    from builder.executor.confine import Overlaid
    from builder.executor.overlay import remove_tree

    if not isinstance(executor, Overlaid):
        raise CannotRun(
            f"the executor {executor.name!r} has no containers to test in",
            "`--executor sandbox` or runc has; `--no-tests` builds without",
        )
    upper = layers.store.temporary()
    volumes = tuple((image.config.get("config") or {}).get("Volumes") or {})
    handle = os.memfd_create("stdin", os.MFD_CLOEXEC)
    status, fault = 0, ""
    try:
        with _Captured() as captured:
            os.write(handle, stdin)
            os.lseek(handle, 0, os.SEEK_SET)
            streams = Streams(handle if stdin else None, captured.stdout, captured.stderr)
            try:
                status = executor.attach(
                    command,
                    Parent(image, layers),
                    Standing(upper, False, volumes),
                    streams,
                    started,
                )
            except CommandFailed as error:
                status, fault = error.exit_status, error.what
    finally:
        os.close(handle)
        remove_tree(upper)
    return Ended(status, fault, *captured.kept)


class _Captured:
    """Two pipes, read by a thread so that nobody waits who writes to them."""

    def __init__(self) -> None:
        self._ends = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        self.stdout, self.stderr = (writing for _, writing in self._ends)
        self._data = {reading: bytearray() for reading, _ in self._ends}
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> _Captured:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.stdout)
        os.close(self.stderr)
        self._thread.join()

    @property
    def kept(self) -> tuple[bytes, bytes]:
        stdout, stderr = self._data.values()
        return bytes(stdout), bytes(stderr)

    def _read(self) -> None:
        poll = select.poll()
        for handle in self._data:
            poll.register(handle, select.POLLIN)
        left = len(self._data)
        while left:
            for handle, _ in poll.poll():
                kept = self._data[handle]
                if chunk := os.read(handle, 1 << 16):
                    kept += chunk[: _KEPT - len(kept)]
                else:
                    poll.unregister(handle)
                    os.close(handle)
                    left -= 1


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
