"""An ordinary user of the command line: with subordinate ids, without, and in a group."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.cli.conftest import Project
from tests.login import USER, Login

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("busybox", "newuidmap", "newgidmap", "useradd", "setpriv"),
]

SPEC = """
from: rootfs:base.tar
steps:
  - {copy: shared.txt, dest: /shared}
  - run: test "$(id -G)" = 0 && mkdir -m 700 /own
  - run: chown -R web /own && ln /own /link 2>/dev/null || mkfifo /own/pipe
  - {directory: /data, owner: web}
"""


def _project(login: Login, base: Project) -> None:
    own = login.home / "own"
    shutil.copy(base.root / "base.tar", own)
    (own / "specs").mkdir()
    (own / "specs/site.yaml").write_text(SPEC)
    (own / "shared.txt").write_text("for the team alone\n")
    os.chown(own / "shared.txt", 0, login.team)
    (own / "shared.txt").chmod(0o640)


def test_a_user_builds_what_root_builds_and_gc_removes_all_of_it(
    login: Login, base: Project
) -> None:
    _project(login, base)
    base.spec("site", SPEC)
    base.file("shared.txt", "for the team alone\n")
    (root,) = base.build().values()

    assert login.run("build").splitlines()[-1].split()[-1] == root["digest"]

    store = login.home / "own/.cache/builder"
    assert (store.stat().st_mode & 0o777) == 0o700
    assert any((store / "unpacked").iterdir())
    assert "cannot remove" not in login.run("cache", "gc", "--max-age", "0s")
    assert not any((store / "unpacked").iterdir()) and not any((store / "tmp").iterdir())


def test_doctor_tries_executors_as_a_build_would(login: Login) -> None:
    assert "`--executor auto` takes sandbox" in login.run("doctor")


@pytest.mark.parametrize("login", [False], indirect=True)
def test_without_subordinate_ids_doctor_says_what_is_missing(login: Login) -> None:
    said = login.run("doctor", status=1)
    assert f"/etc/subuid has no range for {USER}" in said
    assert "hint: usermod --add-subuids" in said
