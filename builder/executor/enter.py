"""What a command step starts in: the program that makes a sandbox and becomes the command.

It runs in a process of its own, as `python -I -S`: nothing of the builder is imported, and nothing
of the builder's memory is here. `main` is given a descriptor with the plan, a dict that the builder
that started it marshalled (see starting.py).

Two processes: the first stays outside, waits, and gives on the status. It dies with the builder's
thread that started it, and being init of a pid namespace it takes everything with it. The second
makes the namespaces' content, gives up what the command shall not have, and executes the command,
which is process 1 of its own pid namespace and cannot see the first.

What happens is told on a pipe as lines `STAGE ERRNO TEXT`. Only calls that every libc has by name:
no numbers of system calls but Landlock's, which are the same on every machine.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import sys

TYPE_CHECKING = False  # as of typing, which takes long to import
if TYPE_CHECKING:
    import _socket
    import fcntl
    import termios
    from collections.abc import Callable
    from typing import Any

    Plan = dict[str, Any]

STARTED, READY, SETUP, NETWORK = "started", "ready", "setup", "network"
ENTER, USER, EXECUTE = "working_dir", "user", "execute"

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 0x20
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_READ, PR_CAPBSET_DROP = 1, 22, 23, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
PR_SET_CHILD_SUBREAPER = 36
SECCOMP_MODE_FILTER = 2
SIGKILL, SIGTERM = 9, 15
CAP_SETPCAP, CAP_SYS_ADMIN = 8, 21
AF_INET, SOCK_DGRAM, SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 2, 2, 0x8913, 0x8914, 1
LANDLOCK_CREATE, LANDLOCK_RESTRICT, LANDLOCK_SCOPE_ABSTRACT_SOCKETS = 444, 446, 1

NODES = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
    "tty": (5, 0),
}  # fmt: skip
LINKS = {
    "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
}  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)
report = -1


def main(descriptor: int, join: Callable[[Plan], None] | None = None) -> None:
    """`join` makes the network that the command shall have, if that is not for this file to do."""
    global report
    with open(descriptor, "rb") as file:
        plan = marshal.load(file)  # noqa: S302  # written by the builder that started this
    report = plan["report"]
    os.set_inheritable(report, False)
    if plan.get("terminal", -1) >= 0:
        global _socket, fcntl, termios
        import _socket
        import fcntl
        import termios
    try:
        stay_with_the_builder()
        if join:
            join(plan)
        if plan["mode"] == "launch":
            launch(plan)
        elif plan["mode"] == "chroot":
            enter_chroot(plan)
        else:
            enter_namespaces(plan)
        become(plan)
    except OSError as error:
        tell(SETUP, error)
    except MemoryError:
        tell(SETUP, OSError(12, "out of memory"))
    except Exception as error:  # telling it as Python does would look for the source in the image
        tell(SETUP, OSError(22, f"{type(error).__name__}: {error}"))
    os._exit(127)


def tell(stage: str, error: OSError | None = None) -> None:
    number = (error.errno or 0) if error else 0
    what = (error.filename or error.strerror or "") if error else ""
    text = os.fsdecode(what) if isinstance(what, str | bytes) else ""
    os.write(report, os.fsencode(f"{stage} {number} {text}".replace("\n", "?") + "\n"))


def stay_with_the_builder() -> None:
    """Die when the thread that started this does; if it has died already, nobody reads."""
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    tell(STARTED)


# -- the three ways in -----------------------------------------------------------------------------


def launch(plan: Plan) -> None:
    """Become an outside tool (runc), which has to see the /proc of the pid namespace it is in."""
    mount("proc", "/proc", "proc")
    if "seccomp" in plan:
        filter_calls(plan["seccomp"])
    os.execve(plan["argv"][0], plan["argv"], plan["env"])  # noqa: S606  # no shell wanted


def enter_chroot(plan: Plan) -> None:
    """Where no namespace can be had."""
    supervise()
    forget_modules()
    os.chroot(plan["root"])
    os.chdir("/")
    nothing, other = os.pipe()  # the null device that it was started with is the host's
    os.dup2(nothing, 0)
    os.close(other)


def supervise() -> None:
    """Go on in a child. This process waits for it and takes in whatever the step leaves behind,
    daemons and what entered other roots too; it ends that when the child has ended, when the
    builder says so (SIGTERM) and when the builder is gone."""
    import signal

    class Stopped(BaseException):
        pass

    def stop(number: int, frame: object) -> None:
        signal.signal(SIGTERM, signal.SIG_IGN)  # raised once
        raise Stopped

    signal.pthread_sigmask(signal.SIG_SETMASK, (SIGTERM,))  # but where it is waited for
    signal.signal(SIGTERM, stop)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, SIGTERM)
    child = os.fork()
    if not child:
        prctl(PR_SET_PDEATHSIG, SIGKILL)
        signal.signal(SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        return
    os.closerange(0, 1 << 16)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        wait_for(child)
        signal.signal(SIGTERM, signal.SIG_IGN)
    except Stopped:
        pass
    status = end_all().get(child, SIGKILL)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def wait_for(child: int) -> None:
    """Not by waiting for it: of a process that another traces, its parent hears nothing."""
    import select

    try:
        handle = os.pidfd_open(child)
    except OSError:  # Linux before 5.3, or a container's filter that is as old
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        return
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    while not poll.poll(100):  # ms
        while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is not None:
            if dead.si_pid == child:
                return
            os.waitpid(dead.si_pid, 0)


def end_all() -> dict[int, int]:
    """Kill all that descends from this process: what is left of a dead child is this one's child
    next. How its children ended."""
    ended = {}
    while True:
        for process in children():
            try:
                os.kill(process, SIGKILL)
            except OSError:
                pass
        try:
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                ended[found[0]] = found[1]
        except ChildProcessError:
            return ended


def children() -> list[int]:
    own = os.getpid()
    try:
        with open(f"/proc/{own}/task/{own}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:  # a kernel that does not list them
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    if int(file.read().rpartition(b")")[2].split()[1]) == own:
                        found.append(int(name))
            except OSError:
                pass
        return found


def enter_namespaces(plan: Plan) -> None:
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
    checked(libc.unshare(flags | (CLONE_NEWNET if plan["own_network"] else 0)), "namespaces")
    child = os.fork()
    if child:
        # No descriptor stays: the output ends when the command and what it started have ended it.
        os.closerange(0, 1 << 16)
        _, status = os.waitpid(child, 0)
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    os.setsid()
    if not os.statvfs("/proc/self/exe").f_flag & MS_RDONLY:  # see confine.protect_python
        raise OSError(30, "Python's program could be changed", sys.executable)
    forget_modules()
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    sources = [os.open(each, os.O_PATH | os.O_CLOEXEC) if each else -1 for each in plan["sources"]]
    os.chdir(plan["root"])
    make_tree(plan)
    checked(libc.pivot_root(b".", b"."), "pivot_root")
    for source, mounted in zip(sources, plan["mounts"], strict=True):  # paths lead into the image
        try:
            make_mount(source, *mounted)
        except OSError as error:
            error.filename = mounted[0]
            raise
    checked(libc.umount2(b".", MNT_DETACH), "the old root")
    os.chdir("/")
    name = plan["hostname"].encode()
    checked(libc.sethostname(name, len(name)), "sethostname")
    checked(libc.setdomainname(b"(none)", 6), "setdomainname")
    if plan["own_network"]:
        loopback_up()
    else:
        scope_abstract_sockets()
    if plan["terminal"] >= 0:
        open_terminal(plan["terminal"], plan["uid"])
    elif not plan["stdin"]:
        null = os.open("/dev/null", os.O_RDWR)  # its own: the one it was started with is the host's
        os.dup2(null, 0)
    if plan["whole"]:
        for volume in plan["volumes"]:
            mount(volume, volume, None, MS_BIND)
        remount("/", MS_RDONLY)


def forget_modules() -> None:
    """From here on paths lead into the image: what is not imported by now must not be."""
    sys.meta_path.clear()
    sys.path.clear()


# -- what is in the tree ---------------------------------------------------------------------------


def make_tree(plan: Plan) -> None:
    """Below the working directory, which is the command's root: /proc, /sys and /dev are empty
    directories that the builder put there."""
    quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC
    if plan["nodev"]:
        remount(".", MS_NODEV)
    make_devices()
    mount("proc", "proc", "proc", quiet)
    try:  # of the network that the command has, and without what the host mounted below its own
        mount("sysfs", "sys", "sysfs", quiet | MS_RDONLY)
    except PermissionError:  # a user namespace on the host's network
        bind_host_sys(plan)
    for path in plan["masked"]:
        cover(path)
    for path in plan["read_only"]:
        if os.path.lexists(path):
            mount(path, path, None, MS_BIND | MS_REC)
            remount(path, MS_RDONLY)


def make_mount(source: int, target: str, directory: bool, flags: int, options: str) -> None:
    """`source` is a handle, or -1 for memory, which has the mode of what it is mounted on."""
    folder = os.open("/", os.O_PATH | os.O_CLOEXEC)
    *parents, name = target.strip("/").split("/")
    for parent in parents:
        inner, _ = step_into(folder, parent, True)
        os.close(folder)
        folder = inner
    place, made = step_into(folder, name, directory)
    flags |= MS_NOSUID | MS_NODEV
    if source < 0:
        mode = 0o1777 if made else os.stat(place).st_mode & 0o7777
        mount("tmpfs", f"/proc/self/fd/{place}", "tmpfs", flags, f"mode={mode:o}{options}")
    else:
        mount(f"/proc/self/fd/{source}", f"/proc/self/fd/{place}", None, MS_BIND)
        os.close(place)
        place, _ = step_into(folder, name, directory)  # what is mounted there
        remount(f"/proc/self/fd/{place}", flags)
        os.close(source)
    os.close(place)
    os.close(folder)


def step_into(folder: int, name: str, directory: bool) -> tuple[int, bool]:
    """A handle of what is called so in a folder, and whether it was made. Where it is missing, and
    where a link is, the folder is in another mount: what lies there is hostile, and until the old
    root is gone `/..` is the host. So nothing is followed."""
    flags, made = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, False
    try:
        handle = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        made = True
        try:
            if directory:
                os.mkdir(name, 0o755, dir_fd=folder)
            else:
                new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(name, new, 0o644, dir_fd=folder))
        except FileExistsError:
            pass  # another step, with the same cache
        handle = os.open(name, flags, dir_fd=folder)
    if os.stat(handle).st_mode & 0o170000 == 0o120000:
        raise OSError(40, "is a symlink in another mount", name)
    return handle, made


def bind_host_sys(plan: Plan) -> None:
    """The host's, read-only and covered wherever something is mounted in it: cgroups, debugfs,
    tracefs, bpf, pstore ..."""
    mount("/sys", "sys", None, MS_BIND | MS_REC)
    here = os.getcwd() + "/sys"
    places = sorted(each for each in mount_points() if (each + "/").startswith(here + "/"))
    for place in places:
        remount(place, MS_RDONLY)
    for place in places:
        if place != here and os.path.ismount(place):  # else one above it is covered already
            cover(place)


def mount_points() -> list[str]:
    with open("/proc/self/mountinfo", "rb") as file:
        found = [line.split(b" ")[4] for line in file]
    return [os.fsdecode(unescaped(place)) for place in found]


def unescaped(place: bytes) -> bytes:
    first, *rest = place.split(b"\\")
    return first + b"".join(bytes((int(each[:3], 8),)) + each[3:] for each in rest)


def cover(path: str) -> None:
    """Hide a directory under an empty one, a file under /dev/null; read-only."""
    if os.path.isdir(path):
        quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC
        mount("tmpfs", path, "tmpfs", quiet | MS_RDONLY, "mode=755")
    elif os.path.lexists(path):
        mount("dev/null", path, None, MS_BIND)
        remount(path, MS_RDONLY)


def make_devices() -> None:
    """/dev is `nodev`, as all that a command can write in: it may make nodes, and not use them. The
    usual ones stand on a tmpfs that no path leads to and are bound each."""
    quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC
    mount("tmpfs", "sys", "tmpfs", MS_NOSUID | MS_NOEXEC)
    mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=65536k")
    for name, (major, minor) in NODES.items():
        source, path = "sys/" + name, "dev/" + name
        with open(path, "xb"):
            pass
        try:
            os.mknod(source, 0o020666, os.makedev(major, minor))
        except PermissionError:
            # In a user namespace there is only the host's node, on a read-only mount: it can be
            # written to as a device, and neither mode, owner nor time of it can be changed.
            mount("/dev/" + name, path, None, MS_BIND)
            remount(path, MS_RDONLY)
        else:
            os.chmod(source, 0o666)
            mount(source, path, None, MS_BIND)
    checked(libc.umount2(b"sys", MNT_DETACH), "sys")
    for name, target in LINKS.items():
        os.symlink(target, "dev/" + name)
    if os.path.lexists("/proc/kcore"):
        os.symlink("/proc/kcore", "dev/core")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir("dev/" + name, 0o755)
    options = "newinstance,ptmxmode=0666,mode=0620"
    mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options)
    mount("tmpfs", "dev/shm", "tmpfs", quiet, "mode=1777,size=65536k")
    mount("mqueue", "dev/mqueue", "mqueue", quiet)


def open_terminal(channel: int, user: int) -> None:
    """Have one of the container's own /dev/pts as 0, 1, 2, /dev/tty and /dev/console, and send both
    its ends over the socket."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    checked(libc.unlockpt(master), "/dev/ptmx")
    name = ctypes.create_string_buffer(100)
    checked(-libc.ptsname_r(master, name, ctypes.c_size_t(len(name))), "/dev/ptmx")
    slave = os.open(name.value, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    os.fchown(slave, user, -1)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    rights = master.to_bytes(4, sys.byteorder) + slave.to_bytes(4, sys.byteorder)
    peer = _socket.socket(fileno=channel)
    peer.sendmsg([b"t"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    peer.close()
    with open("/dev/console", "xb"):
        pass
    mount(os.fsdecode(name.value), "/dev/console", None, MS_BIND)
    for stream in (0, 1, 2):
        os.dup2(slave, stream)
    os.close(slave)
    os.close(master)


# -- giving up -------------------------------------------------------------------------------------


def become(plan: Plan) -> None:
    """Execute the command with what it may have, and nothing else."""
    for signal in range(1, 65):
        libc.signal(signal, None)  # as the kernel gives them; the builder may ignore some
    libc.sigprocmask(2, ctypes.create_string_buffer(128), None)
    os.umask(0o022)
    # /dev/stdout can then be opened by the command's user
    for stream in (0, 1, 2) if plan["stdin"] else (1, 2):
        if not os.isatty(stream):
            os.fchown(stream, plan["uid"], plan["gid"])
    filter_calls(plan["seccomp"])
    make_working_dir(plan["working_dir"], *plan["folder_owner"])
    stage = ENTER
    try:
        os.chdir(plan["working_dir"])
        drop_capabilities(plan["capabilities"])
        stage = USER
        os.setgroups(plan["groups"])
        os.setresgid(plan["gid"], plan["gid"], plan["gid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    except OSError as error:
        tell(stage, error)
        return
    prctl(PR_SET_PDEATHSIG, SIGKILL)  # changing the user cleared it
    fault = None
    tell(READY)
    for path in plan["candidates"]:
        try:
            os.execve(path, plan["argv"], plan["env"])  # noqa: S606  # no shell wanted
        except OSError as error:
            # of several places on PATH, that of one where there is a file
            if fault is None or fault.errno in (2, 20):
                fault = error
    tell(EXECUTE, fault)


def filter_calls(program: bytes) -> None:
    """Now, while it takes no no_new_privs: set-user-ID programs work in a step as in a container.
    Without CAP_SYS_ADMIN (a chroot in somebody's container) it does take it."""
    count = len(program) // 8
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    rules = ctypes.byref(Program(count, ctypes.addressof(code)))
    mode, zero = ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.c_ulong(0)
    if libc.prctl(PR_SET_SECCOMP, mode, rules, zero, zero) < 0:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        checked(libc.prctl(PR_SET_SECCOMP, mode, rules, zero, zero), "seccomp")


def make_working_dir(path: str, uid: int, gid: int) -> None:
    made = ""
    for part in path.split("/"):
        made += "/" + part
        try:
            os.mkdir(made, 0o755)
            os.chown(made, uid, gid)
        except OSError:
            pass  # entering it says what is wrong


def drop_capabilities(kept: list[int]) -> None:
    number = 0
    while libc.prctl(PR_CAPBSET_READ, ctypes.c_ulong(number), 0, 0, 0) >= 0:
        if number not in kept:
            prctl(PR_CAPBSET_DROP, number)
        number += 1  # as far as the kernel knows any
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    held = sum(1 << each for each in kept)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low, high = held & 0xFFFFFFFF, held >> 32
    checked(libc.capset(header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)), "capabilities")


def scope_abstract_sockets() -> None:
    """On the host's network abstract sockets are the host's: Landlock hides those (Linux 6.12)."""
    attributes = (ctypes.c_uint64 * 3)(0, 0, LANDLOCK_SCOPE_ABSTRACT_SOCKETS)
    long = ctypes.c_long
    handle = libc.syscall(long(LANDLOCK_CREATE), attributes, long(24), long(0))
    if handle >= 0:
        checked(libc.syscall(long(LANDLOCK_RESTRICT), long(handle), long(0)), "landlock")
        os.close(handle)


def loopback_up() -> None:
    handle = libc.socket(AF_INET, SOCK_DGRAM, 0)
    checked(handle, "loopback")
    name_and_flags = bytearray(b"lo".ljust(40, b"\0"))  # struct ifreq
    request = (ctypes.c_char * 40).from_buffer(name_and_flags)
    checked(libc.ioctl(handle, ctypes.c_ulong(SIOCGIFFLAGS), request), "loopback")
    flags = int.from_bytes(name_and_flags[16:18], sys.byteorder) | IFF_UP
    name_and_flags[16:18] = flags.to_bytes(2, sys.byteorder)
    checked(libc.ioctl(handle, ctypes.c_ulong(SIOCSIFFLAGS), request), "loopback")
    os.close(handle)


# -- calls -----------------------------------------------------------------------------------------


def checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def prctl(option: int, *arguments: int) -> None:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    checked(libc.prctl(option, *map(ctypes.c_ulong, padded)), f"prctl {option}")


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str = "") -> None:
    names = [os.fsencode(each) if each else None for each in (source, target, kind)]
    checked(libc.mount(*names, ctypes.c_ulong(flags), options.encode() or None), target)


def remount(target: str, flags: int) -> None:
    """Add flags to a mount; those it has stay, as a user namespace must not lift them."""
    held = os.statvfs(target).f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    times = os.statvfs(target).f_flag & 0x1C00  # noatime, nodiratime, relatime
    kept = (times & 0xC00) | (1 << 21 if times & 0x1000 else 0)
    mount("none", target, None, MS_BIND | MS_REMOUNT | held | kept | flags)
