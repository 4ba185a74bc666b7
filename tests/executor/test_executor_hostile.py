"""Images that try what sets a step up: the step runs isolated or fails, and the host stays."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import CannotRun, CommandFailed

pytestmark = [pytest.mark.root, pytest.mark.needs("runc", "busybox")]


def link(path: str, target: str) -> Callable[[Path], None]:
    def shape(root: Path) -> None:
        remove(root / path)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)

    return shape


def fifo(path: str) -> Callable[[Path], None]:
    def shape(root: Path) -> None:
        remove(root / path)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(root / path)

    return shape


def file(path: str, mode: int = 0o644) -> Callable[[Path], None]:
    def shape(root: Path) -> None:
        remove(root / path)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("a file\n")
        (root / path).chmod(mode)

    return shape


def node(path: str, major: int, minor: int) -> Callable[[Path], None]:
    def shape(root: Path) -> None:
        remove(root / path)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        os.mknod(root / path, 0o020666, os.makedev(major, minor))

    return shape


def both(*shapes: Callable[[Path], None]) -> Callable[[Path], None]:
    def shape(root: Path) -> None:
        for each in shapes:
            each(root)

    return shape


def mode(path: str, bits: int) -> Callable[[Path], None]:
    return lambda root: (root / path).chmod(bits)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def chain(root: Path) -> None:
    remove(root / "etc")
    for number in range(60):
        (root / f"l{number}").symlink_to(f"l{number + 1}")
    (root / "etc").symlink_to("l0")


SHAPES: dict[str, Callable[[Path], None]] = {
    **{
        f"etc -> {target}": link("etc", target)
        for target in (
            "/", ".", "..", "../..", "./.", "//", "/proc", "/proc/x", "/proc/1/root/etc", "/dev",
            "/dev/shm", "/sys", "/sys/fs/cgroup", "etc", "/etc", "/bin/busybox", "/bin/busybox/x",
            "/nowhere/deep", "proc/self/cwd", "/proc/self/fd", "a/../../etc", "/lo/op",
        )
    },
    **{
        f"{name} is {what}": make(name)
        for name in ("etc", "dev", "proc", "sys")
        for what, make in {
            "a file": file, "a FIFO": fifo, "a link to /": lambda path: link(path, "/"),
            "a link out": lambda path: link(path, "../../../../../../tmp"),
            "a device": lambda path: node(path, 1, 3),
        }.items()
    },
    "a chain of links": chain,
    "loops": both(link("etc", "e"), link("e", "etc")),
    "passwd is a FIFO": fifo("etc/passwd"),
    "group is a FIFO": fifo("etc/group"),
    "passwd is a loop": link("etc/passwd", "passwd"),
    "hosts is a directory": lambda root: (root / "etc/hosts").mkdir(),
    "hosts is a FIFO": fifo("etc/hosts"),
    "resolv.conf is a link out": link("etc/resolv.conf", "/proc/1/root/etc/resolv.conf"),
    "resolv.conf is a device": node("etc/resolv.conf", 1, 7),
    "etc of nobody": mode("etc", 0),
    "the root of nobody": mode(".", 0),
    "the root 0700": mode(".", 0o700),
    "dev/null is a file": file("dev/null"),
    "dev/null is a FIFO": fifo("dev/null"),
    "dev/pts is a link": link("dev/pts", "/"),
    "dev/fd is a link out": link("dev/fd", "../../../../../tmp"),
    "proc/self is a file": file("proc/self"),
    "proc/sys is a link": link("proc/sys", "/"),
    "sys/firmware is a link": link("sys/firmware", "/"),
    "dev, proc and sys are one": both(
        link("dev", "x"), link("proc", "x"), link("sys", "x"), lambda root: (root / "x").mkdir()
    ),
}  # fmt: skip

ISOLATED = textwrap.dedent("""
    pid=$$
    test -e /proc/1/stat || echo NOT-ISOLATED
    [ $pid = 1 ] || echo NOT-PROCESS-1
    for each in /tmp/canary /canary ../canary /proc/1/root/tmp/canary; do
      test -e $each && echo SEEN $each
    done
    true
