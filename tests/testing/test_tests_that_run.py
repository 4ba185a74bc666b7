"""Tests that run something: commands, and the image's own with a port, each in a container that
goes with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.cli.conftest import Project
from tests.login import Login

pytestmark = [
    pytest.mark.needs("busybox"),
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
CONFIG: dict[str, Any] = {
    "env": {"GREETING": "hello", "PATH": "/opt:/bin"},
    "user": "web",
    "working_dir": "/srv",
    "entrypoint": ["/bin/echo", "said"],
}
COMMANDS: dict[str, str] = {
    "{run: 'true'}": "",
    "{run: 'false', status: 1}": "",
    "{run: 'false'}": "its status is 1, expected 0",
    "{run: exit 255, status: 255}": "",
    "{run: 'echo out; echo err >&2', stdout: {equals: out}, stderr: {equals: err}}": "",
    "{run: 'echo a; false; echo b', status: 1, stdout: {equals: a}}": "",
    "{run: [echo, '$HOME'], stdout: {equals: $HOME}}": "",
    "{run: 'echo $GREETING $A', env: {A: b}, stdout: {equals: hello b}}": "",
    '{run: id -u; pwd; hostname, stdout: {equals: "33\\n/srv\\nlocalhost"}}': "",
    "{run: id -u, user: '12:13', stdout: {equals: '12'}}": "",
    "{run: id -u, user: nobody}": "user 'nobody' is not in the image's /etc/passwd",
    "{run: pwd, working_dir: /tmp, stdout: {equals: /tmp}}": "",
    "{run: pwd, working_dir: sub, user: root, stdout: {equals: /srv/sub}}": "",
    '{run: cat, stdin: "a\\nb", stdout: {equals: "a\\nb"}}': "",
    "{run: cat, stdout: {equals: ''}}": "",
    "{run: [word], entrypoint: true, stdout: {equals: said word}}": "",
    "{run: [nothing]}": "its status is 127 (",
    "{run: [nothing], status: 127}": "",
    "{run: sleep 100, timeout: 1s}": "its status is 124 (ended after 1 s, its timeout), expected 0",
    "{run: sleep 100, timeout: 1s, status: 124}": "its status is 124 (ended after 1 s",
    "{run: 'kill -9 $$ & sleep 0.2; exit 4', status: 4}": "",
    "{run: 'echo é; printf \"\\\\377\"', stdout: {contains: [é, '\\xff']}}": "",
    "{run: echo one two, stdout: {contains: [one, three], lacks: two, matches: '^o.*o$'}}": (
        "stdout does not contain 'three': found 'one two\\n';"
        " stdout contains 'two': found 'one two\\n'"
    ),
    "{run: \"echo a\\necho b\", stdout: {matches: '^b$'}}": "",
    "{run: 'yes | head -c 3000000', timeout: 60s, stdout: {lacks: no}}": "",
    "{run: 'wc -l < /proc/net/dev', stdout: {matches: '^ *3$'}}": "",
    "{run: 'touch /tmp/new; ls /tmp', stdout: {equals: new}}": "",
    "{run: 'ls /tmp', stdout: {equals: ''}}": "",
    "{run: 'ls /', name: not in the image, stdout: {lacks: sub}}": "",
}


def document(tests: list[Any], **config: Any) -> str:
    return json.dumps({"from": "rootfs:base.tar", "config": config, "tests": tests})


def results(base: Project, *arguments: str, status: int = 0) -> list[dict[str, Any]]:
    done = base.run("test", "--json", *arguments, status=status)
    found: list[dict[str, Any]] = json.loads(done.stdout)["tests"]
    return found


def test_commands_are_judged_by_what_they_end_with_and_write(base: Project) -> None:
    text = document(["@"], **CONFIG).replace('["@"]', f"[{', '.join(COMMANDS)}]")
    base.spec("a", text)
    found = results(base, status=1)
    assert len(found) == len(COMMANDS)
    for each, (test, why) in zip(found, COMMANDS.items(), strict=True):
        assert each.get("why", "").startswith(why) and bool(each.get("why")) == bool(why), (
            test,
            each,
        )
    again = results(base, status=1)
    assert {each["status"] for each in again} == {"cached", "failed"}
    assert not os.listdir(base.store / "tmp")


def test_what_a_failed_command_printed_is_shown_with_its_place(base: Project) -> None:
    base.spec("a", document([{"run": "seq 100; echo 'what went wrong' >&2; false"}]))
    done = base.run("build", status=1)
    assert "| what went wrong\n" in done.stderr and "| 100\n" in done.stderr
    assert "| 50\n" not in done.stderr
    assert "error: specs/a.yaml:1:" in done.stderr and "its status is 1, expected 0" in done.stderr
    quiet = base.run("build", "--progress", "quiet", status=1)
    assert "| what went wrong\n" in quiet.stderr


HTTPD = ["httpd", "-f", "-p", "8080", "-h", "/bin"]
ECHO = ["sh", "-c", "while true; do echo hi | nc -l -p 7000; done"]
PORTS: list[tuple[list[str], dict[str, Any], str]] = [
    (HTTPD, {"port": 8080}, ""),
    (HTTPD, {"port": "8080/tcp", "http": {"path": "/nothing", "status": 404}}, ""),
    (HTTPD, {"port": 8080, "http": {"path": "/busybox", "contains": "ELF"}}, ""),
    (HTTPD, {"port": 8080, "http": {"path": "/nothing"}, "within": "1s"}, "answers 404"),
    (HTTPD, {"port": 8080, "http": {"path": "/x", "status": 404, "contains": "welcome"},
             "within": "1s"}, "the answer does not contain 'welcome'"),
    (HTTPD, {"port": 80, "within": "1s"}, "nothing listens within 1 s; what does: 8080"),
    (HTTPD, {"port": "8080/udp", "within": "1s"}, "nothing listens within 1 s"),
    ([*HTTPD[:3], "127.0.0.1:8080"], {"port": 8080, "within": "1s"}, "loopback address alone"),
    (["sh", "-c", "sleep 1; exec httpd -f -p $PORT"], {"port": 9, "env": {"PORT": "9"}}, ""),
    (["/udp"], {"port": "53/udp"}, ""),
    (["/udp"], {"port": "53", "within": "1s"}, "nothing listens within 1 s"),
    (ECHO, {"port": 7000, "http": {}, "within": "2s"}, "GET / is not answered"),
    (["sh", "-c", "echo oops; exit 3"], {"port": 80}, "ended before it listened: status 3"),
    (["nothing"], {"port": 80}, "ended before it listened: "),
    ([], {"port": 80}, "the image says no command"),
]  # fmt: skip


UDP = """
#include <arpa/inet.h>
#include <unistd.h>
int main(void) {
  struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(53)};
  int handle = socket(AF_INET6, SOCK_DGRAM, 0);
  if (bind(handle, (struct sockaddr *)&any, sizeof any)) return 1;
  for (;;) pause();
}
"""


@pytest.mark.needs("gcc")
def test_ports_are_judged_by_what_listens_and_answers(base: Project) -> None:
    source = base.file("udp.c", UDP)
    subprocess.run(["gcc", "-static", "-o", base.root / "udp", source], check=True)
    for number, (command, test, _) in enumerate(PORTS):
        config = {"cmd": command} if command else {}
        steps = [{"copy": "udp", "dest": "/udp"}] if command == ["/udp"] else []
        text = json.loads(document([test], **config))
        base.spec(f"p{number:02}", json.dumps({**text, "steps": steps}))
    found = {each["image"]: each for each in results(base, status=1)}
    for number, (command, test, why) in enumerate(PORTS):
        each = found[f"p{number:02}"]
        assert why in each.get("why", "") and bool(why) == ("why" in each), (command, test, each)
    left = subprocess.run(["pgrep", "-f", "httpd -f -p 8080"], capture_output=True).stdout
    assert not left and not os.listdir(base.store / "tmp")


def test_what_cannot_run_here_is_skipped_in_a_line(base: Project) -> None:
    base.spec(
        "a", document([{"file": "/etc/passwd"}, {"run": "true"}, {"run": "false"}, {"port": 80}])
    )
    options = ("--platform", "linux/s390x", "--allow-foreign")
    done = base.run("build", *options)
    lines = [line for line in done.stderr.splitlines() if "skipped: no emulator for" in line]
    if not lines:
        pytest.skip("s390x is emulated here")
    assert len([line for line in lines if line.startswith("a: 3 tests skipped")]) == 1
    statuses = [each["status"] for each in results(base, *options)]
    assert statuses == ["cached", "skipped", "skipped", "skipped"]


@pytest.mark.needs("runc")
def test_runc_judges_alike(base: Project) -> None:
    tests = [
        {"run": "id -u; cat; echo e >&2; exit 3", "stdin": "in", "status": 3,
         "stdout": {"equals": "0\nin"}, "stderr": {"equals": "e"}},
        {"port": 8080, "http": {"path": "/busybox", "contains": "ELF"}},
        {"run": "false"},
    ]  # fmt: skip
    base.spec("a", document(tests, cmd=HTTPD))
    for executor in ("runc", "sandbox"):
        found = results(base, "--executor", executor, "--again", status=1)
        assert [each["status"] for each in found] == ["passed", "passed", "failed"], found


def test_an_executor_without_containers_says_so(base: Project) -> None:
    base.spec("a", document([{"run": "true"}]))
    (each,) = results(base, "--executor", "chroot", status=1)
    assert "has no containers to test in" in each["why"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_the_builder_ends_its_tests_and_leaves_nothing(
    base: Project, number: signal.Signals
) -> None:
    """Beside a command that does nothing with signals."""
    tests = [
        {"run": "trap '' INT TERM; sleep 4217"},
        {"port": 80, "within": "300s", "env": {"WHAT": "sleep 4217"}},
    ]
    base.spec("a", document(tests, cmd=["sh", "-c", "$WHAT"]))
    command = [sys.executable, "-m", "builder", "test", "--progress", "plain", "--jobs", "2"]
    environ = {**os.environ, "BUILDER_CACHE_DIR": str(base.store)}
    with subprocess.Popen(
        command, cwd=base.root, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            while len(sleeping()) < 2:
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(number)
            assert process.wait(60) == 128 + number
        finally:
            process.kill()
    assert not sleeping() and not os.listdir(base.store / "tmp")


def sleeping() -> list[str]:
    found = subprocess.run(["pgrep", "-fx", "sleep 4217"], capture_output=True, text=True)
    return found.stdout.split()


@pytest.mark.needs("newuidmap", "newgidmap", "useradd", "setpriv")
def test_an_ordinary_user_tests_what_root_tests(login: Login, base: Project) -> None:
    own = login.home / "own"
    shutil.copy(base.root / "base.tar", own)
    (own / "specs").mkdir()
    tests = [
        {"run": "id -u", "stdout": {"equals": "33"}},
        {"port": 8080, "http": {"path": "/busybox", "contains": "ELF"}},
        {"file": "/etc/passwd", "owner": "root:root"},
    ]
    (own / "specs/a.yaml").write_text(document(tests, cmd=HTTPD, user="web"))
    found = json.loads(login.run("test", "--json", "--progress", "quiet"))["tests"]
    assert [each["status"] for each in found] == ["passed"] * 3, found
