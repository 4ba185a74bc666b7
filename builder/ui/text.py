"""Text on its way to a terminal or a log: made harmless, measured, cut, painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.errors import Excerpt

RESET = "\x1b[0m"
BOLD, DIM, RED, GREEN, YELLOW, CYAN = (f"\x1b[{code}m" for code in (1, 2, 31, 32, 33, 36))


def paint(text: str, code: str, color: bool) -> str:
    return f"{code}{text}{RESET}" if color and text else text


def harmless(text: str, *, color: bool = False) -> str:
    """One line that can do nothing to a terminal or a log, whoever wrote it.

    Escape sequences are left out, but colours (SGR) where `color` allows them; other control
    characters, line separators and what changes the direction of writing are shown as `\\x07`.
    Tabs become spaces.
    """
    if text.isprintable():
        return text
    import re

    colored = False

    def replace(match: re.Match[str]) -> str:
        nonlocal colored
        found = match[0]
        if color and match["sgr"]:
            colored = True
            return found
        if len(found) > 1:
            return ""
        return found.encode("ascii", "backslashreplace").decode().translate(_ESCAPED)

    # Every repetition excludes what may begin the next match: linear, whatever the text.
    shown = re.sub(
        r"(?P<sgr>\x1b\[[0-9;:]*m)"
        r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: moves, erases, modes
        r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS: title, clipboard
        r"|\x1b[ -/]*[0-Z\\-~]"  # other escapes: character sets, reset
        r"|[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]",
        replace,
        text,
    ).expandtabs()
    return shown + RESET if colored else shown


def harmless_lines(text: str, *, color: bool = False) -> list[str]:
    lines = text.split("\n")
    if "".join(lines).isprintable():  # of many lines at once, most often
        return lines
    return [harmless(line, color=color) for line in lines]


def excerpt_lines(excerpt: Excerpt, color: bool) -> list[str]:
    """What is shown of what a failed step printed."""
    bar, between = paint("| ", DIM, color), paint(excerpt.between, DIM, color)
    first, last = (
        [bar + harmless(line, color=color) for line in part]
        for part in (excerpt.first, excerpt.last)
    )
    return [*first, *([bar + between] if between else ()), *last]


_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)}


def cells(text: str) -> int:
    """Columns that `text` (harmless, without colours) takes on a terminal."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text
    )


def cut(text: str, width: int) -> str:
    """`text` (harmless, without colours) in at most `width` columns; what is cut ends in `…`."""
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[: max(0, min(len(text) - 1, width - 1))]
    return text + "…" if width > 0 else ""
