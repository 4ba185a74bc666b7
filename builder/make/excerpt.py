"""What is shown of the output of a step that failed: where it first tells of errors, and its end.

There is no format for errors. What tools print is recognised by the words and signs that compilers,
package managers, interpreters and shells say them with; what is none of these stands in the end of
the output, most often.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from builder.errors import Excerpt

FIRST = 10  # lines
LAST = 14
_AFTER = 2  # lines after one that tells of an error: the source, a caret, what goes with it
_WIDTH = 400  # characters of a line
_BLOCK = 100  # lines

_PERHAPS = (
    *("err", "fail", "fatal", "panic", "exception", "fault", "traceback", "undefined", "cannot"),
    *("can't", "could not", "couldn", "unable to", "no matching", "no package", "no such"),
    *("not found", "denied", "refused", "killed", "abort", "unsatisf", "multiple def"),
    *("read-only", "format", " but ", "nothing provides", "***", "uncaught", "e: ", "e   "),
    *("not permitted", "a directory", "unreachable", "no space", "not exist", " line ", ": ("),
    *(f"{digit}: " for digit in range(10)),
)
"""In the lower case of a line that is looked at closely. The most of an output has none of it."""
_PLACE = re.compile(r"^\S{1,300}?:\d+:(?:\d+:)?[ ](?!(?i:warning|note|info|remark|debug|hint))\S")
_ERROR = re.compile(
    r"""
    \b(?:fatal[ ])?(?i:errors?)(?:\[\w+\])?:(?!:)(?![ ]*(?:none|0|no)\b)  # error: error[E0425]:
  | \b(?i:error)[ ](?:TS|CS|C|LNK|MSB|E)\d+\b | \b(?:Error|ERROR)[ ](?:at|in)[ ]\S
  | ^\W*(?:ERROR|FATAL|FAILED|FAILURE|CRITICAL|SEVERE)\b | ^\s*FAIL:? | [ ]FAILED$ | ^---[ ]FAIL:
  | ^(?i:npm|yarn|pnpm)[ ](?i:ERR!|error)
  | ^(?:E|Err):\d*[ ]?\S | ^E[ ]{2,}\S                              # apt, pytest
  | ^(?:fatal|panic|Fatal|Aborted|Killed|Segmentation[ ]fault|Bus[ ]error)\b
  | \b(?:[A-Za-z]\w*)?(?:Error|Exception|Panic)\b(?:[ ]\[\w+\])?:   # ValueError: TypeError [X]:
  | ^\s*Traceback[ ]\(most[ ]recent | \bException[ ]in[ ]thread\b | ^thread[ ].*\bpanicked[ ]at\b
  | ^(?:\w+:[ ])?[Uu]ncaught\b | \bsegfault\b | \bcore[ ]dumped\b
  | ^\S*make(?:\[\d+\])?:[ ]\*\*\*
  | \berror[ ]processing\b | [ ]does[ ]not[ ]exist\.?$ | [ ]at[ ]\S+[ ]line[ ]\d+\.$  # dpkg, perl
  | \bundefined[ ](?:reference|symbol|method)\b | \bmultiple[ ]definition\b | \bcannot[ ]find[ ]-l
  | ^[^\s:]+:.*:[ ](?:command[ ])?not[ ]found$
  | (?:^|:[ ])(?i:cannot|can't|could[ ]not|couldn't|unable[ ]to|failed[ ]to)\b
  | ^(?:curl|wget|git|ssh|tar|gzip|unzip):[ ]\(
  | :[ ](?:No[ ]such[ ]file[ ]or[ ]directory|Permission[ ]denied|Operation[ ]not[ ]permitted|
      Connection[ ]refused|Read-only[ ]file[ ]system|No[ ]space[ ]left|Is[ ]a[ ]directory|
      Not[ ]a[ ]directory|Exec[ ]format[ ]error|Network[ ]is[ ]unreachable)
  | \b(?:CMake|Configure|Syntax|Parse|Compilation)[ ]Error\b
  | ^\s*(?:No[ ]matching|No[ ]package|Unsatisf|Nothing[ ]provides|nothing[ ]provides)
  | ^\s*\S+[ ]\(no[ ]such[ ]package\): | [ ]:[ ](?:Pre)?(?:Depends|Conflicts|Breaks):[ ].*\bbut\b
    """,
    re.VERBOSE,
)
_NONE = re.compile(
    r"(?i)\b(?:0|no|without|zero) (?:\w+ )?(?:errors?|failures?|failed)\b"
    r"|\bwarning:|^\W*(?:note|info|debug|warn(?:ing)?)\b|\.\.\. ?\(?(?:no|yes|ok|not found)\)?$"
    r"|^(?:get:|fetch|setting up|unpacking|selecting|preparing|installing|collecting)"
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*[mK]")


def is_error(line: str) -> bool:
    """Whether a line tells of an error."""
    if "\x1b" in line:
        line = _COLOUR.sub("", line)
    line = line[:_WIDTH].rstrip()
    # a compiler's that need not say more: FILE:LINE:COLUMN: TEXT
    return bool(_PLACE.match(line) or _ERROR.search(line)) and not _NONE.search(line)


def _are_errors(block: Sequence[str]) -> list[bool]:
    """As is_error, of many lines, of which the most are done with together."""
    text = "\n".join(block).lower()
    words = [word for word in _PERHAPS if word in text]
    if not words:
        return []
    perhaps = re.compile("|".join(map(re.escape, words))).search
    return [
        perhaps(lower) is not None and is_error(line)
        for line, lower in zip(block, text.split("\n"), strict=True)
    ]


def excerpt(lines: Iterable[str], count: int, command: str) -> Excerpt:
    """Of an output of `count` lines, of which `lines` may not have all; `command` prints it."""
    last: deque[str] = deque(maxlen=FIRST + LAST)
    found = _Found()
    number = 0
    rest = iter(lines)
    while block := list(islice(rest, _BLOCK)):
        last.extend(block)
        if len(found.lines) < FIRST:
            found.look(number, block)
        number += len(block)
    if count <= len(last):
        return Excerpt((), 0, tuple(map(_cut, last)), command)
    first = [line for at, line in found.lines[:FIRST] if at < number - LAST]
    shown = list(last)[-LAST:] if first else list(last)
    skipped = count - len(first) - len(shown)
    return Excerpt(tuple(map(_cut, first)), skipped, tuple(map(_cut, shown)), command)


class _Found:
    """Lines that tell of errors and what goes with them, each with its number from 0."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []
        self._after = self._margin = 0
        self._frames: deque[tuple[int, str]] | None = None  # of a traceback: its last ones

    def look(self, number: int, block: Sequence[str]) -> None:
        errors = _are_errors(block)
        if not errors and not self._after and self._frames is None:
            return
        for at, line in enumerate(block):
            self._take((number + at, line), bool(errors) and errors[at])

    def _take(self, each: tuple[int, str], is_one: bool) -> None:
        line = each[1]
        if self._frames is not None:
            self._frames.append(each)
            if line.strip() and _margin(line) <= self._margin:  # what was raised
                self.lines += self._frames
                self._frames = None
        elif is_one:
            self.lines.append(each)
            self._after = _AFTER
            if line.lstrip().startswith("Traceback ("):
                self._frames, self._margin, self._after = deque(maxlen=_AFTER + 1), _margin(line), 0
        elif self._after and line.strip():
            self.lines.append(each)
            self._after -= 1


def _margin(line: str) -> int:
    return len(line) - len(line.lstrip())


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else line[:_WIDTH] + "…"
