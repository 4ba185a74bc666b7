"""Rows of the live view: what they say, and how they fit the columns that there are."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple

from builder.events import (
    BuildStarted,
    ImageDone,
    StepDone,
    StepFailed,
    StepStarted,
    TestDone,
    TestStarted,
)
from builder.ui import human
from builder.ui.plain import STATUS_COLORS, TEST_COLORS, amount, step_place, tally, test_word
from builder.ui.text import BOLD, CYAN, DIM, GREEN, RED, cells, cut, harmless, paint

SHOWN = 6  # last output lines below a running step
_BAR = 10  # columns
_RATE = 5.0  # seconds that a rate is measured over
_WHOLE = 1 << 30


class Span(NamedTuple):
    """Some of a row's text, harmless. It is cut where there is no room, and left out with less than
    `least` columns of it."""

    text: str
    code: str = ""  # colour
    least: int = 1
    gap: int = 2  # spaces before it


class Row(NamedTuple):
    """Spans from the left, and a time flush right."""

    spans: tuple[Span, ...]
    time: str = ""

    def fit(self, columns: int, color: bool) -> tuple[str, int]:
        """The row in at most `columns`, and how many it takes."""
        time = self.time if columns >= 3 * len(self.time) else ""
        room = columns - (len(time) + 2 if time else 0)
        text, width = "", 0
        for span in self.spans:
            gap = span.gap if width else 0
            free = room - width - gap
            if not span.text or free < min(cells(span.text), span.least):
                continue
            shown = cut(span.text, free)
            text += " " * gap + paint(shown, span.code, color)
            width += gap + cells(shown)
            if shown != span.text:
                break
        if time:
            text += " " * (columns - width - len(time)) + paint(time, DIM, color)
            width = columns
        return text, width


class Signs(NamedTuple):
    """What a terminal can show."""

    spinner: str
    ok: str
    bad: str
    full: str
    empty: str


UNICODE = Signs("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "✓", "✗", "━", "─")
ASCII = Signs("|/-\\", "+", "x", "#", ".")


class Bytes:
    """How far some bytes have come, and how fast: since `now`, in seconds."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.done = 0
        self.total: int | None = None
        self._earlier = deque([(now, 0)])  # one and the next are a fifth of _RATE apart

    def take(self, now: float, done: int, total: int | None) -> None:
        if done < self.done:  # begun anew
            self._earlier = deque([(now, done)])
        self.done, self.total = done, total
        if now - self._earlier[-1][0] >= _RATE / 5:
            self._earlier.append((now, done))
            while now - self._earlier[1][0] >= _RATE:
                self._earlier.popleft()

    def spans(self, now: float, signs: Signs) -> tuple[Span, ...]:
        if not self.done:
            return ()
        spans = [Span(amount(self.done, self.total), "", _WHOLE)]
        if self.total:
            full = min(_BAR, _BAR * self.done // self.total)
            spans.append(Span(signs.full * full + signs.empty * (_BAR - full), CYAN, _WHOLE))
        began, before = self._earlier[0]
        if now - began >= 1 and self.done > before:
            rate = (self.done - before) / (now - began)
            spans.append(Span(f"{human.size(int(rate))}/s", "", _WHOLE))
            if self.total and self.total > self.done:
                left = human.clock((self.total - self.done) / rate)
                spans.append(Span(f"{left} left", "", _WHOLE))
        return tuple(spans)


class RunningStep:
    """A step or a test that has started and not ended."""

    def __init__(self, event: StepStarted | TestStarted, now: float) -> None:
        self.event = event
        self.since = now
        self.bytes = Bytes(now)
        self.output: deque[str] = deque(maxlen=SHOWN)


class Course:
    """Where a build stands: which steps of which images have ended. `event` None: it is not known
    what there is to do."""

    def __init__(self, event: BuildStarted | None = None, now: float = 0.0) -> None:
        self._event, self._began = event, now
        self._names = dict(event.steps) if event else {}
        self.totals = {image: len(names) for image, names in self._names.items()}  # steps
        self._begun: dict[str, int] = {}  # of each image how many steps have begun, of those some
        self._ended: dict[str, int] = {}  # have ended

    def begun(self, image: str, step: int) -> None:
        """A step began: those before it have ended."""
        self._begun[image] = max(step, self._begun.get(image, 0))
        self.ended(image, step - 1)

    def ended(self, image: str, step: int) -> None:
        self._begun[image] = max(step, self._begun.get(image, 0))
        self._ended[image] = max(step, self._ended.get(image, 0))

    def header(self, now: float) -> Row | None:
        """`building 3 images  7/12 steps`; None where it is not known what there is to do."""
        if self._event is None or not self._names:
            return None
        *_, last = self._names
        images = self._event.images
        what = harmless(last) if images == 1 else human.count(images, "image")
        total = sum(self.totals.values())
        done = sum(min(self._ended.get(each, 0), steps) for each, steps in self.totals.items())
        spans = (Span(f"building {what}", BOLD), Span(f"{done}/{human.count(total, 'step')}"))
        return Row(spans, human.clock(now - self._began))

    def coming(self, most: int) -> list[Row]:
        """Steps that have not begun, in the order of the build; the last row counts the others."""
        begun = {image: self._begun.get(image, 0) for image in self._names}
        left = sum(max(0, len(names) - begun[image]) for image, names in self._names.items())
        shown = left if left <= most else most - 1
        steps = (
            f"{harmless(image)} {step_place(number, len(names))} {harmless(names[number - 1])}"
            for image, names in self._names.items()
            for number in range(begun[image] + 1, len(names) + 1)
        )
        rows = [_coming(text) for text in islice(steps, max(0, shown))]
        return (
            rows if left <= most or most < 1 else [*rows, _coming(f"{left - shown} more to come")]
        )


def running_row(
    running: RunningStep, steps: int | None, mark: str, now: float, signs: Signs
) -> Row:
    if isinstance(running.event, TestStarted):
        label, why = _test_label(running.event), ""
    else:
        image, step, name, why = running.event
        label = _label(image, step, steps, name)
    return Row(
        (
            Span(mark, CYAN),
            *label,
            *running.bytes.spans(now, signs),
            Span(harmless(why), DIM, 12),
        ),
        human.clock(now - running.since),
    )


def transfer_row(what: str, done: Bytes, mark: str, now: float, signs: Signs) -> Row:
    spans = (Span(mark, CYAN), Span(harmless(what), "", 1, 1), *done.spans(now, signs))
    return Row(spans, human.clock(now - done.since))


def done_row(event: StepDone, steps: int | None, mark: str) -> Row:
    image, step, name, status, time, size, why = event
    return Row(
        (
            Span(mark, GREEN),
            *_label(image, step, steps, name),
            Span(status, STATUS_COLORS.get(status, ""), _WHOLE),
            Span(human.size(size) if status != "empty" else "", "", _WHOLE),
            Span(harmless(why), "", 12),
        ),
        human.seconds(time),
    )


def test_row(event: TestDone, mark: str) -> Row:
    spans = (
        Span(mark, TEST_COLORS[event.status]),
        *_test_label(event),
        Span(test_word(event), TEST_COLORS[event.status]),
        Span(harmless(event.why), "", 12),
    )
    return Row(spans, human.seconds(event.seconds) if event.status != "skipped" else "")


def failed_row(event: StepFailed, steps: int | None, mark: str, seconds: float | None) -> Row:
    image, step, name, *_ = event  # the message is the command line's to show
    spans = (Span(mark, RED), *_label(image, step, steps, name), Span("failed", RED))
    return Row(spans, human.seconds(seconds) if seconds is not None else "")


def image_row(event: ImageDone, mark: str) -> Row:
    image, digest, time, built, reused = event
    return Row(
        (
            Span(mark, GREEN),
            Span(harmless(image), BOLD, 1, 1),
            Span(tally(built, reused), "", _WHOLE),
            Span(digest[:19], "", _WHOLE),  # results say it whole on stdout
        ),
        human.seconds(time),
    )


def _label(image: str, step: int, steps: int | None, name: str) -> tuple[Span, Span]:
    text = f"{step_place(step, steps)} {harmless(name)}"
    return Span(harmless(image), BOLD, 1, 1), Span(text.rstrip(), "", 1, 1)


def _test_label(event: TestStarted | TestDone) -> tuple[Span, Span]:
    text = f"test {event.number}/{event.total} {harmless(event.name)}"
    return Span(harmless(event.image), BOLD, 1, 1), Span(text, "", 1, 1)


def _coming(text: str) -> Row:
    return Row((Span(f"  {text}", DIM),))
