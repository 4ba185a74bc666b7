"""What every test may use. Real parts only: tools are looked up on PATH, and a missing one skips by name."""

from __future__ import annotations

import os
import shutil

import pytest


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
