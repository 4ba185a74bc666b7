"""What of the host a step sees and may reach, in every executor: /sys, devices, cgroups, sockets,
the network; and what it is given: streams, groups, the root directory."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from builder.errors import CommandFailed

pytestmark = [pytest.mark.root, pytest.mark.needs("runc", "busybox")]

KINDS = pytest.mark.parametrize("kind", ["sandbox", "runc", "chroot"])
CONFINED = pytest.mark.parametrize("kind", ["sandbox", "runc"])
NETWORKS = pytest.mark.parametrize("network", ["host", "none"])


def says(step: Any, text: Any, **changes: Any) -> str:
    step.run(text, **changes)
    return step.output.decode()  # type: ignore[no-any-return]


@CONFINED
@NETWORKS
def test_nothing_that_is_mounted_below_sys_is_seen(kind: str, network: str, runner: Any) -> None:
    text = (
        "for each in fs/cgroup fs/bpf fs/pstore kernel/debug kernel/tracing kernel/security"
        " firmware kernel/config; do ls -A /sys/$each 2>/dev/null || true; done;"
        "mount | grep -c ' /sys/.*cgroup' || true; cut -d: -f3 /proc/self/cgroup | sort -u"
    )
    assert says(runner(kind), text, network=network).split() == ["0", "/"]


@CONFINED
@NETWORKS
def test_nothing_in_sys_can_be_written(kind: str, network: str, runner: Any) -> None:
    text = (
        "find /sys -maxdepth 4 -type f -perm -200 2>/dev/null | head -200 | while read f; do"
        " (: >> $f) 2>/dev/null && echo WRITABLE $f || true; done"
    )
    assert says(runner(kind), text, network=network) == ""
    with pytest.raises(CommandFailed):
        runner(kind).run("mkdir /sys/fs/cgroup/x", network=network)


@CONFINED
def test_without_a_network_no_interface_of_the_host_has_a_name(kind: str, runner: Any) -> None:
    text = "ls /sys/class/net; sed 1,2d /proc/net/dev | cut -d: -f1"
    assert says(runner(kind), text, network="none").split() == ["lo", "lo"]


@KINDS
def test_the_hosts_device_nodes_stay_as_they_are(kind: str, runner: Any) -> None:
    names = ("null", "zero", "full", "random", "urandom", "tty")
    before = [tuple(os.stat(f"/dev/{name}"))[:6] for name in names]
    text = "".join(
        f"chmod 640 /dev/{name}; chown 33:33 /dev/{name}; touch /dev/{name};" for name in names
    )
    text += "chmod 600 /proc/self/fd/0; chown 33 /dev/stdin; exec 3</dev/null; chmod 611 /dev/fd/3;"
    text += "stat -c %a /dev/null"
    with contextlib.suppress(CommandFailed):
        runner(kind).run(text.replace(";", " 2>/dev/null; "))
    assert [tuple(os.stat(f"/dev/{name}"))[:6] for name in names] == before


@CONFINED
def test_the_usual_devices_work(kind: str, runner: Any) -> None:
    text = """
        echo x > /dev/null; head -c 4 /dev/zero | od -An -tx1; head -c 3 /dev/urandom | wc -c
        (echo y > /dev/full) 2>/dev/null || echo full
        ls /dev | grep -v core | tr '\\n' ' '; stat -c '%A %u %t:%T' /dev/null /dev/tty
        echo shared > /dev/shm/x; cat /dev/shm/x; test -c /dev/ptmx && echo ptmx
        for each in fd stdin stdout stderr; do readlink /dev/$each; done
    """
    assert says(runner(kind), text) == (
        " 00 00 00 00\n3\nfull\n"
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
        "crw-rw-rw- 0 1:3\ncrw-rw-rw- 0 5:0\nshared\nptmx\n"
        "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n"
    )


@CONFINED
def test_a_node_that_a_step_makes_of_the_hosts_disk_does_not_open(kind: str, runner: Any) -> None:
    disk = next(
        (f"{name.stat().st_rdev >> 8} {name.stat().st_rdev & 255}"
         for name in Path("/dev").glob("[vsx][dv]*a") if name.is_block_device()),
        "8 0",
    )  # fmt: skip
    for place in ("/d", "/dev/d", "/dev/shm/d", "/tmp/d"):
        with pytest.raises(CommandFailed):
            runner(kind).run(f"mknod {place} b {disk}; cat {place} >/dev/null")
        with pytest.raises(CommandFailed):
            runner(kind).run(f"mknod {place} c 1 1; cat {place} >/dev/null")


def test_a_node_that_every_container_has_opens_in_runc_and_the_sandbox_says_so(
    runner: Any,
) -> None:
    text = "mknod -m 666 /n c 1 3; echo x > /n || { echo 'mounted with noexec or nodev'; exit 1; }"
    assert list(runner("runc").run(text)) == [b"n"]
    with pytest.raises(CommandFailed) as caught:
        runner("sandbox").run(text)
    assert "`--executor runc`" in str(caught.value.hint)


@KINDS
def test_a_user_may_open_stdout_and_stderr(kind: str, runner: Any) -> None:
    if kind == "chroot":
        text = "echo one >&1; echo two >&2"  # it has no /proc
    else:
        text = "ln -s /dev/stdout /tmp/log; echo one > /tmp/log; echo two > /dev/stderr"
    # runc hands on each through a pipe of its own
    assert sorted(says(runner(kind), text, uid=1000, gid=1000).split()) == ["one", "two"]


@KINDS
def test_id_says_the_same_everywhere(kind: str, runner: Any) -> None:
    root, alice = (0, 0, (0,)), (1000, 50, (50, 1001))
    seen = [
        says(runner(kind), "id -u; id -g; id -G; umask", uid=uid, gid=gid, groups=groups)
        for uid, gid, groups in (root, alice)
    ]
    assert seen == ["0\n0\n0\n0022\n", "1000\n50\n50 1001\n0022\n"]


@CONFINED
@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o777])
def test_users_may_enter_the_root(
    kind: str, mode: int, runner: Any, rootfs: Path, tmp_path: Path
) -> None:
    top = tmp_path / "top"
    top.mkdir(mode)
    top.chmod(mode)
    found = runner(kind, (rootfs, top)).run("cat /etc/passwd >/dev/null", uid=1000, gid=1000)
    assert list(found) == []


@CONFINED
def test_the_names_of_the_host_are_not_seen(kind: str, runner: Any) -> None:
    text = "uname -n; cat /proc/sys/kernel/domainname"
    assert says(runner(kind), text).split("\n")[0] == "localhost"


@CONFINED
def test_no_vsock_and_no_raw_socket_on_the_hosts_network(kind: str, runner: Any) -> None:
    if not hasattr(socket, "AF_VSOCK"):
        pytest.skip("this Python knows no vsock")
    assert says(runner(kind), "ping -c1 -w1 127.0.0.1 >/dev/null 2>&1 || echo denied") == "denied\n"


def test_set_user_id_programs_work(
    runner: Any, rootfs: Path, tmp_path: Path, add_program: Any
) -> None:
    top = tmp_path / "top"
    add_program("/usr/bin/id", top)
    (top / "usr/bin/id").chmod(0o4755)
    for path in (top, *top.rglob("*")):
        path.chmod(path.stat().st_mode | 0o055)
    for kind in ("sandbox", "runc"):
        step = runner(kind, (rootfs, top))
        assert says(step, ("/usr/bin/id", "-u"), uid=1000, gid=1000) == "0\n"
