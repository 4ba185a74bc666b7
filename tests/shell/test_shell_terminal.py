"""Shells on a real terminal."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.shell.conftest import SECONDS, Place, Terminal

pytestmark = [pytest.mark.root, pytest.mark.needs("runc", "busybox")]

FAILING = """\
from: rootfs:base.tar
steps:
  - {name: good, run: touch /good}
  - name: bad
    run: echo half > half; exit 3
    user: app
    working_dir: /home/app
    env: {KEY: "{{ env('KEY', '') }}"}
    mounts: [{secret: token, target: /t, mode: "0444"}]
"""
SECRET = ("--secret", "token=env:TOKEN")


@pytest.mark.parametrize("executor", ["sandbox", "runc"])
def test_a_build_that_fails_stands_there(executor: str, place: Place) -> None:
    place.spec(FAILING)
    os.environ.update(TOKEN="a-secret-of-many-bytes", KEY="precious")
    try:
        terminal = Terminal(
            place, "build", "app", "--shell-on-failure", *SECRET, "--executor", executor
        )
    finally:
        del os.environ["TOKEN"], os.environ["KEY"]
    said = terminal.until("it ran: echo half > half; exit 3\n".replace("\n", "\r\n"))
    assert "step 'bad' failed: exit status 3" in said
    assert "stands where it failed" in said
    terminal.type("tty; stty size; id -un; pwd; cat half /t; echo; echo $KEY; echo E''ND\n")
    told = terminal.until("END\r\n").splitlines()
    assert "/dev/pts/0" in told or "/dev/console" in told, told
    assert told[-6:] == ["33 77", "app", "/home/app", "half", "a-secret-of-many-bytes", "precious"]
    terminal.type("echo more >> half; exit 9\n")
    assert terminal.end()[0] == 1
    assert place.sh("--failed", script="cat half") == "half\nmore\n"


def test_the_others_have_ended_before_it_stands_there(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps: [{run: sleep 2; touch /a}]\n", "a")
    place.spec("from: rootfs:base.tar\nsteps: [{run: exit 5}]\n", "b")
    terminal = Terminal(place, "build", "--keep-going", "--shell-on-failure", "--jobs", "2")
    said = terminal.until("it ran: exit 5\r\n")
    assert "a" in said
    assert place.call("plan", "a", "--exit-code")
    terminal.type("\x04")
    assert terminal.end()[0] == 1


def test_a_shell_has_the_terminal_and_its_keys(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps: [{name: one, run: touch /one}]\n")
    terminal = Terminal(place, "shell", "app", "--at", "1", rows=11, columns=123)
    terminal.until("app: behind step 1, 'one'\r\n")
    terminal.type("stty size; echo $TERM; sh -c 'echo begun; exec sleep 1000'\n")
    terminal.until("11 123\r\nxterm-256color\r\nbegun\r\n")
    terminal.type("\x03")
    terminal.type("echo al''ive; exit 4\n")
    terminal.until("alive\r\n")
    assert terminal.end()[0] == 4


def test_a_build_that_ends_well_stands_nowhere(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps: [{run: 'true'}]\n")
    assert Terminal(place, "build", "app", "--shell-on-failure").end()[0] == 0


def started(place: Place, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        place.argv(*arguments), cwd=place.root, env=place.env(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_an_interrupt_leaves_none(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps: [{run: echo a > /a; echo begun; sleep 1000}]\n")
    build = started(place, "build", "app", "--progress", "json")
    assert build.stderr
    assert any('"step_output"' in line for line in build.stderr)
    build.send_signal(signal.SIGINT)
    build.communicate(timeout=SECONDS)
    assert build.returncode == 130
    assert place.states() == []
    assert not (place.store / "tmp").exists() or os.listdir(place.store / "tmp") == []


def test_a_builder_that_is_killed_leaves_the_state_as_it_was_changed(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps: [{run: echo half > /a; exit 1}]\n")
    place.fails("app")
    shell = started(place, "shell", "--failed")
    assert shell.stdin and shell.stdout
    shell.stdin.write("echo more >> /a; echo done; sleep 1000\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == "done\n"
    shell.kill()
    shell.communicate(timeout=SECONDS)
    assert place.sh("--failed", script="cat /a") == "half\nmore\n"
    place.spec("from: rootfs:base.tar\n")
    place.call("build", "app")
    assert place.states() == []
