"""Plain lines, JSON lines, warnings only; and which renderer is chosen."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from threading import Thread

import pytest

from builder.errors import Excerpt, UsageError
from builder.events import (
    Event,
    ImageDone,
    ImageStarted,
    Noted,
    StepDone,
    StepFailed,
    StepOutput,
    StepProgress,
    StepStarted,
    Warned,
)
from builder.ui import choose_renderer
from builder.ui.jsonl import JsonLines
from builder.ui.plain import Plain
from builder.ui.quiet import Quiet

DIGEST = "sha256:" + "ab" * 32
BUILD: list[Event] = [
    ImageStarted("site", 3),
    StepDone("site", 0, "debian", "base", 0.0, 32_100_000, ""),
    StepDone("site", 1, "motd", "hit", 0.001, 210, ""),
    StepStarted("site", 2, "install", "first build"),
    StepOutput("site", 2, "Setting up nginx"),
    StepOutput("site", 2, "\x1b[31mred\x1b[0m \x07"),
    StepDone("site", 2, "install", "built", 3.21, 1_200_000, "first build"),
    StepStarted("site", 3, "check", "first build"),
    StepDone("site", 3, "check", "empty", 0.02, 0, "first build"),
    ImageDone("site", DIGEST, 3.5, 2, 1),
    Warned("records/x is corrupt; it is made again"),
    Noted("waiting for another builder"),
]


def test_plain_says_each_step_in_a_line_and_names_a_step_before_its_output() -> None:
    stream = io.StringIO()
    with Plain(stream) as emit:
        for event in BUILD:
            emit(event)
    assert stream.getvalue() == (
        "site [base] debian  base  32.1 MB\n"
        "site [1/3] motd  hit  210 B\n"
        "site [2/3] install  running  first build\n"
        "site 2| Setting up nginx\n"
        "site 2| red \\x07\n"
        "site [2/3] install  built  3.21 s  1.2 MB  first build\n"
        "site [3/3] check  empty  0.02 s  first build\n"
        f"site  2 built, 1 reused  3.50 s  {DIGEST}\n"
        "warning: records/x is corrupt; it is made again\n"
        "waiting for another builder\n"
    )


def test_plain_says_which_step_failed() -> None:
    stream = io.StringIO()
    emit = Plain(stream)
    emit(ImageStarted("site", 1))
    emit(StepStarted("site", 1, "install", "first build"))
    emit(StepFailed("site", 1, "install", "ended with status 100"))
    assert stream.getvalue() == "site [1/1] install  failed  ended with status 100\n"


def test_plain_repeats_the_first_errors_where_they_are_no_longer_in_sight() -> None:
    stream = io.StringIO()
    emit = Plain(stream)
    shown = Excerpt(("a.c:1:1: error: \x1b]0;x\x07no",), 90, ("make: *** [all] Error 1",), "all x")
    emit(StepFailed("site", 1, "install", "exit status 2", shown))
    emit(StepFailed("site", 1, "install", "exit status 2", shown._replace(first=())))
    assert stream.getvalue() == (
        "site [1] install  failed  exit status 2\n"
        "| a.c:1:1: error: no\n"
        "| (all of it: all x)\n"
        "site [1] install  failed  exit status 2\n"
    )


def test_plain_does_not_drown_a_log_in_progress() -> None:
    stream = io.StringIO()
    emit = Plain(stream)
    emit(StepStarted("site", 0, "debian", "first build"))
    for done in range(1000):
        emit(StepProgress("site", 0, done, 1000))
    assert stream.getvalue() == ""


def test_plain_keeps_colors_of_output_only_with_color() -> None:
    stream = io.StringIO()
    Plain(stream, color=True)(StepOutput("site", 2, "\x1b[31mred\x1b[2J"))
    assert "\x1b[31mred\x1b[0m\n" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


def test_each_line_of_an_output_is_one_line() -> None:
    event = StepOutput("site", 2, "a\n\n\x07c")
    plain, lines = io.StringIO(), io.StringIO()
    Plain(plain)(event)
    assert plain.getvalue() == "site 2| a\nsite 2| \nsite 2| \\x07c\n"
    JsonLines(lines)(event)
    assert [json.loads(line)["line"] for line in lines.getvalue().splitlines()] == [
        "a",
        "",
        "\x07c",
    ]


def test_plain_keeps_lines_of_parallel_images_whole() -> None:
    stream = io.StringIO()
    emit = Plain(stream)

    def print_lines(image: str) -> None:
        for _ in range(500):
            emit(StepOutput(image, 1, "x" * 200))

    threads = [Thread(target=print_lines, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert sorted(set(lines)) == [f"{name} 1| {'x' * 200}" for name in ("a", "b", "c")]
    assert len(lines) == 1500


@pytest.mark.parametrize("mode", ["plain", "json", "tty"])
def test_a_reader_that_has_gone_does_not_stop_a_build(mode: str) -> None:
    code = f"""
