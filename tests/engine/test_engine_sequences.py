"""Random steps run by an engine: see executor/test_executor_sequences.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("/usr/bin/python3", "ldd")]

COUNT = 300 if os.environ.get("RELIABILITY") == "full" else 3
SEED = int(os.environ.get("RELIABILITY_SEED", "43"))
PROGRAM = Path(__file__).parents[1] / "executor/sequences.py"


@pytest.mark.timeout(3600)
def test_layers_are_what_the_command_saw(engine: Any) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "docker", str(SEED), str(COUNT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "DOCKER_HOST": engine.socket},
    )
    assert done.stdout.endswith(f"\n0 of {COUNT} sequences were wrong\n"), done.stdout[-20000:]
