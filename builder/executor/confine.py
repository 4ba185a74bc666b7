"""One command over an overlay, in namespaces: what the sandbox and runc have in common."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from builder.errors import CannotRun, CommandFailed
from builder.executor import enter, probe, syscalls
from builder.executor.base import Command, Keep, Parent, Standing, Streams
from builder.executor.changes import Tree, changeset
from builder.executor.mounting import in_memory, missing
from builder.executor.overlay import (
    NOWHERE,
    Overlay,
    host_files,
    remove_tree,
    resolve_directory,
)
from builder.executor.path import TOOLS
from builder.executor.process import Confined, Pipes, Running
from builder.layer.entry import Change
from builder.work.cancel import Cancel

if TYPE_CHECKING:
    from subprocess import Popen
    from threading import Event

    from builder.executor.streams import Ends

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
    "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
"""What Docker hides of the host's kernel."""

READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_NOBODY = 65534


class Overlaid:
    """An executor over an overlay; `temporary` makes an empty folder for a step, which the step
    removes; `path` is where the programs of private networks are. What is in between is the
    subclasses' business."""

    name: str
    elsewhere: bool

    def __init__(
        self,
        temporary: Callable[[], str],
        warn: Callable[[str], None],
        cancel: Cancel | None = None,
        path: str = TOOLS,
    ) -> None:
        self._temporary, self._warn = temporary, warn
        self._cancel = cancel or Cancel()
        self._path = path

    def start(
        self, command: Command, place: Overlay, pipes: Pipes, standing: Standing | None = None
    ) -> Popen[bytes]:
        """In the thread that has the mounts and a pid namespace for its children. `standing`: of a
        container; its volumes are made."""
        raise NotImplementedError

    def network_plan(self, command: Command) -> dict[str, Any]:
        """What `start` needs for the network, if that is a private one. Raises CannotRun."""
        if command.network != "private":
            return {}
        from builder.executor import outward

        return {
            "network_tool": outward.command_line(self._path),
            "network_user": _NOBODY if syscalls.initial_user_namespace() else 0,
        }

    def ended(self, place: Overlay) -> None:
        """Remove what a process that was killed left outside its namespaces."""

    def began(self, place: Overlay, running: Running, ended: bool) -> bool:
        """Whether the command itself was started: what was written before is not its output.
        `ended`: nothing runs any more."""
        raise NotImplementedError

    def check(self, command: Command, status: int, running: Running, place: Overlay) -> None:
        """Return if the command ended with status 0. Raises CommandFailed, CannotRun."""
        raise NotImplementedError

    def probe(self) -> str | None:
        return probe.try_it(self)

    def ends(self, streams: Streams) -> Ends:
        """What connects a container's command with the caller's streams."""
        from builder.executor.streams import Ends

        return Ends(streams)

    @contextlib.contextmanager
    def taking_over(self, ends: Ends, streams: Streams, sandbox: Confined) -> Iterator[None]:
        """Around what is typed and shown: the command's terminal is there, if it has one."""
        yield

    def attach(
        self,
        command: Command,
        parent: Parent,
        standing: Standing,
        streams: Streams,
        started: Callable[[int], None] = lambda process: None,
    ) -> int:
        """Run a container's command to its end, and give its exit status, 128 + n for signal n.
        Signals that the builder gets meanwhile are the command's. What it changes stays in its
        upper directory. `started` is told the process with which all ends. Raises CommandFailed
        with the status 126 or 127 (could not be executed) or 124 (took too long), and CannotRun."""
        from builder.executor.signals import Sending, forwarding
        from builder.executor.streams import Moving

        lowers = parent.lowers()
        with contextlib.ExitStack() as stack:
            folder = self._temporary()
            stack.callback(remove_tree, folder)
            place = Overlay(folder, lowers, standing.upper)
            ends = self.ends(streams)
            stack.callback(ends.close)

            def prepare() -> Popen[bytes]:
                syscalls.own_mounts()
                protect_python()
                syscalls.unshare(syscalls.CLONE_NEWPID)
                placed, volumes = place.stand(command, standing.volumes)
                make_folders(place.root, (*volumes, command.working_dir))
                _check_working_dir(place.root, command.working_dir)
                mounts = in_memory(placed.mounts, place.folder + b"/memory")
                return self.start(
                    placed._replace(mounts=mounts),
                    place,
                    ends,
                    standing._replace(volumes=volumes),
                )

            sandbox = Confined(prepare, ends.has_ended)
            stack.callback(self.ended, place)
            stack.callback(sandbox.kill)
            with self._cancel.ending(sandbox.stop):
                sandbox.start()
                sandbox.wait_started()
                started(sandbox.pid)
                ends.close_ends()
                running = Running(ends, lambda chunk: None, command.timeout)
                sending = Sending(lambda: sandbox.pid, sandbox.stop)
                sending.began = lambda: self.began(place, running, sandbox.ended())
                with (
                    forwarding(sending),
                    _ending(sandbox.stop, command.timeout) as late,
                    self.taking_over(ends, streams, sandbox),
                ):
                    moving = Moving(
                        ends,
                        streams,
                        lambda over: self.began(place, running, over),
                        lambda data: sending.typed(ends.interrupts(data)),
                    )
                    running.keep(moving.run())
                    status = sandbox.status(running)
                if sending.ended_by:
                    return 128 + sending.ended_by
                if late.is_set():
                    raise running.too_long()
                self.check(command, 0, running, place)
                return status

    @contextlib.contextmanager
    def run(
        self,
        command: Command,
        parent: Parent,
        output: Callable[[bytes], None],
        epoch: int,
        keep: Keep | None = None,
    ) -> Iterator[Iterable[Change]]:
        lowers = parent.lowers()
        with contextlib.ExitStack() as stack:
            folder = self._temporary()
            stack.callback(remove_tree, folder)
            place = Overlay(folder, lowers)
            pipes = Pipes()
            stack.callback(pipes.close)
            trees: list[tuple[Tree, bytes | None]] = []  # set in the thread

            def prepare() -> Popen[bytes]:
                syscalls.own_mounts()
                protect_python()
                # The process becomes init of a pid namespace: when it ends, all within has ended.
                syscalls.unshare(syscalls.CLONE_NEWPID)
                tree, etc = place.mount(command)
                trees.append((tree, etc))
                below.callback(tree.close)
                mounts = in_memory(command.mounts, place.folder + b"/memory")
                return self.start(command._replace(mounts=mounts), place, pipes)

            sandbox = Confined(prepare)
            below = stack.enter_context(contextlib.ExitStack())
            stack.callback(self.ended, place)
            stack.callback(sandbox.kill)
            with self._cancel.ending(sandbox.stop):
                try:
                    sandbox.start()
                    sandbox.wait_started()
                    pipes.close_ends()
                    running = Running(pipes, output, command.timeout)
                    running.follow(lambda ended: self.began(place, running, ended), sandbox.ended)
                    self.check(command, sandbox.status(running), running, place)
                except CommandFailed:
                    if keep and not self._cancel.is_set():
                        sandbox.kill()  # one that took too long still runs
                        keep(os.fsdecode(place.folder + b"/upper"))
                    raise
            upper = Tree(place.folder + b"/upper")
            stack.callback(upper.close)
            tree, etc = trees[0]
            warn_of_lost(upper, etc, command.network, self._warn)
            made = missing(
                command,
                lambda path: resolve_directory(tree, path),
                lambda path: tree.lstat(path) is not None,
            )
            yield changeset(upper, tree, epoch, etc=etc or NOWHERE, points=made, note=self._warn)


