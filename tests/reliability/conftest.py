"""A project with every kind of step, builders as processes of their own, and what must hold after
whatever happened to them.

`RELIABILITY=full` runs every test at its full count, without it a share of seconds each (see
docs/reliability.md). `RELIABILITY_SEED` chooses the random places. Figures go to the file
`RELIABILITY_FIGURES`, one JSON document a line, where that is set.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from builder.events import Event, Warned
from builder.rootfs.table import PathTable
from builder.store.check import check
from builder.store.store import Store

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("RELIABILITY") == "full"

SPEC = """\
from: rootfs:base.tar
steps:
  - name: tree
    copy: tree/
    dest: /srv/tree/
  - name: archive
    unpack: archive.tar
    dest: /srv/archive
  - name: command
    run: |
      mkdir /out
      for n in 1 2 3 4 5; do echo $n >/out/$n; done
      rm /srv/tree/1
  - name: motd
    file: /etc/motd
    content: "{{ text }}\\n"
  - name: again
    run: cat /etc/motd >/out/motd
vars: {text: hello}
config:
  cmd: [sh]
"""


class Done(NamedTuple):
    """A builder that ended."""

    status: int
    out: str
    err: str
    seconds: float
    rss: int  # bytes at its peak

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("warning")]

    def said_clearly(self) -> Done:
        """No traceback, and no fault that the builder did not foresee; gives itself."""
        for text in (self.out, self.err):
            assert "Traceback" not in text, text
            assert "the builder itself failed" not in text, text
        return self


class Running:
    """A builder under way; its output goes to files, so nothing blocks it."""

    def __init__(self, argv: list[str], cwd: Path, env: dict[str, str]) -> None:
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115  # wait()
        self._started = time.monotonic()
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ended(self) -> bool:
        return bool(os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))

    def err(self) -> str:
        """What it has said so far."""
        return os.pread(self._err.fileno(), 1 << 24, 0).decode("utf-8", "replace")

    def _peak(self) -> int:
        """Bytes of memory at its peak so far; 0 when it has ended."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        found = re.search(r"VmHWM:\s*([0-9]+) kB", status)
        return int(found[1]) * 1024 if found else 0

    def wait(self, timeout: float = 300) -> Done:
        """Its end; one that takes longer than `timeout` seconds hangs, which is an error."""
        end = time.monotonic() + timeout
        peak = 0
        while True:
            # not ru_maxrss, which begins with the size of the process that started this one
            peak = max(peak, self._peak())
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > end:
                self.process.kill()
                self.process.wait()
                pytest.fail(f"{self.process.args!r} hangs:\n{self.err()}")
            time.sleep(0.002)
        seconds = time.monotonic() - self._started
        self.process.returncode = os.waitstatus_to_exitcode(status)
        err = self.err()
        out = os.pread(self._out.fileno(), 1 << 24, 0).decode("utf-8", "replace")
        self._out.close()
        self._err.close()
        return Done(self.process.returncode, out, err, seconds, peak)


