"""Network: one HTTP exchange over pooled connections; proxies, TLS and timeouts.

Nothing is retried, redirects are not followed and credentials are not known here: see http.py
and auth.py.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from builder.errors import TransportError, masked
from builder.transport.registry.origin import (
    Origin,
    bypasses_proxy,
    is_address,
    is_loopback,
    parse_origin,
    shown,
)
from builder.transport.registry.settings import Settings
from builder.transport.registry.wire import Answer, Clock, Pool, exchange
from builder.version import __version__

Body = bytes | Callable[[], Iterator[bytes | memoryview]] | None
_AS_IT_IS = "".join(map(chr, range(0x21, 0x7F)))  # of an address; the rest goes as %XX


class Lost(TransportError):
    """The connection broke or stalled; to try again may help."""


class Unreachable(TransportError):
    """No connection came about. `refused`: the host answered that nobody listens."""

    refused = False


class PlainHttp(TransportError):
    """The other side does not speak TLS."""


class Stopped(TransportError):
    """Another part of the same work failed or was interrupted."""


class Proxy(NamedTuple):
    url: str  # without user
    tls: bool
    host: str
    port: int
    headers: dict[str, str]  # Proxy-Authorization, perhaps


class Network:
    """Connections to every origin that is asked for. Safe for threads; `close` when done.

    Once `stopped` is set, none is of use any more: whoever waits for one is woken with Lost.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.requests = 0  # exchanges begun, token servers and redirects included
        self.stopped = threading.Event()
        self._clock = Clock(self.stopped)
        self._pools: dict[Origin, Pool] = {}
        self._known: set[Origin] = set()
        self._lock = threading.Lock()

    def open(self, method: str, url: str, headers: Mapping[str, str], body: Body = None) -> Answer:
        """Send one request; the answer's body is still on the wire: read it, then `close` it."""
        if self.stopped.is_set():
            raise Stopped(f"{method} {shown(url)}: stopped")
        origin = parse_origin(url)
        settings = self.settings
        proxy = self._proxy(origin)
        with self._lock:
            self.requests += 1
            pool = self._pools.get(origin)
            if pool is None:
                context = self._context(origin) if origin.scheme == "https" else None
                pool = Pool(partial(self._connect, origin, proxy, context), self._clock)
                self._pools[origin] = pool
        try:
            connection = pool.take()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._no_connection(error, origin, proxy) from error
        parts = urlsplit(url)
        target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        sent = {"User-Agent": f"builder/{__version__}", **headers}
        if proxy is not None and origin.scheme == "http":
            target = f"http://{origin.name}{target}"
            sent.update(proxy.headers)
        slow = method in ("PUT", "PATCH")
        try:
            answer = exchange(
                pool,
                connection,
                self._clock,
                (method, quote(target, _AS_IT_IS), sent, body() if callable(body) else body),
                sending=settings.idle_timeout,
                waiting=settings.commit_timeout if slow else settings.idle_timeout,
            )
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._no_answer(error, method, url, origin) from error
        self._known.add(origin)
        return answer

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
        proxy, context = self._proxy(origin), _trusting()
        try:
            if proxy is None and is_address(origin.host):
                with self._dial(origin.host, origin.port) as plain:
                    context.wrap_socket(plain).close()
            else:
                self._connect(origin, proxy, context).close()
        except ssl.SSLError:
            return False
        except (ConnectionResetError, ConnectionAbortedError, BrokenPipeError):
            return False  # some plain servers hang up instead of answering
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._no_connection(error, origin, proxy) from error
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
        self._clock.join()

    # -- connections: TLS and proxies -------------------------------------------------------------

    def _connect(
        self, origin: Origin, proxy: Proxy | None, context: ssl.SSLContext | None
    ) -> http.client.HTTPConnection:
        """A connection that is ready for requests."""
        wait = self.settings.connect_timeout
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        connection: http.client.HTTPConnection
        if proxy is not None and proxy.tls and context is not None:
            from builder.transport.registry.nested import NestedConnection

            connection = NestedConnection(host, port, wait, self._default(), context)
        elif proxy is not None and proxy.tls:
            connection = http.client.HTTPSConnection(
                host, port, timeout=wait, context=self._default()
            )
        elif context is not None:
            connection = http.client.HTTPSConnection(host, port, timeout=wait, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=wait)
        if proxy is not None and context is not None:
            connection.set_tunnel(origin.host, origin.port, proxy.headers)
        try:
            if proxy is None and context is None:
                connection.sock = self._dial(host, port)
            else:
                connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _dial(self, host: str, port: int) -> socket.socket:
        """A plain connection. The name goes as bytes, where it can: text loads all of IDNA."""
        name: Any = host.encode() if host.isascii() else host
        sock = socket.create_connection((name, port), self.settings.connect_timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _proxy(self, origin: Origin) -> Proxy | None:
        proxy = self.settings.proxies.get(origin.scheme)
        if not proxy or bypasses_proxy(origin, self.settings.no_proxy):
            return None
        try:
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TransportError(f"the proxy {masked(proxy)!r} is not an http(s) URL")
        headers = {}
        if parts.username is not None:
            from base64 import b64encode

            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Proxy-Authorization"] = "Basic " + b64encode(user.encode()).decode()
        tls = parts.scheme == "https"
        port = port or (443 if tls else 80)
        return Proxy(shown(masked(proxy)), tls, parts.hostname, port, headers)

    def _context(self, origin: Origin) -> ssl.SSLContext:
        if self.is_insecure(origin.host, origin.name):
            return _trusting()
        context = self._default()
        for path in self._certificates(origin, "*.crt"):
            _load(context.load_verify_locations, path)
        for path in self._certificates(origin, "*.cert"):
            _load(context.load_cert_chain, path, path[: -len(".cert")] + ".key")
        return context

    def _default(self) -> ssl.SSLContext:
        if self.settings.ca_file:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            _load(context.load_verify_locations, self.settings.ca_file)
        else:
            context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _certificates(self, origin: Origin, pattern: str) -> list[str]:
        import glob
        import os

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

    def _no_connection(
        self, error: Exception, origin: Origin, proxy: Proxy | None
    ) -> TransportError:
        host = origin.name
        if isinstance(error, ssl.SSLError):
            return self._tls_failure(error, origin)
        if proxy is not None:
            return Unreachable(
                f"{host}: the proxy {proxy.url} failed: {_reason(error)}",
                "see HTTPS_PROXY, NO_PROXY",
            )
        if isinstance(error, (socket.gaierror, UnicodeError, http.client.InvalidURL)):
            return Unreachable(
                f"{host}: the name is not known", "check the spelling, the network and its DNS"
            )
        if isinstance(error, TimeoutError):
            waited = self.settings.connect_timeout
            return Unreachable(f"{host}: no connection within {waited:g} s", "is a proxy needed?")
        unreachable = Unreachable(
            f"{host}: {_reason(error)}", "is the registry running, and is the port right?"
        )
        unreachable.refused = isinstance(error, ConnectionRefusedError)
        return unreachable

    def _no_answer(self, error: Exception, method: str, url: str, origin: Origin) -> TransportError:
        if isinstance(error, ssl.SSLError):
            return self._tls_failure(error, origin)
        if isinstance(error, TimeoutError):
            return Lost(f"{origin.name}: nothing came in time ({method} {shown(url)})")
        return Lost(
            f"{origin.name}: the connection broke ({method} {shown(url)}): {_reason(error)}"
        )

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


def _trusting() -> ssl.SSLContext:
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
