"""What is shown of a failed step: the errors of real tools are found within much else."""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path

import pytest

from builder.errors import Excerpt
from builder.make.excerpt import FIRST, LAST, excerpt, is_error

# What tools printed, each after a line `#### NAME: TEXT`; TEXT stands in the first line that tells
# of an error, of those called ok-* there is none.
_PARTS = re.split(
    r"^#### (\S+):(.*)\n", (Path(__file__).parent / "outputs.txt").read_text(), flags=re.M
)
OUTPUTS = {
    name: (said.strip(), text.splitlines())
    for name, said, text in zip(_PARTS[1::3], _PARTS[2::3], _PARTS[3::3], strict=True)
}
QUIET = [line for name, (_, lines) in OUTPUTS.items() if name.startswith("ok-") for line in lines]


@pytest.mark.parametrize("name", [name for name in OUTPUTS if not name.startswith("ok-")])
def test_the_first_error_of_a_tool_is_shown(name: str) -> None:
    said, lines = OUTPUTS[name]
    whole = [*QUIET, *lines, *QUIET * 2]
    shown = excerpt(whole, len(whole), "builder logs app 3")
    assert any(said in line for line in shown.first), shown.first
    # what comes before it goes with it: a traceback's frames
    assert len([line for line in shown.first if is_error(line)]) >= 1
    assert len(shown.first) <= FIRST and shown.last == tuple(whole[-LAST:])
    assert shown.skipped == len(whole) - len(shown.first) - LAST


def test_nothing_of_what_went_well_is_taken_for_an_error() -> None:
    assert [line for line in QUIET if is_error(line)] == []


def test_a_traceback_is_shown_from_its_end() -> None:
    lines = [*OUTPUTS["python"][1], *QUIET]
    first = excerpt(lines, len(lines), "").first
    assert first[0] == "Traceback (most recent call last):"
    assert first[1].lstrip().startswith(("File", "return", "~", "^"))
    assert first[3].startswith("FileNotFoundError: ")


def test_any_output_gives_little_and_in_its_order() -> None:
    seeded = random.Random(11)
    known = [line for _, lines in OUTPUTS.values() for line in lines]
    for _ in range(int(os.environ.get("LOG_ROUNDS", "3")) * 100):
        lines = [seeded.choice(known) for _ in range(seeded.randrange(0, 120))]
        shown = excerpt(iter(lines), len(lines), "x")
        rows = [*shown.first, *([shown.between] if shown.between else ()), *shown.last]
        assert len(rows) <= 26
        assert len(shown.first) + shown.skipped + len(shown.last) == len(lines)
        if not shown.skipped:
            assert list(shown.last) == lines
        cut = [line if len(line) <= 400 else line[:400] + "…" for line in lines]
        rest = iter(cut)
        assert all(line in rest for line in (*shown.first, *shown.last))  # one after the other
        if any(map(is_error, lines[: len(lines) - LAST])) and len(lines) > FIRST + LAST:
            assert shown.first


PIECES = (":", "a:1:", ": ", "Error ", "E:1 ", "a ", "A1b", "\t")


@pytest.mark.parametrize(
    "line",
    [
        *(
            part * (8192 // len(part))
            for part in (":", "a:1:", ": ", "Error ", "E:1 ", "a ", "A1b", "\t")
        ),
        "error" * 1600,
        " : Depends: " * 600,
        "a: " * 2700 + "not found",
    ],
)
def test_no_line_takes_long(line: str) -> None:
    began = time.process_time()
    for _ in range(200):
        is_error(line)
    assert time.process_time() - began < 2  # 50 MB of such lines: less than a minute


def test_a_long_output_is_read_in_seconds() -> None:
    lines = QUIET * (5_000_000 // sum(map(len, QUIET)))
    began = time.process_time()
    assert excerpt(lines, len(lines), "").first == ()
    assert time.process_time() - began < 30  # on a machine with much else to do


def test_what_is_left_out_is_said_with_the_way_to_it() -> None:
    assert Excerpt(("a",), 1, ("b",)).between == "(1 line not shown)"
    assert Excerpt((), 20, ("b",), "builder logs x 2").between == (
        "(20 lines not shown: builder logs x 2)"
    )
    assert Excerpt((), 0, ("b",), "builder logs x 2").between == ""
