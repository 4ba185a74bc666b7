"""Which system calls a command step may not make: a deny list in the spirit of Docker's default
profile.

Denied is what Docker denies to a container without extra capabilities: the mount family, new
namespaces, kernel modules, keys, tracing of the kernel, clocks, swap, reboot, io_uring. The filter
is assembled here for bubblewrap, which takes BPF; runc takes the same names as JSON.
"""

from __future__ import annotations

import struct
from typing import Any

# name: number on x86_64, i386, aarch64; None where the machine does not have it
_DENIED: dict[str, tuple[int | None, int | None, int | None]] = {
    "_sysctl": (156, 149, None),
    "acct": (163, 51, 89),
    "add_key": (248, 286, 217),
    "bpf": (321, 357, 280),
    "clock_adjtime": (305, 343, 266),
    "clock_adjtime64": (None, 405, None),
    "clock_settime": (227, 264, 112),
    "clock_settime64": (None, 404, None),
    "create_module": (174, 127, None),
    "delete_module": (176, 129, 106),
    "finit_module": (313, 350, 273),
    "fsconfig": (431, 431, 431),
    "fsmount": (432, 432, 432),
    "fsopen": (430, 430, 430),
    "fspick": (433, 433, 433),
    "get_kernel_syms": (177, 130, None),
    "get_mempolicy": (239, 275, 236),
    "init_module": (175, 128, 105),
    "io_uring_enter": (426, 426, 426),
    "io_uring_register": (427, 427, 427),
    "io_uring_setup": (425, 425, 425),
    "ioperm": (173, 101, None),
    "iopl": (172, 110, None),
    "kexec_file_load": (320, None, 294),
    "kexec_load": (246, 283, 104),
    "keyctl": (250, 288, 219),
    "lookup_dcookie": (212, 253, 18),
    "mbind": (237, 274, 235),
    "migrate_pages": (256, 294, 238),
    "mount": (165, 21, 40),
    "mount_setattr": (442, 442, 442),
    "move_mount": (429, 429, 429),
    "move_pages": (279, 317, 239),
    "nfsservctl": (180, 169, 42),
    "open_by_handle_at": (304, 342, 265),
    "open_tree": (428, 428, 428),
    "perf_event_open": (298, 336, 241),
    "pivot_root": (155, 217, 41),
    "query_module": (178, 167, None),
    "quotactl": (179, 131, 60),
    "quotactl_fd": (443, 443, 443),
    "reboot": (169, 88, 142),
    "request_key": (249, 287, 218),
    "set_mempolicy": (238, 276, 237),
    "set_mempolicy_home_node": (450, 450, 450),
    "setns": (308, 346, 268),
    "settimeofday": (164, 79, 170),
    "stime": (None, 25, None),
    "swapoff": (168, 115, 225),
    "swapon": (167, 87, 224),
    "sysfs": (139, 135, None),
    "syslog": (103, 103, 116),
    "umount": (None, 22, None),
    "umount2": (166, 52, 39),
    "unshare": (272, 310, 97),
    "uselib": (134, 86, None),
    "userfaultfd": (323, 374, 282),
    "ustat": (136, 62, None),
    "vhangup": (153, 111, 58),
    "vm86": (None, 166, None),
    "vm86old": (None, 113, None),
}
_CLONE = (56, 120, 220)
_CLONE3 = (435, 435, 435)  # its flags lie in memory, so it does not exist: libc falls back to clone
_PERSONALITY = (135, 136, 92)
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)  # what Docker lets through
_NAMESPACES = 0x7E020000  # CLONE_NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET

_EPERM, _ENOSYS = 1, 38
_ARCHITECTURES = {
    "x86_64": ((0xC000003E, 0), (0x40000003, 1)),  # AUDIT_ARCH_*, column of the tables above
    "aarch64": ((0xC00000B7, 2),),
}
_X32 = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def bpf(machine: str) -> bytes:
    """The filter as struct sock_filter records. Machines it does not know get ENOSYS for every
    call."""
    program = _instruction(_LOAD, _ARCHITECTURE)
    for architecture, column in _ARCHITECTURES[machine]:
        body = _architecture(column)
        # A conditional jump reaches 255 instructions; the tables are far below.
        program += _instruction(_EQUAL, architecture, 0, len(body) // 8) + body
    return program + _instruction(_RETURN, _ERRNO | _ENOSYS)


def _architecture(column: int) -> bytes:
    eperm, enosys = _instruction(_RETURN, _ERRNO | _EPERM), _instruction(_RETURN, _ERRNO | _ENOSYS)
    code = _instruction(_LOAD, _NUMBER)
    if column == 0:
        code += _instruction(_AT_LEAST, _X32, 0, 1) + enosys
    code += _instruction(_EQUAL, _CLONE3[column], 0, 1) + enosys
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            code += _instruction(_EQUAL, number, 0, 1) + eperm
    code += _instruction(_EQUAL, _CLONE[column], 0, 4) + _instruction(_LOAD, _FIRST_ARGUMENT)
    code += _instruction(_ANY_BIT, _NAMESPACES, 0, 1) + eperm
    code += _instruction(_RETURN, _ALLOW)
    known = len(_PERSONALITIES)
    code += _instruction(_EQUAL, _PERSONALITY[column], 0, known + 2)
    code += _instruction(_LOAD, _FIRST_ARGUMENT)
    for index, value in enumerate(_PERSONALITIES):
        code += _instruction(_EQUAL, value, known - index, 0)
    return code + eperm + _instruction(_RETURN, _ALLOW)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def runc_profile(machine: str) -> dict[str, Any]:
    """The same list as the `linux.seccomp` object of the runtime-spec."""
    names = {"x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "aarch64": ["SCMP_ARCH_AARCH64"]}
    masked = {"index": 0, "value": _NAMESPACES, "op": "SCMP_CMP_MASKED_EQ"}
    others = [{"index": 0, "value": value, "op": "SCMP_CMP_NE"} for value in _PERSONALITIES]
    spaces = [1 << bit for bit in range(32) if _NAMESPACES >> bit & 1]
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": names[machine],
        "syscalls": [
            {"names": sorted(_DENIED), "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
            {
                "names": ["personality"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": _EPERM,
                "args": others,
            },
            *(
                {
                    "names": ["clone"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": _EPERM,
                    "args": [{**masked, "value": bit, "valueTwo": bit}],
                }
                for bit in spaces
            ),
        ],
    }
