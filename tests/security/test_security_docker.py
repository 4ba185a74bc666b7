"""What a command step may do, held against what `docker run` lets the same program do.

`probe.c` makes every system call, opens every file of /proc, /sys and /dev, and tries namespaces,
mounts, sockets, devices and more: some 1,200 things and all files, in every executor, as root and
as an ordinary user, for steps of root and of another user, with and without the host's network.
All that differs stands in the table of docs/security.md, and nothing else does.
"""

from __future__ import annotations

import errno
import fnmatch
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from builder.executor import seccomp
from builder.executor.starting import CAPABILITIES
from tests.executor.test_executor_seccomp import moby
from tests.login import Login

ROOT = Path(__file__).parents[2]
DENIED = {errno.EPERM, errno.ENOSYS, errno.EACCES, -2}
EXECUTORS = {"root": ("sandbox", "runc", "chroot", "docker"), "user": ("sandbox", "runc", "chroot")}
DIMENSIONS = (set(EXECUTORS["root"]), {"root", "user"}, {"none", "host"}, {"0", "1000"})

pytestmark = [pytest.mark.root, pytest.mark.needs("gcc", "runc", "newuidmap", "setpriv")]

MORE = "What a step may do that `docker run` denies"
LESS = "What `docker run` allows and a step may not do"

Said = Mapping[str, int]  # what the probe tried: its errno, 0, or -1


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with the probe, as a tar."""
    folder = tmp_path_factory.mktemp("probe")
    source = Path(__file__).with_name("probe.c")
    made = ["gcc", "-static", "-Os", "-Wall", "-Wextra", "-Werror", "-o", folder / "probe", source]
    if subprocess.run(made).returncode:
        pytest.skip("needs libc6-dev")
    with tarfile.open(folder / "base.tar", "w") as tar:
        for name, mode in (("tmp", 0o1777), ("srv", 0o755), ("out", 0o777), ("etc", 0o755)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for name, data, mode in (
            ("probe", (folder / "probe").read_bytes(), 0o755),
            ("probe.calls", calls().encode(), 0o644),
            ("etc/passwd", b"root:x:0:0::/:/probe\napp:x:1000:1000::/:/probe\n", 0o644),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return folder / "base.tar"


def calls() -> str:
    """Every call that the filter's table knows, and some that nobody does."""
    names = seccomp.architectures(os.uname().machine)
    lines = []
    for kind, architecture in zip(("native", "other"), names, strict=False):
        known = {each.numbers[architecture]: each.name for each in seccomp.table()
                 if architecture in each.numbers}  # fmt: skip
        known.update({number: f"number-{number}" for number in (335, 480, 500, 511, 600, 1023)
                      if number not in known})  # fmt: skip
        lines += [f"{kind} {name} {number}" for number, name in sorted(known.items())
                  if name not in ("sync", "pause", "vfork")]  # fmt: skip
    return "\n".join(lines) + "\n"


def parse(text: str) -> Said:
    pairs = (line.rpartition(" ") for line in text.splitlines())
    return {what: int(fault) for what, _, fault in pairs}


def ran_by_docker(engine: Any, network: str, uid: str) -> Said:
    argv = ("run", "--rm", f"--network={network}", f"--user={uid}:{uid}", "probe", "/probe")
    return parse(engine.docker(*argv).decode())


SPEC = """
from: rootfs:base.tar
steps:
- run: [/probe, /out/said]
  user: '{uid}:{uid}'
  network: {network}
"""


def ran_by_step(
    folder: Path, build: Callable[..., object], executor: str, network: str, uid: str
) -> Said:
    name = f"{executor}-{network}-{uid}"
    (folder / "specs").mkdir(exist_ok=True)
    (folder / f"specs/{name}.yaml").write_text(SPEC.format(uid=uid, network=network))
    store = ("--cache-dir", f"cache-{executor}")
    build("build", name, "--executor", executor, "--output", f"oci:{name}", *store)
    blobs = folder / name / "blobs/sha256"
    index = json.loads((folder / name / "index.json").read_text())
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    with tarfile.open(blobs / manifest["layers"][-1]["digest"][7:]) as layer:
        file = layer.extractfile("out/said")
        assert file is not None
        return parse(file.read().decode())


