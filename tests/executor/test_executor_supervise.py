"""The chroot's supervisor is told to end at any moment, once or twice: it ends what it started."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid

import pytest

from builder.executor import enter

ROUNDS = int(os.environ.get("BUILDER_SUPERVISE", "30"))
PROGRAM = """
import sys
sys.path.append(sys.argv[1])
import enter, os, subprocess
os.write(1, b"ready\\n")
enter.supervise()
subprocess.Popen(["sleep", sys.argv[2]], start_new_session=True)
os.execvp("sleep", ["sleep", sys.argv[2]])
"""


@pytest.mark.timeout(600)
def test_nothing_is_left_whenever_it_is_told() -> None:
    chosen = random.Random(3)
    folder = os.path.dirname(enter.__file__)
    for number in range(ROUNDS):
        mark = f"98765.{uuid.uuid4().int % 10**12}"
        made = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PROGRAM, folder, mark],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert made.stdout and made.stderr
        made.stdout.readline()
        for _ in range(1 + number % 3):
            time.sleep(chosen.random() ** 3 * 0.03)
            made.send_signal(signal.SIGTERM)
        made.wait(20)
        left = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True, check=False)
        for each in left.stdout.split():
            os.kill(int(each), signal.SIGKILL)
        assert not left.stdout, number
        assert made.stderr.read() == b"", number
        assert made.returncode in (-signal.SIGTERM, 128 + signal.SIGKILL), number
