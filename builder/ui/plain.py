"""Plain lines, for logs and pipes: one per finished step, and what steps print."""

from __future__ import annotations

from _thread import allocate_lock as Lock  # importing threading takes as long as all else
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
    TestDone,
    TestStarted,
    Transfer,
    Warned,
)
from builder.ui import human
from builder.ui.text import (
    BOLD,
    DIM,
    GREEN,
    RED,
    YELLOW,
    excerpt_lines,
    harmless,
    harmless_lines,
    paint,
)

STATUS_COLORS = {"built": GREEN, "hit": DIM, "base": DIM, "empty": YELLOW}
TEST_COLORS = {"passed": GREEN, "cached": DIM, "failed": RED, "skipped": YELLOW}
PROGRESS_EVERY = 10.0  # seconds between two lines about the bytes of one step or transfer


class Plain:
    shows_output = True

    def __init__(self, stream: TextIO, *, color: bool = False) -> None:
        self._stream: TextIO | None = stream
        self._color = color
        self._lock = Lock()
        self._steps: dict[str, int] = {}  # of each image
        self._waiting: dict[tuple[str, int], StepStarted] = {}  # has printed nothing yet
        self._progressed: dict[tuple[str, int] | str, float] = {}
        """When a step or a transfer last said its bytes."""

    def __call__(self, event: Event) -> None:
        with self._lock:
            if text := self._text(event):
                self._write(text)

    def close(self) -> None:
        """Nothing is held back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _text(self, event: Event) -> str:
        match event:
            case StepOutput(image, step, text):
                title = self._title(event)
                prefix = paint(f"{image} {counter(step)}| ", DIM, self._color)
                lines = harmless_lines(text, color=self._color)
                return title + prefix + ("\n" + prefix).join(lines) + "\n"
            case StepDone():
                self._forget(event)
                return step_line(event, self._steps.get(event.image), self._color) + "\n"
            case StepStarted(image, step):
                self._waiting[image, step] = event
                self._progressed[image, step] = monotonic()
            case StepProgress():
                return self._progress(event)
            case StepFailed():
                self._forget(event)
                return self._failed(event)
            case ImageStarted(image, steps):
                self._steps[image] = steps
            case ImageDone():
                return image_line(event, self._color) + "\n"
            case Transfer():
                return self._transferred(event)
            case TestStarted():
                return ""
            case TestDone():
                return "".join(f"{line}\n" for line in test_lines(event, self._color))
            case Warned():
                return warning_line(event, self._color) + "\n"
            case Noted(text):
                return harmless(text) + "\n"
        return ""

    def _failed(self, event: StepFailed) -> str:
        """With the lines that first told of errors, where they are no longer in sight."""
        image, step, name, message, excerpt = event
        label = step_label(image, step, self._steps.get(image), name, self._color)
        text = f"{label}  {paint('failed', RED, self._color)}  {harmless(message)}\n"
        if not excerpt.first:
            return text
        said = f"(all of it: {excerpt.command})" if excerpt.command else ""
        shown = excerpt._replace(last=(said,) if said else (), skipped=0)
        return text + "".join(line + "\n" for line in excerpt_lines(shown, self._color))

    def _title(self, event: StepOutput) -> str:
        """Say what a step is before the first line that it prints; silent steps need no title."""
        started = self._waiting.pop((event.image, event.step), None)
        if started is None:
            return ""
        image, step, name, why = started
        label = step_label(image, step, self._steps.get(image), name, self._color)
        return f"{label}  running  {harmless(why)}".rstrip() + "\n"

    def _progress(self, event: StepProgress) -> str:
        image, step, done, total = event
        if not self._is_due((image, step)):
            return ""
        label = step_label(image, step, self._steps.get(image), "", self._color).rstrip()
        return f"{label}  {so_far(done, total)}\n"

    def _transferred(self, event: Transfer) -> str:
        """Of one that takes long; what ended, the summary of its command counts."""
        what, done, total, ended = event
        if ended:
            self._progressed.pop(what, None)
            return ""
        return f"{harmless(what)}  {so_far(done, total)}\n" if self._is_due(what) else ""

    def _is_due(self, what: tuple[str, int] | str) -> bool:
        """Whether it is time for another line about the bytes of something."""
        now = monotonic()
        if now - self._progressed.setdefault(what, now) < PROGRESS_EVERY:
            return False
        self._progressed[what] = now
        return True

    def _forget(self, event: StepDone | StepFailed) -> None:
        self._waiting.pop((event.image, event.step), None)
        self._progressed.pop((event.image, event.step), None)

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # whoever read it has gone; that is no reason to stop a build
            self._stream = None


def counter(step: int) -> str:
    """A step as people count: from 1; the base has no number."""
    return str(step) if step else "base"


def step_label(image: str, step: int, steps: int | None, name: str, color: bool) -> str:
    place = step_place(step, steps)
    return f"{paint(harmless(image), BOLD, color)} {place} {harmless(name)}"


def step_place(step: int, steps: int | None) -> str:
    # the layer that makes config's working_dir comes after the spec's own steps
    of = f"/{max(steps, step)}" if step and steps is not None else ""
    return f"[{counter(step)}{of}]"


def step_line(event: StepDone, steps: int | None, color: bool) -> str:
    image, step, name, status, time, size, why = event
    parts = [
        step_label(image, step, steps, name, color),
        paint(status, STATUS_COLORS.get(status, ""), color),
        # A hit took no time that matters; the base is counted with the image that made it.
        human.seconds(time) if status not in ("hit", "base") or time >= 0.01 else "",
        human.size(size) if status != "empty" else "",
        harmless(why),
    ]
    return "  ".join(part for part in parts if part)


def test_lines(event: TestDone, color: bool) -> list[str]:
    """What came of a test, and what it printed if it failed."""
    if not event.listed:
        return []
    image, number, total, name, *_ = event
    parts = [
        f"{paint(harmless(image), BOLD, color)} test {number}/{total} {harmless(name)}",
        paint(test_word(event), TEST_COLORS[event.status], color),
        human.seconds(event.seconds) if event.status in ("passed", "failed") else "",
        harmless(event.why),
    ]
    bar = paint("| ", DIM, color)
    output = event.output.split("\n") if event.output else []
    printed = [bar + line for each in output for line in harmless_lines(each, color=color)]
    return [*printed, "  ".join(part for part in parts if part)]


def test_word(event: TestDone) -> str:
    return {"passed": "ok", "cached": "ok, as before"}.get(event.status, event.status)


def image_line(event: ImageDone, color: bool) -> str:
    image, digest, time, built, reused = event
    name = paint(harmless(image), BOLD, color)
    return f"{name}  {tally(built, reused)}  {human.seconds(time)}  {digest}"


def tally(built: int, reused: int) -> str:
    """What came of an image's layers."""
    if not built:
        return "nothing to build"
    return f"{built} built, {reused} reused" if reused else f"{built} built"


def warning_line(event: Warned, color: bool) -> str:
    text = f"{event.place}: {event.text}" if event.place else event.text
    return f"{paint('warning:', YELLOW, color)} {harmless(text)}"


def so_far(done: int, total: int | None) -> str:
    return amount(done, total) + (" so far" if total is None else "")


def amount(done: int, total: int | None) -> str:
    return human.size(done) + (f" of {human.size(total)}" if total is not None else "")
