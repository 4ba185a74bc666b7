"""Sizes, times, ages, tables and errors as people read them."""

from __future__ import annotations

import pytest

from builder.errors import BuilderError, CommandFailed, SpecError, SpecErrors
from builder.ui import human
from builder.ui.errors import render_error
from builder.ui.tables import table


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (240_000_000, "240 MB"),
        (8 << 30, "8.6 GB"),
        (10**19, "10000 PB"),
    ],
)
def test_sizes_in_powers_of_1000(count: int, text: str) -> None:
    assert human.size(count) == text


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0.0, "0.00 s"),
        (0.314, "0.31 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.99, "1 min 00 s"),
        (125.2, "2 min 05 s"),
        (3720, "1 h 02 min"),
    ],
)
def test_durations(time: float, text: str) -> None:
    assert human.seconds(time) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (-5, "just now"),
        (0.4, "just now"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (3600, "1 hour ago"),
        (3 * 86400 + 5, "3 days ago"),
        (13 * 86400, "1 week ago"),
        (90 * 86400, "2 months ago"),
        (800 * 86400, "2 years ago"),
    ],
)
def test_ages(age: float, text: str) -> None:
    assert human.ago(age) == text


def test_one_thing_and_several() -> None:
    assert [human.count(number, "step") for number in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]


def test_a_table_aligns_its_columns() -> None:
    rows = [["site", "240 MB", "3 days ago"], ["漢字", "1.2 kB", "just now"]]
    assert table(["IMAGE", "SIZE", "CREATED"], rows, right=["SIZE"]) == (
        "IMAGE    SIZE  CREATED\nsite   240 MB  3 days ago\n漢字   1.2 kB  just now\n"
    )


def test_a_table_fits_the_terminal_and_cuts_the_widest_column() -> None:
    text = table(["STEP", "WHY"], [["pages", "x" * 200], ["\x1b[2Jconf", "y"]], width=40)
    assert [len(line) for line in text.splitlines()] == [10, 40, 8]
    assert "\x1b" not in text


def test_an_empty_table_is_its_header() -> None:
    assert table(["IMAGE"], []) == "IMAGE\n"


def test_an_error_is_a_line_and_a_hint() -> None:
    error = BuilderError("no executor works here", "run `builder doctor`")
    assert render_error(error) == ("error: no executor works here\nhint: run `builder doctor`\n")


def test_a_hint_of_several_lines_keeps_them() -> None:
    text = render_error(BuilderError("apt failed", "is the mirror up?\n  E: 404\n  E: \x1b[2Jgone"))
    assert text == "error: apt failed\nhint: is the mirror up?\n  E: 404\n  E: gone\n"


def test_spec_errors_show_their_lines_and_a_caret() -> None:
    first = SpecError("a.yaml:2:9: mode '9' is not octal", None, '  mode: "9"\n        ^')
    second = SpecError("a.yaml:5:3: unknown key 'cpoy'", "did you mean copy?")
    assert render_error(SpecErrors((first, second))) == (
        "error: a.yaml:2:9: mode '9' is not octal\n"
        '    mode: "9"\n'
        "          ^\n"
        "error: a.yaml:5:3: unknown key 'cpoy'\n"
        "hint: did you mean copy?\n"
        "2 errors\n"
    )


def test_the_last_output_of_a_command_is_shown_unless_it_was() -> None:
    error = CommandFailed(
        "site: step 2 'install' ended with status 100",
        exit_status=100,
        tail=("E: Unable to locate package ngnix", "\x1b[2J"),
    )
    assert render_error(error) == (
        "| E: Unable to locate package ngnix\n"
        "| \n"
        "error: site: step 2 'install' ended with status 100\n"
    )
    assert render_error(error, tail=False).startswith("error: ")


def test_an_error_is_colored_only_when_asked() -> None:
    assert "\x1b" in render_error(BuilderError("x"), color=True)
    assert "\x1b" not in render_error(BuilderError("x\x1b[31m"))
