"""What a container's command reads and writes, on its way between the command and the caller.

The command gets pipes of its own, never the caller's files: those it could change, and a terminal
it could type on.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable

from builder.executor.base import Streams
from builder.executor.process import Pipes

_CHUNK = 1 << 16
_MOMENT = 2  # ms


class Ends(Pipes):
    """Pipes for stdin, if there is any, stdout and stderr; one for what enter.py tells; and one
    that says that all is over."""

    ends: tuple[str, ...] = ("input_end", "output_end", "errors_end", "report_end")

    def __init__(self, streams: Streams) -> None:
        super().__init__()
        self.errors, self.errors_end = os.pipe2(os.O_CLOEXEC)
        self.over, self._over_end = os.pipe2(os.O_CLOEXEC)
        self.input_end = self.input = -1
        if streams.stdin is not None:
            self.input_end, self.input = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self.input, False)

    def stdio(self) -> tuple[int, int, int]:
        nothing = super().stdio()[0]
        return (
            nothing if self.input_end < 0 else self.input_end,
            self.output_end,
            self.errors_end,
        )

    def sources(self, streams: Streams) -> dict[int, int]:
        """What is read from, and the caller's to write it to."""
        return {self.output: streams.stdout, self.errors: streams.stderr}

    def handed_over(self) -> tuple[int, ...]:
        """More handles that the process starts with."""
        return ()

    def interrupts(self, typed: bytes) -> list[int]:
        """The signals that a terminal of the command's makes of what is typed."""
        return []

    def has_ended(self) -> None:
        """To be called, by any thread, when all has ended."""
        os.close(self._over_end)
        self._over_end = -1

    def drop(self, handle: int) -> None:
        """Close one of ours before the end."""
        for name in ("input", "output", "errors", "master"):
            if getattr(self, name, None) == handle:
                setattr(self, name, -1)
        os.close(handle)

    def close(self) -> None:
        self.close_ends()
        for name in ("input", "output", "errors", "report", "over", "_over_end"):
            handle = getattr(self, name)
            if handle >= 0:
                os.close(handle)
                setattr(self, name, -1)


class Moving:
    """Moves bytes until the command has ended and all that it wrote is with the caller."""

    def __init__(
        self,
        ends: Ends,
        streams: Streams,
        began: Callable[[bool], bool],
        typed: Callable[[bytes], None] = lambda data: None,
    ) -> None:
        self._ends, self._began, self._typed = ends, began, typed
        self._ready = False
        self._held: list[tuple[int, int, bytes]] = []  # from a handle, to one
        """What came before it was known that the command began: the sandbox's own words, maybe."""
        self._broken: set[int] = set()
        self._waiting = b""  # of stdin
        self._poll = select.poll()
        self._to = ends.sources(streams)
        self._stdin = streams.stdin if ends.input >= 0 else None
        for handle in (*self._to, ends.over):
            self._poll.register(handle, select.POLLIN)
        if self._stdin is not None:
            self._poll.register(self._stdin, select.POLLIN)
            self._poll.register(ends.input, 0)  # tells when nobody reads any more

    def run(self) -> bytes:
        """Gives what was written before the command began, if it never did."""
        over = False
        while self._to or not over:
            for handle, events in self._poll.poll(_MOMENT if self._held else None):
                if handle == self._ends.over:
                    over = True
                    self._poll.unregister(handle)
                    self._end_input()
                    self._drain()
                elif handle in self._to:
                    self._read(handle)
                elif handle == self._stdin:
                    self._take()
                elif handle == self._ends.input:
                    self._give(events)
            if self._held and (self._ready or self._began(over)):
                self._ready = True
                held, self._held = self._held, []
                for way in held:
                    self._write(*way)
        return b"".join(chunk for _, _, chunk in self._held)

    # -- what the command writes ----------------------------------------------------------------

    def _read(self, handle: int) -> None:
        try:
            chunk = os.read(handle, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # a terminal that nobody has any more
            chunk = b""
        if chunk:
            self._held.append((handle, self._to[handle], chunk))
        else:
            self._stop_reading(handle)

    def _drain(self) -> None:
        """What is left in a terminal, which has no end as a pipe has."""
        for handle in [each for each in self._to if not os.get_blocking(each)]:
            before = -1
            while handle in self._to and before != len(self._held):
                before = len(self._held)
                self._read(handle)
            if handle in self._to:
                self._stop_reading(handle)

    def _stop_reading(self, handle: int) -> None:
        self._poll.unregister(handle)
        del self._to[handle]
        self._ends.drop(handle)

    def _write(self, handle: int, target: int, chunk: bytes) -> None:
        if target in self._broken:
            return
        try:
            write_all(target, chunk)
        except OSError:  # nobody reads it: the command is to hear of that
            self._broken.add(target)
            if handle in self._to:
                self._stop_reading(handle)

    # -- what the command reads -----------------------------------------------------------------

    def _take(self) -> None:
        """Some more of stdin, once what there was is with the command."""
        assert self._stdin is not None
        try:
            self._waiting = os.read(self._stdin, _CHUNK)
        except OSError:  # a terminal that has gone
            self._waiting = b""
        if self._waiting:
            self._typed(self._waiting)
            self._poll.unregister(self._stdin)
            self._poll.modify(self._ends.input, select.POLLOUT)
        else:
            self._end_input()

    def _give(self, events: int) -> None:
        try:
            if events & select.POLLERR:
                raise BrokenPipeError
            self._waiting = self._waiting[os.write(self._ends.input, self._waiting) :]
        except BlockingIOError:
            return
        except OSError:
            self._end_input()
            return
        if not self._waiting:
            assert self._stdin is not None
            self._poll.modify(self._ends.input, 0)
            self._poll.register(self._stdin, select.POLLIN)

    def _end_input(self) -> None:
        if self._stdin is None:
            return
        with contextlib.suppress(KeyError):  # it waits for the command to read
            self._poll.unregister(self._stdin)
        self._stdin = None
        self._poll.unregister(self._ends.input)
        self._ends.drop(self._ends.input)


def write_all(handle: int, data: bytes) -> None:
    """To a file of the caller's, who may have it so that it does not wait."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(handle, left) :]
        except BlockingIOError:
            select.select((), (handle,), ())
