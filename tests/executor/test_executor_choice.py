"""Which executor is taken, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import ExecutorError
from builder.events import Event, Warned
from builder.executor.base import Command, Parent
from builder.executor.choose import choose, doctor
from builder.oci.image import empty_image, host_platform
from builder.store.store import Store

pytestmark = [pytest.mark.root, pytest.mark.needs("bwrap", "runc", "busybox")]

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
    for name in ("bwrap", "runc", "chroot"):
        assert found[name][1:] == (True, "works")


def test_doctor_says_why_not(store: Store, tmp_path: Path) -> None:
    tool(tmp_path / "bin", "bwrap", "#!/bin/sh\necho 'no namespaces today' >&2; exit 1\n")
    found = {each.name: each for each in doctor(store, lambda event: None, str(tmp_path / "bin"))}
    assert found["bwrap"][1:] == (False, "bwrap: no namespaces today")
    assert found["runc"][1:] == (False, "runc is not installed")
    assert found["chroot"].works


def test_auto_falls_back_and_says_so(store: Store, rootfs: Path, tmp_path: Path) -> None:
    tool(tmp_path / "bin", "bwrap", "#!/bin/sh\necho 'no namespaces today' >&2; exit 1\n")
    events: list[Event] = []
    auto = choose("auto", store, events.append, str(tmp_path / "bin"))
    parent = Parent(empty_image(host_platform()), lambda: (str(rootfs),))
    for _ in range(2):
        with auto.run(TRUE, parent, lambda chunk: None, 0) as changes:
            assert list(changes) == []
    warned = [event.text for event in events if isinstance(event, Warned)]
    assert len(warned) == 1
    assert "bwrap: no namespaces today; runc is not installed" in warned[0]


def test_a_failing_command_is_no_reason_to_fall_back(store: Store, rootfs: Path) -> None:
    from builder.errors import CommandFailed

    auto = choose("auto", store, lambda event: None)
    parent = Parent(empty_image(host_platform()), lambda: (str(rootfs),))
    false = TRUE._replace(argv=("/bin/false",))
    with pytest.raises(CommandFailed), auto.run(false, parent, lambda chunk: None, 0):
        pass


def test_an_unknown_executor_is_an_error(store: Store) -> None:
    with pytest.raises(ExecutorError, match="'lxc' is no executor, expected one of auto, bwrap"):
        choose("lxc", store, lambda event: None)


def test_a_missing_tool_is_an_error(store: Store) -> None:
    with pytest.raises(ExecutorError, match="runc is not installed"):
        choose("runc", store, lambda event: None, "/nowhere")
