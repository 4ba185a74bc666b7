"""A command while it runs: its output, its end, and what to say when it failed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.errors import CommandFailed, ExecutorError
from builder.executor import program
from builder.executor.base import Command

if TYPE_CHECKING:
    from subprocess import Popen

_TAIL = 20  # lines
_CHUNK = 1 << 16
_LINE = 2000  # bytes kept of one line


class Pipes:
    """One pipe for stdout and stderr, one for the first program's records."""

    def __init__(self) -> None:
        self.output, self.output_end = os.pipe2(os.O_CLOEXEC)
        self.report, self.report_end = os.pipe2(os.O_CLOEXEC)

    def close_ends(self) -> None:
        """Once the process has them."""
        for name in ("output_end", "report_end"):
            handle = getattr(self, name)
            if handle >= 0:
                os.close(handle)
                setattr(self, name, -1)

    def close(self) -> None:
        self.close_ends()
        os.close(self.output)
        os.close(self.report)


class Confined(threading.Thread):
    """Starts a process from a thread of its own and waits for it.

    The thread has mounts of its own, which the process inherits, and the process dies with the
    thread: kill -9 of the builder leaves neither process nor mount. `prepare` makes the namespaces,
    mounts and starts; `after` ends what the process left running; both in the thread.
    """

    def __init__(
        self, prepare: Callable[[], Popen[bytes]], after: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(name="sandbox", daemon=True)
        self._prepare, self._after = prepare, after
        self._under_way = threading.Event()
        self._process: Popen[bytes] | None = None
        self._failure: BaseException | None = None
        self._cancelled = False

    def run(self) -> None:
        try:
            self._process = self._prepare()
            if self._cancelled:
                self._process.kill()
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
            raise ExecutorError(f"no sandbox: {place}: {reason}") from self._failure
        if self._failure is not None:
            raise self._failure

    def status(self) -> int:
        """The exit status, 128 + n for signal n, once the process has ended."""
        self.join()
        assert self._process is not None  # started
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        """End it now; returns when it has."""
        self._cancelled = True
        self._under_way.wait()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self.join()


class Running:
    """What is known of a command while and after it ran."""

    def __init__(self, pipes: Pipes, output: Callable[[bytes], None]) -> None:
        self._pipes, self._output = pipes, output
        self._told = b""
        self._tail: deque[bytes] = deque(maxlen=_TAIL)
        self._rest = b""
        os.set_blocking(pipes.report, False)

    def follow(self) -> None:
        """Hand on output until it ends. What comes before the first program was ready is the
        sandbox's own and stays in the tail."""
        ready = False
        while chunk := os.read(self._pipes.output, _CHUNK):
            ready = ready or program.READY in self.records()
            if ready:
                self._output(chunk)
            lines = (self._rest + chunk).split(b"\n")
            self._rest = lines.pop()[-_LINE:]
            self._tail.extend(line[-_LINE:] for line in lines[-_TAIL:])

    def records(self) -> dict[int, int]:
        """Stages told so far, each with its errno: of several places on PATH, that of one where
        there is a file."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._pipes.report, _CHUNK):
                self._told += chunk
        whole = len(self._told) - len(self._told) % program.RECORD.size
        found: dict[int, int] = {}
        for result, stage in program.RECORD.iter_unpack(self._told[:whole]):
            if found.get(stage, 0) in (0, errno.ENOENT, errno.ENOTDIR):
                found[stage] = -result if result < 0 else 0
        return found

    def tail(self) -> tuple[str, ...]:
        lines = [*self._tail, self._rest] if self._rest else list(self._tail)
        return tuple(line.decode("utf-8", "replace").rstrip("\r") for line in lines[-_TAIL:])


def check(command: Command, status: int, running: Running, name: str) -> None:
    """Return if the command ended with status 0. Raises CommandFailed, or ExecutorError when the
    sandbox could not be made."""
    records, tail = running.records(), running.tail()
    for stage, what in ((program.ENTER, "working_dir"), (program.USER, "user or groups")):
        if stage in records:
            shown = f"{what} {command.working_dir!r}" if stage == program.ENTER else what
            raise CommandFailed(f"{shown}: {os.strerror(records[stage])}", exit_status=127)
    if program.READY not in records:
        reason = os.strerror(records[program.SETUP]) if program.SETUP in records else ""
        raise ExecutorError(f"{name}: {reason or (tail[-1] if tail else 'could not start')}")
    if status == 0:
        return
    hint = None
    message = f"exit status {status}"
    first = command.argv[0]
    if program.NOTHING in records:
        fault = records[program.EXECUTE]
        message = f"{first!r}: {os.strerror(fault)}"
        if fault in (errno.ENOENT, errno.ENOTDIR):
            message = f"the image has no {first}"
            hint = "a command step runs a program of the image: install it in a step before"
        elif fault == errno.ENOEXEC:
            hint = "it is for another machine, or a script without a #! line"
        elif fault == errno.EACCES:
            status, hint = 126, "it is not executable for the step's user"
    elif status == 127:
        hint = "127 is what a shell says of a command that the image does not have"
    elif status == 126:
        hint = "126 is what a shell says of a file that it may not execute"
    elif status > 128 and status - 128 in {each.value for each in signal.Signals}:
        message = f"killed by signal {status - 128} ({signal.Signals(status - 128).name})"
        hint = "often: out of memory" if status == 128 + signal.SIGKILL else None
    raise CommandFailed(message, hint, exit_status=status, tail=tail)
