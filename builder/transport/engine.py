"""Engine: a Docker engine, found as the docker client finds it, and its errors in plain words.

Where it is: DOCKER_HOST (unix, tcp, ssh), else the context that DOCKER_CONTEXT or config.json
names, else the usual socket. The docker SDK speaks to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from builder.errors import TransportError, masked
from builder.oci.digest import hex_of
from builder.oci.image import Platform, parse_platform
from builder.spec.named import open_named

SOCKET = "unix:///var/run/docker.sock"
_CONNECT = 15  # seconds until a first answer
_ANSWER = 900  # seconds; a commit of gigabytes sends nothing until it is done
_DOCUMENT = 1 << 20  # bytes of config.json or of a context


class Endpoint(NamedTuple):
    """Where an engine is. `certificates` is a folder of ca.pem, cert.pem, key.pem; None: no TLS."""

    host: str
    certificates: str | None = None
    verify: bool = True
    named_by: str = "DOCKER_HOST"  # for hints


class Engine:
    """An engine that answered. `api` is the SDK's APIClient, of which only some calls are typed;
    use it within `asking`."""

    def __init__(self, api: Any, host: str) -> None:
        self.api, self.host = api, host

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.api.close()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Turn what the SDK raises into TransportError."""
        from docker.errors import DockerException
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (DockerException, RequestException, HTTPError, OSError) as error:
            raise fault(error, Endpoint(self.host)) from error

    def platform(self) -> Platform:
        """What its containers run on."""
        with self.asking():
            said = self.api.version(api_version=False)
        return parse_platform(f"{said.get('Os', 'linux')}/{said.get('Arch', 'amd64')}")

    def inspect_image(self, reference: str) -> dict[str, Any] | None:
        """What the engine says of an image by name or id; None: it has no such image."""
        from docker.errors import NotFound

        with self.asking():
            try:
                return dict(self.api.inspect_image(reference))
            except NotFound:
                return None


