"""Programs for another CPU, and emulators that are registered for nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Project, project

__all__ = ["project"]

_PRIVATE = str(Path(__file__).with_name("private_binfmt.py"))


def handler(name: str, flags: str | None = None) -> str:
    """A line for the kernel, as Debian's package of emulators has it, in hex."""
    path = Path(f"/usr/lib/binfmt.d/qemu-{name}.conf")
    if not path.exists():
        pytest.skip("no qemu-user-static with binfmt.d files here")
    line = path.read_text().strip()
    if flags is not None:
        line = line.rpartition(":")[0] + ":" + flags
    return line.encode().hex()


class Emulated(Project):
    """A project whose commands see these emulators, and no others."""

    handlers: tuple[str, ...] = ()

    def run(
        self, *arguments: str, status: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        made = subprocess.run(
            [sys.executable, _PRIVATE, ",".join(self.handlers),
             sys.executable, "-m", "builder", *arguments],
            cwd=self.root,
            env={**os.environ, "BUILDER_CACHE_DIR": str(self.store), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )  # fmt: skip
        assert made.returncode == status, (made.returncode, made.stdout, made.stderr)
        assert "Traceback" not in made.stderr and "itself failed" not in made.stderr, made.stderr
        return made


@pytest.fixture
def emulated(tmp_path: Path) -> Emulated:
    if os.geteuid() != 0 or os.uname().machine != "x86_64":
        pytest.skip("needs root on an amd64 machine")
    probe = subprocess.run([sys.executable, _PRIVATE, "", "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("this kernel has no binfmt_misc for a user namespace")
    root = tmp_path / "project"
    (root / "specs").mkdir(parents=True)
    return Emulated(root)


_WRITES = """
static int call(int number, long a, long b, long c) {
    int result;
    asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}
void _start(void) {
    int file = call(5, (long)"/machine", 0101, 0644);
    call(4, file, (long)"386\\n", 4);
    call(39, (long)"/made", 0700, 0);
    call(1, 0, 0, 0);
}
"""


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Base trees as tars by architecture: with the shell of the mirror's busybox for arm64, and for
    386 with a shell that does one thing, whatever it is told."""
    folder = tmp_path_factory.mktemp("trees")
    arm, x86 = folder / "arm64", folder / "386"
    for each in ("lists/partial", "cache/archives/partial"):
        (folder / each).mkdir(parents=True)
    options = [
        f"Dir::State::lists={folder}/lists", f"Dir::Cache={folder}/cache",
        "APT::Architecture=arm64", "APT::Architectures=arm64",
    ]  # fmt: skip
    command = ["apt-get", "-qq", *(part for each in options for part in ("-o", each))]
    for words in (["update"], ["download", "busybox-static"]):
        made = subprocess.run([*command, *words], cwd=folder, capture_output=True)
        if made.returncode:
            pytest.skip(f"no busybox for arm64: {made.stderr.decode()[-300:]}")
    (deb,) = folder.glob("busybox-static_*_arm64.deb")
    subprocess.run(["dpkg-deb", "-x", str(deb), str(folder / "all")], check=True)
    for place in (arm, x86):
        (place / "bin").mkdir(parents=True)
    (folder / "all/bin/busybox").rename(arm / "bin/busybox")
    for name in ("sh", "uname", "cat", "mkdir"):
        (arm / "bin" / name).symlink_to("busybox")
    (folder / "writes.c").write_text(_WRITES)
    compiler = [
        "gcc",
        "-m32",
        "-static",
        "-nostdlib",
        "-fno-pie",
        "-no-pie",
        "-fno-stack-protector",
    ]
    where = ["-o", str(x86 / "bin/sh"), str(folder / "writes.c")]
    subprocess.run([*compiler, *where], check=True)
    for place in (arm, x86):
        tar = ["tar", "-cf", f"{place}.tar", "-C", str(place), "bin"]
        subprocess.run(tar, check=True)
    return {place.name: Path(f"{place}.tar") for place in (arm, x86)}
