"""Small tables: columns aligned, cut to the terminal's width where there is one."""

from __future__ import annotations

from collections.abc import Sequence

from builder.ui.text import BOLD, cells, cut, harmless, paint

GAP = "  "


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    width: int | None = None,
    color: bool = False,
) -> str:
    """`rows` below `header`, each line ended. Columns named in `right` are set flush right.

    With a `width` (columns of the terminal) the widest columns give way until a line fits, none
    below 8; without one (a pipe) nothing is cut. Cells may hold anything: they are made harmless.
    """
    lines = [[harmless(cell) for cell in row] for row in (header, *rows)]
    widths = [max(cells(line[at]) for line in lines) for at in range(len(header))]
    if width is not None:
        _fit(widths, width - len(GAP) * (len(widths) - 1))
    text = []
    for number, line in enumerate(lines):
        parts = []
        for at, cell in enumerate(line):
            shown = cut(cell, widths[at])
            pad = " " * (widths[at] - cells(shown))
            parts.append(pad + shown if header[at] in right else shown + pad)
        joined = GAP.join(parts).rstrip()
        text.append(paint(joined, BOLD, color) if number == 0 else joined)
    return "\n".join(text) + "\n"


def _fit(widths: list[int], room: int) -> None:
    """Take from the widest column, a cell at a time, until all fit or none may give more."""
    while sum(widths) > room and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
