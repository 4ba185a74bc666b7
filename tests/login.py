"""An ordinary user with subordinate ids and a home, who runs a copy of the builder there.

A pytest plugin; what it makes in the system ends with each test.
"""

from __future__ import annotations

import contextlib
import grp
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

USER, TEAM = f"builder-user-{os.getpid()}", f"builder-team-{os.getpid()}"  # for parallel runs
PYTHON = "/usr/bin/python3"


class Login:
    """A user with a home, who runs a copy of the builder there."""

    def __init__(self, home: Path, user: pwd.struct_passwd, team: int) -> None:
        self.home, self.user, self.team = home, user, team

    def run(self, *arguments: str, status: int = 0, python: str = PYTHON) -> str:
        """stdout and stderr in one."""
        made = subprocess.run(
            ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}",
             f"--groups={self.team}", python, "-P", "-m", "builder", *arguments],
            cwd=self.home / "own",
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.home / "own"),
                 "PYTHONPATH": str(self.home / "code")},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=300,
        )  # fmt: skip
        assert made.returncode == status, made.stdout
        return made.stdout


@pytest.fixture(scope="module")
def team() -> Iterator[int]:
    subprocess.run(["groupadd", "--force", TEAM], check=True)
    try:
        yield grp.getgrnam(TEAM).gr_gid
    finally:
        subprocess.run(["groupdel", TEAM], check=True)


@pytest.fixture
def login(team: int, request: pytest.FixtureRequest) -> Iterator[Login]:
    try:
        code = Path(tempfile.mkdtemp(prefix="acceptance-"))
        _copy_code(code / "code")
        ranges = ["--add-subuids", "600000-665535", "--add-subgids", "600000-665535"]
        subprocess.run(["useradd", "--no-create-home", "-K", "SUB_UID_COUNT=0", "-K",
                        "SUB_GID_COUNT=0", USER], check=True)  # fmt: skip
        if getattr(request, "param", True):
            subprocess.run(["usermod", *ranges, USER], check=True)
        user = pwd.getpwnam(USER)
        (code / "own").mkdir()
        os.chown(code / "own", user.pw_uid, user.pw_gid)
        code.chmod(0o755)
        yield Login(code, user, team)
    finally:
        with contextlib.suppress(KeyError):
            pwd.getpwnam(USER)
            subprocess.run(["userdel", USER], check=True, stderr=subprocess.DEVNULL)
        shutil.rmtree(code)


def _copy_code(target: Path) -> None:
    """The builder and what it imports, where any user may read it."""
    names = ("builder", "yaml", "_yaml", "jinja2", "markupsafe", "isal", "backports", "docker",
             "requests", "urllib3", "certifi", "idna", "charset_normalizer")  # fmt: skip
    for name in names:
        found = importlib.util.find_spec(name)
        assert found is not None and found.submodule_search_locations, name
        for folder in found.submodule_search_locations:
            shutil.copytree(folder, target / name, dirs_exist_ok=True)
    probe = [PYTHON, "-c", "import yaml._yaml"]
    if subprocess.run(probe, env={"PYTHONPATH": str(target)}, capture_output=True).returncode:
        pytest.skip(f"needs {PYTHON} of the version that runs the tests")
