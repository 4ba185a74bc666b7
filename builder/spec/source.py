"""A YAML text with its places: lines, snippets with a caret, and the errors found so far."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from builder.errors import Place, SpecError, SpecErrors, without_passwords

MAX_BYTES = 1 << 20
MAX_ERRORS = 50  # a file that is wrong in more places is wrong as a whole

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # what libyaml counts as the end of a line
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLAIN = re.compile(r"-{0,2}[A-Za-z0-9_./](?:[A-Za-z0-9_./+=@%-]|:(?=[A-Za-z0-9_./]))*")
_WIDTH = 120  # columns of a snippet


class Fault(Exception):
    """Something wrong at a place of the text being read; Problems makes a SpecError of it.
    `source` is the text, where that is not the one that Problems is for."""

    def __init__(
        self,
        line: int,
        column: int,
        message: str,
        hint: str | None = None,
        source: Source | None = None,
    ) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.message = message
        self.hint = hint
        self.source = source


class TooManyErrors(Exception):
    """MAX_ERRORS were found: reading on would bury them."""


class Source:
    """`file` is the name as the user gave it, `text` what stands in it, without a BOM."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.via: tuple[Place, ...] = ()  # where other files name this one, the nearest first
        self._lines: list[str] | None = None

    @property
    def lines(self) -> list[str]:
        if self._lines is None:
            self._lines = _BREAK.split(self.text)
        return self._lines

    def error(self, fault: Fault) -> SpecError:
        snippet = self.snippet(fault.line, fault.column)
        place = Place(self.file, fault.line, fault.column)
        error = SpecError(fault.message, fault.hint, snippet).at(place)
        error.via = self.via
        return error

    def snippet(self, line: int, column: int) -> str | None:
        """The line and a caret under `column`, both from 1; long lines are cut around it."""
        if not 1 <= line <= len(self.lines) or not self.lines[line - 1].strip():
            return None
        import unicodedata

        text = self.lines[line - 1]
        at = min(column - 1, len(text))
        start = max(0, at - _WIDTH // 2) if len(text) > _WIDTH else 0
        shown = text[start : start + _WIDTH]
        pad = "".join(
            "\t" if c == "\t" else "  " if unicodedata.east_asian_width(c) in "WF" else " "
            for c in shown[: at - start]
        )
        return f"{without_passwords(shown)}\n{pad}^"


class Problems:
    """Collects the faults of one source; equal ones (reached through an alias) count once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._faults: dict[tuple[str, int, int, str], SpecError] = {}

    def __len__(self) -> int:
        return len(self._faults)

    def note(self, fault: Fault) -> None:
        source = fault.source or self.source
        # the files that others name come after the one that is read
        file = "" if source is self.source else source.file
        key = (file, fault.line, fault.column, fault.message)
        if key not in self._faults:
            self._faults[key] = source.error(fault)

    def add(self, fault: Fault) -> None:
        """Note it, and raise TooManyErrors when that is enough."""
        self.note(fault)
        if len(self._faults) >= MAX_ERRORS:
            raise TooManyErrors

    def errors(self) -> tuple[SpecError, ...]:
        """By place."""
        found = [self._faults[key] for key in sorted(self._faults)]
        if len(found) >= MAX_ERRORS:
            last = found[-1]
            last.hint = f"only the first {MAX_ERRORS} errors are shown"
        return tuple(found)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Read within; at the end SpecErrors is raised if anything was found."""
        try:
            yield
        except Fault as fault:
            self.note(fault)
        except TooManyErrors:
            pass
        if self._faults:
            raise SpecErrors(self.errors())


def quote(text: str, limit: int = 60) -> str:
    """A value as a message shows it: on one line, and never long."""
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")


def written(text: str) -> str:
    """A text as it may be written in a spec, also within [ ]: plain where that reads as the same
    text, else in double quotes."""
    import json

    from builder.spec.node import INT, TEXT, scalar_kind

    if _PLAIN.fullmatch(text) and scalar_kind(text) in (TEXT, INT):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def nearest(
    word: str,
    known: Sequence[str],
    fits: Callable[[str], bool] = lambda name: True,
    alike: float = 0.6,
) -> str | None:
    """The known word that was meant, of those that fit and are alike, 1 for the same."""
    if len(word) > 60:
        return None
    import difflib

    return next(filter(fits, difflib.get_close_matches(word, known, 3, alike)), None)


def did_you_mean(
    word: str, known: Sequence[str], fits: Callable[[str], bool] = lambda name: True
) -> str:
    """`, did you mean 'x'?` or nothing."""
    near = nearest(word, known, fits)
    return f", did you mean {near!r}?" if near else ""


def decode(file: str, data: bytes) -> Source:
    """The text of a YAML file. Raises SpecErrors: too large, not UTF-8, control characters."""
    if len(data) > MAX_BYTES:
        message = f"the file holds {len(data)} bytes, expected at most {MAX_BYTES}"
        raise SpecErrors((SpecError(message).at(Place(file, 1, 1)),))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = Source(file, data[: error.start].decode("utf-8"))
        line, column = len(before.lines), len(before.lines[-1]) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        raise SpecErrors((SpecError(message).at(Place(file, line, column)),)) from None
    source = Source(file, text.removeprefix("\ufeff"))
    if bad := _FORBIDDEN.search(source.text):
        before = Source(file, source.text[: bad.start()])
        line, column = len(before.lines), len(before.lines[-1]) + 1
        message = f"control character U+{ord(bad[0]):04X} is not allowed in YAML"
        found = SpecError(message, 'write it in quotes as "\\x.."')
        raise SpecErrors((found.at(Place(file, line, column)),))
    return source
