"""What every test may use. Real parts only: a tool that is missing skips its tests by name."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

pytest_plugins = ["tests.engine"]

# A job that a script starts with `&` ignores SIGINT, and so would every builder started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _missing(reason: str) -> None:
    """A part is missing: a failure in CI, where everything is installed, a named skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for tool in mark.args:
            if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
                _missing(f"needs {tool}, which is not installed")
    if any(item.iter_markers("root")) and os.geteuid() != 0:
        _missing("needs root")
