"""What a command step finds around it, where Docker's own steps were the measure."""

from __future__ import annotations

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
