"""Containers that are ended from outside, by signals, kill -9 and `rm -f`; and what is refused."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.containers.conftest import Box

LONG = 60  # seconds
ROUNDS = int(os.environ.get("BUILDER_CONTAINER_ROUNDS", "4"))


class Started:
    """A container that writes `up` once it runs."""

    def __init__(self, box: Box, *arguments: str) -> None:
        self.process = subprocess.Popen(
            box.argv("run", *arguments),
            cwd=box.root,
            env=box.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def up(self) -> Started:
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], LONG)[0]
        assert self.process.stdout.readline() == b"up\n"
        return self

    def ends(self) -> tuple[int, bytes]:
        out, said = self.process.communicate(timeout=LONG)
        assert b"Traceback" not in said, said
        return self.process.returncode, out


def _processes(mark: str) -> list[str]:
    """Of this machine, those that hold `mark` in their arguments."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark.encode() in Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0"):
                found.append(name)
        except OSError:
            pass
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_is_the_commands(box: Box, executor: str, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    text = f"trap 'echo got; exit 9' {name}; echo up; while :; do sleep 0.05; done"
    started = Started(box, "--executor", executor, "box", "sh", "-c", text).up()
    started.process.send_signal(number)
    assert started.ends() == (9, b"got\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_that_does_nothing_with_it(
    box: Box, executor: str, number: signal.Signals
) -> None:
    started = Started(
        box, "--executor", executor, "box", "sh", "-c", "echo up; exec cat /dev/zero >/dev/null"
    ).up()
    time.sleep(0.2)
    started.process.send_signal(number)
    assert started.ends()[0] == 128 + number


def test_the_third_ends_a_command_that_goes_on(box: Box, executor: str) -> None:
    text = "trap 'echo no' TERM; echo up; while :; do sleep 0.05; done"
    started = Started(box, "--executor", executor, "box", "sh", "-c", text).up()
    assert started.process.stdout
    for _ in range(2):
        started.process.send_signal(signal.SIGTERM)
        assert started.process.stdout.readline() == b"no\n"
    started.process.send_signal(signal.SIGTERM)
    assert started.ends()[0] == 128 + signal.SIGTERM


def test_kill_9_leaves_nothing_but_what_is_kept(box: Box, executor: str) -> None:
    for keep in ((), ("--keep", "work")):
        mark = f"{random.randrange(10**12)}"
        text = "echo kept > /srv/new; (sleep 1000 &); echo up; sleep 1000"
        at = ("--executor", executor, *keep, "box", "sh", "-c", text, mark)
        started = Started(box, *at).up()
        assert _processes(mark)
        started.process.kill()
        assert started.ends()[0] == -signal.SIGKILL
        until = time.monotonic() + LONG
        while any(pid != str(os.getpid()) for pid in _processes(mark)):
            assert time.monotonic() < until
            time.sleep(0.01)
        box.run("--executor", executor, "box", "true")  # sweeps
        assert box.left() == []
        assert str(box.store) not in Path("/proc/self/mounts").read_text()
    assert box.run("--executor", executor, "container:work", "cat", "/srv/new") == "kept\n"
    assert "A /srv/new" in box.call("diff", "work", check=True).stdout.decode()


def test_interrupts_at_any_moment_leave_nothing(box: Box, executor: str) -> None:
    share = random.Random(executor)
    for _ in range(ROUNDS):
        started = Started(box, "--executor", executor, "box", "sleep", "1000")
        time.sleep(share.uniform(0.05, 1.2))
        started.process.send_signal(share.choice((signal.SIGINT, signal.SIGTERM)))
        assert started.ends()[0] in (130, 143)
        assert box.left() == []


def test_one_that_runs_is_listed_and_ended_by_force(box: Box, executor: str) -> None:
    started = Started(
        box, "--executor", executor, "--keep", "work", "box", "sh", "-c", "echo up; sleep 1000"
    ).up()
    other = Started(box, "--executor", executor, "box", "sh", "-c", "echo up; sleep 1000").up()
    listed = json.loads(box.call("ps", "--json", check=True).stdout)["containers"]
    assert {each["status"] for each in listed} == {"running"}
    names = {each["kept"]: each["name"] for each in listed}
    assert names[True] == "work"
    assert "runs" in box.fails("rm", "work", status=2)
    assert "runs" in box.fails("run", "container:work", status=125)
    box.root.joinpath("word").write_text("word")
    box.call("cp", "word", "work:/srv/", check=True)
    box.call("cp", "work:/srv/word", "again", check=True)
    assert box.root.joinpath("again").read_text() == "word"
    box.call("rm", "-f", "work", names[False], check=True)
    assert (started.ends()[0], other.ends()[0]) == (137, 137)
    assert json.loads(box.call("ps", "-a", "--json", check=True).stdout)["containers"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-v", "./gone:/x", "box"), "'./gone' is not there"),
        (("-v", "gone:/x", "box"), "'gone' is not there"),
        (("-v", "/tmp:x", "box"), "expected HOST:PATH"),
        (("-v", "/tmp:/x:odd", "box"), "'odd' is not known"),
        (("-v", "/tmp:/etc/passwd", "box", "true"), "which is a file in the image"),
        (("-v", "/etc/hostname:/tmp", "box", "true"), "which is a folder in the image"),
        (("-v", "/tmp:/proc/x", "box", "true"), "the container's own"),
        (("-v", "/tmp:/", "box", "true"), "the container's own"),
        (("-v", "/tmp:/a", "-v", "/:/a", "box", "true"), "two mounts are at '/a'"),
        (("--tmpfs", "x", "box"), "expected an absolute path"),
        (("--tmpfs", "/x:size=much", "box"), "'much' is no size"),
        (("-e", "=1", "box"), "expected NAME=VALUE"),
        (("--env-file", "gone", "box"), "No such file"),
        (("-w", "x", "box"), "expected an absolute path"),
        (("-u", "nobody", "box", "true"), "user 'nobody'"),
        (("--timeout", "soon", "box"), "is not a duration"),
        (("box",), "says no command"),
        (("nobox", "true"), "nobox"),
        (("--keep", "a/b", "box", "true"), "is no name of a container"),
        (("container:gone",), "no container 'gone'"),
        (("--executor", "chroot", "box", "true"), "'chroot' has no containers"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(box: Box, arguments: tuple[str, ...], said: str) -> None:
    assert said in box.fails("run", *arguments, status=125)


def test_links_of_an_image_lead_nowhere_else(box: Box, tmp_path: Path) -> None:
    """Neither what is mounted nor what is copied leaves the container through them."""
    text = f"ln -s {tmp_path} /out; ln -s ../../../../../../../..{tmp_path} /up; ln -s / /etc/top"
    box.run("--keep", "work", "box", "sh", "-c", text)
    box.root.joinpath("word").write_text("word")
    for place in ("/out", "/up"):
        box.call(
            "run",
            "-v",
            f"./files:{place}/in{place[1:]}",
            "container:work",
            "true",
            check=True,
        )
        box.call("cp", "word", f"work:{place}/")
        box.call("cp", f"work:{place}/../../../etc/passwd", "seen")
    box.call("cp", "word", "work:/../../..", check=True)
    box.call("cp", "word", "work:/etc/top/../../srv/word", check=True)
    assert list(tmp_path.iterdir()) == []
    assert box.run("container:work", "sh", "-c", "cat /word /srv/word") == "wordword"
