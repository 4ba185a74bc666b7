"""What is shown of the output of a step that failed: where it first tells of errors, and its end.

There is no format for errors. What tools print is recognised by the words and signs that compilers,
package managers, interpreters and shells say them with; what is none of these stands in the end of
the output, most often.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from builder.errors import Excerpt

FIRST = 10  # lines
LAST = 14
_AFTER = 2  # lines after one that tells of an error: the source, a caret, what goes with it
_WIDTH = 400  # characters of a line

_PERHAPS = (
    *("err", "fail", "fatal", "panic", "exception", "fault", "traceback", "undefined", "cannot"),
    *("can't", "could", "unable", "no ", "not found", "denied", "refused", "kill", "abort", "bus "),
    *("unsatisf", "multiple", "read-only", "format", "but it", "nothing", "***", "uncaught"),
    *("not permitted", "directory", "unreachable", "is not", "but "),
)
"""Of the lower case of a line that is looked at closely. The most of an output has none of it."""
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
    if _PLACE.match(line):  # a compiler's that need not say more: FILE:LINE:COLUMN: TEXT
        return not _NONE.search(line)
    lower = line.lower()
    if not any(word in lower for word in _PERHAPS):
        return False
    return bool(_ERROR.search(line)) and not _NONE.search(line)


def excerpt(lines: Iterable[str], count: int, command: str) -> Excerpt:
    """Of an output of `count` lines, of which `lines` may not have all; `command` prints it."""
    last: deque[str] = deque(maxlen=FIRST + LAST)
    found: list[tuple[int, str]] = []
    frames: deque[tuple[int, str]] | None = None  # of a traceback, whose last ones are shown
    after = margin = number = 0
    for number, line in enumerate(lines, 1):
        last.append(line)
        if len(found) >= FIRST:
            continue
        if frames is not None:
            frames.append((number, line))
            if line.strip() and _margin(line) <= margin:  # what was raised
                found += frames
                frames = None
            continue
        if is_error(line):
            found.append((number, line))
            after = _AFTER
            if line.lstrip().startswith("Traceback ("):
                frames, margin, after = deque(maxlen=_AFTER + 1), _margin(line), 0
        elif after and line.strip():
            found.append((number, line))
            after -= 1
    if count <= len(last):
        return Excerpt((), 0, tuple(map(_cut, last)), command)
    before = [line for at, line in found[:FIRST] if at <= number - LAST]
    if before:
        shown = list(last)[-LAST:]
    else:
        shown = list(last)
    skipped = count - len(before) - len(shown)
    return Excerpt(tuple(map(_cut, before)), skipped, tuple(map(_cut, shown)), command)


def _margin(line: str) -> int:
    return len(line) - len(line.lstrip())


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else line[:_WIDTH] + "…"
