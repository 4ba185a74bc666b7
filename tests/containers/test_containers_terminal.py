"""`builder run` on a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from tests.containers.conftest import Box

LONG = 60  # seconds

Terminal = Callable[..., "Seat"]


class Seat:
    """Somebody at a terminal of 33 x 101, who has called the builder on it."""

    def __init__(self, box: Box, *arguments: str) -> None:
        self.master, self.slave = pty.openpty()  # held, so that its modes can be seen afterwards
        self.resize(33, 101)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            for stream in (0, 1, 2):
                os.dup2(self.slave, stream)
            os.chdir(box.root)
            os.execve(sys.executable, box.argv(*arguments), box.env)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def sees(self, text: bytes) -> bytes:
        """Wait until this is shown; all that was before it."""
        until = time.monotonic() + LONG
        while text not in self.seen:
            assert select.select([self.master], [], [], max(0.0, until - time.monotonic()))[0], (
                self.seen
            )
            self.seen += os.read(self.master, 1 << 16)
        found, _, self.seen = self.seen.partition(text)
        return found

    def types(self, data: bytes) -> None:
        os.write(self.master, data)

    def ends(self) -> int:
        """The status; the terminal is then as it was."""
        until = time.monotonic() + LONG
        while not (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            assert time.monotonic() < until, self.seen
            if select.select([self.master], [], [], 0.01)[0]:
                self.seen += os.read(self.master, 1 << 16)
        self.pid = 0
        self.restored()
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 1 << 16)
        assert b"Traceback" not in self.seen
        return os.waitstatus_to_exitcode(found[1])

    def restored(self) -> None:
        until = time.monotonic() + LONG
        while termios.tcgetattr(self.slave) != self.before:
            assert time.monotonic() < until
            time.sleep(0.01)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def seat(box: Box, executor: str) -> Iterator[Terminal]:
    seats: list[Seat] = []

    def sit(*arguments: str) -> Seat:
        seats.append(Seat(box, "run", "--executor", executor, *arguments))
        return seats[-1]

    yield sit
    for each in seats:
        each.close()


def test_it_is_a_terminal_of_its_own(seat: Terminal) -> None:
    here = seat("box", "sh", "-c", "tty; stty size; echo $TERM; echo x > /dev/tty; ls /dev/console")
    assert here.ends() == 0
    assert here.seen == b"/dev/pts/0\r\n33 101\r\nxterm\r\nx\r\n/dev/console\r\n"


def test_the_shell_has_job_control_and_ends_at_ctrl_d(seat: Terminal) -> None:
    here = seat("-e", "PS1=at> ", "box", "sh")
    here.sees(b"at> ")
    here.types(b"sleep 1000\r")
    here.sees(b"sleep 1000\r\n")
    time.sleep(0.3)  # until it is the foreground; too early the shell says so once more
    here.types(b"\x1a")
    here.sees(b"Stopped")
    here.types(b"fg\r")
    here.sees(b"fg\r\nsleep 1000\r\n")
    time.sleep(0.3)
    here.types(b"\x03")
    here.sees(b"at> ")
    here.types(b"exit 5\r")
    assert here.ends() == 5
    here = seat("-e", "PS1=at> ", "box", "sh")
    here.sees(b"at> ")
    here.types(b"\x04")
    assert here.ends() == 0


def test_ctrl_c_ends_what_is_in_the_foreground(seat: Terminal) -> None:
    here = seat("-e", "PS1=at> ", "box", "sh")
    here.sees(b"at> ")
    here.types(b"echo begun; sleep 1000; echo over\r")
    here.sees(b"\r\nbegun\r\n")
    time.sleep(0.3)
    here.types(b"\x03")
    here.sees(b"at> ")
    here.types(b"exit 3\r")
    assert here.ends() == 3


@pytest.mark.parametrize(("key", "status"), [(b"\x03", 130), (b"\x1c", 131)])
def test_ctrl_c_ends_a_program_that_does_nothing_with_it(box: Box, key: bytes, status: int) -> None:
    """As process 1 of a container it would not, by itself."""
    here = Seat(box, "run", "--executor", "sandbox", "box", "cat")
    try:
        here.types(b"word\r")
        here.sees(b"word\r\nword\r\n")
        here.types(key)
        assert here.ends() == status
    finally:
        here.close()


def test_the_window_may_change(seat: Terminal) -> None:
    here = seat("box", "sh", "-c", "trap 'stty size' WINCH; echo up; while :; do sleep 0.1; done")
    here.sees(b"up\r\n")
    here.resize(20, 70)
    os.kill(here.pid, signal.SIGWINCH)
    here.sees(b"20 70\r\n")
    os.kill(here.pid, signal.SIGTERM)
    assert here.ends() == 143


def test_kill_9_leaves_the_terminal_as_it_was(box: Box, seat: Terminal) -> None:
    here = seat("box", "sh", "-c", "echo up; exec sleep 1000")
    here.sees(b"up\r\n")
    assert termios.tcgetattr(here.slave) != here.before
    os.kill(here.pid, signal.SIGKILL)
    assert here.ends() == -signal.SIGKILL
    box.run("box", "true")  # what it left in the store goes with the next one


def test_nothing_that_was_shown_is_lost(seat: Terminal) -> None:
    here = seat("box", "sh", "-c", "seq 100000")
    assert here.ends() == 0
    assert here.seen == b"".join(b"%d\r\n" % number for number in range(1, 100001))


def test_a_terminal_is_asked_for_where_there_is_none(box: Box) -> None:
    assert "-t: stdout is no terminal" in box.fails("run", "-t", "box", "true", status=125)
    assert "-t: stdout is no terminal" in box.fails("run", "-it", "box", "true", status=125)