def connect(environ: Mapping[str, str]) -> Engine:
    """The engine that the docker client would take in this environment. Raises TransportError."""
    from docker import APIClient
    from docker.errors import DockerException
    from docker.tls import TLSConfig
    from requests import RequestException

    endpoint = find_endpoint(environ)
    tls: TLSConfig | bool = False
    try:
        if endpoint.certificates is not None:
            folder = endpoint.certificates
            tls = TLSConfig(
                client_cert=(os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")),
                ca_cert=os.path.join(folder, "ca.pem"),
                verify=endpoint.verify,
            )
        api: Any = APIClient(endpoint.host, version="1.24", timeout=_CONNECT, tls=tls)
        api.trust_env = False  # proxies are for registries
        api._version = api.version(api_version=False)["ApiVersion"]
        _check_version(api._version, masked(endpoint.host))
        api.timeout = _ANSWER
    except (DockerException, RequestException, OSError, KeyError, TypeError, ValueError) as error:
        raise fault(error, endpoint) from error
    except ImportError as error:  # what a transport needs, such as paramiko for ssh
        raise TransportError(f"the Docker engine at {masked(endpoint.host)}: {error}") from error
    return Engine(api, masked(endpoint.host))


def _check_version(version: str, host: str) -> None:
    from docker.constants import MINIMUM_DOCKER_API_VERSION
    from docker.utils import version_lt

    if version_lt(version, MINIMUM_DOCKER_API_VERSION):
        raise TransportError(
            f"the Docker engine at {host} speaks API {version},"
            f" expected {MINIMUM_DOCKER_API_VERSION} or newer",
            "update the engine",
        )


def find_endpoint(environ: Mapping[str, str]) -> Endpoint:
    """As the docker client decides it. Raises TransportError for a context that does not exist."""
    folder = environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME", ""), ".docker")
    host = environ.get("DOCKER_HOST")
    if host:
        verify = bool(environ.get("DOCKER_TLS_VERIFY"))
        path = environ.get("DOCKER_CERT_PATH") or (folder if verify else None)
        return Endpoint(host, path if host.startswith("tcp:") else None, verify)
    path = os.path.join(folder, "config.json")
    name, said = environ.get("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
    if not name:
        name, said = _read(path).get("currentContext"), path
    if not name or name == "default":
        return Endpoint(SOCKET)
    return _context(folder, str(name), said)


def _context(folder: str, name: str, said: str) -> Endpoint:
    identity = hex_of(name.encode("utf-8", "surrogateescape"))
    path = os.path.join(folder, "contexts", "meta", identity, "meta.json")
    endpoints = _read(path).get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = docker.get("Host") if isinstance(docker, dict) else None
    if not isinstance(docker, dict) or not isinstance(host, str):
        raise TransportError(
            f"the Docker context {name!r}, which {said} names, has no endpoint",
            "`docker context ls` lists what there is",
        )
    certificates = os.path.join(folder, "contexts", "tls", identity, "docker")
    return Endpoint(
        host,
        certificates if os.path.isdir(certificates) else None,
        not docker.get("SkipTLSVerify"),
        f"the context {name!r}",
    )


def _read(path: str) -> dict[str, Any]:
    """A JSON object; an empty one where there is none."""
    try:
        with open_named(path) as file:
            document = json.loads(file.read(_DOCUMENT))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TransportError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise TransportError(f"{path}: not JSON: {error}") from error
    return document if isinstance(document, dict) else {}


def fault(error: BaseException, endpoint: Endpoint) -> TransportError:
    """What went wrong between us and an engine, in one line, and what to do about it."""
    if isinstance(error, TransportError):
        return error
    from docker.errors import APIError, TLSParameterError

    host = masked(endpoint.host)
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, PermissionError):
            return TransportError(
                f"no permission to talk to the Docker engine at {host}",
                "join the group that owns the socket (`sudo usermod -aG docker $USER`, then log in"
                " again), or run this with sudo",
            )
        if isinstance(cause, FileNotFoundError):
            return TransportError(
                f"no Docker engine at {host}: there is no such socket",
                "start it (`sudo systemctl start docker`), or say in DOCKER_HOST where one is",
            )
        if isinstance(cause, ConnectionRefusedError):
            return TransportError(
                f"no Docker engine at {host}: nobody listens there",
                "start it, or say in DOCKER_HOST where one is",
            )
        if isinstance(cause, socket.gaierror):
            return TransportError(
                f"the Docker engine at {host}: no such host",
                f"{endpoint.named_by} says where the engine is",
            )
        if isinstance(cause, ssl.SSLError):
            return _tls_fault(cause, endpoint)
        if isinstance(cause, TLSParameterError):
            return TransportError(
                f"the Docker engine at {host}: expected ca.pem, cert.pem and key.pem"
                f" in {endpoint.certificates!r}",
                "DOCKER_CERT_PATH names their folder",
            )
        if isinstance(cause, APIError):
            return _refusal(cause, host)
    if any(isinstance(cause, TimeoutError) or "timed out" in str(cause) for cause in causes):
        return TransportError(
            f"the Docker engine at {host} does not answer",
            "is it running, and is that its address?",
        )
    for cause in causes:
        if isinstance(cause, (ConnectionResetError, BrokenPipeError, EOFError)):
            return _ended(host)
    if any(type(cause).__name__ in ("ProtocolError", "IncompleteRead") for cause in causes):
        return _ended(host)
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return TransportError(f"the Docker engine at {host}: {cause.strerror}")
    said = " ".join(str(error).replace(endpoint.host, host).split())[:300]
    hint = "pip install 'docker[ssh]'" if "paramiko" in said else None
    return TransportError(f"the Docker engine at {host}: {said}", hint)


def _ended(host: str) -> TransportError:
    return TransportError(
        f"the Docker engine at {host} ended the connection",
        "its log says why (`journalctl -u docker`); build again once it runs",
    )


def _tls_fault(error: ssl.SSLError, endpoint: Endpoint) -> TransportError:
    if isinstance(error, ssl.SSLCertVerificationError):
        ca = os.path.join(endpoint.certificates or "", "ca.pem")
        return TransportError(
            f"the Docker engine at {masked(endpoint.host)}: its certificate is not valid:"
            f" {error.verify_message}",
            f"it was checked against {ca}; DOCKER_CERT_PATH names another folder",
        )
    return TransportError(
        f"the Docker engine at {masked(endpoint.host)}: TLS: {error.reason or error}",
        "does it speak TLS there, and does it accept this client certificate?",
    )


def _refusal(error: Any, host: str) -> TransportError:
    said = " ".join(str(error.explanation or error).split())[:500]
    hint = None
    if "HTTP request to an HTTPS server" in said:
        hint = "set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH"
    elif "too new" in said or "too old" in said:
        hint = "the engine and this client speak different versions of the API"
    return TransportError(f"the Docker engine at {host}: {said}", hint)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it was made from, outermost first."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        more = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        waiting += [other for other in more if isinstance(other, BaseException)]