class Scene:
    """A project folder and a store beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.store = folder / "store"
        (self.project / "specs").mkdir(parents=True)
        self.spec("site", SPEC)

    def spec(self, name: str, text: str) -> None:
        (self.project / "specs" / f"{name}.yaml").write_text(text)

    def start(self, *arguments: str, prefix: tuple[str, ...] = (), **env: str) -> Running:
        """`prefix` goes before the command: a program that changes what it sees."""
        argv = [*prefix, *self.command, *arguments]
        return Running(argv, self.project, {**self.environ(), **env})

    @property
    def command(self) -> tuple[str, ...]:
        return sys.executable, "-m", "builder"

    def environ(self) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": str(ROOT),
            "BUILDER_CACHE_DIR": str(self.store),
        }

    def run(self, *arguments: str, prefix: tuple[str, ...] = (), **env: str) -> Done:
        return self.start(*arguments, prefix=prefix, **env).wait().said_clearly()

    def build(self, *arguments: str, **env: str) -> str:
        """A build that must succeed; the digest of the image that it names last."""
        done = self.run("build", *(arguments or ("site",)), **env)
        assert done.status == 0, done.err
        return done.out.split()[-1]

    def opened(self) -> Store:
        return Store(str(self.store))

    def check_published(self) -> None:
        """Nothing that has its final name is torn, whatever was killed."""
        if not (self.store / "version").exists():
            return  # killed before there was a store
        events: list[Event] = []
        store = Store(str(self.store), events.append)
        problems = [each.text for each in check(store) if "is not there" not in each.text]
        assert not problems
        for path in (self.store / "tables").glob("*"):
            table = PathTable.open(str(path), path.name)
            assert len(list(table.subtree(b""))) == len(table)
        assert not [each for each in events if isinstance(each, Warned)]

    def check_at_rest(self) -> None:
        """No leftover, no mount and no process of a builder."""
        for name in ("tmp", "live"):
            assert os.listdir(self.store / name) == []
        assert set(os.listdir(self.store / "locks")) <= {"collector"}
        end = time.monotonic() + 5
        while self.processes():
            assert time.monotonic() < end, self.processes()
            time.sleep(0.02)

    def processes(self) -> list[str]:
        """Processes that have something mounted from here, or were started with its paths."""
        own = str(self.folder).encode()
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) == os.getpid():
                continue
            for name in ("mountinfo", "cmdline", "environ"):
                try:
                    data = Path(f"/proc/{pid}/{name}").read_bytes()
                except OSError:
                    continue
                if own in data:
                    found.append(f"{pid} {name}")
        return found


def make_base(path: Path) -> None:
    """A root file system of busybox alone."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    with tarfile.open(path, "w") as tar:
        for folder in ("bin", "etc", "tmp"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        files = [
            ("bin/busybox", busybox, 0o755),
            ("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n", 0o644),
            ("etc/group", b"root:x:0:\n", 0o644),
        ]
        for name, data, mode in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))
        for name in (
            "sh",
            "cat",
            "ls",
            "mkdir",
            "rm",
            "sleep",
            "echo",
            "ps",
            "true",
            "touch",
            "id",
        ):
            member = tarfile.TarInfo(f"bin/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(member)


@pytest.fixture(scope="session")
def base_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.tar"
    make_base(path)
    return path


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Path]:
    """A folder on tmpfs, where there is one."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="reliability-") as folder:
        yield Path(folder)


@pytest.fixture
def scene(fast: Path, base_tar: Path) -> Scene:
    made = Scene(fast)
    shutil.copy(base_tar, made.project)
    tree = made.project / "tree"
    tree.mkdir()
    for number in range(1, 41):
        (tree / str(number)).write_text(f"file {number}\n")
    (tree / "large").write_bytes(random.Random(1).randbytes(3_000_000))
    with tarfile.open(made.project / "archive.tar", "w") as tar:
        for number in range(1, 6):
            tar.add(tree / str(number), f"a/{number}")
    past = time.time() - 60  # settled: what a checkout of some time ago looks like
    for path in made.project.rglob("*"):
        os.utime(path, (past, past))
    return made


@pytest.fixture
def rounds() -> Callable[[int, int], int]:
    """How many: the share that CI runs, or the full count."""
    return lambda share, full: full if FULL else share


@pytest.fixture
def seeded() -> random.Random:
    return random.Random(os.environ.get("RELIABILITY_SEED", "1"))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Note what was measured."""

    def note(**values: Any) -> None:
        path = os.environ.get("RELIABILITY_FIGURES")
        if path:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"test": request.node.name, **values}) + "\n")

    return note


def check_layout(folder: Path, digest: str) -> int:
    """Every blob of a layout is what its name says, the manifest's are there; how many."""
    blobs = folder / "blobs" / "sha256"
    for path in blobs.iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_bytes())
    wanted = [manifest["config"], *manifest["layers"]]
    for each in wanted:
        assert (blobs / each["digest"].removeprefix("sha256:")).stat().st_size == each["size"]
    return len(wanted)


@pytest.fixture
def layout_checked() -> Callable[[Path, str], int]:
    return check_layout
