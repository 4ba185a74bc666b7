"""TLS, plain http, proxies, and errors that say what to do."""

from __future__ import annotations

import http.server
import select
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import TransportError
from builder.oci.image import Image, Platform
from builder.oci.reference import parse_reference
from builder.store.store import Store
from builder.transport.registry.network import Network
from builder.transport.registry.origin import Origin, bypasses_proxy, parse_origin, shown
from builder.transport.registry.push import Push, push_all
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings

AMD64 = Platform("linux", "amd64")
QUICK = Settings(backoff=0.02, connect_timeout=2.0)
MakeImage = Callable[..., Image]
needs_registry = pytest.mark.needs("docker-registry")


def certificate(folder: Path, name: str, host: str = "IP:127.0.0.1") -> tuple[str, str]:
    """A self-signed certificate for `host` and its key."""
    files = (str(folder / f"{name}.crt"), str(folder / f"{name}.key"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName={host}"),
            *("-out", files[0], "-keyout", files[1]),
        ],
        check=True,
        capture_output=True,
    )
    return files


@pytest.mark.needs("docker-registry", "openssl")
def test_tls_is_checked_against_the_ca_that_was_named(
    start_registry: Callable[..., str], store: Store, make_image: MakeImage, tmp_path: Path
) -> None:
    mine, other = certificate(tmp_path, "mine"), certificate(tmp_path, "other")
    registry = start_registry(tls=mine)
    reference = parse_reference(f"{registry}/a:1")
    image = make_image(store, (1, 1000))
    folder = tmp_path / "certs.d" / registry
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text(Path(mine[0]).read_text())
    for good in (
        QUICK._replace(ca_file=mine[0]),
        QUICK._replace(certs_dirs=(str(tmp_path / "certs.d"),)),
        QUICK._replace(insecure=frozenset({registry})),
        QUICK._replace(insecure=frozenset({"127.0.0.1"})),
    ):
        with Registry(good) as session:
            push_all(session, store, [Push(image, (reference,))])
            assert session.tags(reference) == ["1"]
    for bad, used in ((QUICK, "the system's CAs"), (QUICK._replace(ca_file=other[0]), other[0])):
        with Registry(bad) as session, pytest.raises(TransportError) as caught:
            session.tags(reference)
        assert f"its TLS certificate was refused by {used}" in caught.value.message
        assert caught.value.hint is not None and "SSL_CERT_FILE" in caught.value.hint


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name, why in (("ca.pem", "it holds no usable certificate"), ("gone", "No such file")):
        settings = QUICK._replace(ca_file=str(tmp_path / name))
        network = Network(settings)
        with pytest.raises(TransportError, match=why):
            network.open("GET", "https://127.0.0.1:1/v2/", {})


@needs_registry
def test_plain_http_is_spoken_on_loopback_only(registry: str) -> None:
    port = registry.partition(":")[2]
    with Registry(QUICK) as session:
        assert session.client(parse_reference(f"{registry}/a")).base == f"http://{registry}"
    network = Network(QUICK)
    assert network.may_be_plain("127.0.0.1", registry)
    assert network.may_be_plain("localhost", f"localhost:{port}")
    assert network.may_be_plain("::1", "[::1]")
    assert not network.may_be_plain("192.0.2.1", "192.0.2.1:80")
    assert not network.may_be_plain("127.0.0.1.example", "127.0.0.1.example")
    allowed = Network(QUICK._replace(insecure=frozenset({"r.example:80"})))
    assert allowed.may_be_plain("r.example", "r.example:80")
    assert not allowed.may_be_plain("r.example", "r.example")
    with pytest.raises(TransportError, match="server gave HTTP response to HTTPS client") as caught:
        network.open("GET", f"https://{registry}/v2/", {})
    assert caught.value.hint is not None and "--insecure-registry" in caught.value.hint