import sys
from builder.events import Noted
from builder.ui import choose_renderer
with choose_renderer({mode!r}, sys.stderr, is_tty=False, term="xterm", ci=False) as emit:
    for _ in range(3):
        emit(Noted("to nobody"))
print("built")
"""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=write)
    os.close(write)
    assert done.stdout == b"built\n"


def test_annotations_stop_no_build_when_their_reader_has_gone() -> None:
    code = """
import sys
from builder.events import Warned
from builder.ui.annotations import Annotated
from builder.ui.plain import Plain
with Annotated(Plain(sys.stderr), sys.stderr) as emit:
    for _ in range(3):
        emit(Warned("to nobody"))
print("built")
"""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=write)
    os.close(write)
    assert done.stdout == b"built\n"


def test_json_lines_hold_every_field_of_every_event() -> None:
    stream = io.StringIO()
    with JsonLines(stream) as emit:
        for event in BUILD:
            emit(event)
    objects = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(objects) == len(BUILD)
    times = [each.pop("time") for each in objects]
    assert times == sorted(times) and time.time() - 60 < times[0] <= time.time() + 0.001  # rounded
    assert objects[0] == {"event": "image_started", "image": "site", "steps": 3}
    assert objects[6] == {
        "event": "step_done",
        "image": "site",
        "step": 2,
        "name": "install",
        "status": "built",
        "seconds": 3.21,
        "size": 1_200_000,
        "why": "first build",
    }


def test_json_lines_survive_names_that_are_no_text() -> None:
    stream = io.StringIO()
    JsonLines(stream)(StepOutput("site", 1, "\udcff\x1b"))
    assert stream.getvalue().isascii()
    assert stream.getvalue().count("\n") == 1


def test_quiet_shows_warnings_only() -> None:
    stream = io.StringIO()
    with Quiet(stream) as emit:
        for event in BUILD:
            emit(event)
    assert stream.getvalue() == "warning: records/x is corrupt; it is made again\n"


@pytest.mark.parametrize(
    ("mode", "is_tty", "term", "ci", "expected"),
    [
        ("auto", True, "xterm", False, "Live"),
        ("auto", True, "xterm", True, "Plain"),
        ("auto", True, "dumb", False, "Plain"),
        ("auto", True, "", False, "Plain"),
        ("auto", False, "xterm", False, "Plain"),
        ("tty", False, "xterm", True, "Live"),
        ("plain", True, "xterm", False, "Plain"),
        ("json", True, "xterm", False, "JsonLines"),
        ("quiet", True, "xterm", False, "Quiet"),
    ],
)
def test_auto_is_live_only_where_a_person_looks(
    mode: str, is_tty: bool, term: str, ci: bool, expected: str
) -> None:
    renderer = choose_renderer(mode, io.StringIO(), is_tty=is_tty, term=term, ci=ci)
    assert type(renderer).__name__ == expected


@pytest.mark.parametrize(
    ("is_tty", "term", "no_color", "force_color", "colored"),
    [
        (True, "xterm", False, False, True),
        (False, "xterm", False, False, False),
        (True, "dumb", False, False, False),
        (True, "xterm", True, False, False),
        (False, "", False, True, True),
        (True, "xterm", True, True, False),
    ],
)
def test_colors_follow_the_terminal_and_the_users_wish(
    is_tty: bool, term: str, no_color: bool, force_color: bool, colored: bool
) -> None:
    stream = io.StringIO()
    emit = choose_renderer(
        "plain",
        stream,
        is_tty=is_tty,
        term=term,
        ci=False,
        no_color=no_color,
        force_color=force_color,
    )
    emit(Warned("x"))
    assert ("\x1b" in stream.getvalue()) is colored


def test_an_unknown_mode_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'fancy' is not one of auto, tty, plain, json, quiet"):
        choose_renderer("fancy", io.StringIO(), is_tty=False, term="", ci=False)


def test_plain_imports_nothing_heavy() -> None:
    code = "import sys; import builder.ui.plain; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-Ic", code], capture_output=True, check=True, text=True)
    heavy = {"rich", "logging", "subprocess", "json", "dataclasses", "unicodedata"}
    assert heavy.isdisjoint(run.stdout.split())
