"""A small image of busybox in a store, and the builder as a user calls it on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SPEC = """\
from: scratch
steps:
  - copy: files/busybox
    dest: /bin/busybox
    mode: "0755"
  - run: [/bin/busybox, --install, -s, /bin]
  - run: |
      mkdir -p /etc /tmp /root /home/app /srv/old
      chmod 1777 /tmp
      printf 'root:x:0:0::/root:/bin/sh\\napp:x:1000:1000::/home/app:/bin/sh\\n' > /etc/passwd
      printf 'root:x:0:\\napp:x:1000:\\nextra:x:44:app\\n' > /etc/group
      chown app:app /home/app
      echo old > /srv/old/file
      ln -s old /srv/link
"""


class Box:
    """A project with the image `box`; `call` gives the builder's end, `run` what it says."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, root / "store"
        self.spec("box", SPEC)
        (root / "files").mkdir()
        shutil.copy("/bin/busybox", root / "files")
        self.call("build", "box", check=True)

    def spec(self, name: str, text: str) -> None:
        (self.root / "specs").mkdir(exist_ok=True)
        (self.root / f"specs/{name}.yaml").write_text(text)

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "BUILDER_CACHE_DIR": str(self.store)}

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "builder", *arguments]

    def call(
        self, *arguments: str, input: bytes = b"", check: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        made = subprocess.run(
            self.argv(*arguments),
            cwd=self.root,
            env=self.env,
            input=input,
            capture_output=True,
            timeout=120,
        )
        said = made.stderr.decode(errors="replace")
        assert "Traceback" not in said and "itself failed" not in said, said
        assert not check or made.returncode == 0, (made.returncode, made.stdout, said)
        return made

    def run(self, *arguments: str, input: bytes = b"") -> str:
        """What `builder run` prints, of a command that ends well."""
        return self.call("run", *arguments, input=input, check=True).stdout.decode()

    def fails(self, *arguments: str, status: int) -> str:
        """The error's one line, and its hint."""
        made = self.call(*arguments)
        said = made.stderr.decode()
        assert made.returncode == status, (made.returncode, said)
        assert said.startswith("error: ") and 1 <= said.count("\n") <= 2, said
        return said

    def left(self) -> list[str]:
        """What is in the store of containers that are not kept."""
        return sorted(os.listdir(self.store / "tmp"))


@pytest.fixture(scope="session")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Box:
    return Box(tmp_path_factory.mktemp("box"))


@pytest.fixture
def box(boxes: Box) -> Iterator[Box]:
    """The one image of all tests; nothing is left in its store by any."""
    yield boxes
    assert boxes.left() == []
    for name in (
        os.listdir(boxes.store / "containers") if (boxes.store / "containers").exists() else ()
    ):
        boxes.call("rm", "-f", name, check=True)


@pytest.fixture(params=["sandbox", "runc"])
def executor(request: pytest.FixtureRequest) -> str:
    if request.param == "runc" and os.geteuid() == 0 and shutil.which("runc") is None:
        pytest.skip("needs runc, which is not installed")
    return str(request.param)
