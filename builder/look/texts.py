"""Texts: the lines in which files of two images differ, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from builder.look.diff import FileChange, Pair

_MAX_BYTES = 1 << 20  # of a file
_MAX_ALL = 64 << 20  # of all that are compared
_MAX_LINES = 4000  # between the first that differs and the last: comparing takes their square
_MAX_COMPARED = 5 * _MAX_LINES**2  # squares of lines of all files
_MAX_SHOWN = 500  # lines of one file
_MAX_WIDTH = 500  # characters of a line


class TextDiff(NamedTuple):
    path: bytes
    lines: tuple[str, ...]
    """As `diff -u` has them, without the head and without line ends."""
    remark: str = ""  # what is not shown, and why


def text_diffs(pair: Pair, changes: Sequence[FileChange]) -> Iterator[TextDiff]:
    """Of every file whose content differs, in their order."""
    changed = [each for each in changes if "content" in each.what]
    wanted, room = [], _MAX_ALL
    for each in changed:
        size = max(entry.size for entry in (each.before, each.after) if entry)
        if size <= min(_MAX_BYTES, room):
            wanted.append(each.path)
            room -= size
    before, after = (dict(tree.read(wanted, _MAX_BYTES)) for tree in (pair.before, pair.after))
    left = _MAX_COMPARED

    def spent(lines: int) -> bool:
        nonlocal left
        enough = lines**2 <= left
        left -= lines**2 if enough else 0
        return enough

    for each in changed:
        yield _text_diff(each.path, before.pop(each.path, None), after.pop(each.path, None), spent)


def _text_diff(
    path: bytes, before: bytes | None, after: bytes | None, spent: Callable[[int], bool]
) -> TextDiff:
    """`spent` says whether so many lines may be compared, too."""
    if before is None or after is None:
        return TextDiff(path, (), "too large")
    try:
        old, new = (_lines(each) for each in (before, after))
    except UnicodeError:
        return TextDiff(path, (), "no text")
    start = _alike(old, new)
    end = _alike(old[start:][::-1], new[start:][::-1])
    between = max(len(old), len(new)) - start - end
    if between > _MAX_LINES:
        return TextDiff(path, (), f"{between} lines between the first that differs and the last")
    if not spent(between):
        return TextDiff(path, (), "not compared: what differs before it has many lines")
    shown = [line[:_MAX_WIDTH] for line in _unified(old, new, start, end)]
    if len(shown) > _MAX_SHOWN:
        more = len(shown) - _MAX_SHOWN
        return TextDiff(path, tuple(shown[:_MAX_SHOWN]), f"{more} more lines")
    return TextDiff(path, tuple(shown))


def _unified(old: Sequence[str], new: Sequence[str], start: int, end: int) -> Iterator[str]:
    """Of texts whose first `start` lines are the same, and the last `end`: those are not compared
    again."""
    inner = SequenceMatcher(
        None, old[start : len(old) - end], new[start : len(new) - end]
    ).get_opcodes()
    moved = [(tag, *(start + at for at in places)) for tag, *places in inner]
    whole: SequenceMatcher[str] = SequenceMatcher(None, "", "")
    whole.opcodes = [  # type: ignore[attr-defined]  # what get_opcodes gives if it is there
        ("equal", 0, start, 0, start),
        *moved,
        ("equal", len(old) - end, len(old), len(new) - end, len(new)),
    ]
    for group in whole.get_grouped_opcodes(3):
        ranges = [
            f"{first + (last > first)},{last - first}"
            for first, last in ((group[0][1], group[-1][2]), (group[0][3], group[-1][4]))
        ]
        yield f"@@ -{ranges[0]} +{ranges[1]} @@"
        for tag, first, last, at, to in group:
            if tag == "equal":
                yield from (f" {line}" for line in old[first:last])
            else:
                yield from (f"-{line}" for line in old[first:last])
                yield from (f"+{line}" for line in new[at:to])


def _lines(data: bytes) -> list[str]:
    """Raises UnicodeError for what is no text."""
    if b"\0" in data:
        raise UnicodeError
    text = data.decode()
    lines = text.split("\n")
    if lines[-1] == "":
        return lines[:-1]
    lines[-1] += " (no line end)"
    return lines


def _alike(old: Sequence[str], new: Sequence[str]) -> int:
    """How many lines are the same from the start on."""
    same = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        same += 1
    return same
