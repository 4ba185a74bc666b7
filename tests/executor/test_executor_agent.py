"""ssh agents for steps: the real ssh-agent and ssh-add at both ends."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import BuilderError
from builder.executor.agent import Agents

pytestmark = pytest.mark.needs("ssh-agent", "ssh-add", "ssh-keygen")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    path = tmp_path / "folders"
    path.mkdir()
    return path


def agents(folders: Path, given: dict[str, str], environ: dict[str, str] | None = None) -> Agents:
    return Agents(given, environ or {}, lambda: tempfile.mkdtemp(dir=folders))


@pytest.fixture
def served(folders: Path, key: Path) -> Iterator[str]:
    own = agents(folders, {"default": str(key)})
    try:
        with own.forwarded("default", os.getuid(), os.getgid()) as path:
            yield path
    finally:
        own.close()
        assert list(folders.iterdir()) == []


def add(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SSH_AUTH_SOCK": path, "SSH_ASKPASS_REQUIRE": "never"}
    return subprocess.run(
        ["ssh-add", *arguments], env=env, text=True, capture_output=True, input="p\n"
    )


def test_keys_are_told_and_used_and_not_changed(served: str, key: Path, tmp_path: Path) -> None:
    public = key.with_suffix(".pub").read_text().split()[1]
    assert public in add(served, "-L").stdout
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    for arguments in (["-D"], ["-d", str(key)], [str(other)], ["-X"], ["-x"]):
        assert add(served, *arguments).returncode != 0, arguments
    assert add(served, "-L").stdout.count("ssh-") == 1
    (tmp_path / "text").write_text("signed")
    sign = ["ssh-keygen", "-Y", "sign", "-n", "x", "-f", str(key) + ".pub", str(tmp_path / "text")]
    key.unlink()
    subprocess.run(sign, env={**os.environ, "SSH_AUTH_SOCK": served}, check=True)
    assert (tmp_path / "text.sig").exists()


@pytest.mark.parametrize(
    "message",
    [b"", b"\0", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1\x11",
     b"\0\0\0\1\x1b", b"\0\0\0\5\x0b",
     os.urandom(1000), b"\0\0\0\1\x0b" * 100],
)  # fmt: skip
def test_hostile_clients_are_nobodys_trouble(served: str, message: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(served)
        client.sendall(message)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(5)
        try:
            while client.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
    assert add(served, "-l").returncode == 0


def test_many_connections_and_one_that_stays_end_with_the_step(folders: Path, key: Path) -> None:
    own = agents(folders, {"a": str(key)})
    clients = []
    with own.forwarded("a", os.getuid(), os.getgid()) as path:
        for _ in range(200):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(5)
            with contextlib.suppress(BlockingIOError):  # more than are waited for
                client.connect(path)
            clients.append(client)
    before = time.monotonic()
    for client in clients:
        try:
            assert client.recv(1) == b""
        except (ConnectionResetError, OSError):
            pass
        client.close()
    assert time.monotonic() - before < 5
    own.close()
    assert not [each for each in threading.enumerate() if "_serve" in each.name]
    assert list(folders.iterdir()) == []


def test_the_users_own_agent(folders: Path, key: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "own")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        while not os.path.exists(path):
            time.sleep(0.01)
        own = agents(folders, {}, {"SSH_AUTH_SOCK": path})
        with pytest.raises(BuilderError, match="holds no key"):
            own.path("default")
        assert add(path, str(key)).returncode == 0
        with own.forwarded("default", os.getuid(), os.getgid()) as forwarded:
            assert forwarded != path and add(forwarded, "-l").returncode == 0
        assert agents(folders, {"a": path}).path("a") == path
    finally:
        agent.terminate()
        agent.wait()


def test_agents_that_do_not_answer(folders: Path, key: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "pass", "-f", locked], check=True)
    dead, mute, other = (str(tmp_path / name) for name in ("dead", "mute", "other"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(dead)
    silent, wrong = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    silent.bind(mute)
    silent.listen()
    wrong.bind(other)
    wrong.listen()

    def answer() -> None:
        peer, _ = wrong.accept()
        peer.recv(5)
        peer.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        peer.close()

    threading.Thread(target=answer, daemon=True).start()
    cases: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
        "none": ({}, {}, "SSH_AUTH_SOCK is not set"),
        "gone": ({}, {"SSH_AUTH_SOCK": str(tmp_path / "gone")}, "No such file"),
        "dead": ({}, {"SSH_AUTH_SOCK": dead}, "Connection refused"),
        "mute": ({"default": mute}, {}, "does not answer"),
        "other": ({"default": other}, {}, "message that is none"),
        "no key": ({"default": str(tmp_path / "text")}, {}, "is no key that can be used"),
        "a passphrase": ({"default": str(locked)}, {}, "is no key that can be used"),
        "no file": ({"default": str(tmp_path / "no")}, {}, "No such file"),
        "a folder": ({"default": str(tmp_path)}, {}, "not a regular file"),
        "one of two": ({"default": f"{key},{tmp_path / 'text'}"}, {}, "is no key"),
        "not given": ({"other": str(key)}, {"SSH_AUTH_SOCK": ""}, "SSH_AUTH_SOCK is not set"),
    }  # fmt: skip
    for case, (given, environ, says) in cases.items():
        own = agents(folders, given, environ)
        with pytest.raises(BuilderError) as caught:
            own.path("default")
        assert says in caught.value.message and "\n" not in caught.value.message, case
        assert caught.value.hint, case
        own.close()
        assert list(folders.iterdir()) == [], case
    with pytest.raises(BuilderError, match="'work' is not given"):
        agents(folders, {}, {"SSH_AUTH_SOCK": mute}).path("work")
