"""What a step sees and may do, and how it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from builder.errors import CannotRun, CommandFailed

pytestmark = [pytest.mark.root, pytest.mark.needs("runc", "busybox")]

KINDS = pytest.mark.parametrize("kind", ["sandbox", "runc", "chroot"])
CONFINED = pytest.mark.parametrize("kind", ["sandbox", "runc"])


def says(step: Any, text: Any, **changes: Any) -> str:
    step.run(text, **changes)
    return step.output.decode()  # type: ignore[no-any-return]


@KINDS
def test_the_environment_is_the_commands_alone(kind: str, runner: Any) -> None:
    os.environ["CANARY"] = "canary"
    try:
        found = says(
            runner(kind), ("env",), env={"PATH": "/bin", "HOME": "/", "GREETING": "a b=c\n"}
        )
    finally:
        del os.environ["CANARY"]
    assert found == "PATH=/bin\nHOME=/\nGREETING=a b=c\n\n"


@KINDS
def test_only_three_descriptors_are_open(kind: str, runner: Any) -> None:
    with open("/etc/hostname") as canary:
        os.set_inheritable(canary.fileno(), True)
        text = "for n in $(seq 3 40); do (eval ': <&'$n) 2>/dev/null && echo open $n || true; done"
        assert says(runner(kind), f"{text}; cat") == ""


@CONFINED
def test_a_step_sees_its_own_processes_only(kind: str, runner: Any) -> None:
    pids = says(runner(kind), "ls /proc | grep -E '^[0-9]+$'").split()
    assert len(pids) <= 5
    assert str(os.getpid()) not in pids or os.getpid() < 100


@CONFINED
def test_arguments_and_environment_are_in_no_outer_process_list(kind: str, runner: Any) -> None:
    text = "for f in /proc/1/cmdline; do tr '\\0' ' ' < $f; done"
    seen = says(runner(kind), ("sh", "-c", text), env={"PATH": "/bin", "TOKEN": "s3cr3t"})
    assert "s3cr3t" not in seen


@KINDS
def test_capabilities_are_dockers(kind: str, runner: Any) -> None:
    if kind == "chroot":
        text = "mount -t tmpfs x /tmp 2>&1 || true"
        found = says(runner(kind), text)
        assert "denied" in found or "permitted" in found
        return
    step = runner(kind)
    for changes, held, bounding in (
        ({"network": "none"}, "00000000a80425fb", "00000000a80425fb"),
        ({"network": "host"}, "00000000a80405fb", "00000000a80405fb"),  # without NET_RAW
        ({"network": "none", "uid": 1000, "gid": 1000}, "0000000000000000", "00000000a80425fb"),
    ):
        found = says(step, "grep Cap /proc/self/status", **changes)
        values = dict(line.split(":\t") for line in found.splitlines())
        assert values == {
            "CapInh": "0000000000000000",
            "CapPrm": held,
            "CapEff": held,
            "CapBnd": bounding,
            "CapAmb": "0000000000000000",
        }


@CONFINED
def test_mounts_and_namespaces_are_denied(kind: str, runner: Any) -> None:
    step = runner(kind)
    for text in ("mount -t tmpfs x /tmp", "unshare -U true", "unshare -n true", "umount /proc"):
        with pytest.raises(CommandFailed):
            step.run(text)
        assert b"denied" in step.output or b"permitted" in step.output
    assert "Seccomp:\t2" in says(step, "cat /proc/self/status")


@CONFINED
def test_the_kernels_files_are_masked_or_read_only(kind: str, runner: Any) -> None:
    step = runner(kind)
    assert says(step, "cat /proc/keys /proc/timer_list; ls /sys/firmware /proc/acpi") == (
        "/proc/acpi:\n\n/sys/firmware:\n"
    )
    for path in ("/proc/sys/kernel/domainname", "/sys/kernel/profiling", "/proc/sysrq-trigger"):
        with pytest.raises(CommandFailed):
            step.run(f"test -e {path} && echo x > {path}")


@KINDS
def test_the_umask_of_the_builder_does_not_count(kind: str, runner: Any) -> None:
    before = os.umask(0o077)
    try:
        found = runner(kind).run("touch /f; mkdir /d")
    finally:
        os.umask(before)
    assert [entry.mode for entry, _ in found.values()] == [0o755, 0o644]


@KINDS
def test_user_group_and_supplementary_groups(kind: str, runner: Any) -> None:
    step = runner(kind)
    text = "id -u; id -g; id -G; touch /tmp/f; touch /f 2>&1 || true"
    found = step.run(text, uid=1000, gid=1001, groups=(1001, 20, 30))
    assert step.output.split(b"\n")[:3] == [b"1000", b"1001", b"1001 20 30"]
    assert b"Permission denied" in step.output
    assert [(e.path, e.uid, e.gid) for e, _ in found.values()] == [
        (b"tmp", 0, 0),
        (b"tmp/f", 1000, 1001),
    ]


@KINDS
def test_working_dir_is_made(kind: str, runner: Any) -> None:
    step = runner(kind)
    found = step.run("pwd; touch x", working_dir="/srv/work/dir")
    assert step.output == b"/srv/work/dir\n"
    entries = [(entry.path, entry.mode, entry.uid) for entry, _ in found.values()]
    assert entries[1:] == [
        (b"srv/work", 0o755, 0),
        (b"srv/work/dir", 0o755, 0),
        (b"srv/work/dir/x", 0o644, 0),
    ]


def test_a_working_dir_that_is_a_file_is_told(runner: Any) -> None:
    with pytest.raises(CommandFailed, match="working_dir '/srv/one': Not a directory"):
        runner().run("true", working_dir="/srv/one")


@CONFINED
def test_network_none_has_loopback_only(kind: str, runner: Any) -> None:
    step = runner(kind)
    found = says(step, "sed -n 's/:.*//p' /proc/net/dev | tr -d ' '", network="none")
    assert found == "lo\n"
    assert says(step, "ping -c1 -w2 127.0.0.1 >/dev/null; echo up", network="none") == "up\n"


@KINDS
@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("exit 3", 3, "exit status 3"),
        ("nosuchcommand", 127, "exit status 127"),
        (("/no/such",), 127, "the image has no /no/such"),
        (("nosuch", "x"), 127, "the image has no nosuch"),
        (("/etc/passwd",), 126, "'/etc/passwd': Permission denied"),
    ],
)
def test_a_failure_says_what_happened(
    kind: str, text: Any, status: int, message: str, runner: Any
) -> None:
    with pytest.raises(CommandFailed) as caught:
        runner(kind).run(text)
    assert (caught.value.exit_status, caught.value.message) == (status, message)
    assert os.listdir(runner(kind).folder) == []


@KINDS
def test_a_killed_command_names_the_signal(kind: str, runner: Any) -> None:
    with pytest.raises(CommandFailed, match=r"killed by signal 9 \(SIGKILL\)") as caught:
        runner(kind).run("sh -c 'kill -9 $$'; exit $?")
    assert caught.value.hint == "often: out of memory"


@CONFINED
def test_a_command_is_process_1_as_in_docker(kind: str, runner: Any) -> None:
    """Which no signal ends that it does not handle, and with which all ends."""
    assert says(runner(kind), "kill -TERM $$; kill -9 $$; echo $$ went on") == "1 went on\n"


def test_the_last_lines_come_with_the_failure(runner: Any) -> None:
    with pytest.raises(CommandFailed) as caught:
        runner().run("seq 100; printf end; exit 1")
    assert caught.value.tail == (*map(str, range(82, 101)), "end")


@KINDS
def test_what_a_step_leaves_running_ends_with_it(kind: str, runner: Any) -> None:
    started = time.monotonic()
    mine = sleep_of("left" + kind)
    runner(kind).run(f"sleep {mine} & (setsid sleep {mine} >/dev/null 2>&1 &) ; true")
    assert time.monotonic() - started < 5
    assert alive(mine) == []


def builder_process(kind: str, rootfs: Path, folder: Path, text: str) -> subprocess.Popen[bytes]:
    """Another builder that runs one step; it ends with 130 when interrupted."""
    script = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import conftest
        step = conftest.Runner({kind!r}, (Path({str(rootfs)!r}),), Path({str(folder)!r}))
        try:
            step.run({text!r})
        except KeyboardInterrupt:
            sys.exit(130)
    """)
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)


