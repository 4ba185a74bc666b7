"""Secrets and agents of an ordinary user: the same steps in a user namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from typing import Any

import pytest

from tests.login import Login, login, team

__all__ = ["login", "team"]
pytestmark = [
    pytest.mark.root,
    pytest.mark.needs(
        "busybox", "newuidmap", "newgidmap", "useradd", "setpriv", "ssh-agent", "ssh-keygen"
    ),
]

SPEC = """
from: rootfs:base.tar
steps:
  - run: |
      test "$(cat /srv/a)" = "$T"; test ! -w /srv/a; stat -c %a:%u:%g /srv/a
      ssh-add -l; ! cat /run/secrets/token
      echo well > /tmp/made
    user: web
    mounts:
      - {secret: token, target: /srv/a, env: T, mode: "0440", owner: web}
      - {secret: token}
      - ssh
"""


@pytest.mark.parametrize("executor", ["sandbox", "runc"])
def test_steps_of_a_user(login: Login, base: Any, executor: str) -> None:
    with tarfile.open(base.root / "base.tar", "a") as tar:
        listed = subprocess.run(["ldd", "/usr/bin/ssh-add"], capture_output=True, text=True)
        for path in ("/usr/bin/ssh-add", *listed.stdout.split()):
            if path.startswith("/"):
                tar.add(os.path.realpath(path), path)
    own = login.home / "own"
    shutil.copy(base.root / "base.tar", own)
    (own / "specs").mkdir()
    (own / "specs/x.yaml").write_text(SPEC)
    (own / "token").write_text("Zq7canary91xK")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", own / "key"], check=True)
    for name in ("token", "key"):
        os.chown(own / name, login.user.pw_uid, login.user.pw_gid)
        (own / name).chmod(0o600)
    given = ["--secret", "id=token,src=token", "--ssh", "default=key"]
    said = login.run("build", "--executor", executor, "--progress", "plain", *given)
    assert "440:33:33" in said and "ED25519" in said and "canary" not in said, said
