"""A static ELF of a few hundred bytes for an engine's machine, whose images may hold no program:
system calls with constant arguments, one after the other (see docker_xattrs).

It tells each result as a record of 16 bytes: result (negative errno), number of the question;
little-endian int64 each.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from builder.errors import ExecutorError

RECORD = struct.Struct("<qq")

_BASE = 0x400000
_HEADERS = 64 + 56  # ELF header, one program header

_NUMBERS = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "mmap": 9, "execve": 59, "chdir": 80, "lgetxattr": 192,
        "llistxattr": 195, "exit_group": 231, "openat": 257, "ppoll": 271,
    },
    "aarch64": {
        "lgetxattr": 9, "llistxattr": 12, "chdir": 49, "openat": 56, "close": 57, "read": 63,
        "write": 64, "ppoll": 73, "exit_group": 94, "execve": 221, "mmap": 222,
    },
}  # fmt: skip
_ELF_MACHINE = {"x86_64": 62, "aarch64": 183}

MACHINES = frozenset(_ELF_MACHINE)
"""What programs can be made for, as uname says it."""


class Assembler:
    """System calls with constant arguments, one after the other, as machine code."""

    def __init__(self, machine: str, report: int) -> None:
        if machine not in _NUMBERS:
            raise ExecutorError(f"machine {machine!r}: programs are made for x86_64 and aarch64")
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
