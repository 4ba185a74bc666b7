"""A project on a base of busybox, and the builder as a user calls it, piped or on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SECONDS = 60.0
"""That anything may take on a machine with too much to do."""


class Place:
    """A project with `base.tar` in it, and a store of its own."""

    def __init__(self, root: Path, store: Path) -> None:
        self.root, self.store = root, store
        self.terminals: list[Terminal] = []
        (root / "specs").mkdir(parents=True)

    def spec(self, text: str, name: str = "app") -> None:
        (self.root / f"specs/{name}.yaml").write_text(text)

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "builder", *arguments]

    def env(self, **more: str) -> dict[str, str]:
        return {**os.environ, "BUILDER_CACHE_DIR": str(self.store), **more}

    def call(
        self, *arguments: str, input: str = "", status: int | None = 0, **env: str
    ) -> tuple[str, str]:
        """What it says on stdout and stderr."""
        made = subprocess.run(
            self.argv(*arguments),
            cwd=self.root,
            env=self.env(**env),
            input=input,
            capture_output=True,
            text=True,
            timeout=2 * SECONDS,
        )
        assert status in (None, made.returncode), (made.returncode, made.stdout, made.stderr)
        assert "Traceback" not in made.stderr and "itself failed" not in made.stderr, made.stderr
        return made.stdout, made.stderr

    def fails(self, *arguments: str, **env: str) -> str:
        """A build that fails in a step: what it says."""
        return self.call("build", *arguments, status=1, **env)[1]

    def sh(self, *arguments: str, script: str, status: int = 0) -> str:
        """What a script prints in `builder shell ...`."""
        return self.call("shell", *arguments, input=script, status=status)[0]

    def states(self) -> list[str]:
        folder = self.store / "containers"
        return sorted(os.listdir(folder)) if folder.exists() else []


def make_base(path: Path, folder: Path, applets: bool = True) -> None:
    for name in ("bin", "etc", "root", "tmp", "srv/old/deep", "home/app"):
        (folder / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "bin/busybox")
    listed = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split() if applets else ():
        if name != "busybox":
            (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
    )
    (folder / "etc/group").write_text("root:x:0:\napp:x:1000:\nmore:x:44:app\n")
    (folder / "srv/old/deep/file").write_text("deep")
    (folder / "srv/link").symlink_to("old")
    os.chown(folder / "home/app", 1000, 1000)
    with tarfile.open(path, "w") as tar:
        tar.add(folder, ".")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_base(folder / "base.tar", folder / "root")
    return folder / "base.tar"


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the base in it; no test leaves a container."""
    return tmp_path_factory.mktemp("shared") / "store"


@pytest.fixture
def place(tmp_path: Path, base: Path, shared_store: Path) -> Iterator[Place]:
    made = Place(tmp_path / "project", shared_store)
    shutil.copy(base, made.root / "base.tar")
    yield made
    for terminal in made.terminals:
        if terminal.handle >= 0:  # of a test that failed
            os.kill(terminal.pid, signal.SIGKILL)
            terminal.end()
    for name in made.states():
        made.call("rm", "-f", name)


class Terminal:
    """The builder on a pseudo-terminal of `rows` and `columns`."""

    def __init__(self, place: Place, *arguments: str, rows: int = 33, columns: int = 77) -> None:
        self.said = b""
        self.pid, self.handle = pty.fork()
        if not self.pid:
            os.chdir(place.root)
            argv = place.argv(*arguments)
            os.execve(argv[0], argv, place.env(TERM="xterm-256color", NO_COLOR="1"))
        fcntl.ioctl(self.handle, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        place.terminals.append(self)

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    def until(self, text: str) -> str:
        """All that is said up to this, from where the last one ended."""
        end, wanted = time.monotonic() + SECONDS, text.encode()
        while wanted not in self.said:
            assert time.monotonic() < end, (text, self.said)
            assert self._read(), (text, self.said)
        found, self.said = self.said.split(wanted, 1)
        return found.decode(errors="replace").replace("\r\n", "\n")

    def _read(self) -> bool:
        if not select.select([self.handle], [], [], 1)[0]:
            return True
        try:
            chunk = os.read(self.handle, 1 << 16)
        except OSError:
            return False
        self.said += chunk
        return bool(chunk)

    def end(self) -> tuple[int, str]:
        """The status, and the rest of what is said."""
        deadline = time.monotonic() + SECONDS
        while self._read():
            assert time.monotonic() < deadline, self.said
        _, status = os.waitpid(self.pid, 0)
        os.close(self.handle)
        self.handle = -1
        return os.waitstatus_to_exitcode(status), self.said.decode(errors="replace")
