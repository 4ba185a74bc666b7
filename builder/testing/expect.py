"""Expectations: whether a text is as a test says, and the words for it when it is not."""

from __future__ import annotations

from collections.abc import Iterator

from builder.executor.searching import SECONDS, searched
from builder.spec.tests import Expected

SHOWN = 200  # characters of a text in a message


def unmet(what: str, text: str, expected: Expected) -> Iterator[str]:
    """Each thing that does not hold, in words on one line; `what` is what the text is."""
    found = f"found {quoted(text)}"
    for each in expected.contains:
        if each not in text:
            yield f"{what} does not contain {quoted(each)}: {found}"
    for each in expected.lacks:
        if each in text:
            yield f"{what} contains {quoted(each)}: {found}"
    for each, matches in zip(expected.matches, searched(expected.matches, text), strict=False):
        if matches is None:
            yield f"{what} is not searched for {quoted(each)}: that takes more than {SECONDS} s"
        elif not matches:
            yield f"{what} does not match {quoted(each)}: {found}"
    if expected.equals is not None and expected.equals not in (text, text.removesuffix("\n")):
        yield f"{what} is {quoted(text)}, expected {quoted(expected.equals)}"


def quoted(text: str) -> str:
    """A text as one line; of a long one the end, where what went wrong is mostly said."""
    return repr(text) if len(text) <= SHOWN else "..." + repr(text[-SHOWN:])
