"""Which system calls a command step may make: those that Docker's default profile lets through for
a container with Docker's capabilities, but listmount and statmount.

`seccomp.tsv` says it: a call a line, what becomes of it (allow; deny: EPERM; unknown: ENOSYS; args:
see below), and its number on each machine. What stands in no line, and so every call to come, does
not exist: programs then take the older way. The filter is assembled here for the kernel; runc takes
the same table as JSON.
"""

from __future__ import annotations

import functools
import os
import struct
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from builder.errors import ExecutorError

_MACHINES = {
    "x86_64": ("x86_64", "i386"),
    "i686": ("i386",),
    "aarch64": ("aarch64", "arm"),
    "armv7l": ("arm",),
    "ppc64le": ("ppc64le",),
    "s390x": ("s390x",),
    "riscv64": ("riscv64",),
    "loongarch64": ("loongarch64",),
}
"""uname's name: the architectures whose programs such a machine runs, columns of the table."""

_AUDIT = {
    "x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028,
    "ppc64le": 0xC0000015, "s390x": 0x80000016, "riscv64": 0xC00000F3, "loongarch64": 0xC0000102,
}  # fmt: skip
"""AUDIT_ARCH_*, as the kernel tells a filter."""

_X32 = 0x40000000  # calls of x86_64's third ABI have this bit
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)  # what Docker lets through
_NAMESPACES = 0x7E020000  # CLONE_NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET
_FAMILIES = frozenset({
    *range(1, 12), 13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39,
    41, 42, 43, 44, 45,
})  # fmt: skip
"""Of socket(2): all but what has left the kernel, AF_ALG (38: the kernel's ciphers for everybody)
and AF_VSOCK (40: the machine's host or guests, past every network namespace)."""

_MULTIPLEXED = frozenset({"i386", "ppc64le"})
"""Where socket(2) can be had by way of socketcall(2) too, which hides the family from a filter. Old
programs need that (those of s390x for all sockets), so it is closed where there is no network."""

_SYS_SOCKET = 1  # socketcall's number for it
EPERM, ENOSYS = 1, 38


class Call(NamedTuple):
    name: str
    rule: str  # allow | deny | unknown | args
    numbers: dict[str, int]  # by architecture


@functools.cache
def table() -> tuple[Call, ...]:
    calls = []
    with open(os.path.join(os.path.dirname(__file__), "seccomp.tsv"), encoding="ascii") as file:
        _, _, *columns = next(file).split()
        for line in file:
            name, rule, *numbers = line.split()
            known = zip(columns, numbers, strict=True)
            calls.append(Call(name, rule, {arch: int(each) for arch, each in known if each != "-"}))
    return tuple(calls)


def architectures(machine: str) -> tuple[str, ...]:
    """Raises ExecutorError for a machine whose calls are not known."""
    if machine not in _MACHINES:
        raise ExecutorError(
            f"machine {machine!r}: command steps run on {', '.join(_MACHINES)}",
            "with `--executor docker` they run in an engine, here or elsewhere",
        )
    return _MACHINES[machine]


# -- for the kernel --------------------------------------------------------------------------------

_LOAD, _JUMP, _EQUAL, _ABOVE, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x45, 6
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


