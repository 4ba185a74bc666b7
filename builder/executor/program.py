"""The first program of a sandbox: a static ELF of a few hundred bytes, made for one command.

bubblewrap run by root cannot become another user without a user namespace (where mknod fails), it
searches PATH with the wrong environment and shows a command's environment in its own argv. So it
starts this program instead, from a memfd: it makes and enters the working directory, sets
capabilities, groups and user, and executes the command, trying each candidate path as execvp does -
all of it within the sandbox, where the kernel itself keeps every path inside. Environment and
arguments lie in its data, so no process list shows them.

It tells how far it came in records of 16 bytes on a pipe: result (negative errno), stage;
little-endian int64 each. No descriptor above 2 reaches the command.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence

from builder.errors import ExecutorError
from builder.executor.base import Command

READY, SETUP, ENTER, USER, EXECUTE, NOTHING = range(6)
"""Stages in a record: about to execute; could not prepare; working_dir; user or groups;
one execve; none worked."""

RECORD = struct.Struct("<qq")

CAPABILITY_NAMES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7,
    "SETPCAP": 8, "NET_BIND_SERVICE": 10, "NET_RAW": 13, "SYS_CHROOT": 18, "MKNOD": 27,
    "AUDIT_WRITE": 29, "SETFCAP": 31,
}  # fmt: skip
"""What Docker gives a container, with the kernel's numbers."""

DOCKER_CAPABILITIES = frozenset(CAPABILITY_NAMES.values())

LAST_CAPABILITY = 40  # CAP_CHECKPOINT_RESTORE; dropping one the kernel lacks fails harmlessly

_BASE = 0x400000
_HEADERS = 64 + 56  # ELF header, one program header

_NUMBERS = {
    "x86_64": {
        "write": 1, "mmap": 9, "execve": 59, "fcntl": 72, "chdir": 80, "umask": 95,
        "setgroups": 116, "setresuid": 117, "setresgid": 119, "capset": 126, "prctl": 157,
        "chroot": 161, "mount": 165, "lgetxattr": 192, "llistxattr": 195, "exit_group": 231,
        "mkdirat": 258, "dup3": 292, "close_range": 436,
    },
    "aarch64": {
        "lgetxattr": 9, "llistxattr": 12, "dup3": 24, "fcntl": 25, "mkdirat": 34, "mount": 40,
        "chdir": 49, "chroot": 51, "write": 64, "capset": 91, "exit_group": 94, "setresuid": 147,
        "setresgid": 149, "setgroups": 159, "umask": 166, "prctl": 167, "execve": 221,
        "mmap": 222, "close_range": 436,
    },
}  # fmt: skip
_ELF_MACHINE = {"x86_64": 62, "aarch64": 183}

MACHINES = frozenset(_ELF_MACHINE)
"""What programs can be made for, as uname says it."""

_F_SETFD, _FD_CLOEXEC, _CLOSE_RANGE_CLOEXEC = 2, 1, 4
_AT_FDCWD = -100
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 1, 24, 47, 4
_SIGKILL = 9


