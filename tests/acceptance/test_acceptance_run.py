"""What a command step finds around it, where Docker's own steps were the measure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import Project

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]


@pytest.mark.parametrize(
    "executor", ["sandbox", pytest.param("runc", marks=pytest.mark.needs("runc"))]
)
def test_an_ordinary_user_may_write_to_dev_shm(base: Project, executor: str) -> None:
    base.spec(
        "shm",
        """
from: rootfs:base.tar
steps:
  - run: touch /dev/shm/a && test "$(stat -c %a /dev/shm /dev/mqueue | xargs)" = "1777 1777"
    user: web
""",
    )
    base.run("build", "--executor", executor)


@pytest.mark.parametrize(
    ("number", "status", "before"),
    [
        (signal.SIGHUP, 129, signal.SIG_DFL),
        (signal.SIGTERM, 143, signal.SIG_DFL),
        (signal.SIGHUP, 0, signal.SIG_IGN),  # as nohup starts it
    ],
)
def test_a_terminal_that_closes_ends_a_step_but_not_under_nohup(
    base: Project, number: int, status: int, before: signal.Handlers
) -> None:
    seconds = 60 if status else 1
    base.spec("slow", f'from: rootfs:base.tar\nsteps:\n  - run: "echo up; sleep {seconds}"\n')
    with subprocess.Popen(
        [sys.executable, "-m", "builder", "build", "--progress", "plain"],
        cwd=base.root,
        env={**os.environ, "BUILDER_CACHE_DIR": str(base.store)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, before),  # whatever the tests run under
    ) as builder:
        assert builder.stderr is not None
        while "slow 1| up" not in builder.stderr.readline():
            assert builder.poll() is None
        builder.send_signal(number)
        assert builder.wait(5) == status
        said = builder.stderr.read().splitlines()
    assert (said[-1] == "terminated") == bool(status), said
    assert not any((base.store / "tmp").iterdir())
