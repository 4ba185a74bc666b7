"""The programs that carry `network: private` of a step to the host's network, and how they are
asked to: they listen to nothing on the host, and lead to nothing on its loopback."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil

from builder.errors import CannotRun
from builder.executor.private import GATEWAY, INTERFACE, NAMES, NETWORK, PREFIX, RANGE, READY

_ARGUMENTS = {
    # Goes to the background when it is up.
    "pasta": [
        *("--stderr", "--quiet", "--no-netns-quit", "--no-map-gw", "--ipv4-only"),
        *("-t", "none", "-u", "none", "-T", "none", "-U", "none"),
        *("--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra"),
        *("--address", f"{RANGE}.100", "--netmask", str(PREFIX), "--gateway", GATEWAY),
        *("--ns-ifname", INTERFACE, "--netns", NETWORK),
    ],
    "slirp4netns": [
        *("--disable-host-loopback", "--enable-sandbox", "--enable-seccomp", "--mtu", "65520"),
        *("--cidr", f"{RANGE}.0/{PREFIX}", "--ready-fd", str(READY)),
        *("--netns-type", "path", NETWORK, INTERFACE),
    ],
}
"""In the order of preference: pasta carries as much in a fraction of the time, and is what podman
has taken instead of the other."""


def find(path: str) -> str | None:
    """The program that is there, on `path`."""
    return next((each for name in _ARGUMENTS if (each := shutil.which(name, path=path))), None)


def command_line(path: str) -> list[str]:
    """Raises CannotRun: there is none."""
    program = find(path)
    if program is None:
        raise CannotRun(
            "neither pasta nor slirp4netns is installed, and `network: private` needs one",
            "apt-get install passt, or give the step `network: host` or `none`",
        )
    name = os.path.basename(program)
    forward = ["--dns-forward", NAMES] if name == "pasta" and not _name_servers() else []
    return [program, *forward, *_ARGUMENTS[name]]


def resolv_conf() -> bytes:
    """The host's name servers, or an address for which the program asks those on its loopback.
    (pasta lets the answers of such a server come from that address alone.)"""
    servers = _name_servers() or [NAMES.encode()]
    others = [line for line in _resolv_conf() if line[0] in (b"search", b"options")]
    lines = [*([b"nameserver", each] for each in servers), *others]
    return b"".join(b" ".join(line) + b"\n" for line in lines)


def _name_servers() -> list[bytes]:
    """Those of the host that a step reaches."""
    found = [line[1] for line in _resolv_conf() if line[0] == b"nameserver" and len(line) > 1]
    return [each for each in found if b":" not in each and not each.startswith((b"127.", b"0."))]


def _resolv_conf() -> list[list[bytes]]:
    """The words of each line of the host's."""
    with contextlib.suppress(OSError), open("/etc/resolv.conf", "rb") as file:
        return [words for line in file if (words := line.split())]
    return []


def fault(executor: str, number: int, said: str) -> CannotRun:
    """Why there is no network, as private.py told it."""
    hint = None
    if "/dev/net/tun" in said:
        hint = {
            errno.ENOENT: "`modprobe tun`; for a container: `--device /dev/net/tun`",
            errno.EACCES: "as root: `chmod 666 /dev/net/tun`, as most systems have it",
            errno.EPERM: "for a container: `--device /dev/net/tun`",
        }.get(number, "`modprobe tun`")
        said = f"/dev/net/tun: {os.strerror(number)}"
    elif number == errno.ENOSPC and "namespace" in said:
        hint = "sysctl user.max_user_namespaces and user.max_net_namespaces say how many there are"
    return CannotRun(f"{executor}: private network: {said}", hint)
