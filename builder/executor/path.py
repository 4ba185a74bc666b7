"""What is known of executors before one is needed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

TOOLS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where their tools are looked for, unless the command line's PATH is given."""


def in_container(environ: Mapping[str, str]) -> bool:
    """Whether this is a container (Docker, podman, a pod, nspawn ...), as far as those say it."""
    if environ.get("container") or environ.get("KUBERNETES_SERVICE_HOST"):
        return True
    marks = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
    return any(os.path.exists(mark) for mark in marks)


def namespaces_work() -> bool:
    """Whether the kernel gives mount namespaces here, tried in a thread of its own."""
    if not _may_try():
        return False
    import threading

    from builder.executor import syscalls

    given = []

    def attempt() -> None:
        with contextlib.suppress(OSError):
            syscalls.unshare(syscalls.CLONE_NEWNS)
            given.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(given)


def _may_try() -> bool:
    """Whether this process has CAP_SYS_ADMIN, without which the kernel gives none."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        held = next((line for line in file if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(held.split()[1], 16) >> 21 & 1)


def unlike(name: str, environ: Mapping[str, str]) -> str:
    """The executor that `name` stands for if a command can see that it runs there and not in a
    sandbox, by the kernel's name for the host, an engine's own files, or how signals end process 1;
    else "". What a command made in one is not what it makes in the other."""
    if name in ("docker", "chroot"):
        return name
    if name == "auto" and os.geteuid() == 0 and in_container(environ):
        return "" if namespaces_work() else "chroot"
    return ""
