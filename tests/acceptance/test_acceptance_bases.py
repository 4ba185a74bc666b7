"""Bases as they are found in the field."""

from __future__ import annotations

import io
import tarfile

import pytest

from builder.oci.image import Platform, parse_platform
from tests.cli.conftest import Project


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("arm64", Platform("linux", "arm64")),
        ("arm64/v8", Platform("linux", "arm64")),
        ("arm/v7", Platform("linux", "arm", "v7")),
        ("aarch64", Platform("linux", "arm64")),
        ("linux/riscv64", Platform("linux", "riscv64")),
        ("windows/amd64", Platform("windows", "amd64")),
    ],
)
def test_a_platform_without_an_os_is_linux(text: str, platform: Platform) -> None:
    assert parse_platform(text) == platform


def test_a_path_through_an_archives_own_symlink_is_named_as_text(project: Project) -> None:
    with tarfile.open(project.root / "base.tar", "w") as tar:
        link = tarfile.TarInfo("l")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("l/escaped"), io.BytesIO())
    project.spec("one", "from: rootfs:base.tar\nsteps:\n  - {file: /a, content: a}\n")
    made = project.run("build", status=1)
    assert "entry 'l/escaped' lies below 'l', which is not a directory" in made.stderr
