"""The live view in a terminal emulator: random builds, several widths, a look after every draw."""

from __future__ import annotations

import io
import os
import random
import re
from collections.abc import Iterator

import pyte
import pytest

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
    Transfer,
    Warned,
)
from builder.ui.live import Live
from builder.ui.text import cells

ROUNDS = int(os.environ.get("BUILDER_TERMINAL_ROUNDS", "2"))  # for each size; in full: 300
SIZES = [(20, 6), (40, 24), (80, 24), (80, 5), (160, 50), (9, 3), (1, 1)]
WHAT = [
    "install nginx",
    "a name that is far longer than what it does would have it, and then some",
    "漢字の段階",
    "\x1b[2Jcléar\r\n",
    "é" * 30,
    "x",
]
SIGNS = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(columns, lines, history=100_000, ratio=0.5)
        self.screen.set_mode(pyte.modes.LNM)  # what a terminal's driver does to a newline
        self.stream = pyte.Stream(self.screen)

    def write(self, text: str) -> int:
        self.stream.feed(text)
        return len(text)

    def size(self) -> tuple[int, int]:
        return self.screen.columns, self.screen.lines

    def above(self, count: int) -> list[str]:
        """The rows above the cursor, at most `count`."""
        top, at = list(self.screen.history.top), self.screen.cursor.y
        rows = [*top, *(self.screen.buffer[y] for y in range(at))][-count:] if count else []
        return ["".join(row[x].data for x in range(self.screen.columns)).rstrip() for row in rows]


def build(random: random.Random) -> Iterator[Event]:
    """Events of a build of some images, two of which may go at once."""
    images = [f"image{number}" for number in range(random.randint(1, 4))]
    steps = {each: [random.choice(WHAT) for _ in range(random.randint(0, 9))] for each in images}
    yield BuildStarted(len(images), tuple((each, tuple(steps[each])) for each in images))
    threads = [image(random, each, steps[each]) for each in images]
    threads += [transfer(random, number) for number in range(random.randint(0, 3))]
    while threads:
        thread = random.choice(threads[:5])
        event = next(thread, None)
        if event is None:
            threads.remove(thread)
        else:
            yield event


def transfer(random: random.Random, number: int) -> Iterator[Event]:
    what = f"pull {random.choice(WHAT)} {number}"
    total = random.choice([None, 1, 10**6, 10**12])
    for done in sorted(random.randint(0, total or 10**9) for _ in range(5)):
        yield Transfer(what, done, total)
    yield Transfer(what, total or 0, total, True)


def image(random: random.Random, name: str, steps: list[str]) -> Iterator[Event]:
    yield ImageStarted(name, len(steps))
    for number, step in enumerate(("base", *steps)):
        if random.random() < 0.3:
            yield StepDone(name, number, step, "hit", 0.0, 12, "")
            continue
        why = random.choice(["first build", "why " * 40, "変更" * 30])
        yield StepStarted(name, number, step, why)
        for _ in range(random.randint(0, 5)):
            match random.randint(0, 3):
                case 0:
                    yield StepProgress(name, number, random.randint(1, 9**9), None)
                case 1:
                    yield StepProgress(name, number, random.randint(1, 9**9), 9**9)
                case _:
                    line = random.choice(
                        ["\x1b[31mred\x1b[0m", "漢" * 99, "tab\tbed", "l " * 200, ""]
                    )
                    yield StepOutput(name, number, "\n".join([line] * random.randint(1, 9)))
        if random.random() < 0.05:
            yield StepFailed(name, number, step, "ended with status 1")
            return
        yield StepDone(name, number, step, "built", 1.5, 10**6, why)
    if random.random() < 0.3:
        yield random.choice([Noted("noted"), Warned("warned")])
    yield ImageDone(name, "sha256:" + "ab" * 32, 3.5, 1, 2)


KNOWN = re.compile(
    rf"[{SIGNS}] ?|[✓✗] ?|building |    |  image\d \[|  \d+ more to come|  and \d+ more|\|( |$)|"
    "noted|warning: warned"
)


@pytest.mark.parametrize(("columns", "lines"), SIZES)
@pytest.mark.parametrize("color", [True, False])
def test_no_row_is_wrapped_or_broken(columns: int, lines: int, color: bool) -> None:
    for seed in range(ROUNDS):
        chosen = random.Random(seed)
        terminal = Terminal(columns, lines)
        now = 0.0
        live = Live(terminal, color=color, size=terminal.size, clock=lambda: now)  # noqa: B023
        live._stop.set()  # draws are ours to make
        said = 0
        for event in build(chosen):
            now += chosen.random() * 3
            with live._lock:
                live._take(event)
                said += len(live._ended)
                live._draw()
            below = len(live._drawn)
            assert below <= max(0, lines - 1)
            rows = terminal.above(below)
            assert all(cells(row) < columns for row in rows), rows
            if columns < 20:
                continue
            assert all(KNOWN.match(row) for row in rows if row), rows
            spinning = [row for row in rows if row and row[0] in SIGNS]
            going = len(live._running) + len(live._transfers)
            more = f"and {going - len(spinning)} more"
            assert len(spinning) == going or any(more in row for row in rows), rows
            assert all(re.search(r" \d+:\d\d(:\d\d)?$", row) for row in spinning), rows
            assert all(cells(row) == columns - 1 for row in spinning), rows
        live.close()
        if columns >= 80:  # what printed lines and failures say is not cut
            left = [row for row in terminal.above(100_000) if row]
            ended = [row for row in left if row[0] in "✓✗"]
            assert all(cells(row) == columns - 1 for row in ended), ended
            assert not [row for row in left if row[0] in SIGNS or row.startswith("building")]
            assert len([row for row in left if KNOWN.match(row)]) == said
        assert terminal.screen.cursor.x == 0
        assert pyte.modes.DECAWM in terminal.screen.mode
