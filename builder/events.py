"""What happened, as values: the build emits them, one renderer in `ui` shows them.

Seconds are floats from a monotonic clock, sizes are bytes. `step` counts a spec's steps from 1;
the base of an image is step 0. An event is emitted when it happens: its time is the renderer's to
note. `image` is "" where none is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from builder.errors import Excerpt, Place


class BuildStarted(NamedTuple):
    """What a build goes through, in its order; before all else, and again where it begins anew."""

    images: int  # that are no stages
    steps: tuple[tuple[str, tuple[str, ...]], ...]  # of each image and stage the names of its steps


class ImageStarted(NamedTuple):
    image: str
    steps: int


class StepStarted(NamedTuple):
    image: str
    step: int
    name: str
    why: str  # the plan's reason, e.g. "public/index.html changed"


class StepOutput(NamedTuple):
    """What a command step or an outside tool printed: lines that came together, with newlines
    between them and none at the end."""

    image: str
    step: int
    text: str


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
    excerpt: Excerpt = Excerpt()


class TestStarted(NamedTuple):
    image: str
    number: int  # of `total`, from 1
    total: int
    name: str


class TestDone(NamedTuple):
    image: str
    number: int
    total: int
    name: str
    status: str  # "passed" | "cached" | "failed" | "skipped"
    seconds: float
    why: str  # of a failed or a skipped one
    output: str  # the last lines that a failed one printed
    listed: bool = True  # False: the command lists what came of it, views need not


class ImageDone(NamedTuple):
    image: str
    digest: str
    seconds: float
    built: int  # layers
    reused: int


class Transfer(NamedTuple):
    """Bytes on their way that belong to no step: of a layer from or to a registry or an engine.
    `total` is None where it is not known. The last one of `what` says that it ended."""

    what: str
    done: int
    total: int | None
    ended: bool = False


class Warned(NamedTuple):
    """Something the user should know that does not stop the build; one line. `place`: what of a
    spec it is about."""

    text: str
    place: Place | None = None
    image: str = ""


class Noted(NamedTuple):
    """One line that belongs to no step: waiting for a lock, what a push came to."""

    text: str
    image: str = ""


Event = (
    BuildStarted
    | ImageStarted
    | StepStarted
    | StepOutput
    | StepProgress
    | StepDone
    | StepFailed
    | TestStarted
    | TestDone
    | ImageDone
    | Transfer
    | Warned
    | Noted
)
Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Emit to nobody."""


class Lines:
    """Raw chunks of a program's output -> text lines, given to `take` as soon as they ended: those
    of one chunk at once, as StepOutput has them.

    A progress bar drawn with carriage returns is one line: its last state. Bytes that are not UTF-8
    become `\\xff`. A line longer than LIMIT bytes is given in pieces, so that memory stays bounded.
    Escape sequences pass: the renderer knows what its stream can show. Not for two threads at once.
    """

    LIMIT = 8192

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._rest = b""  # after the last newline; at most LIMIT bytes

    def feed(self, chunk: bytes) -> None:
        *lines, rest = (self._rest + chunk).split(b"\n")
        if b"\r" in chunk or b"\r" in self._rest:
            lines = [_last_state(line) for line in lines]
            rest = _last_state(rest) + (b"\r" if rest.endswith(b"\r") else b"")
        *pieces, self._rest = self._pieces(rest)
        self._give(lines + pieces)

    def close(self) -> None:
        """Give what is left: a last line without its newline."""
        if rest := _last_state(self._rest):
            self._give([rest])
        self._rest = b""

    def _give(self, lines: list[bytes]) -> None:
        if lines and len(max(lines, key=len)) > self.LIMIT:
            lines = [piece for line in lines for piece in self._pieces(line)]
        if lines:
            self._take(b"\n".join(lines).decode("utf-8", "backslashreplace"))

    def _pieces(self, line: bytes) -> list[bytes]:
        """The line in pieces of at most LIMIT bytes, one at least."""
        pieces = []
        while len(line) > self.LIMIT:
            cut = self.LIMIT
            while cut > self.LIMIT - 3 and line[cut] & 0xC0 == 0x80:
                cut -= 1  # not within a character
            pieces.append(line[:cut])
            line = line[cut:]
        return [*pieces, line]


def _last_state(line: bytes) -> bytes:
    return line.rstrip(b"\r").rpartition(b"\r")[2]
