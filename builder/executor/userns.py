"""Root without root: the builder's process in a user namespace where it owns a range of ids.

user_namespaces(7), newuidmap(1), subuid(5). Everything after works as for root: overlays, owners,
other users. Only device nodes cannot be made.
"""

from __future__ import annotations

import contextlib
import os
import shutil

from builder.errors import ExecutorError
from builder.executor import syscalls
from builder.executor.path import TOOLS


def become_root(path: str = TOOLS) -> None:
    """Make this process root of a new user namespace: id 0 is the user, 1 and up the user's range
    of subordinate ids. For good, and only while it has a single thread. `path` is where newuidmap
    and newgidmap are. Raises ExecutorError."""
    import pwd

    uid, gid = os.geteuid(), os.getegid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    maps = []
    for tool, file, own in (("newuidmap", "/etc/subuid", uid), ("newgidmap", "/etc/subgid", gid)):
        binary = shutil.which(tool, path=path)
        if binary is None:
            raise ExecutorError(
                f"{tool} is missing: command steps of an ordinary user need it",
                "apt-get install uidmap, or run as root",
            )
        maps.append([binary, str(os.getpid()), "0", str(own), "1", *_ranges(file, name, uid)])
    wait, go = os.pipe()
    helper = os.fork()
    if helper == 0:
        _map_ids(wait, go, maps)
    os.close(wait)
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    except OSError as error:
        os.close(go)
        os.waitpid(helper, 0)
        raise ExecutorError(
            f"this kernel gives {name} no user namespace: {error.strerror}",
            "run as root, or: sysctl kernel.unprivileged_userns_clone=1"
            " kernel.apparmor_restrict_unprivileged_userns=0",
        ) from error
    os.write(go, b"1")
    os.close(go)
    _, status = os.waitpid(helper, 0)
    if status != 0:
        raise ExecutorError(
            f"newuidmap or newgidmap refused the ids of {name}",
            "both must be set-user-ID root and the ranges in /etc/subuid and /etc/subgid valid",
        )
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # The user's other groups stay, though without a number here: they may be what lets the builder
    # read the context or a Docker engine's socket. Commands get groups of their own.


def _map_ids(wait: int, go: int, maps: list[list[str]]) -> None:
    """In the helper, which stays outside: map once the builder is inside. Does not return."""
    status = 1
    try:
        os.close(go)
        if os.read(wait, 1):
            status = max(os.spawnve(os.P_WAIT, argv[0], argv, {}) for argv in maps)  # noqa: S606  # no shell wanted
    finally:
        os._exit(1 if status else 0)


def _ranges(file: str, name: str, uid: int) -> list[str]:
    """The user's subordinate ids as newuidmap takes them, from id 1 on."""
    words: list[str] = []
    inside, free = 1, 100000
    with contextlib.suppress(OSError), open(file, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            owner, _, rest = line.strip().partition(":")
            start, _, count = rest.partition(":")
            if not (start.isdigit() and count.isdigit()):
                continue
            free = max(free, int(start) + int(count))
            if owner in (name, str(uid)):
                words += [str(inside), start, count]
                inside += int(count)
    if not words:
        raise ExecutorError(
            f"{file} has no range for {name}: command steps of an ordinary user need one",
            "usermod --add-subuids {0} --add-subgids {0} {1}".format(
                f"{free}-{free + 65535}", name
            ),
        )
    return words
