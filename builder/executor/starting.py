"""Start `enter.py`, the program that makes a sandbox and becomes the command."""

from __future__ import annotations

import marshal
import os
import sys
from typing import TYPE_CHECKING, Any

from builder.executor import enter, seccomp
from builder.executor.base import Command

if TYPE_CHECKING:
    from subprocess import Popen

    from builder.executor.process import Pipes

CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7,
    "SETPCAP": 8, "NET_BIND_SERVICE": 10, "NET_RAW": 13, "SYS_CHROOT": 18, "MKNOD": 27,
    "AUDIT_WRITE": 29, "SETFCAP": 31,
}  # fmt: skip
"""What Docker gives a container, with the kernel's numbers."""

_IMPORT = "import sys; sys.path.append(sys.argv[1]); import enter"
_ENTER = _IMPORT + "; enter.main(int(sys.argv[2]))"
_ENTER_PRIVATE = _IMPORT + ", private; enter.main(int(sys.argv[2]), private.join)"
"""Imported, not run as a script: Python compiles a script each time, for 3 ms."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def capabilities(command: Command) -> dict[str, int]:
    """Docker's; where there is a network without NET_RAW, which reads what others send on it."""
    held = dict(CAPABILITIES)
    if command.network != "none":
        del held["NET_RAW"]
    return held


def command_plan(command: Command) -> dict[str, Any]:
    """What enter.py needs to know of a command, whatever it is put in."""
    return {
        "argv": [os.fsencode(each) for each in command.argv],
        "env": {
            **{os.fsencode(name): os.fsencode(value) for name, value in command.env.items()},
            **{os.fsencode(name): value for name, value in command.hidden.items()},
        },
        "candidates": candidates(command),
        "working_dir": command.working_dir,
        "folder_owner": command.folder_owner,
        "uid": command.uid,
        "gid": command.gid,
        "groups": list(command.groups),
        "capabilities": list(capabilities(command).values()),
        "seccomp": seccomp.bpf(os.uname().machine, command.network),
    }


def start(plan: dict[str, Any], pipes: Pipes, handles: tuple[int, ...] = ()) -> Popen[bytes]:
    """In the thread that the process is to end with. It inherits `handles`."""
    import subprocess

    stdin, stdout, stderr = pipes.stdio()
    program = _ENTER_PRIVATE if "network_tool" in plan else _ENTER
    folder = os.path.dirname(enter.__file__)
    handle = os.memfd_create("plan", os.MFD_CLOEXEC)
    try:
        told = {"stdin": stdin >= 0, **plan, "report": pipes.report_end}
        os.write(handle, marshal.dumps(told))
        os.lseek(handle, 0, os.SEEK_SET)
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program, folder, str(handle)],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(handle, pipes.report_end, *handles),
            env={},
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(handle)


def candidates(command: Command) -> list[bytes]:
    """Where execvp would look for argv[0], in order."""
    name = os.fsencode(command.argv[0])
    if b"/" in name:
        return [name]
    folders = os.fsencode(command.env.get("PATH", _PATH)).split(b":")
    return [(folder.rstrip(b"/") + b"/" if folder else b"./") + name for folder in folders]
