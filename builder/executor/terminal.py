"""A terminal of a container's own, and the user's terminal meanwhile.

A command never gets the user's terminal, which it could read and type on for ever: it gets one of
its own, and what is typed and shown goes between the two.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import marshal
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator

from builder.executor.base import Streams
from builder.executor.streams import Ends

_LONGEST = 1 << 12  # bytes of a message with the two handles

_GUARD = """
import marshal, sys, termios
told = sys.stdin.buffer.read()
if not told.endswith(b"!"):
    termios.tcsetattr(int(sys.argv[1]), termios.TCSANOW, marshal.loads(told))
"""
"""Waits until the builder has restored the terminal, or until it is no more."""


class Line(Ends):
    """What a command with a terminal has: that; the pipes are for what goes wrong before it. Both
    ends are held, so that what was shown last is not lost with the command."""

    def __init__(self, streams: Streams) -> None:
        super().__init__(Streams())
        self.master = self.slave = -1
        self._shown, self._typed = streams.stdout, streams.stdin is not None

    def connect(self, master: int, slave: int) -> None:
        self.master, self.slave = master, slave
        for handle in (master, slave):
            os.set_inheritable(handle, False)
        os.set_blocking(master, False)
        if self._typed:
            self.input = os.dup(master)

    def sources(self, streams: Streams) -> dict[int, int]:
        found = super().sources(streams)
        return {**found, self.master: self._shown} if self.master >= 0 else found

    def resize(self, rows: int, columns: int) -> None:
        if self.master >= 0:
            size = struct.pack("4H", rows, columns, 0, 0)
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def interrupts(self, typed: bytes) -> list[int]:
        """The signals that the terminal makes of what is typed."""
        if self.slave < 0:
            return []
        found = termios.tcgetattr(self.slave)
        if not found[3] & termios.ISIG:
            return []
        signals = ((termios.VINTR, signal.SIGINT), (termios.VQUIT, signal.SIGQUIT))
        return [number for key, number in signals if found[6][key] in (typed[-1:], typed[:1])]

    def close(self) -> None:
        super().close()
        for name in ("master", "slave"):
            handle = getattr(self, name)
            if handle >= 0:
                os.close(handle)
                setattr(self, name, -1)


class Received(Line):
    """The terminal is made in the container's own /dev/pts, and its handles are sent from there."""

    ends = (*Line.ends, "channel_end")

    def __init__(self, streams: Streams) -> None:
        super().__init__(streams)
        ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._channel, self.channel_end = ours, other.detach()

    def stdio(self) -> tuple[int, int, int]:
        return super().stdio()[0], self.output_end, self.output_end

    def handed_over(self) -> tuple[int, ...]:
        return (self.channel_end,)

    def receive(self) -> None:
        """Wait for it, or for the end of what makes it."""
        handles = array.array("i")
        with contextlib.suppress(OSError):
            _, found, _, _ = self._channel.recvmsg(1, _LONGEST, socket.MSG_CMSG_CLOEXEC)
            for level, kind, data in found:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    handles.frombytes(data[: len(data) - len(data) % handles.itemsize])
        if len(handles) == 2:
            self.connect(*handles)

    def close(self) -> None:
        super().close()
        self._channel.close()


class Opened(Line):
    """The terminal is one of this machine, for a tool (runc) that makes the container's own."""

    def __init__(self, streams: Streams) -> None:
        super().__init__(streams)
        self.connect(*pty.openpty())

    def stdio(self) -> tuple[int, int, int]:
        return self.slave, self.slave, self.slave

    def interrupts(self, typed: bytes) -> list[int]:
        return []  # the container's own is not to be had


def size_of(streams: Streams) -> tuple[int, int]:
    """Rows and columns of the user's terminal."""
    for handle in (streams.stdout, streams.stdin):
        with contextlib.suppress(OSError):
            if handle is not None:
                columns, rows = os.get_terminal_size(handle)
                return rows, columns
    return 24, 80


@contextlib.contextmanager
def taking_over(streams: Streams, resized: Callable[[int, int], None]) -> Iterator[None]:
    """Within, keys come as they are typed, and `resized` is told when the window is another. The
    user's terminal is restored whatever happens, also by kill -9."""
    before = {}
    handle = streams.stdin if streams.stdin is not None and os.isatty(streams.stdin) else None

    def changed(*_: object) -> None:
        resized(*size_of(streams))

    def continued(*_: object) -> None:  # a shell that had the terminal meanwhile has changed it
        if handle is not None:
            with contextlib.suppress(termios.error):
                tty.setraw(handle, termios.TCSANOW)
        changed()

    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number, act in ((signal.SIGWINCH, changed), (signal.SIGCONT, continued)):
                before[number] = signal.signal(number, act)
            stack.callback(lambda: [signal.signal(*each) for each in before.items()])
        if handle is not None:
            stack.enter_context(_raw(handle))
        changed()
        yield


@contextlib.contextmanager
def _raw(handle: int) -> Iterator[None]:
    try:
        saved = termios.tcgetattr(handle)
    except termios.error:  # it has just gone
        yield
        return
    own = os.dup(handle)  # its 0 is a pipe
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _GUARD, str(own)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(own,),
        start_new_session=True,
        env={},
        cwd="/",
    )
    os.close(own)
    assert guard.stdin is not None
    try:
        guard.stdin.write(marshal.dumps(saved))
        guard.stdin.flush()
        tty.setraw(handle, termios.TCSANOW)
        yield
    finally:
        with contextlib.suppress(termios.error):  # it has gone
            termios.tcsetattr(handle, termios.TCSANOW, saved)
        with contextlib.suppress(OSError):
            guard.stdin.write(b"!")
            guard.stdin.close()
        guard.wait()
