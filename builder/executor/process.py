"""A command while it runs: its output, its end, and what to say when it failed."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
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

    The thread has mounts of its own, which the process inherits, and the process dies with the thread:
    kill -9 of the builder leaves neither process nor mount. `prepare` mounts and starts, in the thread.
    """

    def __init__(self, prepare: Callable[[], Popen[bytes]]) -> None:
        super().__init__(name="sandbox", daemon=True)
        self._prepare = prepare
        self._under_way = threading.Event()
        self._process: Popen[bytes] | None = None
        self._failure: BaseException | None = None
        self._cancelled = False

    def run(self) -> None:
        try:
            from builder.executor import syscalls

            syscalls.own_mounts()
            # The process becomes init of a pid namespace: when it ends, all within has ended.
            syscalls.unshare(syscalls.CLONE_NEWPID)
            self._process = self._prepare()
            if self._cancelled:
                self._process.kill()
        except BaseException as error:
            self._failure = error
        finally:
            self._under_way.set()
        if self._process is not None:
            self._process.wait()

    def wait_started(self) -> None:
        """Raises what went wrong on the way."""
        self._under_way.wait()
        if isinstance(self._failure, OSError):
            raise ExecutorError(f"cannot start the sandbox: {self._failure}") from self._failure
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


def follow(pipes: Pipes, output: Callable[[bytes], None]) -> tuple[dict[int, int], list[str]]:
    """Hand on output until it ends: the first program's records (stage: errno, the first that tells
    most of each) and the last lines of output. Output before the program was ready is the sandbox's
    own, and only in the lines."""
    records = read_records(pipes.report)
    tail: deque[bytes] = deque(maxlen=_TAIL)
    rest = b""
    while chunk := os.read(pipes.output, _CHUNK):
        if program.READY in records:
            output(chunk)
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()[-_LINE:]
        tail.extend(line[-_LINE:] for line in lines[-_TAIL:])
    if rest:
        tail.append(rest)
    return records, [line.decode("utf-8", "replace").rstrip("\r") for line in tail]


def read_records(handle: int) -> dict[int, int]:
    """Until the command starts or nothing can tell any more."""
    data = b""
    while chunk := os.read(handle, 4096):
        data += chunk
    records: dict[int, int] = {}
    whole = len(data) - len(data) % program.RECORD.size
    for result, stage in program.RECORD.iter_unpack(data[:whole]):
        # Of several places on PATH, one that exists says more than one that does not.
        if records.get(stage, 0) in (0, errno.ENOENT, errno.ENOTDIR):
            records[stage] = min(-result, 4095) if result < 0 else 0
    return records


def check(
    command: Command, status: int, records: dict[int, int], tail: Sequence[str], name: str
) -> None:
    """Return if the command ended with status 0. Raises CommandFailed, or ExecutorError when the
    sandbox could not be made."""
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
    raise CommandFailed(message, hint, exit_status=status, tail=tuple(tail))
