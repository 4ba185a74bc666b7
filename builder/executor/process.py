"""A command while it runs: its output, its end, and what to say when it failed."""

from __future__ import annotations

import _thread
import contextlib
import errno
import os
import re
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.errors import CannotRun, CommandFailed
from builder.executor import enter
from builder.executor.base import Command

if TYPE_CHECKING:
    from subprocess import Popen

_TAIL = 20  # lines
_CHUNK = 1 << 16
_LINE = 2000  # bytes kept of one line
_MOMENT = 0.002  # seconds
_NOTHING = -3  # subprocess.DEVNULL
_END = 10.0  # seconds that what was killed has to end; a process that the kernel holds may not
_START = 30.0  # seconds to begin in: for want of descriptors runc may wait without end


class Pipes:
    """One pipe for stdout and stderr, one for what enter.py tells."""

    ends: tuple[str, ...] = ("output_end", "report_end")
    """The names of those that are the process's."""

    def __init__(self) -> None:
        self.output, self.output_end = os.pipe2(os.O_CLOEXEC)
        self.report, self.report_end = os.pipe2(os.O_CLOEXEC)

    def stdio(self) -> tuple[int, int, int]:
        """What the process starts with as 0, 1 and 2."""
        return _NOTHING, self.output_end, self.output_end

    def close_ends(self) -> None:
        """Once the process has them."""
        for name in self.ends:
            handle = getattr(self, name)
            if handle >= 0:
                os.close(handle)
                setattr(self, name, -1)

    def close(self) -> None:
        self.close_ends()
        os.close(self.output)
        os.close(self.report)


class Confined:
    """Starts a process from a thread of its own and waits for it.

    The thread has mounts of its own, which the process inherits, and the process dies with the
    thread: kill -9 of the builder leaves neither process nor mount. `prepare` makes the namespaces,
    mounts and starts; `after` ends what the process left running; both in the thread. `stop` is the
    signal at which the process ends.
    """

    def __init__(
        self,
        prepare: Callable[[], Popen[bytes]],
        after: Callable[[], None] = lambda: None,
        stop: signal.Signals = signal.SIGKILL,
    ) -> None:
        self._prepare, self._after, self._signal = prepare, after, stop
        self._up, self._under_way, self._over = (threading.Event() for _ in range(3))
        self._process: Popen[bytes] | None = None
        self._failure: BaseException | None = None
        self._cancelled = False

    def start(self) -> None:
        # Not a threading.Thread, which waits without end for a thread that has no memory to begin.
        try:
            _thread.start_new_thread(self._run, ())
            if not self._up.wait(_END):
                raise RuntimeError("a thread does not begin")
        except (RuntimeError, MemoryError) as error:
            self._cancelled = True
            self._under_way.set()
            self._over.set()
            why = str(error) or "out of memory"
            raise CannotRun(f"no sandbox: {why}", "the machine has too much to do") from error

    def _run(self) -> None:
        self._up.set()
        if self._cancelled:
            return
        try:
            self._start_and_wait()
        finally:
            self._over.set()

    def _start_and_wait(self) -> None:
        try:
            self._process = self._prepare()
            if self._cancelled:
                self._process.send_signal(self._signal)
        except BaseException as error:
            self._failure = error
        finally:
            self._under_way.set()
        if self._process is not None:
            self._process.wait()
            self._after()

    def wait_started(self) -> None:
        """Raises what went wrong on the way."""
        self._under_way.wait()
        if isinstance(self._failure, OSError):
            place, reason = self._failure.filename or "start", self._failure.strerror
            raise CannotRun(f"no sandbox: {os.fsdecode(place)}: {reason}") from self._failure
        if isinstance(self._failure, MemoryError):
            raise CannotRun("no sandbox: out of memory") from self._failure
        if self._failure is not None:
            raise self._failure

    def status(self, running: Running) -> int:
        """The exit status, 128 + n for signal n, once the process has ended."""
        if not self._over.wait(running.left()):
            raise running.too_long()
        assert self._process is not None  # started
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    def ended(self) -> bool:
        return self._over.is_set()

    @property
    def pid(self) -> int:
        """Of the process, once it has started."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Have it end, and do not wait for that."""
        self._cancelled = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._signal)

    def kill(self) -> None:
        """End it now; returns when it has, or when the kernel does not let it."""
        self._cancelled = True
        self._under_way.wait()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._signal)
            if not self._over.wait(_END):
                self._process.kill()
        self._over.wait(_END)


