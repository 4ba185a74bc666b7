"""Command steps in runc: a bundle of our own over the same overlay."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from builder.errors import CannotRun
from builder.executor import seccomp, syscalls
from builder.executor.base import (
    HOSTNAME,
    Command,
    File,
    Folder,
    Memory,
    Mounted,
    Standing,
    Streams,
)
from builder.executor.confine import MASKED, READ_ONLY, Overlaid
from builder.executor.enter import mount_points
from builder.executor.mounting import in_order
from builder.executor.overlay import Overlay
from builder.executor.path import TOOLS
from builder.executor.process import Pipes, Running, check_network, failed, killed, not_started
from builder.executor.starting import capabilities, start
from builder.work.cancel import Cancel

if TYPE_CHECKING:
    from subprocess import Popen

    from builder.executor.process import Confined
    from builder.executor.streams import Ends

_NAME = "builder-"
_OLD = 60  # seconds: a younger one may be of a container that starts


class Runc(Overlaid):
    """`binary` is runc."""

    name = "runc"
    elsewhere = False

    def __init__(
        self,
        binary: str,
        temporary: Callable[[], str],
        warn: Callable[[str], None],
        cancel: Cancel | None = None,
        path: str = TOOLS,
    ) -> None:
        super().__init__(temporary, warn, cancel, path)
        self._binary = binary

    def start(
        self, command: Command, place: Overlay, pipes: Pipes, standing: Standing | None = None
    ) -> Popen[bytes]:
        _sweep()
        _check_accounts(place.root)
        _make_working_dir(place.root, command)
        bundle = os.fsdecode(place.folder)
        root = os.fsdecode(place.root)
        document = configuration(command, root, os.uname().machine, standing)
        document["process"].update(_console(pipes.stdio()[0]))
        config = _in_memory(document)
        os.symlink(f"/proc/self/fd/{config}", os.path.join(bundle, "config.json"))
        name = _name(place)
        argv = [
            self._binary,
            *("--root", os.path.join(bundle, "runc")),
            *("--log", os.path.join(bundle, "log"), "--log-format", "json"),
            *("run", "--bundle", bundle, name),
        ]
        plan: dict[str, Any] = {
            "mode": "launch",
            "argv": argv,
            "env": {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        }
        if command.network == "none":
            plan["seccomp"] = seccomp.without_socketcall(os.uname().machine)
        try:
            return start({**plan, **self.network_plan(command)}, pipes, (config,))
        finally:
            os.close(config)

    def ends(self, streams: Streams) -> Ends:
        if not streams.terminal:
            return super().ends(streams)
        from builder.executor.terminal import Opened, size_of

        ends = Opened(streams)
        ends.resize(*size_of(streams))
        return ends

    @contextlib.contextmanager
    def taking_over(self, ends: Ends, streams: Streams, sandbox: Confined) -> Iterator[None]:
        if not streams.terminal:
            yield
            return
        from builder.executor.terminal import Opened, taking_over

        assert isinstance(ends, Opened)

        def resized(rows: int, columns: int) -> None:
            ends.resize(rows, columns)
            with contextlib.suppress(ProcessLookupError):
                os.kill(sandbox.pid, signal.SIGWINCH)

        with taking_over(streams, resized):
            yield

    def ended(self, place: Overlay) -> None:
        """Remove the cgroups of a container whose runc was killed."""
        for folder in _groups():
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(folder, _name(place)))

    def began(self, place: Overlay, running: Running, ended: bool) -> bool:
        """runc takes the FIFO away at which its container waited, after the state was written."""
        if ended:
            return os.path.exists(place.folder + b"/log") and not _fault(place.folder)
        with contextlib.suppress(OSError), os.scandir(place.folder + b"/runc") as containers:
            for each in containers:
                state, waiting = each.path + b"/state.json", each.path + b"/exec.fifo"
                return os.path.exists(state) and not os.path.exists(waiting)
        return False

    def check(self, command: Command, status: int, running: Running, place: Overlay) -> None:
        tail = running.tail()
        fault = _fault(place.folder)
        if fault:
            raise not_started(command, fault) or CannotRun(f"runc: {fault}")
        check_network(running, self.name)
        if not os.path.exists(place.folder + b"/log"):
            raise CannotRun(f"runc: {tail[-1] if tail else killed(status) or 'could not start'}")
        if status:
            raise failed(status, tail)


def _console(stdin: int) -> dict[str, Any]:
    """What a process is told of its terminal, if its stdin is one."""
    if stdin < 0 or not os.isatty(stdin):
        return {"terminal": False}
    columns, rows = os.get_terminal_size(stdin)
    return {"terminal": True, "consoleSize": {"height": rows, "width": columns}}


def _in_memory(document: dict[str, Any]) -> int:
    """A handle of a file that is on no disk: the environment may hold secrets. Raises CannotRun."""
    try:
        data = json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise CannotRun(
            "runc: what is not UTF-8 can be no argument and no variable there",
            "`--executor sandbox` takes any bytes",
        ) from None
    handle = os.memfd_create("config", os.MFD_CLOEXEC)
    with open(os.dup(handle), "wb") as file:
        file.write(data)
    return handle


def _fault(bundle: bytes) -> str:
    """Why runc could not start the command, as its log says."""
    with contextlib.suppress(OSError, ValueError), open(bundle + b"/log", "rb") as file:
        for line in file:
            record = json.loads(line)
            if record.get("level") in ("error", "fatal"):
                return " ".join(str(record.get("msg")).split())[:500]
    return ""


def _check_accounts(root: bytes) -> None:
    """runc reads these in the container, and would wait for a FIFO for ever."""
    folder = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        for name in ("etc/passwd", "etc/group"):
            try:
                handle = syscalls.open_within(folder, name)
            except OSError:
                continue
            mode = os.stat(handle).st_mode
            os.close(handle)
            if not stat.S_ISREG(mode):
                raise CannotRun(
                    f"runc: /{name} of the image is no regular file",
                    "`--executor sandbox` does not read it",
                )
    finally:
        os.close(folder)


def _make_working_dir(root: bytes, command: Command) -> None:
    """Before runc does, which gives it to root."""
    folder = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        parts = command.working_dir.strip("/").split("/")
        for end in range(len(parts)):
            parent = syscalls.open_within(folder, "/".join(parts[:end]) or ".")
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(parts[end] or ".", 0o755, dir_fd=parent)
                    os.chown(
                        parts[end], *command.folder_owner, dir_fd=parent, follow_symlinks=False
                    )
            finally:
                os.close(parent)
    except OSError:
        pass  # runc says what is wrong
    finally:
        os.close(folder)


def _name(place: Overlay) -> str:
    """The container's: its cgroups are named so, and those are shared by all builders of the host.
    The folder's name is random, and no other step's."""
    return _NAME + os.path.basename(os.fsdecode(place.folder))


def _groups() -> Iterator[str]:
    """The folders that cgroups of containers are in."""
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            yield f"/sys/fs/cgroup/{controllers.removeprefix('name=')}{path}"
            if not controllers:  # of version 2, beside those of version 1
                yield f"/sys/fs/cgroup/unified{path}"


def _sweep() -> None:
    """Remove the cgroups that builders' containers left long ago: runc gives up on one that the
    kernel still holds as the container ends. One in use cannot be removed."""
    old = time.time() - _OLD
    for folder in _groups():
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(_NAME) and entry.stat().st_mtime < old:
                    with contextlib.suppress(OSError):
                        os.rmdir(entry.path)


def configuration(
    command: Command, root: str, machine: str, standing: Standing | None = None
) -> dict[str, Any]:
    """The runtime-spec's config.json."""
    hidden = command.hidden
    held = ["CAP_" + name for name in capabilities(command)]
    effective = held if command.uid == 0 else []  # as execve leaves them to a user
    namespaces = ["pid", "ipc", "uts", "mount", "cgroup"]
    if command.network == "none":  # a private one it is started in
        namespaces.append("network")
    quiet = ["nosuid", "noexec", "nodev"]
    document: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {
                "uid": command.uid,
                "gid": command.gid,
                "umask": 0o022,
                "additionalGids": list(command.groups),
            },
            "args": list(command.argv),
            "env": [
                *(f"{name}={value}" for name, value in command.env.items() if name not in hidden),
                *(f"{name}={os.fsdecode(value)}" for name, value in hidden.items()),
            ],
            "cwd": command.working_dir,
            "capabilities": {
                "bounding": held,
                "effective": effective,
                "permitted": effective,
            },
            "noNewPrivileges": False,
        },
        "root": {"path": root, "readonly": bool(standing and standing.read_only)},
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
            _sys(command),
            *map(_mount, _volumes(standing, root)),
            *map(_mount, in_order(command.mounts)),
        ],
        "linux": {
            "namespaces": [{"type": each} for each in namespaces],
            "maskedPaths": [*MASKED, *_mounted_below_sys(command)],
            "readonlyPaths": list(READ_ONLY),
            "seccomp": seccomp.runc_profile(machine),
        },
    }
    if syscalls.initial_user_namespace():
        document["linux"]["resources"] = {"devices": _DEVICES}
    return document


