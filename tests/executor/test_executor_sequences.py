"""Random steps over random layers: the layers, read by a reader of the tests' own, are what the
command saw. `RELIABILITY=full` runs all of them, `RELIABILITY_SEED` chooses others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.executor.choose import NAMES

pytestmark = [pytest.mark.root, pytest.mark.needs("/usr/bin/python3", "ldd")]

COUNT = 2000 if os.environ.get("RELIABILITY") == "full" else 15
SEED = int(os.environ.get("RELIABILITY_SEED", "0"))
PROGRAM = Path(__file__).with_name("sequences.py")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("who", ["root", "userns"])
@pytest.mark.parametrize("kind", [name for name in NAMES if name != "docker"])
def test_layers_are_what_the_command_saw(kind: str, who: str) -> None:
    argv = [sys.executable, str(PROGRAM), kind, str(SEED), str(COUNT)]
    done = subprocess.run(
        [*argv, "userns"] if who == "userns" else argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.stdout.endswith(f"\n0 of {COUNT} sequences were wrong\n"), done.stdout[-20000:]
