"""Http: a request until it has an answer: redirects, credentials, retries with backoff.

A redirect is followed here, one by one, so that every hop decides anew whether the
Authorization header belongs to it: only the registry's own origin gets one.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urljoin

from builder.errors import TransportError
from builder.events import Emit, Noted
from builder.transport.registry.network import Body, Lost, Network, Unreachable
from builder.transport.registry.origin import Origin, parse_origin, shown
from builder.transport.registry.wire import Answer

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
LONGEST_WAIT = 120.0  # seconds; a registry that wants more is an error that says so
_LONGEST_BACKOFF = 30.0
_HOPS = 5
_SMALL = 1 << 20


class Authorization(Protocol):
    """What Http asks for the Authorization header of one origin, and tells of refusals."""

    origin: Origin

    def header(self, scopes: tuple[str, ...]) -> str | None: ...

    def challenged(self, headers: list[str], scopes: tuple[str, ...], used: str | None) -> bool:
        """Take in a 401 for a request that carried `used`; whether to send it once more."""
        ...


class Response:
    """An answer. `body` is read already, but for streams, which are `read` and then closed."""

    def __init__(self, raw: Answer, url: str, network: Network) -> None:
        self.status = raw.status
        self.url = url  # after redirects
        self.body = b""
        self._raw, self._network = raw, network
        self._window, self._bytes = time.monotonic(), 0

    def header(self, name: str) -> str | None:
        return self._raw.header(name)

    def headers(self, name: str) -> list[str]:
        return self._raw.headers(name)

    @property
    def length(self) -> int | None:
        text = self.header("Content-Length")
        return int(text) if text and re.fullmatch("[0-9]{1,19}", text) else None

    def json(self) -> dict[str, Any]:
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise TransportError(f"{shown(self.url)}: its answer is not a JSON object")
        return document

    def read(self, size: int) -> bytes:
        """What has come, at most `size` bytes; b"" at the end. Raises Lost: broken, stalled, or
        slower than the least rate."""
        if self._network.stopped.is_set():
            raise Lost(f"{shown(self.url)}: stopped")
        idle = self._network.settings.idle_timeout
        try:
            data = self._raw.read(size, idle)
        except TimeoutError as error:
            raise Lost(f"{shown(self.url)}: nothing came for {idle:g} s") from error
        except (http.client.HTTPException, OSError) as error:
            raise Lost(f"{shown(self.url)}: the connection broke") from error
        self._bytes += len(data)
        settings = self._network.settings
        now = time.monotonic()
        if now - self._window > settings.rate_window:
            if self._bytes < settings.rate_bytes:
                raise Lost(
                    f"{shown(self.url)}: only {self._bytes} bytes in {now - self._window:.0f} s"
                )
            self._window, self._bytes = now, 0
        return data

    def read_all(self, limit: int) -> None:
        """Fill `body`. Raises TransportError when there is more than `limit`."""
        parts, size = [], 0
        while data := self.read(1 << 16):
            parts.append(data)
            size += len(data)
            if size > limit:
                raise TransportError(f"{shown(self.url)}: an answer of more than {limit} bytes")
        self.body = b"".join(parts)

    def close(self) -> None:
        """The connection serves again if the body was read to its end."""
        self._raw.close()


class Http:
    """Sends requests; see `send`. Safe for threads."""

    def __init__(self, network: Network, emit: Emit, *, plain: bool = False) -> None:
        """`plain`: what came over plain http may lead to plain http elsewhere. For those who know
        beforehand which bytes they want."""
        self.network, self._emit, self._plain = network, emit, plain
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        authorizer: Authorization | None = None,
        scopes: tuple[str, ...] = (),
        stream: bool = False,
        again: bool = True,
        limit: int = _SMALL,
    ) -> Response:
        """The answer, whatever its status. What is likely to pass (a lost connection, 429, 5xx) is
        tried again, as is a 401 with other credentials, unless `again` is False. `stream` leaves a
        2xx answer's body to the caller. Raises TransportError."""
        settings = self.network.settings
        renewed = False
        failures = 0
        while True:
            last = not again or failures + 1 >= settings.tries
            used = None
            try:
                if authorizer is not None and authorizer.origin == parse_origin(url):
                    used = authorizer.header(scopes)
                response = self._follow(method, url, headers or {}, body, used, stream, limit)
            except (Lost, Unreachable) as error:
                known = self.network.knows(parse_origin(url))
                if last or (isinstance(error, Unreachable) and not known):
                    raise
                self.network.wait(self.pause(failures))
                failures += 1
                continue
            if response.status == 401 and authorizer is not None and not renewed:
                renewed = True
                at_home = authorizer.origin == parse_origin(response.url)
                asked = response.headers("WWW-Authenticate")
                if at_home and authorizer.challenged(asked, scopes, used) and again:
                    continue
            if response.status not in RETRIED or last:
                return response
            asked_for = retry_after(response)
            if asked_for is not None and asked_for > LONGEST_WAIT:
                return response
            self.hold(response, failures)
            failures += 1

    def hold(self, response: Response, failures: int) -> None:
        """Wait as long as the answer asks for, else as long as `failures` suggest."""
        asked_for = retry_after(response)
        seconds = self.pause(failures) if asked_for is None else min(asked_for, LONGEST_WAIT)
        host = parse_origin(response.url).name
        if asked_for is not None or response.status == 429:
            with self._lock:
                new = host not in self._said
                self._said.add(host)
            if new:
                self._emit(Noted(f"{host} asks to wait {seconds:.0f} s (HTTP {response.status})"))
        self.network.wait(seconds)

    def pause(self, failures: int) -> float:
        """Seconds before the next try; the jitter keeps many clients apart."""
        longest = self.network.settings.backoff * 2.0**failures
        return min(_LONGEST_BACKOFF, longest) * random.uniform(0.75, 1.25)  # noqa: S311  # jitter

    def _follow(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body,
        authorization: str | None,
        stream: bool,
        limit: int,
    ) -> Response:
        home = parse_origin(url)
        here = url
        for _ in range(_HOPS + 1):
            sent = dict(headers)
            if authorization is not None and parse_origin(here) == home:
                sent["Authorization"] = authorization
            elif here is not url:
                sent.pop("Authorization", None)
            response = Response(self.network.open(method, here, sent, body), here, self.network)
            onward = response.header("Location")
            moved = (301, 302, 303, 307, 308) if method in ("GET", "HEAD") else (307, 308)
            if response.status not in moved or not onward or (method == "POST" and body):
                break
            self._finish(response, limit=_SMALL)
            here = self.join(here, onward)
        else:
            raise TransportError(f"{shown(url)}: more than {_HOPS} redirects")
        if not stream or response.status >= 300:
            self._finish(response, limit)
        return response

    def join(self, base: str, location: str) -> str:
        """Where a Location leads; never from TLS to plain http, nor in the clear to elsewhere."""
        try:
            there = urljoin(base, location)
        except ValueError as error:
            raise TransportError(f"{shown(base)}: it leads to {shown(location)!r}") from error
        origin, home = parse_origin(there), parse_origin(base)
        plain = origin.scheme == "http" and origin != home
        allowed = self._plain or self.network.may_be_plain(origin.host, origin.name)
        if plain and (home.scheme == "https" or not allowed):
            raise TransportError(f"{home.name}: it leads to {shown(there)}, which is not https")
        return there

    def _finish(self, response: Response, limit: int) -> None:
        try:
            response.read_all(limit)
        except BaseException:
            response.close()
            raise
        response.close()


def retry_after(response: Response) -> float | None:
    """Seconds that the answer asks to wait (RFC 9110 section 10.2.3: a number or a date)."""
    text = (response.header("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    if not text:
        return None
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
