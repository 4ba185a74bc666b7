"""A server that answers nonsense gets an error of one line, never a traceback, and no long wait."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from builder.errors import BuilderError
from builder.oci.image import Image, Platform
from builder.oci.reference import parse_reference
from builder.store.store import Store
from builder.transport.registry.push import Push, push_all
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings

QUICK = Settings(backoff=0.001, tries=2, idle_timeout=1.0, commit_timeout=1.0)
OK = b"HTTP/1.1 200 OK\r\n"
KIND = b"Content-Type: application/vnd.oci.image.manifest.v1+json\r\n"
Answering = Callable[[bytes], str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """answering(data) -> host:port of a server that says `data` to every request, and hangs up."""
    servers: list[socket.socket] = []

    def start(data: bytes) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        asked = connection.recv(65536)
                        if asked[:1] in b"GHP":  # not a TLS hello
                            connection.sendall(data)
                    except OSError:
                        pass

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_a_header_that_comes_drop_by_drop_is_given_up() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if connection.recv(65536)[:1] != b"G":
                return
            connection.sendall(OK)
            for number in range(200):
                connection.sendall(b"X-%d: y\r\n" % number)
                time.sleep(0.1)

    threading.Thread(target=serve, daemon=True).start()
    reference = parse_reference(f"127.0.0.1:{server.getsockname()[1]}/a")
    began = time.monotonic()
    with Registry(QUICK) as session, pytest.raises(BuilderError):
        session.tags(reference)
    assert time.monotonic() - began < 6  # two tries of a second
    server.shutdown(socket.SHUT_RDWR)
    server.close()


NONSENSE = [
    b"",
    b"\0" * 1000,
    b"HTTP/1.1\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n",
    b"HTTP/1.1 99999 X\r\n\r\n",
    b"HTTP/1.1 abc X\r\n\r\n",
    OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    OK + b"X: y\r\n" * 500 + b"\r\n",
    OK + b"Content-Length: -5\r\n\r\n",
    OK + b"Content-Length: 1, 2\r\n\r\nab",
    OK + b"Content-Length: 99999999999999999999\r\n\r\nab",
    OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab",
    OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    OK + KIND + b"Content-Length: 2\r\n\r\n{}",
    OK + KIND + b"Content-Length: 4\r\n\r\nnull",
    OK + KIND + b"Docker-Content-Digest: nonsense\r\nContent-Length: 2\r\n\r\n{}",
    OK + b"Content-Type: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 302 X\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:99999/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 X\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1\x01/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 X\r\nLocation: https://" + b"a" * 300 + b"/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 202 X\r\nLocation: \\\\x\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer realm=\r\nContent-Length: 0\r\n\r\n",
    b'HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer realm="http://127.0.0.1:x/"\r\n\r\n',
    b"HTTP/1.1 401 X\r\nWWW-Authenticate: \xff\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 X\r\nRetry-After: Fri, 99 Foo 9999\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 X\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 X\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 404 X\r\nContent-Length: 22\r\n\r\n{'errors': [1, null]}\n",
    b'HTTP/1.1 404 X\r\nContent-Length: 22\r\n\r\n{"errors": [1, null]}\n',
    b'HTTP/1.1 404 X\r\nContent-Length: 28\r\n\r\n{"errors": [{"code": null}]}',
]
NONSENSE += [OK + random.Random(seed).randbytes(300) for seed in range(5)]


@pytest.mark.parametrize("data", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_an_error(
    data: bytes,
    answering: Answering,
    store: Store,
    make_image: Callable[..., Image],
) -> None:
    reference = parse_reference(f"{answering(data)}/a:1")
    image = make_image(store, (1, 1000))
    with Registry(QUICK) as session, pytest.raises(BuilderError) as caught:
        session.pull(reference, Platform(), store)
    said = [caught.value.message]
    for attempt in (
        lambda session: session.tags(reference),
        lambda session: session.digest(reference),
        lambda session: push_all(session, store, [Push(image, (reference,))]),
    ):
        with Registry(QUICK) as session:
            try:  # what says yes to everything is believed
                attempt(session)
            except BuilderError as error:
                said.append(error.message)
    for message in said:
        assert message.isprintable() and len(message) < 1000
