"""What happened, as values: the build emits them, one renderer in `ui` shows them.

Seconds are floats from a monotonic clock, sizes are bytes. `step` counts a spec's steps from 1;
the base of an image is step 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class ImageStarted(NamedTuple):
    image: str
    steps: int


class StepStarted(NamedTuple):
    image: str
    step: int
    name: str
    why: str  # the plan's reason, e.g. "public/index.html changed"


class StepOutput(NamedTuple):
    """One line, without its newline, that a command step or an outside tool printed."""

    image: str
    step: int
    line: str


class StepProgress(NamedTuple):
    """Bytes handled so far; `total` is None where it is not known."""

    image: str
    step: int
    done: int
    total: int | None


class StepDone(NamedTuple):
    image: str
    step: int
    name: str
    status: str  # "base" | "hit" | "built" | "empty"
    seconds: float
    size: int  # of the compressed layer
    why: str


class StepFailed(NamedTuple):
    image: str
    step: int
    name: str
    message: str


class ImageDone(NamedTuple):
    image: str
    digest: str
    seconds: float
    built: int  # how many steps were built, the others were hits


class Warned(NamedTuple):
    """Something the user should know that does not stop the build; one line."""

    text: str


class Noted(NamedTuple):
    """One line of progress that belongs to no step: waiting for a lock, pushing a blob."""

    text: str


Event = (
    ImageStarted
    | StepStarted
    | StepOutput
    | StepProgress
    | StepDone
    | StepFailed
    | ImageDone
    | Warned
    | Noted
)
Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Emit to nobody."""


class Lines:
    """Raw chunks of a program's output -> text lines, each given to `line` as soon as it ended.

    A progress bar drawn with carriage returns is one line: its last state. Bytes that are not UTF-8
    become `\\xff`. A line longer than LIMIT bytes is given in pieces, so that memory stays bounded.
    Escape sequences pass: the renderer knows what its stream can show. Not for two threads at once.
    """

    LIMIT = 8192

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line
        self._rest = b""  # after the last newline; at most LIMIT bytes

    def feed(self, chunk: bytes) -> None:
        *ended, rest = (self._rest + chunk).split(b"\n")
        for line in ended:
            self._give(_last_state(line))
        self._rest = self._pieces(_last_state(rest) + (b"\r" if rest.endswith(b"\r") else b""))

    def close(self) -> None:
        """Give what is left: a last line without its newline."""
        if rest := _last_state(self._rest):
            self._give(rest)
        self._rest = b""

    def _give(self, line: bytes) -> None:
        self._line(self._pieces(line).decode("utf-8", "backslashreplace"))

    def _pieces(self, line: bytes) -> bytes:
        """Give all but the last LIMIT bytes; what is not given yet."""
        while len(line) > self.LIMIT:
            cut = self.LIMIT
            while cut > self.LIMIT - 3 and line[cut] & 0xC0 == 0x80:
                cut -= 1  # not within a character
            self._line(line[:cut].decode("utf-8", "backslashreplace"))
            line = line[cut:]
        return line


def _last_state(line: bytes) -> bytes:
    return line.rstrip(b"\r").rpartition(b"\r")[2]
