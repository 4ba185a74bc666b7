"""Which executor is taken, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import CommandFailed, ExecutorError
from builder.executor.base import Command, Parent
from builder.executor.choose import choose, doctor
from builder.oci.image import empty_image, host_platform
from builder.store.store import Store

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
    parent = Parent(empty_image(host_platform()), lambda: (str(rootfs),))
    false = TRUE._replace(argv=("/bin/false",))
    with pytest.raises(CommandFailed), auto.run(false, parent, lambda chunk: None, 0):
        pass


def test_an_unknown_executor_is_an_error(store: Store) -> None:
    with pytest.raises(ExecutorError, match="'lxc' is no executor, expected one of auto, sandbox"):
        choose("lxc", store, lambda event: None)


def test_a_missing_tool_is_an_error(store: Store) -> None:
    with pytest.raises(ExecutorError, match="runc is not installed"):
        choose("runc", store, lambda event: None, "/nowhere")