def _volumes(standing: Standing | None, root: str) -> list[Mounted]:
    """Where a container can be written to that otherwise is read-only."""
    if standing is None or not standing.read_only:
        return []
    return [Folder(each, root + each, writable=True) for each in standing.volumes]


def _own_sysfs(command: Command) -> bool:
    return command.network != "host" or syscalls.initial_user_namespace()


def _sys(command: Command) -> dict[str, Any]:
    """A fresh one has nothing of what the host mounted below its own: cgroups, debugfs, bpf ..."""
    mount: dict[str, Any] = {"destination": "/sys", "type": "sysfs", "source": "sysfs"}
    mount["options"] = ["nosuid", "noexec", "nodev", "ro"]
    if not _own_sysfs(command):  # a user namespace on the host's network: see the masks
        mount.update(type="none", source="/sys")
        mount["options"][:0] = ["rbind", "rslave"]
    return mount


def _mounted_below_sys(command: Command) -> list[str]:
    if _own_sysfs(command):
        return []
    return sorted(each for each in mount_points() if each.startswith("/sys/"))


def _mount(mounted: Mounted) -> dict[str, Any]:
    quiet = ["nosuid", "nodev"]
    match mounted:
        case Memory(target, size):
            options = [*quiet, "mode=1777", *([f"size={size}"] if size else [])]
            return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}
        case Folder(target, source, writable):
            options = ["bind", "rw" if writable else "ro", *quiet]
        case File(target, source, writable):
            options = ["bind", "rw" if writable else "ro", *quiet]
        case _:
            raise AssertionError("values are files by now")
    return {"destination": target, "type": "none", "source": source, "options": options}


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
