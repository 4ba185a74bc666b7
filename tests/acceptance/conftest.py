"""A busybox root file system as a base, beside the project that the command line's tests use."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Project, project

__all__ = ["base", "project"]

_TEXTS = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n",
    "etc/group": "root:x:0:\nweb:x:33:\n",
}


@pytest.fixture
def base(project: Project) -> Project:
    """The project with `rootfs:base.tar`: busybox, two accounts."""
    busybox = shutil.which("busybox")
    assert busybox
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
    with tarfile.open(project.root / "base.tar", "w") as tar:
        for folder in ("bin", "etc", "root", "tmp", "srv"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(member)
        program = tarfile.TarInfo("bin/busybox")
        data = Path(busybox).read_bytes()
        program.size, program.mode = len(data), 0o755
        tar.addfile(program, io.BytesIO(data))
        for name in names.split():
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        for name, text in _TEXTS.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return project
