"""The errors a user may see: one line each, a hint where one helps, and their exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Self


class Place(NamedTuple):
    """Where a value stands: file as the user named it, line and column from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class FailedStep(NamedTuple):
    """Which step of which image an error is about; `number` counts from 1."""

    image: str
    number: int
    name: str


class Excerpt(NamedTuple):
    """What is shown of what a failed step printed. Its parts stand in this order."""

    first: tuple[str, ...] = ()  # lines that tell of errors, where `last` does not hold the first
    skipped: int = 0  # lines that are not shown
    last: tuple[str, ...] = ()
    command: str = ""  # prints all of it; "": it is not kept

    @property
    def between(self) -> str:
        """The line between the parts, "" where nothing is left out."""
        if not self.skipped:
            return ""
        lines = f"{self.skipped} line{'s' if self.skipped > 1 else ''} not shown"
        return f"({lines}: {self.command})" if self.command else f"({lines})"


def masked(address: str) -> str:
    """An address without the user and password it may hold, however malformed it is."""
    import re

    before, at, host = address.rpartition("@")
    if not at:
        return address
    if re.fullmatch("sha256:[0-9a-f]{64}", host):
        return f"{masked(before)}@{host}"
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:(?=/|.*:)/*|/*", before)
    return f"{scheme[0] if scheme else ''}***@{host}"


def without_passwords(text: str) -> str:
    """A text with the users and passwords masked of what looks like an address in it, also of one
    that was cut short."""
    if "@" not in text and ("://" not in text or "..." not in text):
        return text
    import re

    text = re.sub(_CUT, r"\1***...", text)
    text = re.sub(_USER, lambda found: f"{found[1] or ''}***@", text)
    return re.sub(_SPACED, "***@", text)


_USER = (  # of a word, perhaps in quotes or brackets; not NAME@sha256:..., nor git@host:path
    r"(?<![^\s'\"=\[{(,<])(?![\"'\[{(<])([A-Za-z][A-Za-z0-9+.-]*:/*|/+)?"
    r"(?:(?<=/)\S{1,500}|[^\s/@:]{0,250}:\S{0,500})(?<!\[)@(?!sha256:[0-9a-f]{16})"
)
_SPACED = r"(?<=//)[^\s/@:]{0,250}:[^@/]{0,250}@"
_CUT = r"(:/+)[^\s:]{0,250}:(?!\d+/)\S{0,500}?\.\.\."


class BuilderError(Exception):
    """A failure a user can act on.

    `what` is one line: what is wrong with the value quoted, what was expected; where it stands and
    in which step are data beside it. `hint` says what to do about it. Raised where the fault is
    known; shown by `ui.errors` only, as text, JSON or an annotation.
    """

    exit_code = 1
    place: Place | None = None
    """What of a spec or template it is about."""
    step: FailedStep | None = None
    field: str = ""
    """Which of the step's fields it is about, where that is known and the place is not."""
    snippet: str | None = None
    """The line of the place, and a caret below it."""
    via: tuple[Place, ...] = ()
    """Where other files name the place's file, the nearest first."""
    output_shown = False
    """Whether the renderer of a build has shown what the failed step printed."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.what = without_passwords(message)
        self.hint = hint and without_passwords(hint)

    @property
    def message(self) -> str:
        """What is wrong, with its place before it: the line that people read."""
        return f"{self.place}: {self.what}" if self.place else self.what

    def __str__(self) -> str:
        return self.message

    def at(self, place: Place) -> Self:
        """The error, with its place if it had none."""
        if self.place is None:
            self.place = place
        return self

    def about(self, field: str) -> Self:
        """The error, as one of this field of its step."""
        self.field = field
        return self

    def within(self, step: FailedStep) -> Self:
        """The error, with its step if it had none."""
        self.step = self.step or step
        return self


class UsageError(BuilderError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class SpecError(BuilderError):
    """A spec is wrong."""

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None, snippet: str | None = None) -> None:
        super().__init__(message, hint)
        self.snippet = snippet


class SpecErrors(BuilderError):
    """All errors of the specs that were read, in the order of their places."""

    exit_code = 2

    def __init__(self, errors: tuple[SpecError, ...]) -> None:
        super().__init__("\n".join(error.message for error in errors))
        self.errors = errors
        self.stands_on = ""  # the spec that the file stands on, where that is told all the same


class BuildErrors(BuilderError):
    """Several images failed, in the order of the build; the first decides the exit code."""

    def __init__(self, errors: tuple[BuilderError, ...]) -> None:
        super().__init__("\n".join(error.message for error in errors))
        self.errors = errors
        self.exit_code = errors[0].exit_code


def each_of(error: BuilderError) -> Iterator[BuilderError]:
    """The errors that are in one, in their order; most are one alone."""
    if isinstance(error, SpecErrors | BuildErrors):
        for each in error.errors:
            yield from each_of(each)
    else:
        yield error


class CommandFailed(BuilderError):
    """A command step ended with a status other than 0. `tail` holds its last output lines, as its
    executor has them; `excerpt`, of a step of a build, what is shown of all of them."""

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        exit_status: int,
        tail: tuple[str, ...] = (),
        excerpt: Excerpt | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.exit_status = exit_status
        self.tail = tail
        self.excerpt = excerpt or Excerpt(last=tail)


class TestFailure(BuilderError):
    """An image is not what a test of its spec says. `tail` holds the last lines that the test's
    command printed."""

    def __init__(self, message: str, hint: str | None = None, *, tail: tuple[str, ...] = ()):
        super().__init__(message, hint)
        self.tail = tail


class ExecutorError(BuilderError):
    """No executor works here, or the one that was asked for does not."""


class CannotRun(BuilderError):
    """A command step could not be run: its image, its place or what the machine has left does not
    allow it. It fails the step, and says nothing of the executor."""


class LayerError(BuilderError):
    """A tar stream, an archive or a tree cannot be a layer: hostile, torn or not representable."""


class StoreError(BuilderError):
    """The store cannot be read or written (no space, no permission, a foreign folder)."""


class CorruptBlob(StoreError):
    """A blob or record is missing or not what its name says. Within the store: a miss."""


class TransportError(BuilderError):
    """A base could not be read or an image not delivered."""
