"""Network: one HTTP exchange over pooled connections; proxies, TLS and timeouts.

Nothing is retried, redirects are not followed and credentials are not known here: see http.py
and auth.py.
"""

from __future__ import annotations

import glob
import logging
import os
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from urllib3 import exceptions

from builder.errors import TransportError
from builder.transport.registry.deadline import with_deadline
from builder.transport.registry.settings import Settings
from builder.version import __version__

Body = bytes | Callable[[], Iterator[bytes | memoryview]] | None


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


class Lost(TransportError):
    """The connection broke or stalled; to try again may help."""


class Unreachable(TransportError):
    """No connection came about. `refused`: the host answered that nobody listens."""

    refused = False


class PlainHttp(TransportError):
    """The other side does not speak TLS."""


class Stopped(TransportError):
    """Another part of the same work failed or was interrupted."""


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
        netloc = parts.netloc.rpartition("@")[2]
        text = urlunsplit((parts.scheme, netloc, parts.path, "", ""))
    except ValueError:
        return "a malformed URL"
    return "".join(c for c in text if c.isprintable())[:200]


def is_loopback(host: str) -> bool:
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Network:
    """Connections to every origin that is asked for. Safe for threads; `close` when done."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.requests = 0  # exchanges begun, token servers and redirects included
        self.stopped = threading.Event()
        logging.getLogger("urllib3").propagate = False  # it logs signed URLs and hostile headers
        self._pools: dict[Origin, urllib3.PoolManager] = {}
        self._known: set[Origin] = set()
        self._lock = threading.Lock()

    def open(
        self, method: str, url: str, headers: Mapping[str, str], body: Body = None
    ) -> urllib3.BaseHTTPResponse:
        """Send one request; the response's body is still on the wire: read it to its end, then
        `release_conn()`, or `close()` it."""
        if self.stopped.is_set():
            raise Stopped(f"{method} {shown(url)}: stopped")
        origin = parse_origin(url)
        settings = self.settings
        with self._lock:
            self.requests += 1
            pool = self._pools.get(origin)
            if pool is None:
                pool = self._pools[origin] = with_deadline(self._pool(origin))
        slow = method in ("PUT", "PATCH")
        try:
            response = pool.request(
                method,
                url,
                headers={"User-Agent": f"builder/{__version__}", **headers},
                body=body() if callable(body) else body,  # type: ignore[arg-type]  # iterators work
                timeout=urllib3.Timeout(
                    # urllib3 sends under the connect timeout: it must outlast a slow uplink
                    connect=settings.idle_timeout if body else settings.connect_timeout,
                    read=settings.commit_timeout if slow else settings.idle_timeout,
                ),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except (exceptions.HTTPError, OSError) as error:
            raise self._failure(error, method, url, origin) from error
        self._known.add(origin)
        return response

    def knows(self, origin: Origin) -> bool:
        """It has answered once: trouble with it is likely to pass."""
        return origin in self._known

    def may_be_plain(self, host: str, name: str) -> bool:
        """Whether plain http may be spoken with it: on loopback, or because the user said so."""
        return is_loopback(host) or self.is_insecure(host, name)

    def is_insecure(self, host: str, name: str) -> bool:
        return not self.settings.insecure.isdisjoint({host, name, f"[{host}]"})

    def speaks_tls(self, origin: Origin) -> bool:
        """Shake hands once, trusting anybody, without sending a request."""
        context = _trusting()
        pool = self._proxied(origin, context)
        try:
            pool.request(
                "HEAD", f"https://{origin.name}/v2/", retries=False, redirect=False, timeout=10
            )
        except exceptions.SSLError:
            return False
        except exceptions.ProtocolError:  # some plain servers hang up instead of answering
            return False
        except (exceptions.HTTPError, OSError) as error:
            raise self._failure(error, "HEAD", f"https://{origin.name}/v2/", origin) from error
        finally:
            pool.clear()
        return True

    def wait(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise Stopped("stopped")

    def close(self) -> None:
        self.stopped.set()
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.clear()

    # -- TLS and proxies ------------------------------------------------------------------------

    def _pool(self, origin: Origin) -> urllib3.PoolManager:
        if origin.scheme == "http":
            return self._proxied(origin, None)
        if self.is_insecure(origin.host, origin.name):
            return self._proxied(origin, _trusting())
        context = ssl.create_default_context()
        if self.settings.ca_file:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            _load(context.load_verify_locations, self.settings.ca_file)
        for path in self._certificates(origin, "*.crt"):
            _load(context.load_verify_locations, path)
        for path in self._certificates(origin, "*.cert"):
            _load(context.load_cert_chain, path, path[: -len(".cert")] + ".key")
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._proxied(origin, context)

    def _proxied(self, origin: Origin, context: ssl.SSLContext | None) -> urllib3.PoolManager:
        options = {"num_pools": 4, "maxsize": self.settings.jobs + 1, "ssl_context": context}
        proxy = self.settings.proxies.get(origin.scheme)
        if not proxy or bypasses_proxy(origin, self.settings.no_proxy):
            return urllib3.PoolManager(**options)  # type: ignore[arg-type]  # mixed options
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TransportError(f"the proxy {shown(proxy)!r} is not an http(s) URL")
        headers = None
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers = urllib3.make_headers(proxy_basic_auth=user)
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return urllib3.ProxyManager(address, proxy_headers=headers, **options)  # type: ignore[arg-type]

    def _certificates(self, origin: Origin, pattern: str) -> list[str]:
        names = {origin.name, f"{origin.host}:{origin.port}"}
        return sorted(
            path
            for folder in self.settings.certs_dirs
            for name in names
            for path in glob.glob(os.path.join(glob.escape(os.path.join(folder, name)), pattern))
        )

    def _authority(self, origin: Origin) -> str:
        """Which certificates decide, for a message."""
        if self.settings.ca_file:
            used = self.settings.ca_file
        else:
            paths = ssl.get_default_verify_paths()
            used = f"the system's CAs ({paths.cafile or paths.capath or paths.openssl_cafile})"
        return " and ".join([used, *self._certificates(origin, "*.crt")])

    # -- errors ---------------------------------------------------------------------------------

    def _failure(self, error: Exception, method: str, url: str, origin: Origin) -> TransportError:
        if isinstance(error, TransportError):
            return error
        host = origin.name
        if isinstance(error, exceptions.ProxyError):
            proxy = shown(self.settings.proxies.get(origin.scheme, ""))
            return Unreachable(
                f"{host}: the proxy {proxy} failed: {_reason(error)}", "see HTTPS_PROXY, NO_PROXY"
            )
        if isinstance(error, exceptions.NameResolutionError):
            return Unreachable(
                f"{host}: the name is not known", "check the spelling, the network and its DNS"
            )
        if isinstance(error, exceptions.NewConnectionError):
            unreachable = Unreachable(
                f"{host}: {_reason(error)}", "is the registry running, and is the port right?"
            )
            unreachable.refused = isinstance(error.__cause__, ConnectionRefusedError)
            return unreachable
        if isinstance(error, (exceptions.SSLError, ssl.SSLError)):
            return self._tls_failure(error, origin)
        if isinstance(error, exceptions.ConnectTimeoutError):
            waited = self.settings.connect_timeout
            return Unreachable(f"{host}: no connection within {waited:g} s", "is a proxy needed?")
        if isinstance(error, exceptions.TimeoutError):
            return Lost(f"{host}: nothing came in time ({method} {shown(url)})")
        return Lost(f"{host}: the connection broke ({method} {shown(url)}): {_reason(error)}")

    def _tls_failure(self, error: Exception, origin: Origin) -> TransportError:
        reason = _reason(error)
        if any(mark in reason for mark in ("WRONG_VERSION_NUMBER", "RECORD_LAYER", "HTTP_REQUEST")):
            return PlainHttp(
                f"{origin.name}: server gave HTTP response to HTTPS client",
                f"--insecure-registry {origin.name}, if the network between is trusted",
            )
        if "CERTIFICATE_VERIFY_FAILED" in reason or "certificate" in reason:
            return TransportError(
                f"{origin.name}: its TLS certificate was refused by {self._authority(origin)}:"
                f" {reason}",
                "name its CA with SSL_CERT_FILE, or put it into"
                f" /etc/docker/certs.d/{origin.name}/ca.crt",
            )
        if "EOF" in reason:
            return Lost(f"{origin.name}: the connection broke in TLS: {reason}")
        return TransportError(f"{origin.name}: TLS failed: {reason}")


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


def _trusting() -> ssl.SSLContext:
    urllib3.disable_warnings(exceptions.InsecureRequestWarning)  # the user asked for it
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _load(load: Callable[..., None], *paths: str) -> None:
    try:
        load(*paths)
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror if not isinstance(error, ssl.SSLError) else None
        raise TransportError(
            f"{paths[0]}: {why or 'it holds no usable certificate'}, expected PEM"
        ) from error


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words."""
    cause: BaseException = error
    for _ in range(6):
        inner = cause.__cause__ or next(
            (each for each in reversed(cause.args) if isinstance(each, BaseException)), None
        )
        if inner is None:
            break
        cause = inner
    if isinstance(cause, OSError) and cause.strerror:
        text = cause.strerror
    else:
        text = str(cause) or type(cause).__name__
    return "".join(c if c.isprintable() else " " for c in text)[:200]
