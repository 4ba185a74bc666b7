"""Globs: a list of patterns as one automaton, which reads a path once, from left to right, whatever
the patterns are. Its states are made as paths meet them and kept, so that most of the time a
character costs one look into a dict.

A pattern is a list of items. The languages of patterns that become items are in `plan.ignore`.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

ONE, LOOP, MAYBE, BEGIN, _END = range(5)
"""Kinds of items: one character; any number of them; the two items behind it or nothing; nothing,
but only before the first character; the end of the pattern."""

W = TypeVar("W")
Test = Callable[[str], bool]
Item = tuple[int, Any]
"""A kind, and of ONE and LOOP the test of a character."""

_MOST = 20_000  # states that are kept


def anything(char: str) -> bool:
    return True


not_slash = "/".__ne__
ANY_FOLDERS: tuple[Item, ...] = ((MAYBE, None), (LOOP, anything), (ONE, "/".__eq__))


def literal(text: str) -> list[Item]:
    return [(ONE, char.__eq__) for char in text]


def between(low: str, high: str) -> Test:
    return lambda char: low <= char <= high


def one_of(tests: Sequence[Test], *, negated: bool) -> Test:
    return lambda char: any(test(char) for test in tests) is not negated


class State(dict[str, "State"]):
    """What has been read so far. `accepts`: the patterns that match it, as bits."""

    __slots__ = ("_at", "_globs", "accepts")

    def __init__(self, globs: Globs, at: frozenset[int]) -> None:
        self._globs, self._at = globs, at
        self.accepts = 0
        for kind, number in (globs.items[each] for each in at):
            if kind == _END:
                self.accepts |= 1 << number

    def __missing__(self, char: str) -> State:
        following = self[char] = self._globs.after(self._at, char)
        return following


class Globs:
    """`start` is the state before the first character."""

    def __init__(self, patterns: Sequence[Sequence[Item]]) -> None:
        self.items: list[Item] = []
        self._states: dict[frozenset[int], State] = {}
        firsts = []
        for number, pattern in enumerate(patterns):
            firsts.append(len(self.items))
            self.items += [*pattern, (_END, number)]
        self.start = self._state(firsts, begin=True)

    def after(self, at: Iterable[int], char: str) -> State:
        items = self.items
        moved = []
        for each in at:
            kind, test = items[each]
            if kind != _END and test(char):
                moved.append(each if kind == LOOP else each + 1)
        return self._state(moved)

    def _state(self, todo: list[int], *, begin: bool = False) -> State:
        seen: set[int] = set()
        kept = set()
        while todo:
            each = todo.pop()
            if each in seen:
                continue
            seen.add(each)
            kind = self.items[each][0]
            if kind in (ONE, LOOP, _END):
                kept.add(each)
            if kind in (LOOP, MAYBE) or (kind == BEGIN and begin):
                todo.append(each + 1)
            if kind == MAYBE:
                todo.append(each + 3)
        key = frozenset(kept)
        state = self._states.get(key)
        if state is None:
            if len(self._states) >= _MOST:
                for each_state in self._states.values():
                    each_state.clear()
                self._states.clear()
            state = self._states[key] = State(self, key)
        return state


def _ascii(test: Callable[[str], bool]) -> str:
    return "".join(filter(test, map(chr, range(128))))


CLASSES = {
    "alnum": string.ascii_letters + string.digits,
    "alpha": string.ascii_letters,
    "blank": " \t",
    "cntrl": _ascii(lambda char: char < " " or char == "\x7f"),
    "digit": string.digits,
    "graph": _ascii(lambda char: "!" <= char <= "~"),
    "lower": string.ascii_lowercase,
    "print": _ascii(lambda char: " " <= char <= "~"),
    "punct": string.punctuation,
    "space": " \t\n\r\v\f",
    "upper": string.ascii_uppercase,
    "xdigit": string.hexdigits,
}
"""POSIX's, `[:alpha:]` and so on, of ASCII alone."""


def matches_below(
    tests: Sequence[Test | None],
    folder: str,
    where: W,
    listed: Callable[[W], Iterable[tuple[str, bool, W]]],
) -> Iterator[tuple[str, bool]]:
    """The paths below `folder` whose names pass `tests`, some more than once, and whether each is a
    folder itself. None is `**`: folders, none too, but no links to any; as the last all that is
    below. `listed` gives of what is at a place each name, whether it is a folder, and its place."""
    last = len(tests) - 1

    def begin(at: int) -> set[int]:
        """The tests for names in a folder that test `at` may find."""
        return {at} | (begin(at + 1) if tests[at] is None and at < last else set())

    waiting = [(folder, where, begin(0))]
    while waiting:  # a stack: folders may be deeper than Python's
        folder, where, wanted = waiting.pop()
        for name, is_dir, place in listed(where):
            path = f"{folder}/{name}" if folder else name
            below: set[int] = set()
            for at in wanted:
                test = tests[at]
                if test is None:
                    below |= begin(at) if is_dir else set()
                elif not test(name):
                    continue
                elif at < last:
                    below |= begin(at + 1)
                if at == last:
                    yield path, is_dir
            if below:
                waiting.append((path, place, below))
