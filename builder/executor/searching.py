"""Search a text for regular expressions, in a process of its own and within a bound.

Nothing ends a search of Python's in this process, no signal either; and of some expressions a line
is enough that it takes years.
"""

from __future__ import annotations

import marshal
import subprocess
import sys
from collections.abc import Sequence

SECONDS = 5  # of a processor
_SEARCH = f"""\
import marshal, re, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS + 1}))
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
patterns, text = marshal.load(sys.stdin.buffer)
for each in patterns:
    print(int(re.search(each, text, re.MULTILINE) is not None), end="", flush=True)
"""


def searched(patterns: Sequence[str], text: str) -> list[bool | None]:
    """Which are found in the text. None: one that takes too long; those behind it are left out."""
    if not patterns:
        return []
    made = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _SEARCH],
        input=marshal.dumps((tuple(patterns), text)),
        capture_output=True,
        check=False,
        env={},
        cwd="/",
    )
    found: list[bool | None] = [each == ord("1") for each in made.stdout]
    return found if len(found) == len(patterns) else [*found, None]