@KINDS
def test_an_interrupt_ends_everything_at_once(kind: str, rootfs: Path, tmp_path: Path) -> None:
    mine = sleep_of(kind)
    text = f"trap '' INT TERM; sleep {mine} & sleep {mine}; sleep {mine}"
    builder = builder_process(kind, rootfs, tmp_path, text)
    try:
        wait_for(lambda: len(alive(mine)) == 2)
        builder.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert builder.wait(10) == 130
        assert time.monotonic() - started < 4
        assert alive(mine) == []
        assert os.listdir(tmp_path) == []
    finally:
        builder.kill()
        builder.wait()


@CONFINED
@pytest.mark.parametrize("victim", ["builder", "sandbox"])
def test_kill_9_leaves_no_process_and_no_mount(
    kind: str, victim: str, rootfs: Path, tmp_path: Path
) -> None:
    mine = sleep_of(kind + victim)
    text = (
        f"sleep {mine} & setsid sleep {mine} & su app -s /bin/sh -c 'sleep {mine}' & sleep {mine}"
    )
    builder = builder_process(kind, rootfs, tmp_path, text)
    try:
        wait_for(lambda: len(alive(mine)) >= 4)
        if victim == "builder":
            builder.kill()
        else:
            children = Path(f"/proc/{builder.pid}/task").glob("*/children")
            os.kill(int("".join(path.read_text() for path in children)), signal.SIGKILL)
        builder.wait(10)
        wait_for(lambda: not alive(mine))
    finally:
        builder.kill()
        builder.wait()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


