"""What is wrong with a text that is no YAML, in words of its lines: the parser's speak of tokens.

A line that begins at a column where nothing goes on is the commonest mistake. Where it was to begin
is tried out: a column is only proposed if the parser then comes further.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from builder.spec.source import Fault, Source, quote

_BEGINS = re.compile(r"( *)((?:- +)*)")
_KEY = re.compile(r"""[^\s#'"\[{][^:]{0,60}?(?=:(?:\s|$))""")
_TEXT = re.compile(r"[:-] [|>][-+0-9]*(?: +#.*)?$")  # what opens a block of text
_TRIED = 8  # columns, the nearest first
_LARGE = 1 << 16  # characters of a text that is not tried out

# The line at which parsing a text fails, from 1; one behind the last when it does not.
Reach = Callable[[str], int]


def explained(source: Source, error: Any, reach: Reach) -> Fault:
    """A parser's error (yaml.MarkedYAMLError) in words, at the place that is wrong."""
    mark, since = error.problem_mark or error.context_mark, error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    what, hint = str(error.problem or error.context or "not YAML"), None
    if "cannot start any token" in what or "tab character" in what:
        return _no_token(source, line, column)
    found = _misplaced(source, line, since.line + 1 if since else line, reach)
    if found or (since and (found := _unclosed(source, since, line, what))):
        return found
    text = _text(source, line)
    before = text[: column - 1].rstrip()
    if before.endswith(("'", '"')) and text[column - 1 :].strip():
        sign = before[-1]
        inside = "''" if sign == "'" else '\\"'
        hint = f"a {sign} within the text is written {inside}"
        return Fault(line, column, f"the text ended at the {sign} before", hint, source)
    if "mapping values" in what:
        hint = "quote a text that holds ': ' or ends in ':'"
    elif error.context and error.context != "block collection":
        what = f"{what} {error.context}"
    return Fault(line, column, what[:200], hint, source)


def _no_token(source: Source, line: int, column: int) -> Fault:
    text = _text(source, line)
    sign = text[column - 1 : column]
    what, hint = "a tab cannot indent YAML, expected spaces", None
    if sign == "%" and text[: column - 1].strip() == "{":
        what = "a template outside of a text"
        hint = "`when` leaves a step out, `foreach` repeats one"
    elif sign in ("%", "@", "`"):
        what = f"a text cannot begin with {sign!r} unless it is quoted"
    return Fault(line, column, what, hint, source)


def _unclosed(source: Source, since: Any, line: int, what: str) -> Fault | None:
    """A quote or bracket at the mark `since` that lacks its end; the parser saw it at `line`."""
    sign = _text(source, since.line + 1)[since.column : since.column + 1]
    if ("end of stream" in what and sign in ("'", '"')) or (
        sign in ("[", "{") and line > since.line + 1
    ):
        return Fault(since.line + 1, since.column + 1, f"this {sign} is not closed", None, source)
    return None


def _misplaced(source: Source, at: int, since: int, reach: Reach) -> Fault | None:
    """For a parser that failed at line `at`, in what began at line `since`: the line that begins
    at a wrong column, if one does."""
    if len(source.text) > _LARGE:
        return None  # parsing it two dozen times would take long
    for number in (at, at - 1, since):
        if 1 <= number <= len(source.lines) and (found := _line(source, number, at, reach)):
            return found
    return None


def _line(source: Source, number: int, at: int, reach: Reach) -> Fault | None:
    lines = source.lines
    line = lines[number - 1]
    column = _column(line)
    if not line.strip() or line.lstrip(" ").startswith(("#", "\t")):
        return None
    first = number - 1
    while first and _column(lines[first - 1]) == column and not _TEXT.search(lines[first - 1]):
        first -= 1
    deeper = _inner(lines[first - 1]) + 2 if first and _TEXT.search(lines[first - 1]) else 0
    last = number
    while last < len(lines) and _column(lines[last]) == column:
        last += 1
    if deeper > column and reach(_moved(lines, first + 1, last, deeper)) > at:
        what = f"the lines of the text that line {first} begins, at column {column}"
        return Fault(
            first + 1, column, f"{what}, expected deeper: at column {deeper}", None, source
        )
    places = dict[int, str]()  # columns where something above goes on, and what
    for begins, what in _above(lines, number):
        places.setdefault(begins, what)
    places.pop(column, None)
    tried = sorted(places, key=lambda each: (abs(each - column), -each))[:_TRIED]
    reached = {each: reach(_moved(lines, number, number, each)) for each in tried}
    fitting = [each for each in tried if reached[each] == max(reached.values())]
    if fitting and reached[fitting[0]] > at:
        where = " or ".join(f"{each}, as {quote(places[each])} above" for each in fitting[:2])
        return Fault(
            number, column, f"a line at column {column}, expected at {where}", None, source
        )
    return None


def _text(source: Source, line: int) -> str:
    """A line; the parser may stand behind the last one."""
    return source.lines[line - 1] if line <= len(source.lines) else ""


def _above(lines: list[str], number: int) -> Iterator[tuple[int, str]]:
    """The blocks that are open above a line, from the inside: where they began, with which word."""
    edge = 1 << 20
    for line in reversed(lines[: number - 1]):
        text = line.strip()
        if not text or text.startswith("#") or _column(line) >= edge:
            continue
        edge = _column(line)
        inner = _inner(line)
        key = _KEY.match(line[inner - 1 :])
        yield inner, key[0] if key else line[inner - 1 :][:30]
        if inner != edge:
            yield edge, "-"


def _column(line: str) -> int:
    return len(line) - len(line.lstrip(" ")) + 1


def _inner(line: str) -> int:
    """The column of what stands behind the dashes of a line."""
    begins = _BEGINS.match(line)
    return begins.end() + 1 if begins else 1


def _moved(lines: list[str], first: int, last: int, column: int) -> str:
    kept = [line.lstrip(" ") for line in lines[first - 1 : last]]
    moved = [" " * (column - 1) + line for line in kept]
    return "\n".join([*lines[: first - 1], *moved, *lines[last:]])
