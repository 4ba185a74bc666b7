"""Command steps in runc: a bundle of our own over the same overlay, for hosts without
bubblewrap."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from builder.executor import program, seccomp, syscalls
from builder.executor.base import Command
from builder.executor.confine import HOSTNAME, MASKED, READ_ONLY, Sandbox

if TYPE_CHECKING:
    from subprocess import Popen

    from builder.executor.process import Pipes

_FIRST, _REPORT = 3, 4  # descriptors within the container
_NAME = "builder-"
_OLD = 60  # seconds: a younger one may be of a container that starts


def runc(binary: str, temporary: Callable[[], str], warn: Callable[[str], None]) -> Sandbox:
    """See Sandbox; `binary` is runc."""
    return Sandbox("runc", partial(_start, binary), temporary, warn)


def _start(binary: str, command: Command, root: bytes, pipes: Pipes) -> Popen[bytes]:
    import subprocess

    _sweep()
    machine = os.uname().machine
    bundle = os.path.dirname(os.fsdecode(root))
    with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as file:
        json.dump(configuration(command, os.fsdecode(root), machine), file)
    # its cgroups are named so, and those are shared by all builders of the host
    name = _NAME + os.urandom(8).hex()
    argv = [
        binary,
        *("--root", os.path.join(bundle, "runc")),
        *("--log", os.path.join(bundle, "log")),  # its warnings are not the command's output
        *("run", "--preserve-fds", "2", "--bundle", bundle, name),
    ]
    with contextlib.ExitStack() as stack:
        inner = program.sealed(
            lambda number: program.command_program(
                command, report=_REPORT, descriptor=_FIRST, machine=machine
            )
        )
        stack.callback(os.close, inner)
        # Above the two numbers they go to, so that moving one does not close the other.
        high = fcntl.fcntl(inner, fcntl.F_DUPFD_CLOEXEC, 16)
        stack.callback(os.close, high)
        report = fcntl.fcntl(pipes.report_end, fcntl.F_DUPFD_CLOEXEC, 16)
        stack.callback(os.close, report)
        outer = program.sealed(
            lambda number: program.launcher_program(
                argv,
                report=report,
                moved=((high, _FIRST), (report, _REPORT)),
                machine=machine,
            )
        )
        stack.callback(os.close, outer)
        return subprocess.Popen(
            [f"/proc/self/fd/{outer}"],
            stdin=subprocess.DEVNULL,
            stdout=pipes.output_end,
            stderr=pipes.output_end,
            pass_fds=(high, report, outer),
            env={},
            cwd="/",
            start_new_session=True,
        )


def _sweep() -> None:
    """Remove the cgroups that builders' containers left long ago: runc gives up on one that the
    kernel still holds as the container ends. One in use cannot be removed."""
    old = time.time() - _OLD
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            folder = f"/sys/fs/cgroup/{controllers.removeprefix('name=')}{path}"
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith(_NAME) and entry.stat().st_mtime < old:
                        with contextlib.suppress(OSError):
                            os.rmdir(entry.path)


def configuration(command: Command, root: str, machine: str) -> dict[str, Any]:
    """The runtime-spec's config.json. User, PATH and working_dir are the first program's
    business."""
    capabilities = ["CAP_" + name for name in program.CAPABILITY_NAMES]
    namespaces = ["pid", "ipc", "uts", "mount"]
    if command.network == "none":
        namespaces.append("network")
    quiet = ["nosuid", "noexec", "nodev"]
    document: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": [f"/proc/self/fd/{_FIRST}"],
            "env": [],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": False,
        },
        "root": {"path": root, "readonly": False},
        "hostname": HOSTNAME,
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": [*quiet, "mode=1777"],
            },
            {
                "destination": "/dev/mqueue",
                "type": "mqueue",
                "source": "mqueue",
                "options": quiet,
            },
            {
                "destination": "/sys",
                "type": "none",
                "source": "/sys",
                "options": ["rbind", *quiet, "ro"],
            },
        ],
        "linux": {
            "namespaces": [{"type": each} for each in namespaces],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
            "seccomp": seccomp.runc_profile(machine),
        },
    }
    if syscalls.initial_user_namespace():
        document["linux"]["resources"] = {"devices": _DEVICES}
    return document


_DEVICES: list[dict[str, Any]] = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2))
    ),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
]
"""Make any device node, use only those that every container has."""
