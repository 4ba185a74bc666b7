"""Credentials: who the user is at a registry, out of Docker's and the containers tools' files.

Docker's config.json and containers' auth.json have one form; the latter may name a path below the
registry (`quay.io/team`), the longest that fits wins. Helpers and stores are asked by the docker
SDK. A value never appears in `repr`, a message or an argv: helpers get and give them by pipes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from builder.errors import TransportError
from builder.oci.reference import DOCKER_HUB
from builder.spec.named import open_named
from builder.transport.registry.settings import Settings

_HUB_KEY = "https://index.docker.io/v1/"
_MAX_FILE = 1 << 20
_TOKEN_USER = "<token>"  # what a helper answers in place of a name; not a secret


class Credentials(NamedTuple):
    """A name and password, or an identity token, and where they were found."""

    user: str
    password: str
    identity_token: str
    source: str  # "~/.docker/config.json", "credential helper pass"; safe to show

    def __repr__(self) -> str:
        return f"Credentials(from {self.source})"

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.password, self.identity_token)))


def find_credentials(settings: Settings, registry: str, repository: str) -> Credentials | None:
    """What the first file that knows `registry` says; None: go there as nobody."""
    for path in settings.auth_files:
        document = _read(path, required=path == settings.required_auth_file)
        found = document and _in_document(document, path, settings, registry, repository)
        if found:
            return found
    return None


def _read(path: str, *, required: bool) -> dict[str, Any] | None:
    try:
        with open_named(path) as file:
            data = file.read(_MAX_FILE)
    except OSError as error:
        if not required and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return None
        raise TransportError(
            f"{path}: {error.strerror}, expected a file with registry credentials"
        ) from error
    try:
        document = json.loads(data) if data.strip() else {}
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):  # `from None`: a JSON error would quote the secret's file
        raise TransportError(f"{path}: it is not a JSON object, expected Docker's config.json")
    return document


def _in_document(
    document: dict[str, Any], path: str, settings: Settings, registry: str, repository: str
) -> Credentials | None:
    helpers, auths = document.get("credHelpers"), document.get("auths")
    store = document.get("credsStore")
    keys = list(_keys(registry, repository))
    if isinstance(helpers, dict):
        for key in (*keys, _HUB_KEY) if registry == DOCKER_HUB else keys:
            if isinstance(helpers.get(key), str):
                store = helpers[key]
                break
    if isinstance(store, str) and store:
        server = _HUB_KEY if registry == DOCKER_HUB else registry
        found = _ask_helper(store, server, path, settings)
        if found:
            return found
    if not isinstance(auths, dict):
        return None
    entry = next((auths[key] for key in keys if auths.get(key)), None)
    if entry is None:  # old files name hosts by URLs
        entry = next((auths[key] for key in auths if _host(key) == registry and auths[key]), None)
    return _entry(entry, path) if entry is not None else None


def _keys(registry: str, repository: str) -> Iterator[str]:
    """The keys that may stand for a repository, the closest first."""
    parts = repository.split("/")
    for count in range(len(parts), 0, -1):
        yield "/".join((registry, *parts[:count]))
    yield registry


def _host(key: str) -> str:
    _, mark, rest = key.partition("://")
    if not mark:
        return "" if "/" in key.rstrip("/") else key.rstrip("/")
    host = rest.partition("/")[0]
    return DOCKER_HUB if host in ("index.docker.io", "registry-1.docker.io") else host


def _entry(entry: object, path: str) -> Credentials:
    from docker import auth

    if isinstance(entry, dict):
        token = entry.get("identitytoken")
        if isinstance(token, str) and token:
            return Credentials("", "", token, path)
        user, password = entry.get("username"), entry.get("password")
        if isinstance(user, str) and isinstance(password, str):
            return Credentials(user, password, "", path)
        try:
            user, password = auth.decode_auth(entry["auth"])
            return Credentials(user, password.strip("\0"), "", path)
        except (KeyError, ValueError, TypeError, AttributeError):
            pass
    raise TransportError(  # not chained: the reason would quote the secret
        f"{path}: an entry of 'auths' is not base64 of NAME:PASSWORD", "run docker login again"
    ) from None


def _ask_helper(store: str, server: str, path: str, settings: Settings) -> Credentials | None:
    import shutil

    from docker import credentials

    program = f"docker-credential-{store}"
    source = f"credential helper {program}"
    if os.sep in store:
        raise TransportError(f"{source}: a helper's name holds no '/'")
    environment = dict(settings.helper_environment or {})
    if shutil.which(program, path=environment.get("PATH")) is None:
        raise TransportError(
            f"{source}: it is not on PATH, but {path} names it for {server}",
            f"install {program}, or remove the entry",
        )
    try:
        answer = credentials.Store(store, environment).get(server)  # type: ignore[no-untyped-call]
    except credentials.CredentialsNotFound:
        return None
    except credentials.StoreError:  # its text may hold what the helper printed
        raise TransportError(
            f"{source}: it failed for {server}", f"try: echo {server} | {program} get"
        ) from None
    except (ValueError, KeyError, TypeError):
        answer = None
    if not isinstance(answer, dict):
        raise TransportError(f"{source}: its answer for {server} is not a JSON object of names")
    user, secret = answer.get("Username"), answer.get("Secret")
    if not isinstance(user, str) or not isinstance(secret, str):
        raise TransportError(f"{source}: its answer for {server} has no Username and Secret")
    if user == _TOKEN_USER:
        return Credentials("", "", secret, source)
    return Credentials(user, secret, "", source)