""")


@pytest.mark.parametrize("kind", ["sandbox", "runc"])
def test_hostile_images_run_isolated_or_fail(
    kind: str, runner: Any, tmp_path: Path, capsys: Any
) -> None:
    ran = []
    base = tmp_path / "base"
    for name, shape in SHAPES.items():
        make_base(base)
        shape(base)
        step = runner(kind, (base,))
        before = host_state()
        try:
            step.run(("/bin/busybox", "sh", "-c", ISOLATED))
            ran.append(name)
        except (CannotRun, CommandFailed):
            pass
        assert b"NOT-" not in step.output and b"SEEN" not in step.output, (name, step.output)
        assert host_state() == before, name
        shutil.rmtree(base)
    # runc reads these, and so would wait for ever
    refused = {"passwd is a FIFO", "group is a FIFO"} if kind == "runc" else set()
    assert set(SHAPES) - set(ran) == refused


def test_a_chroot_takes_any_image(runner: Any, tmp_path: Path) -> None:
    base = tmp_path / "base"
    for name, shape in SHAPES.items():
        make_base(base)
        shape(base)
        before = host_state()
        step = runner("chroot", (base,))
        found = step.run(("/bin/busybox", "true"))
        assert list(found) == [], name
        assert host_state() == before, name
        shutil.rmtree(base)


def make_base(base: Path) -> None:
    for folder in ("bin", "etc", "dev", "proc", "sys", "lo"):
        (base / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", base / "bin/busybox")
    for name in ("sh", "test", "true", "["):
        (base / "bin" / name).symlink_to("busybox")
    (base / "lo/op").symlink_to("../lo/op")
    (base / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")


def host_state() -> Any:
    def of(path: str) -> tuple[int, ...]:
        status = os.stat(path)
        return status.st_mode, status.st_uid, status.st_gid, status.st_ino

    paths = ("/", "/etc", "/dev", "/dev/null", "/dev/full", "/tmp", "/etc/hosts", "/etc/passwd")
    contents = [Path(path).read_bytes() for path in ("/etc/hosts", "/etc/resolv.conf")]
    mounts = [line for line in Path("/proc/mounts").read_text().split("\n") if "/steps-" in line]
    return [of(path) for path in paths], contents, mounts


SCARCE = """
    import resource, sys
    sys.path.insert(0, sys.argv[1])
    import conftest
    from pathlib import Path
    from builder.errors import BuilderError
    step = conftest.Runner(sys.argv[2], (Path(sys.argv[3]),), Path(sys.argv[4]))
    step.run("true")
    limit = int(sys.argv[6])
    resource.setrlimit(getattr(resource, sys.argv[5]), (limit, limit))
    try:
        step.run("test -e /proc/1/stat || echo NOT-ISOLATED; echo ran")
    except BuilderError as error:
        print(type(error).__name__, error.message)
    except OSError as error:  # from the test's own folder
        print("OSError", error)
    else:
        print(step.output.decode(), end="")
"""


@pytest.mark.parametrize("kind", ["sandbox", "runc", "chroot"])
@pytest.mark.parametrize(
    ("what", "limits"),
    [
        ("RLIMIT_NOFILE", (6, 8, 10, 12, 14, 16, 20, 24)),
        ("RLIMIT_AS", (160 << 20, 200 << 20)),
        ("RLIMIT_FSIZE", (0, 100)),
    ],
)
def test_want_of_something_fails_the_step(
    kind: str, what: str, limits: tuple[int, ...], rootfs: Path, tmp_path: Path
) -> None:
    assert hasattr(resource, what)
    for limit in limits:
        here = str(Path(__file__).parent)
        folder = tmp_path / str(limit)
        folder.mkdir()
        made = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCARCE), here, kind, str(rootfs),
             str(folder), what, str(limit)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        said = made.stdout.strip()
        if kind != "chroot":
            assert "NOT-ISOLATED" not in said
        first = said.split(" ")[0].split("\n")[-1]
        assert first in ("CannotRun", "CommandFailed", "OSError", "ran"), (limit, said, made.stderr)


def test_a_thread_that_has_no_memory_to_begin_is_not_waited_for(
    rootfs: Path, tmp_path: Path
) -> None:
    made = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCARCE), str(Path(__file__).parent), "sandbox",
         str(rootfs), str(tmp_path), "RLIMIT_AS", str(60 << 20)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert made.stdout.startswith(("CannotRun", "ran")), made


def test_a_full_disk_fails_the_step(runner: Any, rootfs: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    script = f"""
        mount -t tmpfs -o nr_inodes=12 tmpfs {small}
        exec {sys.executable} -c '{FULL}' {Path(__file__).parent} {rootfs} {small}
    """
    made = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script], capture_output=True, text=True, timeout=60
    )
    assert "No space left" in made.stdout, made


FULL = """
import sys
sys.path.insert(0, sys.argv[1])
import conftest
from pathlib import Path
step = conftest.Runner("sandbox", (Path(sys.argv[2]),), Path(sys.argv[3]))
try:
    step.run("echo ran")
    print(step.output)
except BaseException as error:
    print(type(error).__name__, error)
"""
