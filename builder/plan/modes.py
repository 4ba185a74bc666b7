"""`mode:` as chmod reads it: octal text, or symbolic text with X."""

from __future__ import annotations

import re

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}


def apply_mode(text: str, mode: int, *, directory: bool) -> int:
    """The 12 permission bits that `text` makes of `mode`. The spec room has checked the syntax."""
    if text.isdigit():
        return int(text, 8)
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if not match:
            raise ValueError(text)
        who = match[1].replace("a", "ugo") or "ugo"
        for operator, letters in _ACTION.findall(match[2]):
            mode = _act(mode, set(who), operator, letters, directory)
    return mode


def _act(mode: int, who: set[str], operator: str, letters: str, directory: bool) -> int:
    if letters in _SHIFT:
        bits = mode >> _SHIFT[letters] & 7
    else:
        bits = sum({"r": 4, "w": 2, "x": 1}[letter] for letter in set(letters) & set("rwx"))
        if "X" in letters and (directory or mode & 0o111):
            bits |= 1
    change = sum(bits << _SHIFT[each] for each in who)
    if "s" in letters:
        change |= (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0)
    if "t" in letters and "o" in who:
        change |= 0o1000
    if operator == "+":
        return mode | change
    if operator == "-":
        return mode & ~change
    clear = sum(7 << _SHIFT[each] for each in who) | (0o1000 if "o" in who else 0)
    if not directory or "s" in letters:  # chmod keeps a directory's set-id bits if not named
        clear |= (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0)
    return mode & ~clear | change