@pytest.mark.needs("cc")
@pytest.mark.parametrize("victim", ["nobody", "builder"])
@KINDS
def test_nothing_escapes_the_end_of_a_step(
    kind: str, victim: str, rootfs: Path, tmp_path: Path
) -> None:
    """Not daemons, not what enters another root, not a chain of processes that each start the next
    and end, not a process that keeps its dead tracee from its parent."""
    image = tmp_path / "image"
    shutil.copytree(rootfs, image, symlinks=True)
    (tmp_path / "steps").mkdir()
    (tmp_path / "holder.c").write_text(HOLDER)
    program = image / "bin/holder"
    subprocess.run(["cc", "-static", "-o", program, tmp_path / "holder.c"], check=True)
    mine = sleep_of(kind + victim)
    text = f"""
        mkdir -p /inner/bin; cp /bin/busybox /inner/bin/sleep
        (setsid sleep {mine} &)
        (chroot /inner sleep {mine} &)
        (setsid chroot /inner sleep {mine} &)
        holder chain {mine}
        holder trace $$
        sleep 0.3
        {"sleep " + mine if victim == "builder" else "true"}
    """
    builder = builder_process(kind, image, tmp_path / "steps", text)
    try:
        if victim == "builder":
            wait_for(lambda: len(alive(mine)) >= 4)  # the last one is the step's own
            builder.kill()
        started = time.monotonic()
        assert builder.wait(20) == (-9 if victim == "builder" else 0)
        assert time.monotonic() - started < 15
        wait_for(lambda: not alive(mine))
        time.sleep(0.2)
        assert not alive(mine)
    finally:
        builder.kill()
        builder.wait()


HOLDER = r"""
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words) {
    if (fork()) return 0;
    setsid();
    if (!strcmp(words[1], "chain")) {  /* named as the sleeper that the test looks for */
        strcpy(words[0], "sleep");
        memmove(words[0] + 6, words[2], strlen(words[2]) + 1);
        for (;;) {
            usleep(5000);
            if (fork()) _exit(0);
        }
    }
    int traced = atoi(words[2]);
    siginfo_t info;
    if (ptrace(PTRACE_SEIZE, traced, 0, 0)) return 1;
    while (!waitid(P_PID, traced, &info, WSTOPPED)) ptrace(PTRACE_CONT, traced, 0, info.si_status);
    for (;;) pause();  /* it is dead, and nobody hears of it */
}
"""


@KINDS
def test_a_timeout_ends_a_step_and_all_it_started(kind: str, runner: Any) -> None:
    mine = sleep_of("timeout" + kind)
    for text in (
        f"echo said; sleep {mine}",
        f"trap '' TERM; sleep {mine} & exec >/dev/null 2>&1; sleep {mine}",
        "while :; do echo y; done",
    ):
        started = time.monotonic()
        with pytest.raises(CommandFailed, match=r"ended after 0.5 s, its timeout") as caught:
            runner(kind).run(text, timeout=0.5)
        assert caught.value.exit_status == 124
        assert 0.5 <= time.monotonic() - started < 5
        assert alive(mine) == []
    assert runner(kind).run("touch /x", timeout=60)


def test_two_steps_run_at_once(runner: Any) -> None:
    steps = [runner(f"sandbox{number}") for number in range(4)]
    results: list[Any] = [None] * len(steps)

    def work(number: int) -> None:
        results[number] = steps[number].run(f"sleep 0.2; echo {number} > /{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [list(found) for found in results] == [[b"0"], [b"1"], [b"2"], [b"3"]]


def test_more_layers_than_an_option_string_of_long_paths_takes(
    runner: Any, rootfs: Path, tmp_path: Path
) -> None:
    layers = [rootfs]
    for number in range(400):
        layers.append(tmp_path / "layers" / f"{number:060}")
        layers[-1].mkdir(parents=True)
    (layers[200] / "middle").touch()
    assert list(runner("sandbox", tuple(layers)).run("rm /middle")) == [b".wh.middle"]


def test_a_sandbox_that_cannot_start_is_told_as_such(runner: Any, tmp_path: Path) -> None:
    from builder.executor.runc import Runc

    step = runner()
    broken = tmp_path / "runc"
    broken.write_text("#!/bin/sh\necho 'no namespaces' >&2; exit 1\n")
    broken.chmod(0o755)
    step.executor = Runc(str(broken), step.executor._temporary, step.warnings.append)
    with pytest.raises(CannotRun, match="runc: no namespaces"):
        step.run("true")
    assert step.output == b""


def sleep_of(test: str) -> str:
    """Seconds that tell this test's processes from those of others, also of other runs."""
    return f"4711.{zlib.crc32(f'{test} {os.getpid()}'.encode())}"


def alive(seconds: str) -> list[str]:
    """The processes that sleep so long."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().split(b"\0")[:2] == [b"sleep", seconds.encode()]:
                found.append(path.parent.name)
    return found


def wait_for(condition: Any) -> None:
    for _ in range(100):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("not within 5 s")
