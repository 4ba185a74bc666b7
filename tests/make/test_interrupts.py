"""Ctrl-C and SIGTERM end a parallel build within two seconds, whatever it is doing, and nothing of
it stays: no process, no mount, no cgroup, no temporary file."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

BASE = "from: rootfs:base.tar\n"
SECONDS = 2.0
BOTH = ((signal.SIGINT, 130), (signal.SIGTERM, 143))
Until = Callable[..., None]


class Left:
    """The processes below one, and their cgroups, as they were; what of them is there still."""

    def __init__(self, top: int) -> None:
        parents: dict[int, list[tuple[int, str]]] = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = stat_of(int(path.name))
                parents.setdefault(int(fields[1]), []).append((int(path.name), fields[19]))
        self.processes: list[tuple[int, str]] = []
        todo = [top]
        while todo:
            found = parents.get(todo.pop(), [])
            self.processes += found
            todo += [number for number, _ in found]
        self.groups = set()
        for number, _ in self.processes:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{number}/cgroup").read_text().splitlines():
                    _, names, path = line.split(":", 2)
                    if "builder" in path:
                        self.groups.add(f"/sys/fs/cgroup/{names or 'unified'}{path}")

    def still(self) -> list[str]:
        found = [group for group in self.groups if os.path.exists(group)]
        for number, begun in self.processes:
            with contextlib.suppress(OSError):
                fields = stat_of(number)
                if fields[19] == begun and fields[0] not in "ZX":
                    found.append(Path(f"/proc/{number}/cmdline").read_text())
        return found


def stat_of(number: int) -> list[str]:
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()


def end(scene: Any, process: subprocess.Popen[str], number: signal.Signals, status: int) -> None:
    """Interrupt it and look that nothing is left."""
    left = Left(process.pid)
    started = time.monotonic()
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    took = time.monotonic() - started
    err = err or (scene.root / "said").read_text()
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert process.returncode == status, (process.returncode, out, err)
    assert err.splitlines()[-1:] == [word], err
    for text in ("Traceback", "Exception in thread", "Exception ignored", "itself failed"):
        assert text not in err, err
    assert took < SECONDS, (took, err)
    assert left.still() == []
    assert str(scene.store) not in Path("/proc/self/mounts").read_text()
    assert [*scene.store.glob("tmp/*"), *scene.store.glob("live/*")] == []
    assert {path.name for path in scene.store.glob("locks/*")} <= {"collector"}, took


@pytest.mark.parametrize("executor", ["sandbox", "runc", "chroot", "docker"])
@pytest.mark.parametrize(("number", "status"), BOTH, ids=["int", "term"])
def test_while_commands_run(
    scene: Any,
    until: Until,
    executor: str,
    number: signal.Signals,
    status: int,
    request: pytest.FixtureRequest,
) -> None:
    env = {}
    if executor == "docker":
        env["DOCKER_HOST"] = request.getfixturevalue("engine").socket
    for name in "abc":
        text = f"- run: trap '' INT TERM; echo begun; echo {name} >/o; sleep 4711; sleep 4711\n"
        scene.spec(name, f"{BASE}steps:\n{text}")
    process = scene.start(
        "build", "--jobs", "3", "--executor", executor, "--progress", "plain", env=env,
        said=scene.root / "said",
    )  # fmt: skip
    wanted = 1 if executor == "docker" else 3  # one engine client, in turn
    said = scene.root / "said"
    until(lambda: said.read_text().count("| begun\n") >= wanted or process.poll() is not None)
    end(scene, process, number, status)
    if executor == "docker":
        engine = request.getfixturevalue("engine")
        assert engine.docker("ps", "--all", "--quiet").decode().split() == []


def test_while_commands_print_without_end(scene: Any, until: Until) -> None:
    for name in "abc":
        scene.spec(name, f"{BASE}steps:\n- run: while echo {name}; do true; done\n")
    process = scene.start("build", "--jobs", "3", said=scene.root / "said")
    until(lambda: (scene.root / "said").stat().st_size > 1 << 20 or process.poll() is not None)
    end(scene, process, *BOTH[0])


@pytest.mark.parametrize(("number", "status"), BOTH, ids=["int", "term"])
def test_while_a_lock_is_waited_for(
    scene: Any, until: Until, number: signal.Signals, status: int
) -> None:
    """Another builder holds a step of one image and sleeps; two of ours wait for it."""
    scene.spec("a", f"{BASE}steps:\n- run: echo begun; sleep 4712\n")
    scene.spec("b", f"{BASE}steps:\n- run: echo begun; sleep 4712\n- run: 'true'\n")
    other = scene.start("build", "a", said=scene.root / "said-too")
    try:
        until(lambda: "| begun\n" in (scene.root / "said-too").read_text())
        process = scene.start("build", "--jobs", "2", said=scene.root / "said")
        until(lambda: "waiting for" in (scene.root / "said").read_text())
        started = time.monotonic()
        process.send_signal(number)
        process.wait(30)
        took = time.monotonic() - started
        assert process.returncode == status
        said = (scene.root / "said").read_text()
        assert "Traceback" not in said and "Exception" not in said, said
        assert took < SECONDS, took
        assert len(os.listdir(scene.store / "live")) == 1
    finally:
        other.send_signal(signal.SIGINT)
        other.wait(30)


def test_while_layers_are_written(scene: Any, until: Until) -> None:
    for name in "abc":
        folder = scene.root / name
        folder.mkdir()
        for number in range(4):
            (folder / str(number)).write_bytes(os.urandom(60 << 20))
        scene.spec(name, f"from: scratch\nsteps:\n- copy: {name}\n  dest: /srv\n")
    process = scene.start("build", "--jobs", "3", "--compression", "gzip:9",
                          said=scene.root / "said")  # fmt: skip
    until(lambda: size_below(scene.store / "tmp") > 8 << 20 or process.poll() is not None)
    end(scene, process, *BOTH[0])


def test_while_bases_are_read_and_copies_hashed(scene: Any, until: Until) -> None:
    large = io.BytesIO(os.urandom(1 << 20) * 300)
    with tarfile.open(scene.root / "large.tar", "w") as tar:
        member = tarfile.TarInfo("large")
        member.size = 300 << 20
        tar.addfile(member, large)
    (scene.root / "tree").mkdir()
    for number in range(300):
        (scene.root / f"tree/{number}").write_bytes(os.urandom(1 << 20))
    scene.spec("a", "from: rootfs:large.tar\nsteps:\n- copy: tree\n  dest: /srv\n")
    process = scene.start("build", "--jobs", "2", said=scene.root / "said")
    until(lambda: size_below(scene.store / "tmp") > 1 << 20 or process.poll() is not None)
    end(scene, process, *BOTH[0])


def test_while_a_large_base_is_unpacked(scene: Any, until: Until) -> None:
    with tarfile.open(scene.root / "base.tar", "a") as tar:
        for number in range(40_000):
            member = tarfile.TarInfo(f"srv/{number % 100}/{number}")
            member.size = 3000
            tar.addfile(member, io.BytesIO(b"x" * 3000))
    scene.spec("a", f"{BASE}steps:\n- run: 'true'\n")
    scene.spec("b", BASE)
    scene.run("build", "b")
    process = scene.start("build", "a", "--jobs", "2", said=scene.root / "said")
    until(
        lambda: (
            sum(len(files) for _, _, files in os.walk(scene.store / "tmp")) > 1000
            or process.poll() is not None
        )
    )
    end(scene, process, *BOTH[0])


@pytest.fixture
def slow_registry(scene: Any) -> Iterator[tuple[str, threading.Event]]:
    """host:port of what serves the image `b` of another store, its layer a kilobyte at a time, and
    whether it is at that."""
    sending = threading.Event()
    scene.spec("b", BASE)
    made = scene.build("b")["b"]
    (scene.root / "specs/b.yaml").unlink()
    blobs = scene.store.rename(scene.store.with_name("served")) / "blobs/sha256"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2].removeprefix("sha256:")
            is_manifest = "/manifests/" in self.path
            if self.path.rstrip("/") == "/v2":
                data = b"{}"
            else:
                name = made["digest"][7:] if is_manifest else name
                data = (blobs / name).read_bytes()
            self.send_response(200)
            if is_manifest:
                self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                self.send_header("Docker-Content-Digest", made["digest"])
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            slow = len(data) > 100_000
            with contextlib.suppress(OSError):
                for at in range(0, len(data) if self.command == "GET" else 0, 1024):
                    self.wfile.write(data[at : at + 1024])
                    if slow:
                        sending.set()
                        time.sleep(0.2)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", sending
        server.shutdown()


@pytest.mark.parametrize(("number", "status"), BOTH, ids=["int", "term"])
def test_while_a_base_is_pulled(
    scene: Any,
    until: Until,
    slow_registry: tuple[str, threading.Event],
    number: signal.Signals,
    status: int,
) -> None:
    host, sending = slow_registry
    for name in "ab":
        scene.spec(name, f"from: {host}/some/image:1\nsteps:\n- run: echo {name}\n")
    process = scene.start(
        "build", "--insecure-registry", host, "--jobs", "2", said=scene.root / "said"
    )
    until(lambda: sending.is_set() or process.poll() is not None)
    time.sleep(0.5)
    end(scene, process, number, status)


@pytest.fixture
def silent() -> Iterator[str]:
    """host:port of what takes every connection and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_while_a_registry_is_silent(scene: Any, silent: str) -> None:
    for name in "ab":
        scene.spec(name, f"from: {silent}/some/image:1\nsteps:\n- run: echo {name}\n")
    process = scene.start(
        "build", "--insecure-registry", silent, "--jobs", "2", said=scene.root / "said"
    )
    time.sleep(1.5)
    end(scene, process, *BOTH[0])


@pytest.mark.needs("mmdebstrap")
@pytest.mark.parametrize(("number", "status"), BOTH, ids=["int", "term"])
def test_while_debootstrap_runs(
    scene: Any, until: Until, silent: str, number: signal.Signals, status: int
) -> None:
    base = f"from: {{debootstrap: bookworm, mirror: 'http://{silent}/debian'}}\n"
    scene.spec("a", base)
    scene.spec("b", f"{BASE}steps:\n- run: echo begun; sleep 4713\n")
    process = scene.start("build", "--jobs", "2", "--progress", "plain", said=scene.root / "said")
    said = scene.root / "said"
    until(
        lambda: (
            ("apt-get update" in said.read_text() and "| begun" in said.read_text())
            or process.poll() is not None
        )
    )
    end(scene, process, number, status)


def size_below(folder: Path) -> int:
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size
    return total
