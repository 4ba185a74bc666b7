"""A network of a command's own that reaches out through pasta or slirp4netns (`network: private`).

Runs in what `enter.py` is, before anything else of it: in init of a pid namespace, with which the
program ends however that comes about.

The program reads what the command sends, so it is nobody of the machine and has rights in a user
namespace of its own alone; it shuts itself in further. There it makes its interface, in a network
namespace of that one, which a third process holds meanwhile; then the interface is moved to the
command's. That one belongs to no other user namespace than the command's: root of the parent
of the other could do everything in it, whatever capabilities he has.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from builder.executor import enter
else:
    enter = sys.modules["enter"]  # where it runs nothing of the builder is there
if TYPE_CHECKING:
    from builder.executor.enter import Plan

CLONE_NEWUSER = 0x10000000
NODES = {"null": (1, 3), "net/tun": (10, 200)}
NETWORK = "network"  # in the program's arguments: where it finds the namespace
READY = 3  # the descriptor on which it may say that it is up; or it goes to the background
LONGEST = 10.0  # seconds

INTERFACE = "eth0"
RANGE = "10.213.87"  # one that nobody has by default; no layer shall depend on the machine's
ADDRESS, GATEWAY, NAMES = f"{RANGE}.100", f"{RANGE}.2", f"{RANGE}.3"
PREFIX, MTU, MAC = 24, 65520, bytes((2, 0, 10, 213, 87, 100))

RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 20, 24
IFLA_ADDRESS, IFLA_MTU, IFLA_NET_NS_FD, IFA_ADDRESS, IFA_LOCAL = 1, 4, 28, 1, 2
RTA_OIF, RTA_GATEWAY = 4, 5
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL = 1, 4, 0x400, 0x200
RT_TABLE_MAIN, RTPROT_BOOT, RTN_UNICAST = 254, 3, 1


def join(plan: Plan) -> None:
    enter.checked(enter.libc.unshare(enter.CLONE_NEWNS), "mounts")
    enter.mount("none", "/", None, enter.MS_REC | enter.MS_PRIVATE)
    quiet = enter.MS_NOSUID | enter.MS_NODEV | enter.MS_NOEXEC
    enter.mount("proc", "/proc", "proc", quiet)
    try:
        holder = make_namespaces(plan["network_user"])
        run(plan["network_tool"], holder, plan["network_user"])
        take_interface(holder)
    except OSError as error:
        enter.tell(enter.NETWORK, error)
        os._exit(127)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    enter.loopback_up()


def make_namespaces(user: int) -> int:
    """A process in new user and network namespaces, which stands still; its root is `user`."""
    holder = os.fork()
    if not holder:
        try:
            enter.checked(enter.libc.unshare(CLONE_NEWUSER | enter.CLONE_NEWNET), "")
            os.kill(os.getpid(), signal.SIGSTOP)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    _, status = os.waitpid(holder, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        raise OSError(os.WEXITSTATUS(status), "no user namespace for it")
    for kind in ("uid", "gid"):
        with open(f"/proc/{holder}/{kind}_map", "w", encoding="ascii") as file:
            file.write(f"0 {user} 1")
    return holder


def run(argv: list[str], holder: int, user: int) -> None:
    """Start the program; returns when it is up. Raises OSError with the last line it said."""
    said, error_end = os.pipe()
    up, up_end = os.pipe()
    tool = os.fork()
    if not tool:
        try:
            become(argv, holder, user, error_end, up_end)
        except OSError as error:
            os.write(error_end, f"{error.filename or argv[0]}: {error.strerror}".encode())
            os._exit(min(error.errno or 1, 255))
        os._exit(127)
    os.close(error_end)
    os.close(up_end)
    poll = select.poll()
    ended = os.pidfd_open(tool)
    poll.register(ended, select.POLLIN)
    poll.register(up, select.POLLIN)
    while events := poll.poll(LONGEST * 1000):
        if (ended, select.POLLIN) in events:
            status = os.waitstatus_to_exitcode(os.waitpid(tool, 0)[1])
            if status:
                raise OSError(abs(status), last_line(said, argv[0]))
            return
        if os.read(up, 1):
            return
        poll.unregister(up)
    raise OSError(errno.ETIMEDOUT, f"{argv[0]} was not up after {LONGEST:g} s")


def last_line(said: int, program: str) -> str:
    os.set_blocking(said, False)
    try:
        lines = os.read(said, 1 << 16).decode("utf-8", "replace").split("\n")
    except BlockingIOError:
        lines = []
    line = next((line.strip() for line in lines[::-1] if line.strip()), "failed")
    stamp, _, rest = line.partition(": ")  # pasta writes the time first
    return f"{program}: {rest if stamp.replace('.', '').isdigit() else line}"


def become(argv: list[str], holder: int, user: int, error_end: int, up_end: int) -> None:
    furnish_devices()
    place = bind_network(holder)
    handle = os.open(f"/proc/{holder}/ns/user", os.O_RDONLY)
    if user:  # the machine's root: as somebody's own root he keeps that one's groups and id
        os.setgroups([])
    enter.checked(enter.libc.setns(handle, CLONE_NEWUSER), "the user namespace")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.close(os.open("/dev/net/tun", os.O_RDWR))  # else the program would say it in its own words
    null = os.open("/dev/null", os.O_RDWR)
    error_end, up_end = os.dup(error_end), os.dup(up_end)
    for source, target in ((null, 0), (null, 1), (error_end, 2), (up_end, READY)):
        os.dup2(source, target)
    os.closerange(READY + 1, 1 << 16)
    os.chdir("/")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # pasta of 2023 takes another for a fault
    os.execve(argv[0], [place if each == NETWORK else each for each in argv], {})  # noqa: S606  # no shell wanted


def furnish_devices() -> None:
    """A /dev with what the program needs: nodes of its own, in a user namespace the host's."""
    enter.checked(enter.libc.unshare(enter.CLONE_NEWNS), "mounts")
    held = {}
    for name in NODES:
        try:
            held[name] = os.open("/dev/" + name, os.O_PATH)
        except OSError:
            pass
    enter.mount("tmpfs", "/dev", "tmpfs", enter.MS_NOSUID | enter.MS_NOEXEC, "mode=755,size=64k")
    os.mkdir("/dev/net", 0o755)
    for name, (major, minor) in NODES.items():
        path = "/dev/" + name
        try:
            os.mknod(path, 0o020666, os.makedev(major, minor))
            os.chmod(path, 0o666)
        except PermissionError:
            if name in held:
                with open(path, "xb"):
                    pass
                enter.mount(f"/proc/self/fd/{held[name]}", path, None, enter.MS_BIND)


