"""What hostile output can do to a terminal: nothing."""

from __future__ import annotations

import time

import pytest

from builder.ui.text import cells, cut, harmless


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("plain ünïcode 漢字", "plain ünïcode 漢字"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hcleared", "cleared"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]52;c;Y2xpcGJvYXJk\x1b\\after", "after"),
        ("\x1bP+q544e\x1b\\after", "after"),
        ("\x9b2Jafter", "after"),
        ("\x1bcreset", "reset"),
        ("\x1b(0lines", "lines"),
        ("bell \x07 back \x08", "bell \\x07 back \\x08"),
        ("del\x7f", "del\\x7f"),
        ("unfinished \x1b[", "unfinished \\x1b["),
        ("unended \x1b]0;title", "unended 0;title"),
        ("direction \u202e changed", "direction \\u202e changed"),
        ("line\u2028separator\x85", "line\\u2028separator\\x85"),
        ("log\rover\nwritten", "log\\x0dover\\x0awritten"),
        ("name\udcff", "name\\udcff"),
        ("a\tb", "a       b"),
    ],
)
def test_control_characters_are_left_out_or_shown(hostile: str, shown: str) -> None:
    assert harmless(hostile) == shown


def test_colors_stay_where_colors_are_wanted_and_end_with_the_line() -> None:
    assert harmless("\x1b[31mred\x1b[2J", color=True) == "\x1b[31mred\x1b[0m"


@pytest.mark.parametrize(
    "piece", ["\x1b", "\x1b[", "\x1b]", "\x1b]x", "\x1bP", "\x9b1;", "\x1b[1 ", "\x1b[1;"]
)
def test_no_text_takes_long(piece: str) -> None:
    start = time.monotonic()
    shown = harmless(piece * 20_000)
    assert "\x1b" not in shown
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 5, "short"),
        ("longer", 5, "long…"),
        ("漢字漢字", 8, "漢字漢字"),
        ("漢字漢字", 7, "漢字漢…"),
        ("漢字漢字", 6, "漢字…"),
        ("ab", 1, "…"),
        ("ab", 0, ""),
    ],
)
def test_text_is_cut_to_columns(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected
    assert cells(cut(text, width)) <= width
