"""`builder run`: what a command sees, changes, reads, writes and ends with."""

from __future__ import annotations

import json
import os
import random

import pytest

from tests.containers.conftest import Box


def test_a_command_has_a_layer_of_its_own(box: Box, executor: str) -> None:
    at = ("--executor", executor)
    text = "echo new > /srv/new; rm -r /srv/old; cat /srv/new"
    assert box.run(*at, "box", "sh", "-c", text) == "new\n"
    assert box.run(*at, "box", "ls", "/srv") == "link\nold\n"


def test_a_kept_one_stays_and_runs_again(box: Box, executor: str) -> None:
    at = ("--executor", executor)
    box.run(*at, "--keep", "work", "-e", "A=1", "-w", "/srv", "box", "sh", "-c", "echo $A > new")
    assert box.run(*at, "container:work", "cat", "new") == "1\n"
    assert box.run(*at, "-e", "A=2", "container:work", "sh", "-c", "rm -r old; echo $A") == "2\n"
    assert box.run(*at, "container:work", "ls") == "link\nnew\n"
    assert box.run(*at, "container:work") == "link\nnew\n"  # what it ran last
    listed = json.loads(box.call("ps", "-a", "--json", check=True).stdout)["containers"]
    assert [(each["name"], each["image"], each["command"]) for each in listed] == [
        ("work", "box", ["ls"])
    ]
    assert "already" in box.fails("run", "--keep", "work", "box", "true", status=125)
    box.call("rm", "work", check=True)
    assert "no container 'work'" in box.fails("rm", "work", status=2)
    assert "no container 'work'" in box.fails("run", "container:work", status=125)


def test_an_account_that_was_made_in_a_kept_one_is_known_there(box: Box) -> None:
    box.run("--keep", "work", "box", "sh", "-c", "echo me:x:77:77::/me:/bin/sh >> /etc/passwd")
    assert box.run("-u", "me", "container:work", "id", "-u") == "77\n"
    assert "'me'" in box.fails("run", "-u", "me", "box", "true", status=125)


@pytest.mark.parametrize("size", [0, 1, 4096, 3_000_001])
def test_stdin_is_piped(box: Box, executor: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    made = box.call("run", "--executor", executor, "-i", "box", "cat", input=data, check=True)
    assert made.stdout == data
    assert made.stderr == b""


def test_stdin_may_be_left_unread(box: Box, executor: str) -> None:
    data = os.urandom(3_000_000)
    made = box.call("run", "--executor", executor, "-i", "box", "head", "-c", "5", input=data)
    assert made.stdout == data[:5]


def test_without_i_there_is_nothing_to_read(box: Box, executor: str) -> None:
    made = box.call("run", "--executor", executor, "box", "cat", input=b"not for it", check=True)
    assert made.stdout == b""


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -9 $$; exit 3"), 3),  # process 1 does not die of its own signals
        (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137),
        (("nope",), 127),
        (("/etc/passwd",), 126),
        (("/tmp",), 126),
    ],
)
def test_the_status_is_the_commands(
    box: Box, executor: str, argv: tuple[str, ...], status: int
) -> None:
    assert box.call("run", "--executor", executor, "box", *argv).returncode == status


def test_one_that_takes_too_long_is_ended(box: Box, executor: str) -> None:
    said = box.fails(
        "run", "--executor", executor, "--timeout", "300ms", "box", "sleep", "100", status=124
    )
    assert "its timeout" in said