def bind_network(holder: int) -> str:
    """Give the namespace a name: /proc would tell nobody. Where there is such a folder it is one
    that pasta's AppArmor profile lets it read."""
    folder = "/dev"
    if os.path.isdir("/run/user"):
        enter.mount("tmpfs", "/run/user", "tmpfs", enter.MS_NOSUID, "mode=755,size=64k")
        folder = "/run/user/0/netns"
        os.makedirs(folder)
    place = folder + "/step"
    with open(place, "xb"):
        pass
    enter.mount(f"/proc/{holder}/ns/net", place, None, enter.MS_BIND)
    return place


# -- the interface, by rtnetlink(7) ----------------------------------------------------------------


def take_interface(holder: int) -> None:
    """Enter a new network namespace with the interface that is in the holder's."""
    theirs = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
    enter.checked(enter.libc.setns(theirs, enter.CLONE_NEWNET), "the program's network")
    with Link() as link:
        enter.checked(enter.libc.unshare(enter.CLONE_NEWNET), "network")
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        link.change(0, attribute(IFLA_NET_NS_FD, struct.pack("=I", own)))
    with Link() as link:
        mtu = attribute(IFLA_MTU, struct.pack("=I", MTU))
        link.change(enter.IFF_UP, attribute(IFLA_ADDRESS, MAC) + mtu)
        address = socket.inet_aton(ADDRESS)
        body = struct.pack("=BBBBI", socket.AF_INET, PREFIX, 0, 0, link.index)
        body += attribute(IFA_LOCAL, address) + attribute(IFA_ADDRESS, address)
        link.ask(RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_EXCL)
        kind = (RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0)
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, *kind)
        body += attribute(RTA_GATEWAY, socket.inet_aton(GATEWAY))
        body += attribute(RTA_OIF, struct.pack("=I", link.index))
        link.ask(RTM_NEWROUTE, body, NLM_F_CREATE | NLM_F_EXCL)
    os.close(theirs)
    os.close(own)


class Link:
    """The interface in the network namespace that this is made in, where it is asked about too."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.index = socket.if_nametoindex(INTERFACE)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def change(self, flags: int, attributes: bytes) -> None:
        self.ask(RTM_NEWLINK, struct.pack("=BxHiII", 0, 0, self.index, flags, flags) + attributes)

    def ask(self, kind: int, body: bytes, flags: int = 0) -> None:
        flags |= NLM_F_REQUEST | NLM_F_ACK
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        number = -struct.unpack_from("=i", self._socket.recv(1 << 16), 16)[0]
        if number:
            raise OSError(number, os.strerror(number), INTERFACE)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
