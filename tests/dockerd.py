"""A private Docker engine for tests: its own socket, data and runtime folders, no network.

A pytest plugin; the fixture `engine` lives as long as the session and ends by its own pid.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CLIENT = "/usr/bin/docker"
START = 60  # seconds


class Engine:
    """`socket` is a DOCKER_HOST value."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = f"unix://{folder}/docker.sock"

    def docker(self, *args: str, input: bytes | None = None) -> bytes:
        """What the client prints; its errors fail the test with what it said."""
        done = subprocess.run(
            [CLIENT, "-H", self.socket, *args], input=input, capture_output=True, timeout=300
        )
        assert done.returncode == 0, f"docker {' '.join(args)}: {done.stderr.decode()}"
        return done.stdout


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with running_engine() as started:
        yield started


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    for reason, there in (
        ("needs root", os.geteuid() == 0),
        ("needs dockerd, which is not installed", shutil.which("dockerd", path=path)),
        (f"needs {CLIENT}, which is not installed", os.access(CLIENT, os.X_OK)),
    ):
        if not there:
            pytest.skip(reason)
    # not below tmp_path: a socket's path has at most 107 bytes
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    try:
        process = _start(folder, path)
        try:
            yield Engine(folder)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _end_children(folder)
    finally:
        _unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, path: str) -> subprocess.Popen[bytes]:
    """The first storage driver that starts: overlay2 does not work on every file system."""
    said = b""
    (folder / "none.json").write_bytes(b"{}")  # not the system's configuration
    for driver in ("overlay2", "vfs"):
        with open(folder / f"{driver}.log", "wb") as log:
            process = subprocess.Popen(
                [
                    "dockerd",
                    *("--host", f"unix://{folder}/docker.sock"),
                    *("--data-root", str(folder / driver)),
                    *("--exec-root", str(folder / "exec")),
                    *("--pidfile", str(folder / "pid")),
                    *("--config-file", str(folder / "none.json")),
                    *("--storage-driver", driver),
                    *("--iptables=false", "--ip6tables=false", "--bridge=none"),
                ],
                env={"PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + START
        while process.poll() is None and time.monotonic() < until:
            asked = subprocess.run(
                [CLIENT, "-H", f"unix://{folder}/docker.sock", "version"], capture_output=True
            )
            if asked.returncode == 0:
                return process
            time.sleep(0.1)
        process.kill()
        process.wait()
        _end_children(folder)
        said = (folder / f"{driver}.log").read_bytes()
    pytest.fail("dockerd does not start: " + said[-2000:].decode(errors="replace"))


def _end_children(folder: Path) -> None:
    """The containerd that dockerd started, when dockerd could not end it any more."""
    try:
        pid = int((folder / "exec" / "containerd" / "containerd.pid").read_text())
        if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        pass


def _unmount_below(folder: Path) -> None:
    with open("/proc/self/mounts") as mounts:
        points = [line.split()[1] for line in mounts]
    for point in reversed([each for each in points if each.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", point], check=False)