def possible(said: Said) -> set[str]:
    """What was not denied. Of files that come and go the folder: a number in a name is no part of
    it, and what can be read has four parts."""
    found = set()
    for what, fault in said.items():
        if fault in DENIED:
            continue
        if what.startswith(("read ", "write ")):
            kind, _, path = what.partition(" ")
            parts = re.sub(r"\d+", "N", path).split("/")
            what = f"{kind} {'/'.join(parts[:5] if kind == 'read' else parts)}"
        found.add(what)
    return found


class Row(NamedTuple):
    """A row of the table: what differs, in which runs, and why."""

    patterns: tuple[str, ...]
    where: frozenset[str]
    why: str

    def covers(self, what: str, run: tuple[str, ...]) -> bool:
        for word, dimension in zip(run, DIMENSIONS, strict=True):
            if self.where & dimension and word not in self.where:
                return False
        return any(fnmatch.fnmatchcase(what, pattern) for pattern in self.patterns)


def rows(title: str) -> list[Row]:
    text = (ROOT / "docs/security.md").read_text()
    section = text.partition(f"\n### {title}\n")[2].partition("\n### ")[0]
    found = []
    for line in section.splitlines():
        if line.startswith("| `"):
            what, where, why = line.strip("| ").split(" | ")
            words = frozenset(re.findall(r"\w+", where))
            assert words <= set().union(*DIMENSIONS) | {"all"}, line
            found.append(Row(tuple(re.findall(r"`([^`]+)`", what)), words, why))
    assert found, title
    return found


def test_what_a_step_may_do_is_what_docker_run_lets_it_but_for_the_table(
    engine: Any, base: Path, login: Login, tmp_path: Path
) -> None:
    engine.docker("import", str(base), "probe")
    homes = {"root": tmp_path, "user": login.home / "own"}
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def as_root(*arguments: str) -> None:
        made = subprocess.run(
            [sys.executable, "-m", "builder", *arguments],
            cwd=tmp_path,
            env={**environment, "DOCKER_HOST": engine.socket},
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr

    for folder in homes.values():
        shutil.copy(base, folder)
    held = {"every container", *("CAP_" + name for name in CAPABILITIES)}
    present = {name for name, who in moby().items() if who & held}
    reported: dict[str, dict[tuple[str, ...], set[str]]] = {MORE: {}, LESS: {}}
    for network in ("none", "host"):
        for uid in ("0", "1000"):
            docker = possible(ran_by_docker(engine, network, uid))
            for who, build in (("root", as_root), ("user", login.run)):
                for executor in EXECUTORS[who]:
                    step = possible(ran_by_step(homes[who], build, executor, network, uid))
                    assert len(step) > 400
                    run = (executor, who, network, uid)
                    reported[MORE][run] = {w for w in step - docker if not is_call(w, present)}
                    reported[LESS][run] = {
                        w for w in docker - step if is_call(w, present) is not False
                    }
    for title, found in reported.items():
        table = rows(title)
        unexplained = [
            f"{what}: {' '.join(run)}"
            for run, differences in found.items()
            for what in differences
            if not any(row.covers(what, run) for row in table)
        ]
        if unexplained:
            pytest.fail("\n".join([f"{title}, and not in the table:", *sorted(unexplained)]))
    for row in rows(MORE):
        assert "older Docker" in row.why or any(
            row.covers(what, run) for run, found in reported[MORE].items() for what in found
        ), row


def is_call(what: str, present: set[str]) -> bool | None:
    """Whether Docker's present profile, which the engine's may be older than, lets a call through;
    None: it is not of a call alone."""
    words = what.split()
    if words[0] in ("call", "call32"):
        return words[1] in present
    return (words[0] in present) if len(words) == 1 and "_" in what else None
