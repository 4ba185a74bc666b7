"""What a registry can send without end, or far too much of: each ends in an error of one line, in
bounded time and memory, with nothing in the store."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.errors import BuilderError
from builder.layer.compress import compressor
from builder.oci import media
from builder.oci.digest import Digest, digest_of
from builder.oci.image import Descriptor, Platform
from builder.oci.reference import parse_reference
from builder.store.store import Store
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings

AMD64 = Platform("linux", "amd64")
QUICK = Settings(
    backoff=0.001, tries=2, idle_timeout=1.0, commit_timeout=1.0, rate_window=0.5, rate_bytes=10_000
)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
MANIFEST = b"Content-Type: application/vnd.oci.image.manifest.v1+json\r\n"
Answer = Callable[[str], Iterator[bytes | float]]
"""The pieces of the answer to "METHOD PATH": bytes are sent, numbers are seconds to wait."""
Serving = Callable[[Answer], str]


@pytest.fixture
def serving() -> Iterator[Serving]:
    """serving(answer) -> host:port of a server that speaks plain http, one answer a connection."""
    servers: list[socket.socket] = []

    def start(answer: Answer) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError, UnicodeDecodeError):
                asked = connection.recv(65536)
                if asked[:1] not in (b"G", b"H", b"P"):
                    return  # a TLS hello
                for piece in answer(" ".join(asked.decode().split(" ", 2)[:2])):
                    if isinstance(piece, bytes):
                        connection.sendall(piece)
                    else:
                        time.sleep(piece)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def whole(body: bytes, kind: str = "application/octet-stream") -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + body


def forever(head: bytes, piece: bytes, pause: float = 0.0) -> Iterator[bytes | float]:
    yield head
    while True:
        yield piece
        if pause:
            yield pause


BLOCK = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
ENDLESS = {
    "a header": lambda: forever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.05),
    "a header line": lambda: forever(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 1000),
    "a challenge": lambda: forever(
        b"HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer ", b'realm="x",' * 100
    ),
    "a chunked body": lambda: forever(CHUNKED + MANIFEST + b"\r\n", BLOCK),
    "a body without length": lambda: forever(b"HTTP/1.1 200 OK\r\n" + MANIFEST + b"\r\n", BLOCK),
    "an error's body": lambda: forever(
        b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n", BLOCK
    ),
    "a redirect's body": lambda: forever(
        b"HTTP/1.1 302 X\r\nLocation: /y\r\nTransfer-Encoding: chunked\r\n\r\n", BLOCK
    ),
    "a chunk's length": lambda: forever(CHUNKED + MANIFEST + b"\r\n", b"0", 0.05),
    "a chunk's extension": lambda: forever(CHUNKED + MANIFEST + b"\r\n1;", b"x" * 1000),
    "trailers": lambda: forever(CHUNKED + MANIFEST + b"\r\n1\r\n{\r\n0\r\n", b"X: y\r\n", 0.05),
    "trailers at full speed": lambda: forever(
        CHUNKED + MANIFEST + b"\r\n1\r\n{\r\n0\r\n", b"X: y\r\n" * 1000
    ),
    "negative chunks": lambda: forever(CHUNKED + MANIFEST + b"\r\n", b"-5\r\nhello\r\n", 0.05),
    "drops": lambda: forever(CHUNKED + MANIFEST + b"\r\n", b"1\r\n \r\n", 0.05),
    "interim answers": lambda: forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_given_up(name: str, serving: Serving, store: Store) -> None:
    reference = parse_reference(f"{serving(lambda asked: ENDLESS[name]())}/a:1")
    for attempt in ("pull", "tags"):
        began = time.monotonic()
        with Registry(QUICK) as session, pytest.raises(BuilderError) as caught:
            if attempt == "pull":
                session.pull(reference, AMD64, store)
            else:
                session.tags(reference)
        assert time.monotonic() - began < 8, attempt  # tries and hints of a second or two
        assert caught.value.message.isprintable() and len(caught.value.message) < 1000
    assert list(store.names()) == []


def documents(layer: bytes, diff_id: str, kind: str) -> tuple[bytes, bytes]:
    """(config, manifest) of an image with this layer."""
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "config": {"mediaType": media.CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": kind, "digest": digest_of(layer), "size": len(layer)}],
    }
    return config, json.dumps(manifest).encode()


def test_a_blob_without_end_is_cut_at_its_size(serving: Serving, store: Store) -> None:
    layer = gzip.compress(b"\0" * 10240)
    config, manifest = documents(layer, "sha256:" + "0" * 64, media.LAYER_GZIP)
    sent = []

    def answer(asked: str) -> Iterator[bytes | float]:
        if "/manifests/" in asked:
            yield whole(manifest, media.MANIFEST)
        elif digest_of(config) in asked:
            yield whole(config)
        else:
            yield CHUNKED + b"\r\n"
            yield b"%x\r\n" % len(layer) + layer + b"\r\n"
            for _ in range(10_000):
                sent.append(1)
                yield BLOCK

    reference = parse_reference(f"{serving(answer)}/a:1")
    with Registry(QUICK) as session, pytest.raises(BuilderError, match="more than the"):
        session.pull(reference, AMD64, store)
    assert len(sent) < 1000  # of 32 KiB: what sockets hold
    assert not store.has(Descriptor(media.LAYER_GZIP, digest_of(layer), len(layer)))


PULLER = """
import sys
from builder.errors import BuilderError
from builder.oci.image import Platform
from builder.oci.reference import parse_reference
from builder.store.store import Store
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings
store = Store(sys.argv[1])
try:
    with Registry(Settings()) as session:
        session.pull(parse_reference(sys.argv[2]), Platform("linux", "amd64"), store)
