"""What happened, as values: the build emits them, one renderer in `ui` shows them.

Seconds are floats from a monotonic clock, sizes are bytes. `step` counts a spec's steps from 0;
the base of an image is step -1.
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