class Running:
    """What is known of a command while and after it ran. Its `timeout` counts from here."""

    def __init__(
        self,
        pipes: Pipes,
        output: Callable[[bytes], None],
        timeout: float | None = None,
        start: float = _START,
    ) -> None:
        self._pipes, self._output = pipes, output
        self._timeout, self._start = timeout, start
        self._until = None if timeout is None else time.monotonic() + timeout
        self._told = b""
        self._tail: deque[bytes] = deque(maxlen=_TAIL)
        self._rest = b""
        os.set_blocking(pipes.report, False)

    def follow(self, began: Callable[[bool], bool], ended: Callable[[], bool]) -> None:
        """Hand on output until it ends. What comes before the command began is the sandbox's own
        and stays in the tail. Raises CannotRun when it does not begin."""
        ready, until = False, time.monotonic() + self._start
        while chunk := self._read(None if ready else until, began):
            while not ready:
                over = ended()
                ready = began(over)
                if over:
                    break
                if not ready:
                    if time.monotonic() > until:
                        raise self._stuck()
                    time.sleep(_MOMENT)
            if ready:
                self._output(chunk)
            self.keep(chunk)

    def keep(self, chunk: bytes) -> None:
        """Have it in the tail."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()[-_LINE:]
        self._tail.extend(line[-_LINE:] for line in lines[-_TAIL:])

    def _read(self, begin: float | None, began: Callable[[bool], bool]) -> bytes:
        """The next output. `begin`: when the command must have begun, if it is not known that it
        has."""
        waiting = begin is not None and not self._waited(begin - time.monotonic())
        if waiting and self.left() != 0 and not began(False):
            raise self._stuck()
        if self.left() == 0 or not self._waited(None):
            raise self.too_long()
        return os.read(self._pipes.output, _CHUNK)

    def _waited(self, most: float | None) -> bool:
        """Whether there is output, or its end, within the timeout and `most` seconds."""
        given = [each for each in (self.left(), most) if each is not None]
        if not given:
            return True  # reading waits
        poll = select.poll()
        poll.register(self._pipes.output, select.POLLIN)
        return bool(poll.poll(max(0.0, min(given)) * 1000))

    def _stuck(self) -> CannotRun:
        tail = self.tail()
        why = f": {tail[-1]}" if tail else ""
        return CannotRun(f"the command did not begin within {self._start:.0f} s{why}")

    def left(self) -> float | None:
        """Seconds of the timeout; None: there is none."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def too_long(self) -> CommandFailed:
        return timed_out(self._timeout or 0, self.tail())

    def records(self) -> dict[str, tuple[int, str]]:
        """What enter.py told so far: each stage with its errno and where."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._pipes.report, _CHUNK):
                self._told += chunk
        found = {}
        for line in self._told.split(b"\n")[:-1]:
            stage, number, text = line.decode("utf-8", "replace").split(" ", 2)
            found[stage] = int(number), text
        return found

    def began(self) -> bool:
        """As enter.py tells it."""
        return enter.READY in self.records()

    def tail(self) -> tuple[str, ...]:
        lines = [*self._tail, self._rest] if self._rest else list(self._tail)
        return tuple(line.decode("utf-8", "replace").rstrip("\r") for line in lines[-_TAIL:])


def check(command: Command, status: int, running: Running, name: str) -> None:
    """Return if the command ended with status 0. Raises CommandFailed, or CannotRun when what it
    was to start in could not be made."""
    records, tail = running.records(), running.tail()
    for stage, what in ((enter.ENTER, "working_dir"), (enter.USER, "user or groups")):
        if stage in records:
            shown = f"{what} {command.working_dir!r}" if stage == enter.ENTER else what
            raise CommandFailed(f"{shown}: {os.strerror(records[stage][0])}", exit_status=127)
    check_network(running, name)
    if enter.SETUP in records:
        number, place = records[enter.SETUP]
        raise CannotRun(f"{name}: {place or 'set-up'}: {os.strerror(number)}")
    if enter.READY not in records:
        said = tail[-1] if tail else killed(status) or "could not start"
        raise CannotRun(f"{name}: {said}")
    if enter.EXECUTE in records:
        raise not_executed(command, records[enter.EXECUTE][0])
    if status:
        raise failed(status, tail)


def check_network(running: Running, name: str) -> None:
    """Raises CannotRun when the step's private network could not be made."""
    if enter.NETWORK in running.records():
        from builder.executor import outward

        raise outward.fault(name, *running.records()[enter.NETWORK])


