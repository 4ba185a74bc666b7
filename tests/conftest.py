"""What every test may use. Real parts only: a tool that is missing skips its tests by name."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Generator

import pytest

pytest_plugins = ["tests.dockerd", "tests.login", "pytester"]

# A job that a script starts with `&` ignores SIGINT, and so would every builder started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip is a failure in CI, where every part is there."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for tool in mark.args:
            if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
                pytest.skip(f"needs {tool}, which is not installed")
    if any(item.iter_markers("root")) and os.geteuid() != 0:
        pytest.skip("needs root")
