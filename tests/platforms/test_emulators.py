"""Command steps for another CPU: with an emulator, without one, and what is said then."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.platforms.conftest import Emulated, handler

SITE = """\
from: "rootfs:{{ target.arch }}.tar"
platforms: [linux/386, linux/arm64]
steps:
  - run: uname -m > /machine && mkdir -m 700 /made
"""


def place(project: Any, trees: dict[str, Path]) -> None:
    for name, tar in trees.items():
        shutil.copy(tar, project.root / f"{name}.tar")


def test_steps_run_for_each_platform_alike_in_every_executor(
    emulated: Emulated, trees: dict[str, Path]
) -> None:
    place(emulated, trees)
    emulated.spec("site", SITE)
    emulated.handlers = (handler("aarch64"),)
    digests = set()
    for executor in ("sandbox", "runc", "chroot"):
        where = ["--cache-dir", str(emulated.root / executor), "--executor", executor]
        made = json.loads(emulated.run("build", "--json", *where).stdout)
        digests.add(made["indexes"][0]["digest"])
        for platform, says in (("linux/arm64", "aarch64"), ("linux/386", "386")):
            out = f"{executor}-{says}.tar"
            emulated.run("build", "--platform", platform, "-o", f"tar:{out}", *where)
            told = subprocess.run(
                ["tar", "-xOf", str(emulated.root / out), "machine"], capture_output=True, text=True
            )
            assert told.stdout.strip() == says, (executor, platform)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("flags", "why"),
    [(None, "no emulator is registered"), ("OP", "without the flag F")],
)
@pytest.mark.parametrize("executor", ["sandbox", "runc", "chroot"])
def test_no_emulator_is_said_at_the_step(
    emulated: Emulated, trees: dict[str, Path], flags: str | None, why: str, executor: str
) -> None:
    place(emulated, trees)
    emulated.spec("site", SITE)
    if flags:
        emulated.handlers = (handler("aarch64", flags),)
    error = emulated.run("build", "--executor", executor, status=1).stderr
    said = next(line for line in error.splitlines() if line.startswith("error:"))
    assert said.startswith("error: specs/site.yaml:4:10: step ")
    assert "no emulator for linux/arm64" in said and why in said
    assert "qemu-user-static" in error and "tonistiigi/binfmt --install arm64" in error
    # what runs here is made all the same, and nothing of the other is named
    emulated.run("build", "--platform", "386", "--executor", executor)


def test_doctor_says_what_runs(emulated: Emulated) -> None:
    emulated.handlers = (handler("aarch64"), handler("arm"), handler("riscv64", "OP"))
    told = json.loads(emulated.run("doctor", "--json").stdout)["platforms"]
    works = {each["platform"]: each["why"] for each in told if each["works"]}
    assert works == {
        "linux/amd64": "this CPU",
        "linux/386": "this CPU",
        "linux/arm64": "an emulator",
        "linux/arm": "an emulator",
    }
    fails = {each["platform"]: each["why"] for each in told if not each["works"]}
    assert "flag F" in fails["linux/riscv64"] and "binfmt_misc" in fails["linux/s390x"]


def test_a_host_stage_needs_no_emulator(project: Any, trees: dict[str, Path]) -> None:
    """A cross build: what runs, runs here; the rest is files."""
    place(project, trees)
    shutil.copy("/bin/busybox", project.root / "busybox")
    project.spec(
        "site",
        """\
from: "rootfs:{{ target.arch }}.tar"
platforms: [linux/386, linux/arm64]
stages:
  build:
    from: scratch
    platform: host
    steps:
      - {copy: busybox, dest: /bin/sh, mode: "0755"}
      - run: echo for {{ target.arch }} > /out
steps:
  - {copy: /out, from: stage:build, dest: /}
""",
    )
    made = json.loads(project.run("build", "--json").stdout)
    assert len(made["indexes"][0]["manifests"]) == 2


def test_programs_for_another_cpu_than_the_label_says_are_told(
    project: Any, trees: dict[str, Path]
) -> None:
    place(project, trees)
    shutil.copy("/bin/busybox", project.root / "app")
    project.file("script", "#!/bin/sh\n")
    spec = "from: scratch\nplatforms: [linux/amd64, linux/arm64]\nsteps:\n" \
           "  - {{copy: [app, script], dest: /opt/, mode: '0755'}}\n" \
           "  - {{symlink: /go, to: opt/app}}\nconfig: {{{}}}\n"  # fmt: skip
    for config in ("entrypoint: [/opt/app]", "entrypoint: [/go, x]", "cmd: [opt/app]",
                   "cmd: [app], env: {PATH: '/bin:/opt'}"):  # fmt: skip
        project.spec("site", spec.format(config))
        error = project.run("build").stderr
        (warning,) = [line for line in error.splitlines() if "warning" in line]
        assert "site (linux/arm64)" in warning and "is for amd64" in warning, warning
        assert "warning" not in project.run("build").stderr  # nothing was made
    for config in ("entrypoint: [/opt/script]", "cmd: [/none]", "cmd: 'true'"):
        project.spec("site", spec.format(config))
        assert "warning" not in project.run("build").stderr


def test_a_debian_for_another_cpu(emulated: Emulated) -> None:
    """Without an emulator it is said at once; with one it is a Debian of that CPU (minutes: only
    with BUILDER_TEST_EMULATED=1)."""
    emulated.spec(
        "debian",
        "from: {debootstrap: bookworm, variant: essential}\nplatforms: [linux/arm64]\n"
        "steps:\n  - run: dpkg --print-architecture > /arch\n",
    )
    error = emulated.run("build", status=1).stderr
    assert "specs/debian.yaml:1:7: debootstrap:bookworm: no emulator for linux/arm64" in error
    if not os.environ.get("BUILDER_TEST_EMULATED"):
        return
    emulated.handlers = (handler("aarch64"),)
    emulated.run("build", "-o", "tar:out.tar")
    told = subprocess.run(["tar", "-xOf", emulated.root / "out.tar", "arch"], capture_output=True)
    assert told.stdout == b"arm64\n"


@pytest.mark.root
@pytest.mark.needs("dockerd")
def test_an_engine_without_an_emulator_is_told(
    project: Any, trees: dict[str, Path], engine: Any
) -> None:
    if subprocess.run(["sh", "-c", "ls /proc/sys/fs/binfmt_misc/qemu-aarch64"]).returncode == 0:
        pytest.skip("this machine has one")
    place(project, trees)
    project.spec("site", SITE.replace("linux/386, ", ""))
    env = {"DOCKER_HOST": engine.socket}
    error = project.run("build", "--executor", "docker", env=env, status=1).stderr
    assert "error: specs/site.yaml:4:10: step " in error
    assert "no emulator for linux/arm64 in the Docker engine" in error
    assert "tonistiigi/binfmt --install arm64" in error
