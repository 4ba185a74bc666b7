"""A project with a busybox root file system, as the command line's tests have it."""

from __future__ import annotations

from tests.acceptance.conftest import base
from tests.cli.conftest import Project, project

__all__ = ["Project", "base", "project"]
