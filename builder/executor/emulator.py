"""Whether programs for another CPU run here: by the CPU itself (386 on amd64), or by an emulator
that the kernel starts (binfmt_misc).

It is tried, with a program of a few instructions in an empty root. Files of binfmt_misc say less:
a container does not see them, and has the handlers all the same; and a handler without the flag F
is found, and then not there in the image's root.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable
from typing import NamedTuple

from builder.oci.image import Platform, host_platform


class _Cpu(NamedTuple):
    """What an ELF file for a CPU says, and its instructions for exit(0)."""

    machine: int  # e_machine
    wide: bool
    little: bool
    code: bytes
    flags: int = 0  # e_flags


def _words(little: bool, *words: int) -> bytes:
    return struct.pack(f"{'<' if little else '>'}{len(words)}I", *words)


_CPUS = {
    "386": _Cpu(3, False, True, bytes.fromhex("b801000000 31db cd80")),
    "amd64": _Cpu(62, True, True, bytes.fromhex("b83c000000 31ff 0f05")),
    "arm": _Cpu(40, False, True, _words(True, 0xE3A00000, 0xE3A07001, 0xEF000000), 0x05000000),
    "arm64": _Cpu(183, True, True, _words(True, 0xD2800000, 0xD2800BA8, 0xD4000001)),
    "loong64": _Cpu(258, True, True, _words(True, 0x02800004, 0x0281740B, 0x002B0000), 0x43),
    "mips64le": _Cpu(
        8, True, True, _words(True, 0x240213C2, 0x24040000, 0x0000000C), 0x80000000
    ),
    "ppc64le": _Cpu(21, True, True, _words(True, 0x38000001, 0x38600000, 0x44000002), 2),
    "riscv64": _Cpu(243, True, True, _words(True, 0x00000513, 0x05D00893, 0x00000073)),
    "s390x": _Cpu(22, True, False, bytes.fromhex("a7290000 a7190001 0a00")),
}  # fmt: skip
EMULATED = ("386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x")
"""The architectures that can be tried."""

_TRY = "import os, sys; os.chroot(sys.argv[1]); os.execv('/try', ['/try'])"
_SECONDS = 20


NOT_TRIED = "not tried"


class Emulation(NamedTuple):
    """Whether programs for an architecture run here."""

    works: bool
    why: str  # "this CPU", "an emulator", NOT_TRIED; or in a line why not


def emulation(architecture: str, temporary: Callable[[], str]) -> Emulation:
    """Try it, as root or in a user namespace; `temporary` makes a new folder, which is removed.
    What cannot be tried is taken to work: the step will tell."""
    if architecture == host_platform().architecture:
        return Emulation(True, "this CPU")
    cpu = _CPUS.get(architecture)
    if cpu is None:
        return Emulation(True, NOT_TRIED)
    said = _run(cpu, temporary)
    if said == "":
        return Emulation(True, NOT_TRIED)
    if said is None:
        native = (host_platform().architecture, architecture) in (
            ("amd64", "386"),
            ("arm64", "arm"),
        )
        return Emulation(True, "this CPU" if native else "an emulator")
    return Emulation(False, said)


def hint_for(platform: Platform) -> str:
    """What to do where there is no emulator."""
    return (
        "apt-get install qemu-user-static binfmt-support, or as root, where there is Docker:"
        f" docker run --privileged --rm tonistiigi/binfmt --install {platform.architecture}"
    )


def _run(cpu: _Cpu, temporary: Callable[[], str]) -> str | None:
    """None when it ran, else why not; "" where it cannot be tried."""
    import shutil
    import subprocess

    folder = temporary()
    try:
        path = os.path.join(folder, "try")
        with open(path, "xb") as file:
            file.write(_elf(cpu))
        os.chmod(path, 0o755)
        made = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRY, folder],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            env={},
            cwd="/",
        )
    except OSError:
        return ""
    except subprocess.TimeoutExpired:
        return "a program of it does not end"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not made.returncode:
        return None
    said = made.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    if f"[Errno {errno.EPERM}]" in said:  # an ordinary user has no root of its own to try it in
        return ""
    if f"[Errno {errno.ENOEXEC}]" in said:
        return "no emulator is registered with the kernel (binfmt_misc)"
    if f"[Errno {errno.ENOENT}]" in said:
        return "the emulator is registered without the flag F, so it is not found in an image"
    return said.removeprefix("OSError: ") or f"a program of it ended with {made.returncode}"


def _elf(cpu: _Cpu) -> bytes:
    """A program that ends with 0 (System V ABI, ELF header and program header)."""
    order = "<" if cpu.little else ">"
    head, part = (64, 56) if cpu.wide else (52, 32)
    base, size = 0x10000, head + part + len(cpu.code)
    ident = bytes([0x7F, *b"ELF", 2 if cpu.wide else 1, 1 if cpu.little else 2, 1]) + bytes(9)
    address = "Q" if cpu.wide else "I"
    header = struct.pack(
        f"{order}HHI3{address}I6H",
        *(2, cpu.machine, 1, base + head + part, head, 0, cpu.flags, head, part, 1, 0, 0, 0),
    )
    if cpu.wide:
        loaded = struct.pack(f"{order}II6Q", 1, 5, 0, base, base, size, size, 0x1000)
    else:
        loaded = struct.pack(f"{order}8I", 1, 0, base, base, size, size, 5, 0x1000)
    return ident + header + loaded + cpu.code