def test_nobody_listening_is_said_at_once() -> None:
    with Registry(QUICK) as session, pytest.raises(TransportError) as caught:
        session.tags(parse_reference("127.0.0.1:1/a"))
    assert caught.value.message == "127.0.0.1:1: Connection refused"
    assert caught.value.hint == "is the registry running, and is the port right?"


def test_an_unknown_host_is_said_at_once() -> None:
    with Registry(QUICK) as session, pytest.raises(TransportError) as caught:
        session.tags(parse_reference("nowhere.invalid/a"))
    assert caught.value.message == "nowhere.invalid: the name is not known"


@needs_registry
def test_an_unknown_tag_names_near_ones(registry: str, store: Store, make_image: MakeImage) -> None:
    name = f"{registry}/near"
    with Registry(QUICK) as session:
        references = [parse_reference(f"{name}:{tag}") for tag in ("1.25.1", "1.25.2", "stable")]
        push_all(session, store, [Push(make_image(store, (1, 10)), tuple(references))])
        with pytest.raises(TransportError) as caught:
            session.pull(parse_reference(f"{name}:1.25"), AMD64, store)
        assert caught.value.message == f"{name}:1.25: the registry has no such image"
        assert caught.value.hint is not None and "1.25.1" in caught.value.hint
        with pytest.raises(TransportError, match="no such repository"):
            session.pull(parse_reference(f"{registry}/never-heard-of:1"), AMD64, store)
        with pytest.raises(TransportError, match="no such repository"):
            session.tags(parse_reference(f"{registry}/never-heard-of"))


@needs_registry
def test_a_redirect_from_here_to_plain_http_elsewhere_is_refused(
    before: Callable[..., Any], fault: Callable[..., Any]
) -> None:
    proxy = before(
        fault("GET", "", status=302, headers={"Location": "http://elsewhere.example/x?sig=secret"})
    )
    with Registry(QUICK) as session, pytest.raises(TransportError) as caught:
        session.tags(parse_reference(f"{proxy.name}/a"))
    assert "it leads to http://elsewhere.example/x, which is not https" in caught.value.message


@needs_registry
def test_redirects_without_end_end(before: Callable[..., Any], fault: Callable[..., Any]) -> None:
    proxy = before(fault("GET", "", times=99, status=302, headers={"Location": "/v2/again"}))
    with Registry(QUICK) as session, pytest.raises(TransportError, match="more than 5 redirects"):
        session.tags(parse_reference(f"{proxy.name}/a"))


@needs_registry
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>", "is not a JSON object"),
        (b"[" * 100_000, "is not a JSON object"),
        (b'{"tags": {"a": 1}}', "is not a list of names"),
        (b'{"tags": [' + b'"x",' * 3_000_000 + b'"x"]}', "more than 8388608 bytes"),
    ],
)
def test_a_hostile_list_of_tags_is_refused(
    before: Callable[..., Any], fault: Callable[..., Any], body: bytes, says: str
) -> None:
    proxy = before(fault("GET", "", status=200, body=body))
    with Registry(QUICK) as session, pytest.raises(TransportError) as caught:
        session.tags(parse_reference(f"{proxy.name}/a"))
    assert says in caught.value.message


