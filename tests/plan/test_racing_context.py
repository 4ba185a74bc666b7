"""A context in which folders and files become links to what is outside, and back, while it is read:
nothing from outside reaches a layer."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.errors import BuilderError
from builder.project import Options, Project

COUNT = 400 if os.environ.get("RELIABILITY") == "full" else 24

SPEC = """from: scratch
steps:
- {copy: tree/, dest: /copy/}
- {copy: tree/, dest: /kept/, preserve: [mode, owner, mtime, xattrs]}
- {copy: [tree/a/b/f1, tree/a/b/link], dest: /named/}
- {copy: "tree/**/f*", dest: /globbed/}
- {template: tree/a/b/f2, dest: /template}
- {unpack: tree/a/b/archive.tar, dest: /unpacked/}
"""

SWAP = """
import os, random, sys, time
root, outside = sys.argv[1:]
rng = random.Random(1)
os.chdir(root)
names = ["tree", "tree/a", "tree/a/b", "tree/a/b/f1", "tree/a/b/f2", "tree/a/b/archive.tar",
         "tree/a/b/d", ".dockerignore"]
while True:
    name = rng.choice(names)
    os.symlink(f"{outside}/{name}", "swap")
    os.rename(name, "away")
    os.rename("swap", name)
    time.sleep(rng.random() * 0.002)
    os.unlink(name)
    os.rename("away", name)
    time.sleep(rng.random() * 0.004)
"""


def fill(root: Path, text: str) -> None:
    inner = root / "tree" / "a" / "b"
    (inner / "d").mkdir(parents=True)
    for number in range(30):
        (inner / f"f{number}").write_text(f"{text} {number}\n" * (number + 1))
        (inner / "d" / f"g{number}").write_text(f"{text} {number}\n")
        os.setxattr(inner / f"f{number}", "user.said", text.encode())
    (inner / "link").symlink_to(f"{text}-target")
    (root / ".dockerignore").write_text(f"{text}-no-such-file\n")
    with tarfile.open(inner / "archive.tar", "w") as tar:
        member = tarfile.TarInfo("member")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))


@contextmanager
def swapping(root: Path, outside: Path) -> Iterator[None]:
    swapper = subprocess.Popen([sys.executable, "-c", SWAP, str(root), str(outside)])
    try:
        yield
    finally:
        swapper.send_signal(signal.SIGKILL)
        swapper.wait()


def test_nothing_outside_is_read_whatever_is_renamed_meanwhile(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    fill(root, "inside")
    fill(outside, "SECRET")
    (tmp_path / "specs").mkdir()
    lines = SPEC.splitlines(keepends=True)
    for number, line in enumerate(lines[2:]):
        (tmp_path / "specs" / f"s{number}.yaml").write_text("".join((*lines[:2], line)))
    said: Counter[str] = Counter()
    told: set[str] = set()
    layers = 0
    with swapping(root, outside):
        for number in range(COUNT):
            store = tmp_path / f"store{number}"
            name = f"s{number % (len(lines) - 2)}"
            until = time.monotonic() + 2
            while time.monotonic() < until:
                options = Options(str(store), str(tmp_path / "specs"), str(root))
                project = Project(options)
                try:
                    built = project.build(project.load([name])[0])
                except BuilderError as error:
                    assert "SECRET" not in error.message, error.message
                    said["refused"] += 1
                    told.add(error.message.rpartition(": ")[2][:60])
                    continue
                said["built"] += 1
                for step in built[name].steps:
                    if step.layer is None:
                        continue
                    path = project.store.blob_path(step.layer.blob.digest)
                    data = gzip.decompress(Path(path).read_bytes())
                    layers += b"inside" in data
                    assert b"SECRET" not in data, (name, number)
                break
    assert layers and said["built"], (said, told)
