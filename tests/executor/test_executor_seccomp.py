"""The filter of system calls, held against Docker's list and against the kernel."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from builder.errors import ExecutorError
from builder.executor import enter, seccomp
from builder.executor.starting import CAPABILITIES

MACHINES = ("x86_64", "i686", "aarch64", "armv7l", "ppc64le", "s390x", "riscv64", "loongarch64")
BY_ARGUMENT = {"clone", "personality", "socket"}
STRICTER = {"listmount", "statmount"}  # than Docker's: a step has no use for them
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS


def moby() -> dict[str, set[str]]:
    """Whom Docker lets make a call: each call with `every container` and capabilities."""
    found: dict[str, set[str]] = {}
    who = ""
    for line in Path(__file__).with_name("moby-seccomp.txt").read_text().splitlines():
        if line.startswith("  "):
            for name in line.split():
                found.setdefault(name, set()).add(who)
        elif not line.startswith("#"):
            who = line.strip().rstrip(":")
    return found


def test_what_is_let_through_is_what_docker_lets_through() -> None:
    held = {"every container", *("CAP_" + name for name in CAPABILITIES)}
    theirs = {name for name, who in moby().items() if who & held} - BY_ARGUMENT
    ours = {call.name for call in seccomp.table() if call.rule == "allow"}
    known = {call.name for call in seccomp.table()}
    assert theirs - ours == STRICTER
    assert ours <= theirs
    assert set(moby()) <= known
    assert {call.name for call in seccomp.table() if call.rule == "args"} == BY_ARGUMENT


def test_what_was_let_through_once_is_not() -> None:
    rules = {call.name: call.rule for call in seccomp.table()}
    for name in ("kcmp", "pidfd_getfd", "process_madvise", "fanotify_init", "listmount",
                 "statmount", "userfaultfd", "io_uring_setup", "keyctl", "bpf"):  # fmt: skip
        assert rules[name] == "deny", name
    assert rules["clone3"] == "unknown"


def decide(program: bytes, arch: int, number: int, arguments: Sequence[int] = ()) -> int:
    """What the kernel makes of a filter."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(*arguments, *[0] * 6)[:6])
    code = list(struct.iter_unpack("=HBBI", program))
    place = value = 0
    while True:
        kind, if_true, if_false, k = code[place]
        place += 1
        if kind == 0x20:
            (value,) = struct.unpack_from("=I", data, k)
        elif kind == 0x06:
            return k
        elif kind == 0x05:
            place += k
        else:
            met = {0x15: value == k, 0x25: value > k, 0x35: value >= k, 0x45: value & k != 0}[kind]
            place += if_true if met else if_false


@pytest.mark.parametrize("network", ["host", "none"])
@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_says_what_the_table_says(machine: str, network: str) -> None:
    program = seccomp.bpf(machine, network)
    assert len(program) // 8 < 4096  # BPF_MAXINSNS
    for arch in seccomp.architectures(machine):
        rules = {call.numbers[arch]: call.rule for call in seccomp.table() if arch in call.numbers}
        numbers = {call.name: call.numbers.get(arch) for call in seccomp.table()}
        code = seccomp._AUDIT[arch]
        for number in (*range(1200), *range(0xF0000, 0xF0010), 0xFFFFFFFF):
            rule = rules.get(number, "unknown")
            if rule != "args":
                expected = {"allow": ALLOW, "deny": EPERM, "unknown": ENOSYS}[rule]
                assert decide(program, code, number) == expected, (arch, number)
        clone, flags = numbers["clone"], 1 if arch == "s390x" else 0
        assert clone is not None
        for bit in range(32):
            arguments = [0x12345, 0x12345]
            arguments[flags] = 1 << bit
            if flags == 0 or bit:
                arguments[1 - flags] = 0
            denied = bool(seccomp._NAMESPACES >> bit & 1)
            assert decide(program, code, clone, arguments) == (EPERM if denied else ALLOW)
        socket, personality = numbers["socket"], numbers["personality"]
        assert socket is not None and personality is not None
        allowed = [each for each in range(64) if decide(program, code, socket, (each,)) == ALLOW]
        assert {1, 2, 10, 16, 17} <= set(allowed)
        assert not {0, 38, 40} & set(allowed)
        if arch in ("i386", "ppc64le") and (socketcall := numbers["socketcall"]) is not None:
            closed = EPERM if network == "none" else ALLOW
            assert decide(program, code, socketcall, (1,)) == closed
            assert decide(program, code, socketcall, (2,)) == ALLOW
        assert decide(program, code, personality, (0x40000,)) == EPERM
        assert decide(program, code, personality, (0xFFFFFFFF,)) == ALLOW
    assert decide(program, 0x12345678, 1) == ENOSYS