class Assembler:
    """System calls with constant arguments, one after the other, as machine code."""

    def __init__(self, machine: str, report: int) -> None:
        if machine not in _NUMBERS:
            raise ExecutorError(f"machine {machine!r}: command steps run on x86_64 and aarch64")
        self._machine, self._report = machine, report
        self._numbers = _NUMBERS[machine]
        self._data = bytearray()
        self._code = bytearray()

    def data(self, value: bytes) -> int:
        """Keep `value`; its address."""
        address = _BASE + _HEADERS + len(self._data)
        self._data += value + bytes(-len(value) % 8)
        return address

    def text(self, value: bytes) -> int:
        return self.data(value + b"\0")

    def pointers(self, values: Sequence[bytes]) -> int:
        """A NULL-terminated array of strings, as execve takes it."""
        addresses = [self.text(value) for value in values]
        return self.data(struct.pack(f"<{len(addresses) + 1}Q", *addresses, 0))

    def call(
        self, name: str, *arguments: int, stage: int | None = None, go_on: bool = False
    ) -> None:
        """A system call. A failure is told as `stage` (None: ignored) and ends all unless
        `go_on`."""
        self._syscall(self._numbers[name], arguments)
        if stage is None:
            return
        failed = self._telling(stage) + (b"" if go_on else self._exit())
        if self._machine == "x86_64":
            self._code += b"\x48\x85\xc0\x79" + bytes((len(failed),)) + failed  # test rax, rax; jns
        else:
            self._code += struct.pack("<I", 0xB6F80000 | (len(failed) // 4 + 1) << 5)  # tbz x0, #63
            self._code += failed

    def tell(self, stage: int) -> None:
        self._code += self._telling(stage)

    def answer(self, stage: int, address: int) -> None:
        """Tell the last call's result, and as many bytes as it says from `address` on."""
        code = self._telling(stage)
        write = self._loads(self._numbers["write"], (self._report, address))
        if self._machine == "x86_64":
            self._code += b"\x49\x89\xc4" + code + b"\x4c\x89\xe2" + write  # by way of r12
        else:
            keep, take = struct.pack("<I", 0xAA0003F3), struct.pack("<I", 0xAA1303E2)  # and x19
            self._code += keep + code + take + write

    def elf(self, status: int = 127) -> bytes:
        """The program; after the last call it ends with `status`."""
        self._code += self._exit(status)
        entry = _BASE + _HEADERS + len(self._data)
        size = _HEADERS + len(self._data) + len(self._code)
        header = struct.pack(
            "<16sHHIQQQIHHHHHH",
            b"\x7fELF\x02\x01\x01",
            2, _ELF_MACHINE[self._machine], 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0,
        )  # fmt: skip
        load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)  # PT_LOAD, r-x
        return header + load + bytes(self._data) + bytes(self._code)

    def _syscall(self, number: int, arguments: Sequence[int]) -> None:
        self._code += self._loads(number, arguments)

    def _loads(self, number: int, arguments: Sequence[int]) -> bytes:
        code = b""
        if self._machine == "x86_64":
            for opcode, value in zip(_X86_ARGUMENTS, arguments, strict=False):
                code += opcode + struct.pack("<Q", value & 0xFFFFFFFFFFFFFFFF)
            return code + b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"  # mov eax; syscall
        for register, value in enumerate(arguments):
            code += _arm_load(register, value)
        return code + _arm_load(8, number) + b"\x01\x00\x00\xd4"  # svc #0

    def _telling(self, stage: int) -> bytes:
        write = self._numbers["write"]
        if self._machine == "x86_64":
            return (
                b"\x68" + struct.pack("<I", stage) + b"\x50"  # push stage; push rax
                b"\xbf" + struct.pack("<I", self._report) + b"\x48\x89\xe6"  # mov edi; mov rsi, rsp
                b"\xba\x10\0\0\0\xb8" + struct.pack("<I", write) + b"\x0f\x05"
                b"\x48\x83\xc4\x10"  # add rsp, 16
            )  # fmt: skip
        return (
            _arm_load(1, stage)
            + struct.pack("<I", 0xA9BF07E0)  # stp x0, x1, [sp, #-16]!
            + _arm_load(0, self._report)
            + struct.pack("<I", 0x910003E1)  # mov x1, sp
            + _arm_load(2, 16)
            + _arm_load(8, write)
            + struct.pack("<II", 0xD4000001, 0x910043FF)  # svc #0; add sp, sp, #16
        )

    def _exit(self, status: int = 127) -> bytes:
        return self._loads(self._numbers["exit_group"], (status,))


_X86_ARGUMENTS = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")


def _arm_load(register: int, value: int) -> bytes:
    code = struct.pack("<I", 0xD2800000 | (value & 0xFFFF) << 5 | register)  # movz
    for half in (1, 2, 3):
        part = value >> 16 * half & 0xFFFF
        if part:
            code += struct.pack("<I", 0xF2800000 | half << 21 | part << 5 | register)  # movk
    return code


def command_program(
    command: Command, *, report: int, descriptor: int, machine: str, root: bytes | None = None
) -> bytes:
    """The program that runs `command`. It lies in `descriptor` and tells on `report`; both are
    closed to the command. With `root` it enters that directory with chroot first."""
    program = Assembler(machine, report)
    call = program.call
    call(
        "close_range", 3, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC
    )  # Linux 5.11; the next two lines suffice
    for each in (report, descriptor):
        call("fcntl", each, _F_SETFD, _FD_CLOEXEC, stage=SETUP)
    call("umask", 0o022)
    if root is not None:
        call("chroot", program.text(root), stage=SETUP)
        call("chdir", program.text(b"/"), stage=SETUP)
    for capability in range(LAST_CAPABILITY + 1):  # bubblewrap leaves the bounding set whole
        if capability not in DOCKER_CAPABILITIES:
            call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
    where = os.fsencode(command.working_dir)
    parts = [part for part in where.split(b"/") if part]
    for depth in range(1, len(parts) + 1):
        call("mkdirat", _AT_FDCWD, program.text(b"/" + b"/".join(parts[:depth])), 0o755)
    call("chdir", program.text(where), stage=ENTER)
    held = sum(1 << capability for capability in DOCKER_CAPABILITIES)
    call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    call(
        "capset",
        program.data(struct.pack("<Ii", 0x20080522, 0)),
        program.data(struct.pack("<6I", held, held, 0, 0, 0, 0)),
        stage=SETUP,
    )
    groups = struct.pack(f"<{len(command.groups)}I", *command.groups)
    call("setgroups", len(command.groups), program.data(groups), stage=USER)
    call("setresgid", command.gid, command.gid, command.gid, stage=USER)
    call("setresuid", command.uid, command.uid, command.uid, stage=USER)
    if (
        root is not None
    ):  # changing the user cleared it; elsewhere it is the pid namespace's init that has it
        call("prctl", _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    arguments = program.pointers([os.fsencode(each) for each in command.argv])
    environment = program.pointers([os.fsencode(f"{k}={v}") for k, v in command.env.items()])
    program.tell(READY)
    for path in candidates(command):
        call("execve", program.text(path), arguments, environment, stage=EXECUTE, go_on=True)
    program.tell(NOTHING)
    return program.elf()


def launcher_program(
    argv: Sequence[str], *, report: int, moved: Sequence[tuple[int, int]], machine: str
) -> bytes:
    """The program that runs an outside sandbox tool as init of a fresh pid namespace: it dies with
    the thread that started it, sees its own /proc, and has each descriptor of `moved` (from, to)
    in place. `argv[0]` is a path."""
    program = Assembler(machine, report)
    call = program.call
    call("prctl", _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    proc = program.text(b"proc")
    call("mount", proc, program.text(b"/proc"), proc, 0, 0, stage=SETUP)
    for source, target in moved:
        call("dup3", source, target, 0, stage=SETUP)
    environment = program.pointers([b"PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
    arguments = program.pointers([os.fsencode(each) for each in argv])
    call("execve", program.text(os.fsencode(argv[0])), arguments, environment, stage=SETUP)
    return program.elf()


def candidates(command: Command) -> list[bytes]:
    """Where execvp would look for argv[0], in order."""
    name = os.fsencode(command.argv[0])
    if b"/" in name:
        return [name]
    path = os.fsencode(
        command.env.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    )
    return [(folder.rstrip(b"/") + b"/" if folder else b"./") + name for folder in path.split(b":")]


def sealed(make: Callable[[int], bytes]) -> int:
    """A descriptor to execute a program from, which `make` gives for the descriptor's number.
    The caller closes it."""
    handle = memory("first-program")
    try:
        # Executing what is open for writing is ETXTBSY.
        number = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
        os.write(handle, make(number))
        return number
    finally:
        os.close(handle)


def memory(name: str, content: bytes = b"") -> int:
    """A file in memory, positioned at its start. The caller closes it."""
    executable = 0x10  # MFD_EXEC, Linux 6.3; before, EINVAL
    try:
        handle = os.memfd_create(name, os.MFD_CLOEXEC | executable)
    except OSError:
        handle = os.memfd_create(name, os.MFD_CLOEXEC)
    os.pwrite(handle, content, 0)
    return handle