except BuilderError as error:
    print(error.message)
store.close()
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024)
"""


def bomb(codec: str, size: int) -> bytes:
    """A layer with one file of `size` zeros, compressed."""
    squeeze = compressor(codec, 9)
    header = tarfile.TarInfo("zeros")
    header.size = size
    members = squeeze(bytes(1 << 20)) * (size >> 20)
    return squeeze(header.tobuf()) + members + squeeze(bytes(1024))


@pytest.mark.parametrize(("codec", "limit"), [("zstd", 200_000), ("gzip", 1_200_000)])
def test_a_bomb_takes_neither_memory_nor_disk(
    codec: str, limit: int, serving: Serving, tmp_path: Path
) -> None:
    """1 GiB out of some kB. Its config lies about the diff_id, which shows at the end only."""
    layer = bomb(codec, 1 << 30)
    assert len(layer) < limit
    config, manifest = documents(layer, "sha256:" + "0" * 64, media.LAYER_OF_CODEC[codec])
    answers = {digest_of(config): config, digest_of(layer): layer}

    def answer(asked: str) -> Iterator[bytes | float]:
        if "/manifests/" in asked:
            yield whole(manifest, media.MANIFEST)
        else:
            yield whole(answers[Digest(asked.rpartition("/")[2])])

    pulled = subprocess.run(
        [sys.executable, "-c", PULLER, str(tmp_path / "store"), f"{serving(answer)}/a:1"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    message, peak = pulled.stdout.splitlines()
    assert "unpacked it is sha256:" in message
    assert int(peak) < 80  # MiB
    left = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in left) < 100_000


def test_ten_thousand_layers_are_refused_before_any_is_asked_for(
    serving: Serving, store: Store
) -> None:
    diff_ids = [f"sha256:{number:064x}" for number in range(10_000)]
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": media.CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [
            {"mediaType": media.LAYER_GZIP, "digest": each, "size": 100} for each in diff_ids
        ],
    }
    asked_for = []

    def answer(asked: str) -> Iterator[bytes | float]:
        asked_for.append(asked)
        body = json.dumps(manifest).encode()
        yield whole(body, media.MANIFEST) if "/manifests/" in asked else whole(config)

    reference = parse_reference(f"{serving(answer)}/a:1")
    with Registry(QUICK) as session, pytest.raises(BuilderError, match="10000 layers, at most"):
        session.pull(reference, AMD64, store)
    assert not [asked for asked in asked_for if "/manifests/" not in asked]


HUGE = 60_000  # bytes of a header line; http.client takes 65,536


@pytest.mark.parametrize(
    "header",
    [
        b"WWW-Authenticate: Bearer " + b'a="b",' * (HUGE // 6),
        b"WWW-Authenticate: " + b"Basic, " * (HUGE // 7),
        b'WWW-Authenticate: Bearer realm="' + b"\\" * HUGE,
        b'WWW-Authenticate: Bearer realm="http://127.0.0.1:1/' + b"x" * HUGE + b'"',
        b'WWW-Authenticate: Bearer realm="http://127.0.0.1:1/",scope="' + b"a:b:c " * 9000 + b'"',
        b"\r\n".join([b"WWW-Authenticate: Bearer " + b'a="b",' * 9000] * 90),
    ],
    ids=range(6),
)
def test_a_huge_challenge_is_refused_soon(header: bytes, serving: Serving, tmp_path: Path) -> None:
    refusing = b"HTTP/1.1 401 X\r\n" + header + b"\r\nContent-Length: 0\r\n\r\n"
    name = serving(lambda asked: iter([refusing]))
    login = tmp_path / "config.json"
    login.write_text(json.dumps({"auths": {name: {"auth": "YW5uOnMzY3JldC1wdw=="}}}))
    began = time.monotonic()
    settings = QUICK._replace(auth_files=(str(login),))
    with Registry(settings) as session, pytest.raises(BuilderError) as caught:
        session.tags(parse_reference(f"{name}/a"))
    assert time.monotonic() - began < 3
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    "link",
    [
        b"<" * HUGE,
        b"<" + b"x" * HUGE + b'>; rel="next"',
        b"<x>;" + b" " * HUGE + b'rel="next"',
        b"<x>" + b"; rel" * (HUGE // 5),
        b", ".join([b'</v2/a/tags/list?last=x>; rel="prev"'] * (HUGE // 40)),
    ],
    ids=range(5),
)
def test_a_huge_link_takes_no_time(link: bytes, serving: Serving) -> None:
    page = whole(b'{"tags": ["a"]}').replace(b"\r\n", b"\r\nLink: " + link + b"\r\n", 1)
    began = time.monotonic()
    with Registry(QUICK) as session, contextlib.suppress(BuilderError):
        assert set(session.tags(parse_reference(f"{serving(lambda asked: iter([page]))}/a"))) == {
            "a"
        }
    assert time.monotonic() - began < 3


def test_pages_without_end_end(serving: Serving) -> None:
    pages = iter(range(10**9))

    def answer(asked: str) -> Iterator[bytes | float]:
        names = ", ".join(f'"{number}"' for number in range(1000))
        link = b'\r\nLink: </v2/a/tags/list?last=%d>; rel="next"\r\n' % next(pages)
        yield whole(f'{{"tags": [{names}]}}'.encode()).replace(b"\r\n", link, 1)

    with Registry(QUICK) as session:
        assert len(session.tags(parse_reference(f"{serving(answer)}/a"))) == 100_000


def test_hosts_that_lead_to_each_other_are_left(serving: Serving) -> None:
    heard: list[str] = []
    names: list[str] = []

    def start(other: int) -> str:
        def answer(asked: str) -> Iterator[bytes | float]:
            heard.append(asked)
            yield (
                f"HTTP/1.1 307 X\r\nLocation: http://{names[other]}/v2/a/tags/list\r\n"
                "Content-Length: 0\r\nConnection: close\r\n\r\n"
            ).encode()

        return serving(answer)

    names += [start(1), start(0)]
    with Registry(QUICK) as session, pytest.raises(BuilderError, match="more than 5 redirects"):
        session.tags(parse_reference(f"{names[0]}/a"))
    assert len(heard) == 6
