"""The text of a file and its places."""

from __future__ import annotations

import re
from bisect import bisect_right

from builder.spec.source import Fault, Source


class Text:
    """What is parsed and where it stands: `source` itself, or what a JSON string of it holds, all
    of which is said to stand at `place`."""

    def __init__(self, source: Source, text: str, place: tuple[int, int] | None = None) -> None:
        self.source, self.text = source, text
        self._place = place
        self._lines: list[int] = []  # where each line begins

    def place(self, at: int) -> tuple[int, int]:
        """Line and column of an offset, from 1."""
        if self._place:
            return self._place
        if not self._lines:
            self._lines = [0, *(found.end() for found in re.finditer("\n", self.text))]
        line = bisect_right(self._lines, at)
        return line, at - self._lines[line - 1] + 1

    def offset(self, line: int, column: int) -> int:
        self.place(0)
        return self._lines[line - 1] + column - 1 if line <= len(self._lines) else len(self.text)

    def fault(self, at: int, message: str, hint: str | None = None) -> Fault:
        return Fault(*self.place(at), message, hint, self.source)
