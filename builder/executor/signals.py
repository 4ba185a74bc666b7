"""Signals for a container's command: they come to the builder, and are given on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator

FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_PATIENCE = 3
"""So many signals that ask it to end do end it, whatever it does with them."""


@contextlib.contextmanager
def forwarding(send: Callable[[int], None]) -> Iterator[None]:
    """Within, these signals come to `send`; what is ignored stays so. In another thread than the
    main one, where Python has no signals, they come where they came before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    try:
        for number in FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, lambda got, frame: send(got))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Sending:
    """Gives signals on to a command; `outer` is the process above it, `stop` ends all at once."""

    def __init__(self, outer: Callable[[], int], stop: Callable[[], object]) -> None:
        self._outer, self._stop = outer, stop
        self.began: Callable[[], bool] = lambda: False
        self._asked = 0
        self.ended_by = 0
        """The signal that ended it, since the command does nothing with it: process 1 of a pid
        namespace does not die of one, as any other does."""

    def __call__(self, number: int) -> None:
        self._asked += number not in (signal.SIGUSR1, signal.SIGUSR2)
        found = command_process(self._outer()) if self.began() else None
        if found is None or self._asked >= _PATIENCE:
            self._end(number)
            return
        handle, status = found
        try:
            if handles(status, number, "SigCgt"):
                signal.pidfd_send_signal(handle, number)
            elif not handles(status, number, "SigIgn"):
                self._end(number)
        except ProcessLookupError:
            pass  # it has just ended
        finally:
            os.close(handle)

    def typed(self, numbers: Iterable[int]) -> None:
        """A terminal makes signals of keys. What is in its foreground gets that from the kernel;
        but process 1 only if it does something with it."""
        for number in numbers:
            found = command_process(self._outer()) if self.began() else None
            if found is None:
                return
            handle, status = found
            os.close(handle)
            if handles(status, number, "SigCgt") or handles(status, number, "SigIgn"):
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{status['Pid'].strip()}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
                if fields[5] == fields[2]:  # tpgid, pgrp
                    self._end(number)

    def _end(self, number: int) -> None:
        self.ended_by = number
        self._stop()


def command_process(outer: int) -> tuple[int, dict[str, str]] | None:
    """A handle (pidfd) of the command, which is process 1 of a pid namespace below the process
    `outer`, and its /proc/PID/status; None where there is none."""
    for child in _children(outer):
        try:
            handle = os.pidfd_open(child)
        except OSError:
            continue
        with contextlib.suppress(OSError, KeyError):
            with open(f"/proc/{child}/status", encoding="ascii", errors="replace") as file:
                status = dict(line.split(":", 1) for line in file if ":" in line)
            own = status["PPid"].strip() == str(outer)  # else another has the number by now
            if own and status["NSpid"].split()[-1] == "1":
                return handle, status
        os.close(handle)
    return None


def _children(process: int) -> list[int]:
    """Of all its threads: which one of runc's began the command is by chance."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except OSError:  # it is ending
        pass
    return found


def handles(status: dict[str, str], number: int, field: str) -> bool:
    """Whether a process has this signal in a field of its status, as a bit."""
    return bool(int(status.get(field, "0"), 16) >> (number - 1) & 1)
