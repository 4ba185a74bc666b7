"""Origin: whom an address leads to, and how it may be shown."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from builder.errors import TransportError, masked


class Origin(NamedTuple):
    """What credentials belong to (RFC 6454)."""

    scheme: str
    host: str  # lower case, IPv6 without brackets
    port: int

    @property
    def name(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"https": 443, "http": 80}.get(self.scheme)
        return host if self.port == usual else f"{host}:{self.port}"


def parse_origin(url: str) -> Origin:
    """Raises TransportError when `url` is no absolute http(s) URL or holds a user name."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise TransportError(f"{shown(url)!r} is not an http(s) address")
    return Origin(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


def shown(url: str) -> str:
    """A URL as a message may hold it: no user, no query (which may be signed), short."""
    try:
        parts = urlsplit(url)
        if not parts.netloc:
            parts = urlsplit(masked(url))
        netloc = parts.netloc.rpartition("@")[2]
        text = urlunsplit((parts.scheme, netloc, parts.path, "", ""))
    except ValueError:
        return "a malformed URL"
    return "".join(c for c in text if c.isprintable())[:200]


def is_address(host: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    import ipaddress

    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def bypasses_proxy(origin: Origin, no_proxy: str) -> bool:
    """As Go reads NO_PROXY: loopback always, hosts, `.suffix`, `*.suffix`, CIDR, host:port, `*`."""
    import ipaddress

    if is_loopback(origin.host):
        return True
    for item in no_proxy.lower().split(","):
        entry = item.strip()
        if entry == "*":
            return True
        if "/" in entry:
            try:
                if ipaddress.ip_address(origin.host) in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue
            continue
        name, colon, port = entry.rpartition(":")
        if colon and port.isdigit() and "]" not in port:
            if int(port) != origin.port:
                continue
            entry = name
        entry = entry.strip("[]").removeprefix("*")
        if entry and (
            origin.host == entry.lstrip(".") or origin.host.endswith("." + entry.lstrip("."))
        ):
            return True
    return False
