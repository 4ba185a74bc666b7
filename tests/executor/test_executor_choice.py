"""Which executor is taken, and what is said of the others."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from builder.errors import CommandFailed, ExecutorError
from builder.executor.base import Command, Parent
from builder.executor.choose import choose, doctor
from builder.executor.path import in_container, namespaces_work
from builder.oci.image import empty_image, host_platform
from builder.store.store import Store
from tests.executor.conftest import Folders

pytestmark = [pytest.mark.root, pytest.mark.needs("runc", "busybox")]

TRUE = Command(("/bin/busybox", "true"), {}, 0, 0, (), "/", "host")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def tool(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_doctor_tries_each(store: Store) -> None:
    found = {each.name: each for each in doctor(store, lambda event: None)}
    for name in ("sandbox", "runc", "chroot"):
        assert found[name][1:] == (True, "works")


def test_doctor_says_why_not(store: Store, tmp_path: Path) -> None:
    tool(tmp_path / "bin", "runc", "#!/bin/sh\necho 'no cgroups today' >&2; exit 1\n")
    found = {each.name: each for each in doctor(store, lambda event: None, str(tmp_path / "bin"))}
    assert found["runc"][1:] == (False, "runc: no cgroups today")
    found = {each.name: each for each in doctor(store, lambda event: None, "/nowhere")}
    assert found["runc"][1:] == (False, "runc is not installed")
    assert found["sandbox"].works and found["chroot"].works


def test_a_failing_command_is_no_reason_to_fall_back(store: Store, rootfs: Path) -> None:
    auto = choose("auto", store, lambda event: None)
    assert auto.name == "sandbox"
    parent = Parent(empty_image(host_platform()), Folders((rootfs,)))
    false = TRUE._replace(argv=("/bin/false",))
    with pytest.raises(CommandFailed), auto.run(false, parent, lambda chunk: None, 0):
        pass


def test_an_unknown_executor_is_an_error(store: Store) -> None:
    with pytest.raises(ExecutorError, match="'lxc' is no executor, expected one of auto, sandbox"):
        choose("lxc", store, lambda event: None)


def test_a_missing_tool_is_an_error(store: Store) -> None:
    with pytest.raises(ExecutorError, match="runc is not installed"):
        choose("runc", store, lambda event: None, "/nowhere")


def build(
    folder: Path, *options: str, drop: bool = False, **environ: str
) -> subprocess.CompletedProcess[str]:
    """`builder build` in a project; with `drop` without the right to make namespaces."""
    argv = [sys.executable, "-m", "builder", "build", *options]
    if drop:
        argv = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *argv]
    environ = {"PATH": os.environ["PATH"], "BUILDER_CACHE_DIR": str(folder / "store"), **environ}
    return subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True)


@pytest.fixture
def project(tmp_path: Path, rootfs: Path) -> Path:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/x.yaml").write_text(
        "from: rootfs:b.tar\nsteps: [{run: test -e /proc/1/stat || echo NOT-ISOLATED; echo ran}]\n"
    )
    return tmp_path


def pack(project: Path, rootfs: Path, etc: str | None) -> None:
    with tarfile.open(project / "b.tar", "w") as tar:
        for name in sorted(os.listdir(rootfs)):
            if name != "etc" or etc is None:
                tar.add(rootfs / name, name)
        if etc is not None:
            link = tarfile.TarInfo("etc")
            link.type, link.linkname = tarfile.SYMTYPE, etc
            tar.addfile(link)


@pytest.mark.parametrize("etc", ["/", ".", "/proc/x", "/dev", "/sys", "/bin/busybox", "/etc"])
def test_no_image_makes_a_step_leave_the_sandbox(project: Path, rootfs: Path, etc: str) -> None:
    pack(project, rootfs, etc)
    made = build(project, "x", "--executor", "auto")
    said = made.stdout + made.stderr
    assert "ran" in said and "NOT-ISOLATED" not in said.replace("echo NOT-ISOLATED", ""), said


def test_a_chroot_is_not_taken_outside_of_a_container(project: Path, rootfs: Path) -> None:
    pack(project, rootfs, None)
    made = build(project, "x", drop=True)
    if in_container({}):  # where the tests run
        assert "without isolation" in made.stdout + made.stderr
    else:
        assert made.returncode == 1
        assert "no executor works here: sandbox: " in made.stderr, made.stderr
        assert "without isolation, as root: `--executor chroot`" in made.stderr
    made = build(project, "x", "--executor", "chroot", drop=True)
    assert made.returncode == 0, made.stderr


def test_a_chroot_is_taken_in_a_container_without_namespaces(project: Path, rootfs: Path) -> None:
    pack(project, rootfs, None)
    made = build(project, "x", drop=True, container="docker")
    assert made.returncode == 0, made.stderr
    assert made.stderr.count("without isolation") + made.stdout.count("without isolation") == 1


def test_containers_are_known_by_what_they_say() -> None:
    assert namespaces_work()
    assert in_container({"container": "podman"})
    assert in_container({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
