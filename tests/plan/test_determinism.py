"""The same spec gives the same image: whatever umask, time zone, locale, hash seed, folder, file
system or user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SPEC = """
from: scratch
vars: {who: world}
steps:
  - copy: tree/
    dest: /srv/
    exclude: ["*.tmp"]
  - copy: ["*.txt", other]
    dest: /opt/deep/
    owner: 33:34
    mode: "u=rwX,go=rX"
  - template: motd.j2
    dest: /etc/motd
  - {file: /etc/issüe, content: "ä\\n"}
  - {directory: /var/lib/x, mode: "1777"}
  - {symlink: /wüw, to: sröv}
  - {unpack: a.tar, dest: /unpacked}
  - {remove: /srv/a}
config:
  env: {B: "1", A: "2"}
  labels: {b: "1", a: "2"}
  working_dir: /var/work
"""


def make_context(root: Path) -> None:
    """As a checkout makes it: the umask decides about modes."""
    (root / "specs").mkdir(parents=True)
    (root / "specs" / "a.yaml").write_text(SPEC)
    (root / "tree" / "sub").mkdir(parents=True)
    for number in range(30):
        (root / "tree" / f"f{number}").write_text(str(number) * 100)
    (root / "tree" / "a").write_text("a")
    (root / "tree" / "x.tmp").write_text("x")
    (root / "tree" / "ü").write_text("ü")
    (root / "tree" / "sub" / "run").write_text("run")
    mode = (root / "tree" / "sub" / "run").stat().st_mode
    (root / "tree" / "sub" / "run").chmod(mode | 0o100)
    (root / "tree" / "link").symlink_to("sub/run")
    (root / "one.txt").write_text("one")
    (root / "two.txt").write_text("two")
    (root / "other").mkdir()
    (root / "other" / "x").write_text("x")
    (root / "motd.j2").write_text("hello {{ who }} {{ {'b': 1, 'a': 2} }}\n")
    archive = [sys.executable, "-c", ARCHIVE, str(root / "a.tar")]
    subprocess.run(archive, check=True)


ARCHIVE = """
import io, sys, tarfile
with tarfile.open(sys.argv[1], "w") as tar:
    for name in ("z/file", "a/file"):
        member = tarfile.TarInfo(name)
        member.size, member.uid, member.mtime = 4, 7, 12345
        tar.addfile(member, io.BytesIO(b"data"))
"""

# the interpreter may stand in a folder that is root's alone, so one capability stays: to read
AS_USER = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
)

CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "umask 002": {"umask": 0o002},
    "umask 077": {"umask": 0o077},
    "another time zone": {"env": {"TZ": "Asia/Kathmandu"}},
    "the C locale": {"env": {"LC_ALL": "C"}},
    "a hash seed": {"env": {"PYTHONHASHSEED": "1"}},
    "another hash seed": {"env": {"PYTHONHASHSEED": "4242"}},
    "tmpfs": {"under": "/dev/shm"},
    "an ordinary user": {"user": 65534},
    "one CPU": {"cpus": {0}},
}


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on the file system that the case asks for, open to its user."""
    made = Path(tempfile.mkdtemp(prefix="builder-", dir=CASES[request.param].get("under", "/tmp")))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def build(root: Path, case: dict[str, Any]) -> Any:
    user = case.get("user")
    umask = case.get("umask", 0o022)
    before = os.umask(umask)
    try:
        make_context(root / "context")
    finally:
        os.umask(before)
    if user is not None:
        subprocess.run(["chown", "-R", f"{user}:{user}", root], check=True)
    done = subprocess.run(
        [*(AS_USER if user else ()), sys.executable, "-m", "builder", "build", "--json",
         "--specs", "specs", "--cache-dir", str(root / "cache"), "--progress", "plain"],
        cwd=root / "context",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **case.get("env", {})},
        umask=umask,
        capture_output=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, case["cpus"])) if "cpus" in case else None,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    (image,) = json.loads(done.stdout)["images"]
    for timed in (image, *image["layers"]):
        timed.pop("seconds", None)
    return image


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build(tmp_path_factory.mktemp("reference"), {})


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "folder"), [(name, name) for name in CASES], indirect=["folder"], ids=list(CASES)
)
def test_the_same_image_comes_out(reference: Any, folder: Path, name: str) -> None:
    image = build(folder, CASES[name])
    for ours, theirs in zip(image["layers"], reference["layers"], strict=True):
        assert ours == theirs
    assert image == reference
