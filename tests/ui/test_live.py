"""The live view, looked at through a small terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

from builder.errors import Excerpt
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
from builder.ui.live import Live
from builder.ui.text import cells


class Screen(io.StringIO):
    """What a terminal of unlimited height shows: it knows only what the live view uses, and fails
    on anything else."""

    encoding = "utf-8"

    def __init__(self, columns: int = 60, lines: int = 20) -> None:
        super().__init__()
        self.columns, self.lines = columns, lines
        self.rows = [""]
        self.at = 0
        self.wrap = True

    def size(self) -> tuple[int, int]:
        return self.columns, self.lines

    def write(self, text: str) -> int:
        for token in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|[^\x1b]", text):
            match token:
                case "\r":
                    self.column = 0
                case "\n":
                    self.at += 1
                    self.column = 0
                    if self.at == len(self.rows):
                        self.rows.append("")
                case "\x1b[K":
                    self.rows[self.at] = self.rows[self.at][: self.column]
                case "\x1b[2K":
                    self.rows[self.at] = ""
                case "\x1b[J":
                    del self.rows[self.at + 1 :]
                    self.rows[self.at] = self.rows[self.at][: self.column]
                case "\x1b[?7l" | "\x1b[?7h":
                    self.wrap = token.endswith("h")
                case "\x1b[?2026h" | "\x1b[?2026l":
                    pass
                case _ if token.endswith("A"):
                    self.at -= int(token[2:-1])
                    assert self.at >= 0
                case _ if token.startswith("\x1b"):
                    assert token.endswith("m"), token
                case _:
                    row = self.rows[self.at]
                    self.rows[self.at] = row[: self.column] + token + row[self.column + 1 :]
                    self.column += 1
                    assert self.wrap or cells(self.rows[self.at][: self.column]) < self.columns
        return len(text)

    column = 0

    def shown(self) -> list[str]:
        """Without the spinner's state and the empty lines at the end."""
        text = "\n".join(re.sub("^[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "*", row) for row in self.rows)
        return text.rstrip("\n").split("\n")


def play(screen: Screen, *events: Event, color: bool = False) -> Live:
    """A live view that has drawn the state after `events`."""
    live = Live(screen, color=color, size=screen.size, clock=lambda: 0.0)
    for event in events:
        live(event)
    draw(live)
    return live


def timed(left: str, time: str = "0:00", columns: int = 60) -> str:
    """A row with a time flush right."""
    return left + " " * (columns - 1 - cells(left) - len(time)) + time


def draw(live: Live) -> None:
    with live._lock:
        live._draw()


RUNNING: list[Event] = [
    ImageStarted("site", 3),
    StepDone("site", 0, "debian", "hit", 0.0, 32_100_000, ""),
    StepStarted("site", 2, "install", "first build"),
]


def output(count: int) -> list[Event]:
    return [StepOutput("site", 2, f"line {number}") for number in range(count)]


def test_a_running_step_has_a_row_and_its_last_lines() -> None:
    screen = Screen()
    with play(screen, *RUNNING, *output(10)):
        assert screen.shown() == [
            timed("* site [2/3] install  first build"),
            *(f"    line {number}" for number in range(4, 10)),
        ]


def test_a_row_says_how_many_bytes_are_done() -> None:
    screen = Screen()
    with play(screen, *RUNNING, StepProgress("site", 2, 1_500_000, 3_000_000)):
        assert screen.shown() == [timed("* site [2/3] install  1.5 MB of 3.0 MB  ━━━━━─────")]


def test_what_was_built_scrolls_up_and_hits_are_counted() -> None:
    screen = Screen()
    with play(
        screen,
        *RUNNING,
        *output(10),
        StepDone("site", 2, "install", "built", 3.21, 1_200_000, "first build"),
        StepDone("site", 3, "motd", "hit", 0.0, 100, ""),
        ImageDone("site", "sha256:" + "ab" * 32, 3.5, 1, 2),
        Warned("records/x is corrupt"),
    ):
        pass
    assert screen.shown() == [
        timed("✓ site [2/3] install  built  1.2 MB  first build", "3.21 s"),
        timed("✓ site  1 built, 2 reused  sha256:abababababab", "3.50 s"),
        "warning: records/x is corrupt",
    ]


def test_a_failed_step_leaves_what_matters_of_what_it_printed() -> None:
    screen = Screen()
    live = play(screen, *RUNNING, *output(1200))
    shown = Excerpt(("a.c:1:1: error: \x1b[2J\x07",), 1197, ("line 1199",), "builder logs site 2")
    live(StepFailed("site", 2, "install", "ended with status 100", shown))
    live.close()
    assert screen.shown() == [
        timed("✗ site [2/3] install  failed", "0.00 s"),
        "| a.c:1:1: error: \\x07",
        "| (1197 lines not shown: builder logs site 2)",
        "| line 1199",
    ]


def test_steps_of_several_images_share_the_screen() -> None:
    screen = Screen(lines=8)
    with play(
        screen,
        *RUNNING,
        *output(9),
        StepStarted("other", 1, "fetch", ""),
        *(StepOutput("other", 1, f"got {n}") for n in range(9)),
    ):
        assert screen.shown() == [
            timed("* site [2/3] install  first build"),
            "    line 7",
            "    line 8",
            timed("* other [1] fetch"),
            "    got 7",
            "    got 8",
        ]


def test_more_steps_than_lines_are_counted() -> None:
    screen = Screen(lines=4)
    with play(screen, *(StepStarted(f"i{n}", 1, "x", "") for n in range(9))):
        assert screen.shown() == [
            timed("* i0 [1] x"),
            timed("* i1 [1] x"),
            "  and 7 more",
        ]


def test_rows_never_reach_the_last_column_whatever_is_printed() -> None:
    screen = Screen(columns=20)
    with play(
        screen,
        StepStarted("site", 1, "a name that is far too long for this", "why " * 40),
        StepOutput("site", 1, "漢字" * 200),
        StepOutput("site", 1, "\x1b[31m" * 50 + "x" * 8192),
        StepOutput("site", 1, "\x1b[2J\x1b]0;title\x07\r\v\ttab"),
        color=True,
    ):
        rows = screen.shown()
        assert len(rows) == 4
        assert all(cells(row) < 20 for row in rows)
        assert rows[-1] == "    \\x0d\\x0b        "[:18] + "…"


def test_a_smaller_and_a_larger_window_leave_nothing_behind() -> None:
    screen = Screen(columns=60)
    live = play(screen, Noted("kept"), *RUNNING, StepOutput("site", 2, "x" * 40))
    assert len(screen.rows) == 4
    with live._lock:
        screen.columns = 30  # the terminal wraps the rows that are wider than 30
        screen.rows[1:3] = [
            "* site [2/3] install  first bu",
            "ild                      0:00",
            " " * 4 + "x" * 26,
            "x" * 14,
        ]
        screen.at = 5
    draw(live)
    assert screen.shown() == [
        "kept",
        timed("* site [2/3] install", columns=30),
        "    " + "x" * 24 + "…",
    ]
    screen.columns = 80
    draw(live)
    live.close()
    assert screen.shown() == ["kept"]


def test_a_build_in_which_nothing_changed_starts_no_thread() -> None:
    screen = Screen()
    live = Live(screen, size=screen.size)
    live(ImageStarted("site", 1))
    live(StepDone("site", 1, "motd", "hit", 0.0, 100, ""))
    live(ImageDone("site", "sha256:" + "ab" * 32, 0.03, 0, 2))
    assert live._thread is None
    live.close()
    assert screen.shown() == [timed("✓ site  nothing to build  sha256:abababababab", "0.03 s")]


def test_a_terminal_without_unicode_gets_ascii_marks() -> None:
    class Latin(Screen):
        encoding = "latin-1"

    screen = Latin()
    with play(screen, *RUNNING, StepDone("site", 2, "install", "built", 1.0, 1, "first build")):
        pass
    assert screen.shown()[0].startswith("+ site")


def test_ctrl_c_leaves_the_terminal_as_it_was() -> None:
    # A shell starts its background jobs with SIGINT ignored, and so may whoever runs the tests.
    code = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from builder.events import StepOutput, StepStarted
from builder.ui import choose_renderer
with choose_renderer("auto", sys.stderr, is_tty=True, term="xterm", ci=False) as emit:
    emit(StepStarted("site", 1, "install", "first build"))
    emit(StepOutput("site", 1, "working"))
    time.sleep(30)
"""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    try:
        seen = read_until(controller, b"working")
        process.send_signal(signal.SIGINT)
        seen += read_until(controller, None)
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    # The view is erased before Python's own traceback (the command line shows none).
    last = seen.rindex(b"\x1b[?2026h")
    assert seen[last:].startswith(b"\x1b[?2026h\r\x1b[1A\x1b[2K\x1b[1A\x1b[2K\x1b[?7l\x1b[?7h")
    assert b"working" not in seen[last:]
    assert b"\x1b[?25l" not in seen  # the cursor was never hidden


def read_until(controller: int, wanted: bytes | None) -> bytes:
    """What the terminal got until `wanted` was there, or (None) until it was closed."""
    seen = b""
    deadline = time.monotonic() + 10
    poll = select.poll()  # select() takes no descriptor above 1023
    poll.register(controller, select.POLLIN)
    while wanted is None or wanted not in seen:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise AssertionError(f"{wanted!r} is not in what ends in {seen[-200:]!r}")
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # EIO: the last holder of the terminal has gone
            return seen
        if not chunk:
            return seen
        seen += chunk
    return seen
