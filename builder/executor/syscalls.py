"""mount(2) and its kin by ctypes: what the standard library lacks."""

from __future__ import annotations

import ctypes
import functools
import os

CLONE_NEWNS, CLONE_FS = 0x00020000, 0x00000200
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_REC, MS_SLAVE = 1, 0x4000, 1 << 19
_OPENAT2, _RESOLVE_IN_ROOT = 437, 0x10


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """For the calling thread alone (a user namespace needs a process of one thread)."""
    _checked(_libc().unshare(flags), "unshare")


def mount(source: bytes, target: bytes, kind: bytes, flags: int = 0, options: bytes = b"") -> None:
    pointer = ctypes.c_char_p
    result = _libc().mount(
        pointer(source), pointer(target), pointer(kind), ctypes.c_ulong(flags), pointer(options)
    )
    _checked(result, os.fsdecode(target))


def own_mounts() -> None:
    """Give the calling thread its own mount namespace, working directory and umask. What is mounted
    there ends with the thread and the processes it started; what the host mounts still arrives."""
    unshare(CLONE_NEWNS | CLONE_FS)
    mount(b"none", b"/", b"none", MS_REC | MS_SLAVE)


def open_within(folder: int, path: str) -> int:
    """A handle (O_PATH) of what `path` leads to for those whose root `folder` is: links lead
    nowhere else. openat2(2), Linux 5.6, whose number is the same on every machine."""
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    long = ctypes.c_long
    size = long(ctypes.sizeof(how))
    number, name = long(_OPENAT2), ctypes.c_char_p(os.fsencode(path))
    handle = _libc().syscall(number, long(folder), name, ctypes.byref(how), size)
    _checked(handle, path)
    return int(handle)


def initial_user_namespace() -> bool:
    """Whether ids here are the kernel's own, so that `trusted.` xattrs and devices can be made."""
    with open("/proc/self/uid_map", "rb") as file:
        return file.read().split() == [b"0", b"0", b"4294967295"]
