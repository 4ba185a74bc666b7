"""Regular expressions of bake files: those that end in a bounded time.

A pattern's cost is guessed from its loops before it is tried; what could take long is refused.
"""

from __future__ import annotations

import math
import re
from typing import Any

from builder.bake.values import Wrong
from builder.spec.source import quote

_MAX_COST = 10**8
_MAX_TEXT = 100_000


def first(pattern: str, text: str) -> Any:
    """What is matched first: its text, or that of its groups as a list or an object."""
    compiled = _compiled(pattern, text)
    found = compiled.search(text)
    if found is None:
        raise Wrong(f"{quote(pattern)} is not found in {quote(text)}")
    return _groups(found)


def every(pattern: str, text: str) -> list[Any]:
    return [_groups(found) for found in _compiled(pattern, text).finditer(text)]


def replaced(text: str, pattern: str, by: str) -> str:
    """`$1`, `${1}` and `${name}` stand for groups, as in Go."""

    def written(found: re.Match[str]) -> str:
        def group(sign: re.Match[str]) -> str:
            if sign[0] == "$$":
                return "$"
            name = sign[1] or sign[2]
            known = found.groupdict()
            if name.isdecimal():
                return (found[int(name)] or "") if int(name) <= len(found.groups()) else ""
            return known.get(name) or ""

        return re.sub(r"\$\$|\$(\w+)|\$\{(\w+)\}", group, by)

    if len(text) * (len(by) + 1) > 1 << 22:
        raise Wrong("the text grows too long")
    return _compiled(pattern, text).sub(written, text)


def _groups(found: re.Match[str]) -> Any:
    if names := found.groupdict():
        return names
    return list(found.groups()) if found.groups() else found[0]


def _compiled(pattern: str, text: str) -> re.Pattern[str]:
    if len(pattern) > 1000 or len(text) > _MAX_TEXT:
        raise Wrong("the pattern or the text is too long")
    # \pL and \z are Go's; Python has other words for the second
    written = re.sub(r"(?<!\\)((?:\\\\)*)\\z", r"\1\\Z", pattern)
    try:
        compiled = re.compile(written, re.ASCII)
        loops, doublings = _loops(re._parser.parse(written), within=False)  # type: ignore[attr-defined]
    except (re.error, OverflowError, RecursionError) as error:
        raise Wrong(f"{quote(pattern)} is no pattern: {error}") from None
    loops += not pattern.startswith("^")  # it is tried at each character
    cost = (len(text) + 1) ** loops / math.factorial(loops) * 2**doublings
    if cost > _MAX_COST:
        raise Wrong(f"{quote(pattern)} may take too long for {len(text)} characters")
    return compiled


def _loops(parsed: Any, *, within: bool) -> tuple[int, int]:
    """How many loops, and how many choices. Raises Wrong for loops within each other."""
    loops = doublings = 0
    for operation, value in parsed:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, most, inner = value
            repeated = most > 1
            several = within or len(inner) != 1 or str(inner[0][0]) not in _SINGLE
            if repeated and several and (least != most or most > 8):
                raise Wrong("a loop over more than one character in the pattern")
            more = _loops(inner, within=within or repeated)
            loops += more[0] + (repeated and least != most)
            doublings += more[1] + (most == 1)
        elif name == "SUBPATTERN":
            more = _loops(value[3], within=within)
            loops, doublings = loops + more[0], doublings + more[1]
        elif name == "BRANCH":
            for each in value[1]:
                more = _loops(each, within=within)
                loops, doublings = loops + more[0], doublings + more[1] + 1
        elif name in ("ASSERT", "ASSERT_NOT", "GROUPREF", "GROUPREF_EXISTS", "ATOMIC_GROUP"):
            raise Wrong("the pattern looks around or back, which bake does not know")
    return loops, doublings


_SINGLE = ("LITERAL", "NOT_LITERAL", "ANY", "IN")
