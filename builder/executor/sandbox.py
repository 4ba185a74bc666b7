"""Command steps in a sandbox of our own, over an overlay: Python and the kernel, no other tool."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.errors import CommandFailed
from builder.executor import syscalls
from builder.executor.base import HOSTNAME, Command, Standing, Streams
from builder.executor.confine import MASKED, READ_ONLY, Overlaid
from builder.executor.mounting import mount_plan
from builder.executor.overlay import Overlay
from builder.executor.process import Confined, Pipes, Running, check
from builder.executor.starting import command_plan, start

if TYPE_CHECKING:
    from subprocess import Popen

    from builder.executor.streams import Ends


class Sandbox(Overlaid):
    name = "sandbox"
    elsewhere = False

    def start(
        self, command: Command, place: Overlay, pipes: Pipes, standing: Standing | None = None
    ) -> Popen[bytes]:
        from builder.executor.streams import Ends

        handles = pipes.handed_over() if isinstance(pipes, Ends) else ()
        plan = {
            "mode": "sandbox",
            "terminal": handles[0] if handles else -1,
            "root": place.root,
            "own_network": command.network == "none",
            # Root makes any node, and there is no device filter here.
            "nodev": syscalls.initial_user_namespace(),
            "hostname": HOSTNAME,
            "masked": [path.lstrip("/") for path in MASKED],
            "read_only": [path.lstrip("/") for path in READ_ONLY],
            "whole": bool(standing and standing.read_only),
            "volumes": list(standing.volumes) if standing else [],
            **mount_plan(command.mounts),
            **command_plan(command),
            **self.network_plan(command),
        }
        return start(plan, pipes, handles)

    def ends(self, streams: Streams) -> Ends:
        if not streams.terminal:
            return super().ends(streams)
        from builder.executor.terminal import Received

        return Received(streams)

    @contextlib.contextmanager
    def taking_over(self, ends: Ends, streams: Streams, sandbox: Confined) -> Iterator[None]:
        if not streams.terminal:
            yield
            return
        from builder.executor.terminal import Received, taking_over

        assert isinstance(ends, Received)
        ends.receive()
        with taking_over(streams, ends.resize):
            yield

    def began(self, place: Overlay, running: Running, ended: bool) -> bool:
        return running.began()

    def check(self, command: Command, status: int, running: Running, place: Overlay) -> None:
        try:
            check(command, status, running, self.name)
        except CommandFailed as error:
            if error.hint is None and any("nodev" in line for line in error.tail):
                error.hint = (  # debootstrap says so
                    "a device node that a step made cannot be opened in the sandbox, which has no"
                    " device filter: as root, `--executor runc` has one"
                )
            raise
