"""Auth: the Authorization header for one registry: Basic, or Bearer tokens kept until they expire.

Source: distribution's token authentication and OAuth2 pages. Tokens are kept in memory only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

from builder.errors import TransportError
from builder.transport.registry.network import Network
from builder.transport.registry.origin import Origin, parse_origin, shown

if TYPE_CHECKING:
    from builder.transport.registry.challenge import Challenge
    from builder.transport.registry.credentials import Credentials
    from builder.transport.registry.http import Response

_LONGEST = 65536  # characters of a token
_CLIENT = "builder"


class Ask(Protocol):
    """Send one request to a token server."""

    def __call__(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> Response: ...


class _Token(NamedTuple):
    header: str
    renew: float  # monotonic seconds


class Authorizer:
    """Credentials for one registry's origin and nothing else. Safe for threads."""

    def __init__(
        self,
        origin: Origin,
        network: Network,
        ask: Ask,
        find: Callable[[], Credentials | None],
    ) -> None:
        self.origin = origin
        self.tried: str | None = None  # where credentials were looked for or found, for messages
        self._network, self._ask, self._find = network, ask, find
        self._lock = threading.RLock()
        self._challenge: Challenge | None = None
        self._looked = False
        self._credentials: Credentials | None = None
        self._refresh = ""
        self._tokens: dict[tuple[str, str, tuple[str, ...]], _Token] = {}
        self._extra: tuple[str, ...] = ()  # scopes that the registry asked for on top of ours

    @property
    def credentials(self) -> Credentials | None:
        """Looked for only when a registry asks: most pulls are anonymous, and helpers are slow."""
        with self._lock:
            if not self._looked:
                self._credentials = self._find()
                self._looked = True
            return self._credentials

    def header(self, scopes: tuple[str, ...]) -> str | None:
        """The header's value for a request that needs `scopes`; None before a challenge."""
        with self._lock:
            if self._challenge is None:
                return None
            if self._challenge.scheme == "basic":
                return self._basic()
            key = self._key(scopes)
            token = self._tokens.get(key)
            if token is None or time.monotonic() >= token.renew:
                token = self._tokens[key] = self._fetch(*key)
            return token.header

    def challenged(self, headers: list[str], scopes: tuple[str, ...], used: str | None) -> bool:
        """Take in a 401 for a request that carried `used`; whether to send it once more."""
        from builder.transport.registry.challenge import merge_scopes, parse_challenges

        with self._lock:
            known = {
                challenge.scheme: challenge for challenge in reversed(parse_challenges(headers))
            }
            challenge = known.get("bearer") or known.get("basic")
            if challenge is None:
                return False
            self._challenge = challenge
            if challenge.scheme == "basic":
                return self._basic() is not None
            asked = challenge.parameters.get("scope", "").split()
            if merge_scopes([*scopes, *asked]) != merge_scopes(scopes):
                self._extra = tuple(each for each in asked if each not in self._extra)
            key = self._key(scopes)
            token = self._tokens.get(key)
            if token is not None and token.header == used:  # else another thread has renewed it
                del self._tokens[key]
            return True

    def redact(self, text: str) -> str:
        """`text` without what must not be shown, should a server echo it."""
        with self._lock:
            tokens = list(self._tokens.values())
        secrets = [token.header.removeprefix("Bearer ") for token in tokens]
        if self._credentials:
            basic = self._basic() or ""
            secrets += [*self._credentials.secrets, basic.removeprefix("Basic "), self._refresh]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text

    def _basic(self) -> str | None:
        who = self.credentials
        if who is None or not who.user:
            return None
        import base64

        pair = f"{who.user}:{who.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()

    def _key(self, scopes: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
        from builder.transport.registry.challenge import merge_scopes

        assert self._challenge is not None  # both callers have one
        parameters = self._challenge.parameters
        mine = {scope.rpartition(":")[0] for scope in scopes}
        extra = [each for each in self._extra if each.rpartition(":")[0] in mine or not mine]
        return (
            parameters.get("realm", ""),
            parameters.get("service", ""),
            merge_scopes([*scopes, *extra]),
        )

    def _fetch(self, realm: str, service: str, scopes: tuple[str, ...]) -> _Token:
        self._check_realm(realm)
        began = time.monotonic()
        who = self.credentials
        refresh = self._refresh or (who.identity_token if who else "")
        if refresh:
            fields = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(scopes),
                "refresh_token": refresh,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._ask("POST", realm, headers=headers, body=urlencode(fields).encode())
        else:
            query = [("service", service)] if service else []
            query += [("scope", scope) for scope in scopes]
            headers = {}
            basic = self._basic()
            if basic:
                headers["Authorization"] = basic
                query += [("client_id", _CLIENT)]
            parts = urlsplit(realm)
            joined = "&".join(filter(None, (parts.query, urlencode(query))))
            url = urlunsplit((parts.scheme, parts.netloc, parts.path, joined, ""))
            answer = self._ask("GET", url, headers=headers, body=None)
        if answer.status != 200:
            raise TransportError(
                f"{self.origin.name}: its token server {shown(realm)} answered {answer.status}"
                f" (credentials tried: {self.source()})",
                f"docker login {self.origin.name}" if answer.status in (400, 401, 403) else None,
            )
        return self._token(answer.json(), began, realm)

    def _token(self, document: dict[str, Any], began: float, realm: str) -> _Token:
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not _fits_header(token):
            raise TransportError(
                f"{self.origin.name}: its token server {shown(realm)} gave no usable token"
            )
        refresh = document.get("refresh_token")
        if isinstance(refresh, str) and refresh and self.credentials:
            self._refresh = refresh
        lasts = document.get("expires_in")
        seconds = min(float(lasts), 86400.0) if isinstance(lasts, (int, float)) else 60.0
        seconds = seconds if seconds > 0 else 60.0
        return _Token(f"Bearer {token}", began + seconds - min(10.0, seconds / 4))

    def _check_realm(self, realm: str) -> None:
        """Credentials go over TLS, or in the clear where the registry itself may be plain."""
        where = f"{self.origin.name}: its token server {shown(realm)!r}"
        try:
            origin = parse_origin(realm)
        except TransportError as error:
            raise TransportError(f"{where} is not an http(s) address") from error
        if origin.scheme == "https":
            return
        plain = self._network.may_be_plain(origin.host, origin.name)
        if self.origin.scheme == "https" or not plain:
            raise TransportError(
                f"{where} is not https; credentials are not sent there",
                f"--insecure-registry {origin.name}" if self.origin.scheme == "http" else None,
            )

    def source(self) -> str:
        """Where the credentials in use came from; never their value."""
        who = self.credentials
        return who.source if who else "none, no file or helper has any"


def _fits_header(token: str) -> bool:
    return (
        0 < len(token) <= _LONGEST and token.isascii() and token.isprintable() and " " not in token
    )
