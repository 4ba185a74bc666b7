"""A base whose programs are for another CPU than the platform says is refused, whatever it is."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest

SHELL = b"\x7fELF\2\1\1".ljust(16, b"\0") + b"\2\0" + (62).to_bytes(2, "little") + bytes(44)
BASES = {
    "rootfs": "rootfs:base.tar",
    "oci": "oci:layout",
    "docker-archive": "docker-archive:image.tar",
}


@pytest.fixture(params=BASES)
def project(request: Any, project: Any) -> Any:
    """Specs on a base that holds amd64's programs; of the layout and the archive the config says
    that they are arm64's."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("bin/sh")
        info.size, info.mode = len(SHELL), 0o755
        tar.addfile(info, io.BytesIO(SHELL))
    project.file("base.tar", buffer.getvalue())
    project.spec("made", "from: rootfs:base.tar\n")
    if request.param != "rootfs":
        where = ["-o", "oci:layout", "-o", "docker-archive:image.tar"]
        project.run("build", "made", "--platform", "arm64", "--allow-foreign", *where)
    project.spec("a", f"from: {BASES[request.param]}\nsteps: [{{file: /x, content: x}}]\n")
    project.file("specs/made.yaml", "from: scratch\n")
    return project


@pytest.mark.parametrize("command", ["plan", "build"])
def test_foreign_programs_are_refused_at_every_base(project: Any, command: str) -> None:
    for _ in range(2):
        error = project.run("build", "a", "--platform", "arm64", status=2).stderr
        assert "error: specs/a.yaml:1:7: the programs of " in error
        assert "are for amd64, expected arm64" in error
        assert "--platform linux/amd64 says so" in error
    error = project.run(command, "a", "--platform", "arm64", status=2).stderr
    assert "are for amd64, expected arm64" in error
    allowed = ["--platform", "arm64", "--allow-foreign"]
    digest = project.build("a", *allowed)["a"]["digest"]
    shown = json.loads(project.run("inspect", "a", "--no-build", *allowed).stdout)
    assert (shown["digest"], shown["config"]["architecture"]) == (digest, "arm64")
    # allowed once is not allowed for ever
    assert "expected arm64" in project.run(command, "a", "--platform", "arm64", status=2).stderr


def test_the_hint_is_right_when_it_is_followed(project: Any) -> None:
    spec = (project.root / "specs/a.yaml").read_text()
    project.spec("a", spec + "platforms: [linux/arm64]\n")
    error = project.run("build", "a", status=2).stderr
    assert "platforms: [linux/amd64] says so" in error
    if "rootfs" in spec:  # of the others the config would refuse it
        project.spec("a", spec + "platforms: [linux/amd64]\n")
        project.run("build", "a")
    project.spec("a", spec + "platforms: [linux/arm64]\n")
    project.run("build", "a", "--allow-foreign")


def test_what_stands_on_another_spec_is_built_for_its_platform(project: Any) -> None:
    project.spec("on", "from: image:a\nplatforms: [linux/arm64]\n")
    made = project.build("on", "--allow-foreign")
    assert {each["platform"] for each in made.values()} == {"linux/arm64"}
    spec = (project.root / "specs/a.yaml").read_text()
    project.spec("a", spec + "platforms: [linux/amd64]\n")
    for command in ("plan", "build"):
        error = project.run(command, "on", "--allow-foreign", status=2).stderr
        assert "specs/on.yaml:1:7: image:a is built for linux/amd64, expected linux/arm64" in error
