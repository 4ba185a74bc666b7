"""What is handed on of a command that failed: its upper directory, once nothing writes to it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuilderError, CannotRun, CommandFailed
from builder.executor.base import Parent
from builder.oci.image import empty_image, host_platform
from builder.work.cancel import Cancelled
from tests.executor.conftest import EPOCH, Folders

pytestmark = [pytest.mark.root, pytest.mark.needs("runc", "busybox")]

CONFINED = pytest.mark.parametrize("kind", ["sandbox", "runc"])


def run(step: Any, text: Any, to: Path, **changes: Any) -> type[BaseException] | None:
    """Run a command that may fail, and move what it is said to have left to `to`."""

    def keep(upper: str) -> None:
        os.rename(upper, to)

    parent = Parent(empty_image(host_platform()), Folders(step.lowers))
    error: type[BaseException] | None = None
    try:
        command = step.command(text, **changes)
        with step.executor.run(command, parent, lambda chunk: None, EPOCH, keep) as found:
            list(found)
    except (BuilderError, Cancelled) as fault:
        error = type(fault)
    assert os.listdir(step.folder) == []
    return error


@CONFINED
def test_what_a_failed_command_left_is_handed_on(kind: str, runner: Any, tmp_path: Path) -> None:
    text = "echo half > /srv/new; rm /srv/kept/a; echo more >> /srv/kept/b; exit 3"
    assert run(runner(kind), text, tmp_path / "kept") is CommandFailed
    left = tmp_path / "kept"
    assert (left / "srv/new").read_text() == "half\n"
    assert (left / "srv/kept/b").read_text() == "othermore\n"
    assert (left / "srv/kept/a").is_char_device()  # a deletion, as overlayfs has it
    assert not (left / "bin").exists()  # nothing of the image
    assert not (left / "dev").exists()  # nor of the sandbox


@CONFINED
def test_nothing_writes_any_more_to_what_is_handed_on(
    kind: str, runner: Any, tmp_path: Path
) -> None:
    text = "while :; do echo x >> /srv/log; done & while :; do echo y >> /srv/log; done"
    assert run(runner(kind), text, tmp_path / "kept", timeout=0.5) is CommandFailed
    log = tmp_path / "kept/srv/log"
    size = log.stat().st_size
    assert size > 0
    threading.Event().wait(0.2)
    assert log.stat().st_size == size


@CONFINED
@pytest.mark.parametrize("argv", [("/nothing",), ("/etc/passwd",)])
def test_a_command_that_never_began_hands_on_an_image_as_it_was(
    kind: str, argv: tuple[str, ...], runner: Any, tmp_path: Path
) -> None:
    assert run(runner(kind), argv, tmp_path / "kept") is CommandFailed
    assert [each for each in (tmp_path / "kept").rglob("*") if each.is_file()] == []


@CONFINED
def test_a_command_that_ended_well_hands_on_nothing(kind: str, runner: Any, tmp_path: Path) -> None:
    assert run(runner(kind), "echo all > /srv/new", tmp_path / "kept") is None
    assert not (tmp_path / "kept").exists()


@CONFINED
def test_one_that_could_not_be_run_hands_on_nothing(kind: str, runner: Any, tmp_path: Path) -> None:
    step = runner(kind, (tmp_path / "gone",))
    assert run(step, "true", tmp_path / "kept") is CannotRun
    assert not (tmp_path / "kept").exists()


@CONFINED
def test_one_that_was_cancelled_hands_on_nothing(kind: str, runner: Any, tmp_path: Path) -> None:
    step = runner(kind)
    cancel = step.executor._cancel
    said = threading.Event()
    parent = Parent(empty_image(host_platform()), Folders(step.lowers))

    def end() -> None:
        said.wait(60)
        cancel.set()

    threading.Thread(target=end).start()
    with (
        pytest.raises(Cancelled),
        step.executor.run(
            step.command("echo begun; sleep 1000"),
            parent,
            lambda chunk: said.set(),
            EPOCH,
            lambda upper: os.rename(upper, tmp_path / "kept"),
        ),
    ):
        pass
    assert not (tmp_path / "kept").exists()
