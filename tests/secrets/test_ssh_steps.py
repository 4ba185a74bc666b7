"""`ssh` mounts: git clones from a real sshd on loopback, within a step."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("busybox", "sshd", "ssh", "ssh-agent", "ssh-keygen", "git"),
]
SSHD = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin") or ""


class Server:
    """An sshd that takes one key, and a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("host", "key"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(make, check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        kind, public = (folder / "host.pub").read_text().split()[:2]
        self.known = f"[127.0.0.1]:{self.port} {kind} {public}"
        self.address = f"ssh://root@127.0.0.1:{self.port}{folder}/repository"
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder / "repository")]
        subprocess.run(["git", "init", "-q", folder / "repository"], check=True)
        (folder / "repository" / "hello").write_text("from the server\n")
        subprocess.run([*git, "add", "hello"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)

    def start(self) -> subprocess.Popen[bytes]:
        options = {
            "AuthorizedKeysFile": f"{self.folder}/key.pub", "StrictModes": "no", "PidFile": "none",
            "UsePAM": "no", "PermitRootLogin": "prohibit-password", "ListenAddress": "127.0.0.1",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        command = [
            SSHD,
            "-D",
            "-e",
            "-f",
            "none",
            "-p",
            str(self.port),
            "-h",
            f"{self.folder}/host",
        ]
        # it wants a folder below /run, and looks at root's account
        script = 'mount -t tmpfs none /run && mkdir /run/sshd && exec "$@"'
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", *command, *words],
            stdout=subprocess.DEVNULL,
            stderr=open(self.folder / "log", "wb"),  # noqa: SIM115
        )
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return process
            assert process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    process = made.start()
    try:
        yield made
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def project(base: Any) -> Any:
    """The base with git and ssh in it."""
    with tarfile.open(base.root / "base.tar", "a") as tar:
        wanted = {}
        for tool in ("/usr/bin/git", "/usr/bin/ssh", "/usr/bin/ssh-add"):
            listed = subprocess.run(["ldd", tool], capture_output=True, text=True, check=True)
            words = [word for word in listed.stdout.split() if word.startswith("/")]
            wanted.update(dict.fromkeys([tool, *words]))
        for path in wanted:
            tar.add(os.path.realpath(path), path)
    return base


CLONES = """
from: rootfs:base.tar
steps:
  - {file: /etc/ssh/ssh_known_hosts, content: "@known"}
  - run: |
      test -S "$SSH_AUTH_SOCK"; test ! -e @own
      ssh-add -l; ! ssh-add -D
      git clone -q @address /tmp/clone
      cat /tmp/clone/hello
    user: @user
    mounts: [@mount]
"""


def spec(server: Server, user: str = "root", mount: str = "ssh", own: str = "/nowhere") -> str:
    text = CLONES.replace("@known", server.known).replace("@address", server.address)
    return text.replace("@user", user).replace("@mount", mount).replace("@own", own)


@pytest.mark.parametrize("executor", ["sandbox", "runc"])
def test_a_clone_with_a_key_of_a_file(project: Any, server: Server, executor: str) -> None:
    key = str(server.folder / "key")
    for user, mount, name in (("root", "ssh", "default"), ("web", "{ssh: work}", "work")):
        project.spec("x", spec(server, user, mount))
        said = project.run("build", "--executor", executor, "--ssh", f"{name}={key}",
                           "--progress", "plain", "-o", "tar:out.tar")  # fmt: skip
        assert "from the server" in said.stderr
        with tarfile.open(project.root / "out.tar") as tar:
            names = tar.getnames()
        assert "tmp/clone/hello" in names and not [each for each in names if "agent" in each]
    assert _agents(project.store) == []


def _below(pid: int, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd").startswith(str(folder))
    except OSError:
        return False


def test_the_agent_of_the_caller(project: Any, server: Server, tmp_path: Path) -> None:
    path = str(tmp_path / "own")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        while not os.path.exists(path):
            time.sleep(0.01)
        project.spec("x", spec(server, own=path))
        env = {"SSH_AUTH_SOCK": path}
        told = project.run("build", status=2, env=env).stderr
        assert "holds no key" in told and "x.yaml:11:" in told and "hint: ssh-add" in told, told
        add = ["ssh-add", "-q", str(server.folder / "key")]
        subprocess.run(add, env={**os.environ, **env}, check=True)
        assert "from the server" in project.run("build", "--progress", "plain", env=env).stderr
        # a hit needs no agent, and nobody else's is part of what it is
        project.run("build", env={"SSH_AUTH_SOCK": ""})
        project.spec("x", spec(server, own=path) + "  - run: ssh-add -l\n")
        assert project.run("build", status=1, env=env).stderr
    finally:
        agent.terminate()
        agent.wait()


def test_a_host_that_is_not_known_is_not_believed(project: Any, server: Server) -> None:
    project.spec("x", spec(server).replace(server.known, "other.example ssh-ed25519 AAAA"))
    told = project.run("build", "--ssh", f"default={server.folder}/key", status=1).stderr
    assert "Host key verification failed" in told, told


def test_executors_that_cannot(project: Any, server: Server, engine: Any) -> None:
    project.spec("x", spec(server))
    key = f"default={server.folder}/key"
    for executor in ("docker", "chroot"):
        env = {"DOCKER_HOST": engine.socket}
        done = project.run("build", "--executor", executor, "--ssh", key, status=1, env=env)
        assert f"could not be run: {executor}: " in done.stderr and "hint:" in done.stderr
    project.spec("x", "from: rootfs:base.tar\nsteps: [{run: x, mounts: [{secret: a, env: A}]}]\n")
    done = project.run("build", "--executor", "chroot", "--secret", "a=base.tar", status=2)
    assert "more than 512000 bytes" in done.stderr
    done = project.run("build", "--executor", "chroot", "--secret", "a=specs/x.yaml", status=1)
    assert "could not be run: chroot: mounts need namespaces" in done.stderr


def test_an_agent_of_ours_ends_with_a_builder_that_is_killed(project: Any, server: Server) -> None:
    project.spec(
        "x", "from: rootfs:base.tar\nsteps: [{run: 'echo RUN; sleep 60', mounts: [ssh]}]\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "builder", "build", "--ssh", f"default={server.folder}/key",
         "--progress", "plain"],
        cwd=project.root, env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)},
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stderr is not None
    while b"RUN" not in process.stderr.readline():
        pass
    (agent,) = _agents(project.store)
    process.kill()
    process.communicate()
    until = time.monotonic() + 30  # it looks every ten seconds
    while os.path.exists(f"/proc/{agent}") and time.monotonic() < until:
        time.sleep(0.2)
    assert not os.path.exists(f"/proc/{agent}")


def _agents(store: Path) -> list[str]:
    """Those whose parent, what they were started with, is in a folder of the store."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes()
            parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if words.startswith(b"ssh-agent\0-a") and _below(int(parent), store):
            found.append(name)
    return found
