"""Bases as they are found in the field."""

from __future__ import annotations

import io
import os
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


def test_a_path_through_an_archives_own_symlink_stays_in_the_image(project: Project) -> None:
    name = f"escaped-{os.getpid()}"
    with tarfile.open(project.root / "base.tar", "w") as tar:
        link = tarfile.TarInfo("l")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo(f"l/{name}"), io.BytesIO())
    project.spec("one", "from: rootfs:base.tar\nsteps:\n  - {file: /a, content: a}\n")
    project.build()
    project.run("build", "-o", f"docker-archive:{project.root}/out.tar")
    with tarfile.open(project.root / "out.tar") as out:
        first = next(each for each in out if each.name.startswith("blobs/") or "tar" in each.name)
        layer = out.extractfile(first)
        assert layer is not None
        with tarfile.open(fileobj=io.BytesIO(layer.read())) as inner:
            assert inner.getnames() == ["l", "tmp", f"tmp/{name}"]
    assert not os.path.exists(f"/tmp/{name}")


def test_a_path_below_an_archives_own_file_is_named_as_text(project: Project) -> None:
    with tarfile.open(project.root / "base.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("l"), io.BytesIO())
        tar.addfile(tarfile.TarInfo("l/below"), io.BytesIO())
    project.spec("one", "from: rootfs:base.tar\nsteps:\n  - {file: /a, content: a}\n")
    made = project.run("build", status=1)
    assert "entry 'l/below' lies below 'l', which is not a directory" in made.stderr