@contextlib.contextmanager
def _ending(stop: Callable[[], None], timeout: float | None) -> Iterator[Event]:
    """Within, `stop` is called when the time is over, and the event set."""
    from threading import Event, Timer

    late = Event()

    def end() -> None:
        late.set()
        stop()

    if timeout is None:
        yield late
        return
    timer = Timer(timeout, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def make_folders(root: bytes, paths: Iterable[str]) -> None:
    """Make folders in a container that are missing, 0755 of root, as engines do it; links lead
    nowhere else. What cannot be made is said when the command is to enter it."""
    folder = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        for path in paths:
            with contextlib.suppress(OSError):
                _make_folder(folder, path)
    finally:
        os.close(folder)


def _check_working_dir(root: bytes, path: str) -> None:
    """Raises CannotRun where something else is in its place."""
    folder = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        found = syscalls.open_within(folder, path)
    except OSError:
        return  # entering it says what is wrong
    finally:
        os.close(folder)
    mode = os.stat(found).st_mode
    os.close(found)
    if not stat.S_ISDIR(mode):
        raise CannotRun(f"working directory {path!r}: {os.strerror(errno.ENOTDIR)}")


def _make_folder(root: int, path: str) -> None:
    parts = path.strip("/").split("/")
    for end in range(len(parts)):
        parent = syscalls.open_within(root, "/".join(parts[:end]) or ".")
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(parts[end] or ".", 0o755, dir_fd=parent)
        finally:
            os.close(parent)


def protect_python() -> None:
    """In a thread with mounts of its own: make Python's program a read-only mount. A command
    `/proc/self/exe` or a script with that as its interpreter is executed while Python still is what
    runs, and an image's dynamic linker then holds the host's file: to read, not to change."""
    program = os.path.realpath(sys.executable)
    enter.mount(program, program, None, enter.MS_BIND)
    enter.remount(program, enter.MS_RDONLY)


def warn_of_lost(tree: Tree, etc: bytes | None, network: str, warn: Callable[[str], None]) -> None:
    """Say it when the command wrote the files that are the sandbox's."""
    if etc is None or not _is_real_folder(tree, etc):
        return
    for name, content in host_files(network).items():
        path = etc + b"/" + name
        status = tree.lstat(path)
        if status is None:
            continue
        if stat.S_ISREG(status.st_mode):
            with tree.open(path) as file:
                if file.read(len(content) + 1) == content:
                    continue
        warn(f"/{os.fsdecode(path)} belongs to the sandbox: what the step did to it is lost")


def _is_real_folder(tree: Tree, path: bytes) -> bool:
    """Whether it still is one, and no part of the path a link that the command put there."""
    parts = path.split(b"/")
    for number in range(len(parts)):
        status = tree.lstat(b"/".join(parts[: number + 1]))
        if status is None or not stat.S_ISDIR(status.st_mode):
            return False
    return True