def not_executed(command: Command, fault: int) -> CommandFailed:
    """What execve said of the command."""
    first = command.argv[0]
    if fault in (errno.ENOENT, errno.ENOTDIR):
        hint = "what is run is a program of the image: install it in a step before"
        return CommandFailed(f"the image has no {first}", hint, exit_status=127)
    message = f"{first!r}: {os.strerror(fault)}"
    if fault == errno.EACCES:
        hint = "it is not executable for the step's user"
        return CommandFailed(message, hint, exit_status=126)
    hint = "it is for another machine, or a script without a #! line"
    return CommandFailed(message, hint if fault == errno.ENOEXEC else None, exit_status=127)


def failed(status: int, tail: tuple[str, ...]) -> CommandFailed:
    """What a status other than 0 means."""
    hint = None
    message = killed(status) or f"exit status {status}"
    if status == 127:
        hint = "127 is what a shell says of a command that the image does not have"
    elif status == 126:
        hint = "126 is what a shell says of a file that it may not execute"
    elif status == 128 + signal.SIGKILL:
        hint = "often: out of memory"
    return CommandFailed(message, hint, exit_status=status, tail=tail)


def timed_out(timeout: float, tail: tuple[str, ...]) -> CommandFailed:
    message = f"ended after {timeout:g} s, its timeout"
    return CommandFailed(message, None, exit_status=124, tail=tail)  # as timeout(1) has it


def killed(status: int) -> str:
    if status > 128 and status - 128 in {each.value for each in signal.Signals}:
        return f"killed by signal {status - 128} ({signal.Signals(status - 128).name})"
    return ""


_NOT_THERE = ("executable file not found", "no such file or directory")
_DIRECTORY = re.compile(r"chdir to cwd|Cannot mkdir|mkdir .*: (?:not a directory|file exists)")


def not_started(command: Command, said: str) -> CommandFailed | None:
    """What runc said, here or in an engine, as it could not start a command: a fault of the step,
    or None."""
    said = " ".join(said.split())
    reason = said.removesuffix(": unknown").rpartition(": ")[2]
    first = command.argv[0]
    if _DIRECTORY.search(said):
        return CommandFailed(f"working_dir {command.working_dir!r}: {reason}", exit_status=127)
    if f'exec: "{first}": ' not in said and f"exec {first}: " not in said:
        return None
    if any(text in said for text in _NOT_THERE):
        return not_executed(command, errno.ENOENT)
    if "permission denied" in said:
        return not_executed(command, errno.EACCES)
    hint = "it is for another machine, or a script without a #! line"
    return CommandFailed(f"{first!r}: {reason}", hint, exit_status=127)
