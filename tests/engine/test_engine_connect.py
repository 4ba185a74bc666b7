"""Where an engine is, and what is said when it is not there."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import TransportError
from builder.oci.digest import hex_of
from builder.transport.engine import Endpoint, connect, find_endpoint
from builder.transport.engine_search import Hit, search_engine

DEFAULT = "unix:///var/run/docker.sock"


def make_context(home: Path, name: str, host: str, *, tls: bool = False) -> Path:
    identity = hex_of(name.encode())
    meta = home / ".docker/contexts/meta" / identity
    meta.mkdir(parents=True)
    endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": endpoints}))
    folder = home / ".docker/contexts/tls" / identity / "docker"
    if tls:
        folder.mkdir(parents=True)
    return folder


def test_the_engine_is_found_as_the_docker_client_finds_it(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert find_endpoint(home) == Endpoint(DEFAULT)
    certificates = make_context(tmp_path, "far", "tcp://far:2376", tls=True)
    make_context(tmp_path, "near", "unix:///near.sock")
    config = tmp_path / ".docker/config.json"
    config.write_text('{"currentContext": "near"}')
    assert find_endpoint(home).host == "unix:///near.sock"
    far = find_endpoint({**home, "DOCKER_CONTEXT": "far"})
    assert (far.host, far.certificates, far.verify) == ("tcp://far:2376", str(certificates), True)
    assert find_endpoint({**home, "DOCKER_CONTEXT": "default"}).host == DEFAULT
    there = find_endpoint({**home, "DOCKER_HOST": "ssh://me@there"})
    assert (there.host, there.certificates) == ("ssh://me@there", None)
    both = {"DOCKER_HOST": "tcp://h:1", "DOCKER_CONTEXT": "far", "DOCKER_TLS_VERIFY": "1"}
    assert find_endpoint({**home, **both}) == Endpoint("tcp://h:1", str(tmp_path / ".docker"), True)
    path = {"DOCKER_HOST": "tcp://h:1", "DOCKER_CERT_PATH": "/c"}
    assert find_endpoint(path) == Endpoint("tcp://h:1", "/c", False)


@pytest.mark.parametrize(
    ("environ", "message", "hint"),
    [
        (
            {"DOCKER_HOST": "unix:///no/such"},
            "no Docker engine at unix:///no/such",
            "systemctl start",
        ),
        ({"DOCKER_HOST": "tcp://127.0.0.1:1"}, "nobody listens there", "DOCKER_HOST"),
        ({"DOCKER_HOST": "tcp://nowhere.invalid:1"}, "no such host", "DOCKER_HOST"),
        ({"DOCKER_HOST": "gopher://x"}, "gopher://x: .*Invalid bind address protocol", None),
        (
            {"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_TLS_VERIFY": "1"},
            "expected ca.pem",
            "CERT_PATH",
        ),
        (
            {"DOCKER_CONTEXT": "gone"},
            "the Docker context 'gone', which DOCKER_CONTEXT",
            "context ls",
        ),
    ],
)
def test_no_engine(environ: dict[str, str], message: str, hint: str | None) -> None:
    with pytest.raises(TransportError, match=message) as caught:
        connect(environ)
    assert "\n" not in caught.value.message
    assert hint is None or hint in str(caught.value.hint)


@pytest.mark.root
def test_no_permission_on_the_socket(engine: Any) -> None:
    with pytest.raises(TransportError):  # so that all is imported before the rights are gone
        connect({"DOCKER_HOST": "unix:///no/such"})
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            connect({"DOCKER_HOST": engine.socket})
        except TransportError as error:
            os.write(write, f"{error.message}|{error.hint}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    message, hint = os.read(read, 1000).decode().split("|")
    os.close(read)
    assert message == f"no permission to talk to the Docker engine at {engine.socket}"
    assert "usermod -aG docker" in hint and "sudo" in hint


def answer(tmp_path: Path, body: bytes, status: str = "200 OK") -> Iterator[str]:
    """What no real engine does on demand: one that gives every request the same answer."""
    path = f"{tmp_path}/fake.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                asked = client.recv(65536)
                sent = b'{"ApiVersion": "1.41"}' if b"/version" in asked and status else body
                code = "200 OK" if b"/version" in asked else status
                head = f"HTTP/1.1 {code or '200 OK'}\r\nContent-Type: application/json\r\n"
                client.sendall(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)

    threading.Thread(target=serve, daemon=True).start()
    yield f"unix://{path}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_an_engine_that_is_too_old(tmp_path: Path) -> None:
    for host in answer(tmp_path, b'{"ApiVersion": "1.18"}', ""):
        with pytest.raises(TransportError, match=r"speaks API 1.18, expected 1.24 or newer"):
            connect({"DOCKER_HOST": host})


def test_what_is_no_engine(tmp_path: Path) -> None:
    for host in answer(tmp_path, b"<html>", ""):
        with pytest.raises(TransportError, match="the Docker engine at unix://"):
            connect({"DOCKER_HOST": host})


def test_search_tells_what_the_hub_found(tmp_path: Path) -> None:
    found = (
        b'[{"name": "nginx", "description": "Official\\n build", "star_count": 9,'
        b' "is_official": true},'
        b' {"name": "x/y", "description": null}]'
    )
    for host in answer(tmp_path, found):
        with connect({"DOCKER_HOST": host}) as engine:
            assert search_engine(engine, "nginx") == [
                Hit("nginx", "Official build", 9, True),
                Hit("x/y", "", 0, False),
            ]


def test_search_without_the_hub(engine: Any) -> None:
    opened = connect({"DOCKER_HOST": engine.socket})
    with opened, pytest.raises(TransportError, match=r"\(searching for 'nginx'\)") as caught:
        search_engine(opened, "nginx")
    assert "--registry" in str(caught.value.hint)


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca, server and client certificates as Docker's documentation makes them."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}-key.pem", "-out", f"{name}.pem")  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}-key.pem", "-out", f"{name}.csr")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
                "-CAcreateserial", "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
    for name, ca in (("good", "ca"), ("bad", "other")):
        (folder / name).mkdir()
        for target, source in (("ca", ca), ("cert", "client"), ("key", "client-key")):
            (folder / name / f"{target}.pem").write_bytes((folder / f"{source}.pem").read_bytes())
    return folder


@pytest.fixture
def tls_host(certificates: Path, make_proxy: Any) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server-key.pem")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    host: str = make_proxy(context).host
    return host


@pytest.mark.needs("openssl")
def test_tls(tls_host: str, certificates: Path, tmp_path: Path) -> None:
    verified = {"DOCKER_HOST": tls_host, "DOCKER_TLS_VERIFY": "1"}
    with connect({**verified, "DOCKER_CERT_PATH": str(certificates / "good")}) as engine:
        assert engine.inspect_image("no/such:image") is None
    with pytest.raises(TransportError, match="certificate is not valid: ") as caught:
        connect({**verified, "DOCKER_CERT_PATH": str(certificates / "bad")})
    assert f"checked against {certificates / 'bad' / 'ca.pem'}" in str(caught.value.hint)
    folder = make_context(tmp_path, "far", tls_host, tls=True)
    for each in (certificates / "good").iterdir():
        (folder / each.name).write_bytes(each.read_bytes())
    connect({"HOME": str(tmp_path), "DOCKER_CONTEXT": "far"}).close()


@pytest.mark.needs("openssl")
def test_tls_where_none_is_spoken(certificates: Path, make_proxy: Any) -> None:
    environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates / "good")}
    with pytest.raises(TransportError, match="TLS"):
        connect({**environ, "DOCKER_HOST": make_proxy().host})