@functools.cache
def bpf(machine: str, network: str) -> bytes:
    """The filter as struct sock_filter records. Other architectures' programs get ENOSYS for every
    call."""
    code = _instruction(_LOAD, _ARCHITECTURE)
    for architecture in architectures(machine):
        body = _architecture(architecture, network)
        code += _instruction(_EQUAL, _AUDIT[architecture], 1, 0)
        code += _instruction(_JUMP, len(body) // 8) + body
    return code + _instruction(_RETURN, _ERRNO | ENOSYS)


def _architecture(name: str, network: str) -> bytes:
    allowed, eperm = _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _ERRNO | EPERM)
    enosys = _instruction(_RETURN, _ERRNO | ENOSYS)
    numbers = {call.name: call.numbers[name] for call in table() if name in call.numbers}
    code = _instruction(_LOAD, _NUMBER)
    if name == "x86_64":
        code += _instruction(_AT_LEAST, _X32, 0, 1) + enosys
    if network == "none" and name in _MULTIPLEXED:
        body = _argument(0) + _instruction(_EQUAL, _SYS_SOCKET, 0, 1) + eperm + allowed
        code += _instruction(_EQUAL, numbers["socketcall"], 0, len(body) // 8) + body
    for first, last in _runs(name, "allow"):
        code += _instruction(_AT_LEAST, first, 0, 2) + _instruction(_ABOVE, last, 1, 0) + allowed
    flags = 1 if name == "s390x" else 0
    clone = _argument(flags) + _instruction(_ANY_BIT, _NAMESPACES, 0, 1) + eperm + allowed
    code += _instruction(_EQUAL, numbers["clone"], 0, len(clone) // 8) + clone
    for call, values in (("personality", _PERSONALITIES), ("socket", sorted(_FAMILIES))):
        body = _argument(0)
        for value in values:
            body += _instruction(_EQUAL, value, 0, 1) + allowed
        body += eperm
        code += _instruction(_EQUAL, numbers[call], 0, len(body) // 8) + body
    for first, last in _runs(name, "deny"):
        code += _instruction(_AT_LEAST, first, 0, 2) + _instruction(_ABOVE, last, 1, 0) + eperm
    return code + enosys


@functools.cache
def without_socketcall(machine: str) -> bytes:
    """What runc's filter cannot say, as one before it: no sockets by way of socketcall."""
    allowed, eperm = _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _ERRNO | EPERM)
    number = {call.name: call.numbers for call in table()}["socketcall"]
    code = _instruction(_LOAD, _ARCHITECTURE)
    for each in sorted(_MULTIPLEXED.intersection(architectures(machine))):
        body = _instruction(_LOAD, _NUMBER) + _instruction(_EQUAL, number[each], 1, 0) + allowed
        body += _argument(0) + _instruction(_EQUAL, _SYS_SOCKET, 0, 1) + eperm + allowed
        code += _instruction(_EQUAL, _AUDIT[each], 0, len(body) // 8) + body
    return code + allowed


def _runs(architecture: str, rule: str) -> Iterator[tuple[int, int]]:
    """First and last of numbers in a row."""
    numbers = sorted(
        call.numbers[architecture]
        for call in table()
        if call.rule == rule and architecture in call.numbers
    )
    first = last = numbers[0]
    for number in numbers[1:]:
        if number > last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def _argument(index: int) -> bytes:
    """Load the lower half of an argument: all that an int has."""
    return _instruction(_LOAD, _ARGUMENTS + 8 * index + (4 if sys.byteorder == "big" else 0))


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


# -- for runc --------------------------------------------------------------------------------------

_SCMP = {
    "x86_64": "SCMP_ARCH_X86_64", "i386": "SCMP_ARCH_X86", "aarch64": "SCMP_ARCH_AARCH64",
    "arm": "SCMP_ARCH_ARM", "ppc64le": "SCMP_ARCH_PPC64LE", "s390x": "SCMP_ARCH_S390X",
    "riscv64": "SCMP_ARCH_RISCV64", "loongarch64": "SCMP_ARCH_LOONGARCH64",
}  # fmt: skip


def runc_profile(machine: str) -> dict[str, Any]:
    """The same as the `linux.seccomp` object of the runtime-spec. Names that runc's libseccomp does
    not know yet it leaves out: they get ENOSYS. socketcall stays open, since libseccomp takes no
    rule for it beside those for socket: see without_socketcall."""
    known = architectures(machine)
    calls = [call for call in table() if not call.numbers.keys().isdisjoint(known)]

    def rule(names: list[str], errno: int | None = None, **more: Any) -> dict[str, Any]:
        if errno is None:
            return {"names": names, "action": "SCMP_ACT_ALLOW", **more}
        return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, **more}

    def argument(value: int, op: str, index: int = 0, other: int = 0) -> dict[str, Any]:
        return {"args": [{"index": index, "value": value, "valueTwo": other, "op": op}]}

    flags = 1 if machine == "s390x" else 0
    only = (("personality", _PERSONALITIES), ("socket", sorted(_FAMILIES)))
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": [_SCMP[each] for each in known],
        "syscalls": [
            rule([call.name for call in calls if call.rule == "allow"]),
            rule([call.name for call in calls if call.rule == "deny"], EPERM),
            rule(["clone"], **argument(_NAMESPACES, "SCMP_CMP_MASKED_EQ", flags, 0)),
            *(
                rule(["clone"], EPERM, **argument(bit, "SCMP_CMP_MASKED_EQ", flags, bit))
                for bit in (1 << each for each in range(32) if _NAMESPACES >> each & 1)
            ),
            *(
                rule([name], **argument(value, "SCMP_CMP_EQ"))
                for name, values in only
                for value in values
            ),
            *(
                rule(["socket"], EPERM, **argument(value, "SCMP_CMP_EQ"))
                for value in set(range(max(_FAMILIES))) - _FAMILIES
            ),
        ],
    }
