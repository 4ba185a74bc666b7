"""Real registries on loopback, each with its own folder and port, ended by their process ids."""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
import random
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from builder.oci import media
from builder.oci.digest import DiffID, digest_of
from builder.oci.image import Image, Layer, Platform, empty_image
from builder.store.store import Store

AMD64 = Platform("linux", "amd64")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A server with its log, ended by its id."""

    def __init__(self, argv: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env
            )

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def wait_for(port: int, server: Process, scheme: str = "http") -> None:
    for _ in range(200):
        if server.process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"the registry did not start: {server.log.read_text()[-2000:]}")


Start = Callable[..., str]
"""start(auth="", tls=None, data=None) -> "127.0.0.1:PORT" of a fresh docker-registry; `auth` is
YAML for its config, `tls` a (certificate, key) pair, `data` a folder shared with another one."""


@pytest.fixture(scope="session")
def start_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    servers: list[Process] = []

    def start(auth: str = "", tls: tuple[str, str] | None = None, data: Path | None = None) -> str:
        folder = tmp_path_factory.mktemp("registry")
        data = data or folder / "data"
        port = free_port()
        secure = f"\n  tls: {{certificate: {tls[0]}, key: {tls[1]}}}" if tls else ""
        config = folder / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\n"
            f"storage:\n  filesystem: {{rootdirectory: {data}}}\n"
            f"http:\n  addr: 127.0.0.1:{port}\n  secret: shared{secure}\n{auth}"
        )
        servers.append(
            Process(
                ["docker-registry", "serve", str(config)],
                folder / "log",
                {"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
            )
        )
        wait_for(port, servers[-1])
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.end()


@pytest.fixture(scope="session")
def registry(start_registry: Start) -> str:
    """host:port of a docker-registry that lets anybody do anything, over plain http."""
    return start_registry()


@pytest.fixture
def new_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """A further empty store at each call."""
    stores: list[Store] = []

    def make() -> Store:
        stores.append(Store(str(tmp_path / f"store{len(stores)}")))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    return new_store()


def layer_bytes(seed: int, size: int) -> tuple[bytes, bytes]:
    """(tar, gzip) of a layer with one file of `size` random bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        entry = tarfile.TarInfo(f"data-{seed}")
        entry.size = size
        tar.addfile(entry, io.BytesIO(random.Random(seed).randbytes(size)))
    return plain.getvalue(), gzip.compress(plain.getvalue(), 1, mtime=0)


MakeImage = Callable[..., Image]


@pytest.fixture
def make_image() -> MakeImage:
    """make_image(store, (seed, size)...): an image with these layers, its blobs in the store."""

    def make(store: Store, *layers: tuple[int, int]) -> Image:
        image = empty_image(AMD64)
        for seed, size in layers:
            plain, packed = layer_bytes(seed, size)
            blob = store.put(packed, media.LAYER_GZIP)
            image = image.append(
                Layer(DiffID(str(digest_of(plain))), blob), {"created_by": f"layer {seed}"}
            )
        return image

    return make


def _load(name: str) -> ModuleType:
    """A module of this folder; tests are no package."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"registry_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


proxy = _load("proxy")


tokens = _load("tokens")


@pytest.fixture(scope="session")
def htpasswd(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The auth part of a registry's config: user `ann`, password `s3cret-pw`."""
    path = tmp_path_factory.mktemp("auth") / "htpasswd"
    path.write_text("ann:$2b$04$eYRnVAT7b5NWXNik97pXWuTCOGbU5JuHBY84aIhsxoJ5flWALsXg.\n")
    return f"auth: {{htpasswd: {{realm: 'here, and there', path: {path}}}}}\n"


@pytest.fixture
def token_server(tmp_path: Path) -> Iterator[Any]:
    server = tokens.TokenServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def fault() -> type[Any]:
    """proxy.Fault"""
    return proxy.Fault


@pytest.fixture
def before(registry: str) -> Iterator[Callable[..., Any]]:
    """before(*faults, upstream=registry): a proxy.Proxy before a registry."""
    running: list[Any] = []

    def start(*faults: Any, upstream: str = registry) -> Any:
        running.append(proxy.Proxy(upstream, list(faults)))
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Docker engine of our own, without networks; ended with all it started."""
    folder = tmp_path_factory.mktemp("engine")
    address = f"unix://{folder}/socket"
    server = Process(
        [
            "dockerd",
            *("-H", address, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"),
            *("--pidfile", f"{folder}/pid", "--bridge", "none", "--iptables=false"),
            *("--ip6tables=false", "--ip-forward=false"),
        ],
        folder / "log",
        {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
    )
    try:
        for _ in range(300):
            asked = subprocess.run(["docker", "-H", address, "version"], capture_output=True)
            if asked.returncode == 0:
                break
            if server.process.poll() is not None:
                pytest.fail(f"dockerd did not start: {server.log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield address
    finally:
        server.end()
