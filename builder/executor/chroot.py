"""Command steps in a chroot on a copy of the image: the last resort, where nothing can be mounted.

A default container (a CI job, a pod) gives root no namespaces. There the command runs on a copy,
without /proc and without isolation, and the copy is compared with the layers afterwards.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from builder.errors import CannotRun, ExecutorError
from builder.executor import probe, syscalls
from builder.executor.base import Command, Keep, Parent
from builder.executor.changes import Tree, changeset
from builder.executor.confine import warn_of_lost
from builder.executor.merged import Merged
from builder.executor.overlay import (
    NOWHERE,
    own_folder,
    remove_tree,
    write_host_files,
)
from builder.executor.process import Confined, Pipes, Running, check
from builder.executor.starting import command_plan, start
from builder.layer.entry import Change
from builder.work.cancel import Cancel

if TYPE_CHECKING:
    from subprocess import Popen

_DEVICES = {b"null": (1, 3), b"zero": (1, 5), b"full": (1, 7), b"random": (1, 8),
            b"urandom": (1, 9), b"tty": (5, 0)}  # fmt: skip
_TICK = 0.02  # seconds; more than the coarsest ctime (a jiffy of 10 ms)


class Chroot:
    """`temporary` makes an empty folder for a step, which the step removes."""

    name = "chroot"
    elsewhere = False

    def __init__(
        self,
        temporary: Callable[[], str],
        warn: Callable[[str], None],
        cancel: Cancel | None = None,
    ) -> None:
        self._temporary, self._warn = temporary, warn
        self._cancel = cancel or Cancel()

    def probe(self) -> str | None:
        return probe.try_it(self)

    @contextlib.contextmanager
    def run(
        self,
        command: Command,
        parent: Parent,
        output: Callable[[bytes], None],
        epoch: int,
        keep: Keep | None = None,
    ) -> Iterator[Iterable[Change]]:
        if command.mounts or command.hidden:
            raise CannotRun(
                "chroot: mounts need namespaces: other steps would have them, too",
                "`--executor sandbox` or runc has them",
            )
        if command.network == "private":
            raise CannotRun(
                "chroot: `network: private` needs namespaces",
                "`--executor sandbox` has them, or give the step `network: host`",
            )
        lowers = [os.fsencode(lower) for lower in parent.lowers()]
        with contextlib.ExitStack() as stack:
            folder = self._temporary()
            stack.callback(remove_tree, folder)
            root = os.fsencode(folder) + b"/root"
            os.mkdir(root, 0o755)
            nothing = os.fsencode(folder) + b"/nothing"
            os.mkdir(nothing, 0o755)
            below = Merged(lowers or [nothing])
            below.copy(root, self._warn)
            tree = Tree(root)
            stack.callback(tree.close)
            etc = own_folder(tree)
            _furnish(tree, root, etc, command.network)
            time.sleep(_TICK)  # so that every change of the command shows in a ctime
            pipes = Pipes()
            stack.callback(pipes.close)
            sandbox = Confined(
                lambda: _start(command, root, pipes), lambda: _end_all(root), signal.SIGTERM
            )
            stack.callback(sandbox.kill)
            with self._cancel.ending(sandbox.stop):
                sandbox.start()
                sandbox.wait_started()
                pipes.close_ends()
                running = Running(pipes, output, command.timeout)
                running.follow(lambda ended: running.began(), sandbox.ended)
                check(command, sandbox.status(running), running, self.name)
            warn_of_lost(tree, etc, command.network, self._warn)
            yield changeset(
                tree,
                below,
                epoch,
                etc=etc or NOWHERE,
                complete=True,
                untouched=below.untouched,
                note=self._warn,
            )


def _furnish(tree: Tree, root: bytes, etc: bytes | None, network: str) -> None:
    """Put into the copy what a sandbox would put over it; none of it reaches the layer."""
    for name in (b"dev", b"proc", b"sys"):
        with contextlib.suppress(FileExistsError):
            os.mkdir(root + b"/" + name, 0o755)
    dev = tree.lstat(b"dev")
    if dev is not None and stat.S_ISDIR(dev.st_mode):
        for name, (major, minor) in _DEVICES.items():
            path = root + b"/dev/" + name
            with contextlib.suppress(FileExistsError, PermissionError):
                os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
                os.chmod(path, 0o666)
    if etc is not None:
        os.makedirs(root + b"/" + etc, exist_ok=True)
        write_host_files(root + b"/" + etc, network)


def _start(command: Command, root: bytes, pipes: Pipes) -> Popen[bytes]:
    if command.network == "none":
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
        except OSError as error:
            raise ExecutorError(
                "chroot: `network: none` cannot be had here: no namespaces",
                "run with more rights, or let the step use the host's network",
            ) from error
    return start({"mode": "chroot", "root": root, **command_plan(command)}, pipes)


def _end_all(root: bytes) -> None:
    """Kill every process whose root directory is `root`, and what they start meanwhile. The step's
    supervisor (see enter.py) has ended all, unless it was killed itself."""
    place = os.stat(root)
    found = True
    while found:
        found = False
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{name}/root")
                if (status.st_dev, status.st_ino) == (place.st_dev, place.st_ino):
                    os.kill(int(name), signal.SIGKILL)
                    found = True
        if found:
            time.sleep(0.005)
