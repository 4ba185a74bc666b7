"""A project in a folder of its own, as the command line's tests have it, and a base to stand on."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Project, project

__all__ = ["project"]

BUSYBOX = Path("/bin/busybox")


@pytest.fixture
def box(project: Project) -> Project:
    """With `box.tar`: a root file system of busybox alone."""
    with tarfile.open(project.root / "box.tar", "w") as tar:
        for folder, mode in (("bin", 0o755), ("tmp", 0o1777), ("etc", 0o755)):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
        data = BUSYBOX.read_bytes()
        info = tarfile.TarInfo("bin/busybox")
        info.mode, info.size = 0o755, len(data)
        tar.addfile(info, io.BytesIO(data))
        for name in ("sh", "cat", "cp", "echo", "env", "id", "ln", "ls", "mkdir", "pwd", "sleep"):
            info = tarfile.TarInfo(f"bin/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(info)
        data = b"root:x:0:0::/root:/bin/sh\napp:x:7:8::/srv:/bin/sh\n"
        info = tarfile.TarInfo("etc/passwd")
        info.mode, info.size = 0o644, len(data)
        tar.addfile(info, io.BytesIO(data))
    return project
