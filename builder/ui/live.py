"""A live view for a terminal: where the build stands, a row for each step that runs with its last
lines, and what is to come; what ended scrolls up.

Written by hand rather than with rich: its import alone (45 ms) is half of a build in which nothing
changed, and it cannot redraw after the window was made narrower. The rules that keep a terminal
whole, also after kill -9: the cursor is never hidden, and each draw is one write that begins where
the last one began, turns line wrapping off and on again, and ends with the cursor at column 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Event as Signal
from threading import RLock, Thread
from time import monotonic
from typing import Self, TextIO

from builder.events import (
    BuildStarted,
    Event,
    ImageDone,
    ImageStarted,
    Noted,
    StepDone,
    StepFailed,
    StepOutput,
    StepProgress,
    StepStarted,
    TestDone,
    TestStarted,
    Transfer,
    Warned,
)
from builder.ui.plain import warning_line
from builder.ui.rows import (
    ASCII,
    UNICODE,
    Bytes,
    Course,
    Row,
    RunningStep,
    Span,
    done_row,
    failed_row,
    image_row,
    running_row,
    test_row,
    transfer_row,
)
from builder.ui.text import DIM, excerpt_lines, harmless, harmless_lines, paint

PERIOD = 0.1  # seconds between two draws

ERASE_REST, ERASE_BELOW, ERASE_LINE_ABOVE = "\x1b[K", "\x1b[J", "\x1b[1A\x1b[2K"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
# A terminal that knows synchronised output (2026) shows a draw whole; the others ignore the mode.
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"


class Live:
    shows_output = True

    def __init__(
        self,
        stream: TextIO,
        *,
        color: bool = True,
        size: Callable[[], tuple[int, int]] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`size` gives columns and lines; by default the terminal that `stream` is."""
        self._clock = clock
        self._stream: TextIO | None = stream
        self._color = color
        self._size = size or _size_of(stream)
        utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
        self._signs = UNICODE if utf8 else ASCII
        self._lock = RLock()
        self._course = Course()
        self._running: dict[tuple[str, int], RunningStep] = {}  # in the order of their start
        self._transfers: dict[str, Bytes] = {}  # alike
        self._ended: list[str | Row] = []  # what scrolls up with the next draw; rows are cut
        self._drawn: list[int] = []  # columns of the rows that the last draw left below
        self._ticks = 0
        self._stop = Signal()
        self._thread: Thread | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._take(event)
            if self._thread is None and not self._stop.is_set():
                if (
                    self._running or self._transfers
                ):  # a build in which nothing changed starts no thread
                    self._thread = Thread(target=self._redraw, name="progress", daemon=True)
                    self._thread.start()
                else:
                    self._draw()

    def close(self) -> None:
        """Leave what ended on the screen and nothing of what still ran."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._running.clear()
            self._transfers.clear()
            self._draw()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _take(self, event: Event) -> None:
        match event:
            case StepOutput(image, step, text):
                if running := self._running.get((image, step)):
                    running.output.extend(text.split("\n"))
                else:
                    lines = harmless_lines(text, color=self._color)
                    self._ended += ["  " + line for line in lines]
            case StepProgress(image, step, done, total):
                if running := self._running.get((image, step)):
                    running.bytes.take(self._clock(), done, total)
            case StepStarted(image, step):
                self._running[image, step] = RunningStep(event, self._clock())
                self._course.begun(image, step)
            case StepDone(image, step):
                self._running.pop((image, step), None)
                self._course.ended(image, step)
                if event.status not in ("hit", "base"):  # counted in the image's line
                    self._ended.append(done_row(event, self._steps(image), self._signs.ok))
            case StepFailed():
                self._fail(event)
            case BuildStarted():
                self._course = Course(event, self._clock())
            case ImageStarted(image, steps):
                self._course.totals[image] = steps
            case TestStarted(image, number):
                self._running[image, -number] = RunningStep(event, self._clock())
            case TestDone(image, number):
                self._running.pop((image, -number), None)
                if event.status != "cached" and event.listed:
                    bar = paint("| ", DIM, self._color)
                    for each in event.output.split("\n") if event.output else ():
                        self._ended.append(bar + harmless(each, color=self._color))
                    mark = self._signs.bad if event.status == "failed" else self._signs.ok
                    self._ended.append(test_row(event, mark))
            case ImageDone(image):
                self._course.ended(image, self._steps(image) or 0)
                self._ended.append(image_row(event, self._signs.ok))
            case Transfer(what, done, total, ended):
                if ended:
                    self._transfers.pop(what, None)
                else:
                    now = self._clock()
                    self._transfers.setdefault(what, Bytes(now)).take(now, done, total)
            case Warned():
                self._ended.append(warning_line(event, self._color))
            case Noted(text):
                self._ended.append(harmless(text))

    def _steps(self, image: str) -> int | None:
        return self._course.totals.get(image)

    def _fail(self, event: StepFailed) -> None:
        running = self._running.pop((event.image, event.step), None)
        seconds = self._clock() - running.since if running else None
        row = failed_row(event, self._steps(event.image), self._signs.bad, seconds)
        self._ended += [row, *excerpt_lines(event.excerpt, self._color)]

    def _redraw(self) -> None:
        while not self._stop.wait(PERIOD):
            with self._lock:
                self._ticks += 1
                self._draw()

    def _draw(self) -> None:
        """Replace the rows of the last draw by what ended since and the rows of now."""
        columns, lines = self._size()
        rows = self._rows(columns - 1, lines - 1)
        if self._stream is None or not (rows or self._ended or self._drawn):
            return
        # A window made narrower wraps the rows that stand there: they take more lines than rows.
        up = sum(max(1, -(-width // columns)) for width in self._drawn)
        # No "erase below" from the screen's first line: tmux keeps what that erases as history.
        if self._ended or not rows:
            said = (
                line.fit(max(1, columns - 1), self._color)[0] if isinstance(line, Row) else line
                for line in self._ended
            )
            text = "\r" + ERASE_LINE_ABOVE * up + "".join(line + "\n" for line in said)
        else:
            text = f"\r\x1b[{up}A" if up else "\r"
        text += NO_WRAP + "".join(row + ERASE_REST + "\n" for row, _ in rows) + WRAP
        text = BEGIN + text + (ERASE_BELOW if rows else "") + END
        self._ended.clear()
        self._drawn = [width for _, width in rows]
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # the terminal has gone; that is no reason to stop a build
            self._stream = None

    def _rows(self, columns: int, lines: int) -> list[tuple[str, int]]:
        """What stands below, each row with its width; at most `lines` of at most `columns`: where
        the build stands, what runs with its last lines, what is to come."""
        if columns < 1 or lines < 1 or not (self._running or self._transfers):
            return []
        now, signs = self._clock(), self._signs
        mark = signs.spinner[self._ticks % len(signs.spinner)]
        rows: list[Row] = []
        header = self._course.header(now) if lines > 3 else None
        if header:
            rows.append(header)
        going = len(self._running) + len(self._transfers)
        room = lines - len(rows)
        hidden = going - room + 1 if going > room else 0
        coming = self._course.coming((room - going) // 3) if going < room else []
        tail = (room - going - len(coming)) // max(1, len(self._running)) if not hidden else 0
        steps = list(self._running.values())[: going - hidden]
        for running in steps:
            total = self._steps(running.event.image)
            rows.append(running_row(running, total, mark, now, signs))
            for line in list(running.output)[-tail:] if tail else ():
                rows.append(Row((Span("    " + harmless(line[: 4 * columns]), DIM),)))
        transfers = list(self._transfers.items())[: going - hidden - len(steps)]
        rows += [transfer_row(what, done, mark, now, signs) for what, done in transfers]
        if hidden:
            rows.append(Row((Span(f"  and {hidden} more"),)))
        return [row.fit(columns, self._color) for row in (*rows, *coming)]


def _size_of(stream: TextIO) -> Callable[[], tuple[int, int]]:
    def size() -> tuple[int, int]:
        try:
            columns, lines = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError):
            return 80, 24
        return columns or 80, lines or 24  # 0: a terminal that was told no size

    return size