def test_a_call_of_the_third_abi_does_not_exist() -> None:
    program = seccomp.bpf("x86_64", "host")
    assert decide(program, 0xC000003E, 0x40000000 | 165) == ENOSYS


def test_an_unknown_machine_is_told() -> None:
    with pytest.raises(ExecutorError, match="machine 'pdp11': command steps run on x86_64"):
        seccomp.bpf("pdp11", "host")


FILTERED = """
    import ctypes, os, sys
    sys.path.append(sys.argv[1])
    import enter
    enter.filter_calls(open(sys.argv[2], "rb").read())
    libc = ctypes.CDLL(None, use_errno=True)
    for number in map(int, sys.argv[3].split(",")):
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
        print(number, ctypes.get_errno() if result < 0 else 0)
"""


@pytest.mark.parametrize("drop", [False, True], ids=["root", "without CAP_SYS_ADMIN"])
def test_the_kernel_says_so_too(drop: bool, tmp_path: Path) -> None:
    """Every call that is not let through, with arguments that would harm nothing."""
    machine = os.uname().machine
    arch = seccomp.architectures(machine)[0]
    rules = {call.numbers[arch]: call.rule for call in seccomp.table() if arch in call.numbers}
    # uprobe passes by every filter, and answers only the place in memory that the kernel made
    passing = {call.numbers.get(arch) for call in seccomp.table() if call.name == "uprobe"}
    asked = [n for n in range(600) if rules.get(n, "unknown") in ("deny", "unknown")]
    asked = [number for number in asked if number not in passing]
    (tmp_path / "filter").write_bytes(seccomp.bpf(machine, "host"))
    argv = [sys.executable, "-I", "-S", "-c", textwrap.dedent(FILTERED),
            os.path.dirname(enter.__file__), str(tmp_path / "filter"),
            ",".join(map(str, asked))]  # fmt: skip
    if drop:
        argv = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *argv]
    made = subprocess.run(argv, capture_output=True, text=True, check=True)
    said = {int(number): int(fault) for number, fault in map(str.split, made.stdout.splitlines())}
    expected = {"deny": errno.EPERM, "unknown": errno.ENOSYS}
    assert said == {number: expected[rules.get(number, "unknown")] for number in asked}


@pytest.mark.root
@pytest.mark.needs("runc", "busybox")
@pytest.mark.parametrize("kind", ["sandbox", "runc", "chroot"])
def test_every_executor_has_the_filter(kind: str, runner: Any) -> None:
    step = runner(kind)
    for text in ("unshare -U true", "unshare -n true", "mount -t tmpfs x /tmp"):
        step.run(f"{text} 2>&1 || echo denied")
        assert b"denied" in step.output
    if kind != "chroot":  # which has no /proc
        step.run("grep Seccomp: /proc/self/status")
        assert step.output == b"Seccomp:\t2\n"


def test_runcs_profile_has_every_call(tmp_path: Path) -> None:
    for machine in MACHINES:
        profile = seccomp.runc_profile(machine)
        plain = [rule for rule in profile["syscalls"] if "args" not in rule]
        names = [name for rule in plain for name in rule["names"]]
        assert len(names) == len(set(names))
        assert "mount" in plain[1]["names"] and "openat" in plain[0]["names"]
        assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
