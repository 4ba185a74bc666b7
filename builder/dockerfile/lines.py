"""Lines: a Dockerfile's text as instructions, each on one line, with its here-documents.

As BuildKit has it: directives at the top, lines that an escape character joins, comments and empty
lines within them, and for RUN, COPY and ADD the documents that follow.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from builder.dockerfile.words import heredoc_words
from builder.spec.source import Fault, Source, quote

MAX_LINES = 20_000  # instructions
DIRECTIVES = ("syntax", "escape", "check")
_DIRECTIVE = re.compile(r"#[ \t]*([a-zA-Z][a-zA-Z0-9]*)[ \t]*=[ \t]*(\S.*)")
_BREAK = re.compile("\r?\n")
_HEREDOCS = ("RUN", "COPY", "ADD", "ONBUILD")


class Heredoc(NamedTuple):
    name: str
    expand: bool  # no part of the name is in quotes
    content: str  # without the tabs before its lines, for <<-
    line: int  # of its first line


class Directive(NamedTuple):
    name: str  # in small letters
    value: str
    line: int


class Line(NamedTuple):
    """An instruction. `text` is all of it, joined; `spots` say where its parts stand: an offset in
    `text`, line and column from 1."""

    text: str
    spots: tuple[tuple[int, int, int], ...]
    comments: tuple[str, ...]  # the lines of comments directly above it
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def line(self) -> int:
        return self.spots[0][1]

    def at(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset."""
        start, line, column = self.spots[bisect_right(self.spots, (offset, 1 << 60, 0)) - 1]
        return line, column + offset - start

    def fault(self, offset: int, message: str, hint: str | None = None) -> Fault:
        return Fault(*self.at(offset), message, hint)


class File(NamedTuple):
    escape: str
    directives: tuple[Directive, ...]
    lines: tuple[Line, ...]
    comments: tuple[str, ...]  # below the last instruction


def read_lines(source: Source) -> File:
    """Raises Fault."""
    rows = _BREAK.split(source.text)
    directives = tuple(_directives(rows))
    escape = next((each.value for each in directives if each.name == "escape"), "\\")
    lines: list[Line] = []
    comments: list[str] = []
    number = len(directives)
    while number < len(rows):
        row = rows[number]
        number += 1
        begin = row.lstrip()
        if not begin:
            comments = []
            continue
        if begin.startswith("#"):
            comments.append(begin[1:].strip())
            continue
        column = len(row) - len(begin) + 1
        parts, spots, length = [], [(0, number, column)], 0
        part, goes_on = _continued(begin, escape)
        while True:
            parts.append(part)
            length += len(part)
            # the lines between that say nothing
            while goes_on and number < len(rows):
                row = rows[number]
                number += 1
                begin = row.lstrip()
                if begin and not begin.startswith("#"):
                    break
            else:
                break
            spots.append((length, number, 1))
            part, goes_on = _continued(row, escape)
        line = Line("".join(parts), tuple(spots), tuple(comments))
        comments = []
        if not line.text.strip():
            continue
        if "<<" in line.text and line.text.split(None, 1)[0].upper() in _HEREDOCS:
            found, number = _heredocs(line, rows, number, escape)
            line = line._replace(heredocs=tuple(found))
        lines.append(line)
        if len(lines) > MAX_LINES:
            raise line.fault(0, f"more than {MAX_LINES} instructions")
    if not lines:
        raise Fault(1, 1, "the file holds no instruction", "begin with FROM IMAGE")
    return File(escape, directives, tuple(lines), tuple(comments))


def _directives(rows: list[str]) -> Iterator[Directive]:
    seen = set()
    for number, row in enumerate(rows):
        found = _DIRECTIVE.fullmatch(row.strip())
        if not found or found[1].lower() not in DIRECTIVES:
            return
        name, value = found[1].lower(), found[2].strip()
        if name in seen:
            raise Fault(number + 1, 1, f"the directive {name!r} is given twice")
        seen.add(name)
        if name == "escape" and value not in ("\\", "`"):
            raise Fault(number + 1, 1, f"escape {quote(value)}, expected \\ or `")
        yield Directive(name, value, number + 1)


def _continued(row: str, escape: str) -> tuple[str, bool]:
    """A row without the escape character at its end, and whether there is one. Two of them are
    none, as that is an escaped one."""
    bare = row.rstrip(" \t")
    if bare.endswith(escape) and not bare.endswith(escape * 2):
        return bare[:-1], True
    return row, False


def _heredocs(line: Line, rows: list[str], number: int, escape: str) -> tuple[list[Heredoc], int]:
    """The documents that a line announces, which begin at `rows[number]`, and what comes behind."""
    found = []
    for offset, name, expand, chomp in heredoc_words(line.text, escape):
        first = number
        kept: list[str] = []
        while number < len(rows):
            row = rows[number].lstrip("\t") if chomp else rows[number]
            number += 1
            if row == name:
                break
            kept.append(row + "\n")
        else:
            text = f"the here-document {quote(name)} has no end"
            raise line.fault(offset, text, f"write a line that is {name} alone")
        found.append(Heredoc(name, expand, "".join(kept), first + 1))
    return found, number
