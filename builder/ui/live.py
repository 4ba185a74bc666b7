"""A live view for a terminal: a row per running step with its last lines; what ended scrolls up.

Written by hand rather than with rich: its import alone (45 ms) is half of a build in which nothing
changed, and it cannot redraw after the window was made narrower. The rules that keep a terminal
whole, also after kill -9: the cursor is never hidden, and each draw is one write that begins where
the last one began, turns line wrapping off and on again, and ends with the cursor at column 0.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from threading import Event as Signal
from threading import RLock, Thread
from time import monotonic
from typing import Self, TextIO

from builder.events import (
    Event,
    ImageDone,
    ImageStarted,
    Noted,
    StepDone,
    StepFailed,
    StepOutput,
    StepProgress,
    StepStarted,
    Warned,
)
from builder.ui import human
from builder.ui.plain import amount, image_line, step_label, step_line, warning_line
from builder.ui.text import (
    CYAN,
    DIM,
    GREEN,
    RED,
    cells,
    cut,
    harmless,
    harmless_lines,
    paint,
)

PERIOD = 0.1  # seconds between two draws
SHOWN = 6  # last output lines below a running step
KEPT = 500  # output lines kept of a step, printed when it fails

ERASE_REST, ERASE_BELOW, ERASE_LINE_ABOVE = "\x1b[K", "\x1b[J", "\x1b[1A\x1b[2K"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
# A terminal that knows synchronised output (2026) shows a draw whole; the others ignore the mode.
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"


class RunningStep:
    """A step that has started and not ended."""

    def __init__(self, event: StepStarted, now: float) -> None:
        self.event = event
        self.since = now
        self.done = 0
        self.total: int | None = None
        self.output: deque[str] = deque(maxlen=KEPT)
        self.dropped = 0

    def add(self, lines: list[str]) -> None:
        self.dropped += max(0, len(self.output) + len(lines) - KEPT)
        self.output.extend(lines[-KEPT:])


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
        self._spinner, self._ok, self._bad = (
            ("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "✓", "✗") if utf8 else ("|/-\\", "+", "x")
        )
        self._lock = RLock()
        self._steps: dict[str, int] = {}  # of each image
        self._running: dict[tuple[str, int], RunningStep] = {}  # in the order of their start
        self._ended: list[str] = []  # lines that scroll up with the next draw
        self._drawn: list[int] = []  # columns of the rows that the last draw left below
        self._ticks = 0
        self._stop = Signal()
        self._thread: Thread | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._take(event)
            if self._thread is None and not self._stop.is_set():
                if self._running:  # a build in which nothing changed starts no thread
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
            self._draw()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _take(self, event: Event) -> None:
        match event:
            case StepOutput(image, step, text):
                if running := self._running.get((image, step)):
                    running.add(text.split("\n"))
                else:
                    lines = harmless_lines(text, color=self._color)
                    self._ended += ["  " + line for line in lines]
            case StepProgress(image, step, done, total):
                if running := self._running.get((image, step)):
                    running.done, running.total = done, total
            case StepStarted(image, step):
                self._running[image, step] = RunningStep(event, self._clock())
            case StepDone(image, step):
                self._running.pop((image, step), None)
                if event.status not in ("hit", "base"):  # counted in the image's line
                    line = step_line(event, self._steps.get(image), self._color)
                    self._ended.append(f"{paint(self._ok, GREEN, self._color)} {line}")
            case StepFailed():
                self._fail(event)
            case ImageStarted(image, steps):
                self._steps[image] = steps
            case ImageDone():
                short = event._replace(digest=event.digest[:19])  # results say it whole on stdout
                line = image_line(short, self._color)
                self._ended.append(f"{paint(self._ok, GREEN, self._color)} {line}")
            case Warned():
                self._ended.append(warning_line(event, self._color))
            case Noted(text):
                self._ended.append(harmless(text))

    def _fail(self, event: StepFailed) -> None:
        image, step, name, _ = event  # the message is the command line's to show
        running = self._running.pop((image, step), None)
        label = step_label(image, step, self._steps.get(image), name, self._color)
        mark = paint(self._bad, RED, self._color)
        line = f"{mark} {label}  {paint('failed', RED, self._color)}"
        if running is None:
            self._ended.append(line)
            return
        self._ended.append(f"{line}  {human.seconds(self._clock() - running.since)}")
        bar = paint("| ", DIM, self._color)
        if running.dropped:
            self._ended.append(f"{bar}({running.dropped} earlier lines not kept)")
        self._ended += [bar + harmless(line, color=self._color) for line in running.output]

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
            text = "\r" + ERASE_LINE_ABOVE * up + "".join(line + "\n" for line in self._ended)
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
        """Rows for the running steps, each with its width; at most `lines` of at most `columns`."""
        if not self._running or columns < 1 or lines < 1:
            return []
        steps = list(self._running.values())
        hidden = len(steps) - lines + 1 if len(steps) > lines else 0
        steps = steps[: len(steps) - hidden]
        tail = min(SHOWN, (lines - len(steps)) // len(steps)) if steps and not hidden else 0
        rows: list[tuple[str, int]] = []
        for running in steps:
            rows.append(self._head(running, columns))
            for line in list(running.output)[-tail:] if tail else ():
                text = cut("    " + harmless(line[: 4 * columns]), columns)
                rows.append((paint(text, DIM, self._color), cells(text)))
        if hidden:
            text = cut(f"  and {hidden} more", columns)
            rows.append((text, cells(text)))
        return rows

    def _head(self, running: RunningStep, columns: int) -> tuple[str, int]:
        image, step, name, why = running.event
        label = step_label(image, step, self._steps.get(image), name, color=False)
        time = int(self._clock() - running.since)
        parts = [label, f"{time} s" if time < 60 else human.seconds(time)]
        if running.done:
            parts.append(amount(running.done, running.total))
        parts.append(harmless(why))
        spin = self._spinner[self._ticks % len(self._spinner)]
        text = cut("  ".join(part for part in parts if part), columns - 2)
        return f"{paint(spin, CYAN, self._color)} {text}", cells(text) + 2


def _size_of(stream: TextIO) -> Callable[[], tuple[int, int]]:
    def size() -> tuple[int, int]:
        try:
            columns, lines = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError):
            return 80, 24
        return columns or 80, lines or 24  # 0: a terminal that was told no size

    return size
