"""What a command step finds around it, where Docker's own steps were the measure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import Project

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox", "bwrap")]


@pytest.mark.parametrize(
    "executor", ["bwrap", pytest.param("runc", marks=pytest.mark.needs("runc"))]
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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143)])
def test_a_terminal_that_closes_ends_a_step(base: Project, number: int, status: int) -> None:
    base.spec("slow", 'from: rootfs:base.tar\nsteps:\n  - run: "echo up; sleep 60"\n')
    with subprocess.Popen(
        [sys.executable, "-m", "builder", "build", "--progress", "plain"],
        cwd=base.root,
        env={**os.environ, "BUILDER_CACHE_DIR": str(base.store)},
        stderr=subprocess.PIPE,
        text=True,
    ) as builder:
        assert builder.stderr is not None
        while "slow 1| up" not in builder.stderr.readline():
            assert builder.poll() is None
        builder.send_signal(number)
        assert builder.wait(5) == status
        assert builder.stderr.read().splitlines()[-1] == "terminated"
    assert not any((base.store / "tmp").iterdir())
