"""A small image of busybox, and executors over it."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from builder.executor.base import Command, Executor, Parent
from builder.executor.chroot import Chroot
from builder.executor.runc import Runc
from builder.executor.sandbox import Sandbox
from builder.layer.entry import Entry, HostFile
from builder.oci.image import Layer, empty_image, host_platform
from builder.rootfs.layers import Layers

EPOCH = 315532800
OLD = 300000000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_rootfs(root: Path) -> Path:
    for folder in ("bin", "etc", "lib64", "root", "tmp", "srv/old/deep", "srv/kept", "usr/sbin"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    listed = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    for tool in ("/usr/sbin/setcap", "/usr/bin/setfattr"):
        copy_program(tool, root)
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
    )
    (root / "srv/old/file").write_text("old")
    (root / "srv/old/deep/file").write_text("deep")
    (root / "srv/kept/a").write_text("same")
    (root / "srv/kept/b").write_text("other")
    (root / "srv/link").symlink_to("kept")
    (root / "srv/one").write_text("twin")
    os.link(root / "srv/one", root / "srv/two")
    (root / "tmp").chmod(0o1777)
    for path in (root, *root.rglob("*")):
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    return root


def copy_program(tool: str, root: Path) -> None:
    if not Path(tool).exists():
        return
    listed = subprocess.run(["ldd", tool], capture_output=True, text=True, check=True).stdout
    for each in [tool, *(word for word in listed.split() if word.startswith("/"))]:
        target = root / each.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(each, target)


@pytest.fixture
def add_program() -> Callable[[str, Path], None]:
    """Copies a program of the host, with its libraries, into a root file system."""
    return copy_program


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rootfs(tmp_path_factory.mktemp("image") / "layer")


class Folders(Layers):
    """Folders in the place of unpacked layers."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(map(str, folders))

    def lowers(self, layers: Sequence[Layer], *, privileged: bool) -> tuple[str, ...]:
        return self._folders


class Runner:
    """Runs shell text over lower dirs and keeps what came out."""

    def __init__(self, kind: str, lowers: tuple[Path, ...], folder: Path) -> None:
        self.lowers = lowers
        self.folder = folder
        self.warnings: list[str] = []
        self.output = b""
        self.executor = self._make(kind)

    def _make(self, kind: str) -> Executor:
        numbers = itertools.count()

        def temporary() -> str:
            path = self.folder / f"step{next(numbers)}"
            path.mkdir()
            return str(path)

        if kind == "chroot":
            return Chroot(temporary, self.warnings.append)
        if kind == "runc":
            return Runc(shutil.which("runc", path=PATH) or "runc", temporary, self.warnings.append)
        return Sandbox(temporary, self.warnings.append)

    def command(self, text: str | tuple[str, ...], **changes: object) -> Command:
        argv = text if isinstance(text, tuple) else ("sh", "-ec", text)
        env = {"PATH": PATH, "HOME": "/root", "SOURCE_DATE_EPOCH": str(EPOCH)}
        return Command(argv, env, 0, 0, (), "/", "host")._replace(**changes)  # type: ignore[arg-type]

    def run(self, text: str | tuple[str, ...], **changes: object) -> dict[bytes, Listed]:
        """Every change with its bytes, in the order they came."""
        self.output = b""

        def output(chunk: bytes) -> None:
            self.output += chunk

        image = empty_image(host_platform())
        parent = Parent(image, Folders(self.lowers))
        with self.executor.run(self.command(text, **changes), parent, output, EPOCH) as found:
            listed = {entry.path: (entry, read(content)) for entry, content in found}
        assert os.listdir(self.folder) == []
        return listed


Listed = tuple[Entry, bytes | None]


def read(content: object) -> bytes | None:
    if isinstance(content, HostFile):
        return Path(os.fsdecode(content.path)).read_bytes()
    if callable(content):
        with content() as stream:
            return bytes(stream.read())
    assert content is None or isinstance(content, bytes)
    return content


MakeRunner = Callable[..., Runner]


@pytest.fixture
def runner(rootfs: Path, tmp_path: Path) -> MakeRunner:
    def make(kind: str = "sandbox", lowers: tuple[Path, ...] = ()) -> Runner:
        folder = tmp_path / f"steps-{kind}"
        folder.mkdir(exist_ok=True)
        return Runner(kind, lowers or (rootfs,), folder)

    return make