@needs_registry
def test_a_page_elsewhere_is_not_followed(
    before: Callable[..., Any], fault: Callable[..., Any]
) -> None:
    proxy = before(fault("GET", "", status=200, body=b'{"tags": ["a"]}'))
    proxy.faults[0].headers = {"Link": '<http://127.0.0.1:1/v2/a/tags/list>; rel="next"'}
    with Registry(QUICK) as session, pytest.raises(TransportError, match=r"elsewhere|not https"):
        session.tags(parse_reference(f"{proxy.name}/a"))


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "bypassed"),
    [
        ("", "a.example", 443, False),
        ("", "127.0.0.1", 5000, True),
        ("", "localhost", 5000, True),
        ("*", "a.example", 443, True),
        ("a.example", "a.example", 443, True),
        ("a.example", "sub.a.example", 443, True),
        (".a.example", "sub.a.example", 443, True),
        ("*.a.example", "sub.a.example", 443, True),
        ("a.example", "ba.example", 443, False),
        ("x, a.example:8443 ,y", "a.example", 8443, True),
        ("a.example:8443", "a.example", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "a.example", 443, False),
        ("bad/cidr", "a.example", 443, False),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(
    no_proxy: str, host: str, port: int, bypassed: bool
) -> None:
    assert bypasses_proxy(Origin("https", host, port), no_proxy) is bypassed


class ConnectProxy:
    """An HTTP proxy that leads every CONNECT to one address; keeps what was asked of it."""

    def __init__(self, target: str, tls: tuple[str, str] | None = None) -> None:
        self.asked: list[tuple[str, str | None]] = []
        host, _, port = target.partition(":")
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_CONNECT(self) -> None:
                proxy.asked.append((self.path, self.headers.get("Proxy-Authorization")))
                with socket.create_connection((host, int(port))) as far:
                    self.send_response_only(200)
                    self.end_headers()
                    ends = [self.connection, far]
                    while True:
                        for end in select.select(ends, [], [])[0]:
                            data = end.recv(65536)
                            if not data:
                                return
                            ends[end is self.connection].sendall(data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.needs("docker-registry", "openssl")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_registry_is_reached_through_a_proxy(
    start_registry: Callable[..., str],
    store: Store,
    new_store: Callable[[], Store],
    make_image: MakeImage,
    tmp_path: Path,
    scheme: str,
) -> None:
    tls = certificate(tmp_path, "far", "DNS:registry.example,IP:127.0.0.1")
    proxy = ConnectProxy(start_registry(tls=tls), tls if scheme == "https" else None)
    settings = QUICK._replace(
        ca_file=tls[0], proxies={"https": f"{scheme}://me:pass%21@127.0.0.1:{proxy.port}"}
    )
    reference = parse_reference("registry.example/far/away:1")
    try:
        with Registry(settings) as session:
            push_all(session, store, [Push(make_image(store, (1, 200_000)), (reference,))])
            session.pull(reference, AMD64, new_store())
    finally:
        proxy.close()
    assert set(proxy.asked) == {("registry.example:443", "Basic bWU6cGFzcyE=")}


def test_a_broken_proxy_is_named_without_its_password() -> None:
    settings = QUICK._replace(proxies={"https": "http://me:hidden@127.0.0.1:1"}, tries=1)
    with Registry(settings) as session, pytest.raises(TransportError) as caught:
        session.tags(parse_reference("registry.example/a"))
    assert "registry.example: the proxy http://127.0.0.1:1 failed" in caught.value.message
    assert "hidden" not in caught.value.message


def test_a_url_is_shown_without_user_and_query() -> None:
    assert shown("https://u:p@h/x?token=1#f") == "https://h/x"
    assert shown("http://[") == "a malformed URL"


@pytest.mark.parametrize("url", ["", "x", "ftp://h/", "http:///x", "http://u@h/", "http://h:x/"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(TransportError, match="is not an http"):
        parse_origin(url)


def test_the_source_does_not_load_the_network() -> None:
    script = (
        "import sys, builder.transport.registry.source\n"
        "loaded = {'urllib3', 'docker', 'ssl', 'http.client', 'dataclasses'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


def test_a_push_to_nowhere_names_the_image(store: Store, make_image: MakeImage) -> None:
    image = make_image(store, (1, 1000))
    with Registry(QUICK) as session, pytest.raises(TransportError) as caught:
        push_all(session, store, [Push(image, (parse_reference("nowhere.invalid/a:1"),))])
    assert caught.value.message == (
        "nowhere.invalid/a:1 cannot be pushed: nowhere.invalid: the name is not known"
    )
