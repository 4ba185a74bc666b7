"""`mode:` beside chmod(1), under a umask of 0: what names nobody is for all."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from builder.plan.modes import apply_mode

TEXTS = [
    "0644", "0755", "4711", "1777", "0000", "u=rwX,go=rX", "u=rwX,go=", "a+X", "go-w", "+x", "=r",
    "u+s", "g+s", "u-s", "o+t", "+t", "-t", "ug+s,o-rwx", "u=rws", "g=u", "o=g", "go=u,go-w", "u=",
    "a=", "u+x,g-x+r", "u=g", "o+u", "a-rwx,u+r", "ugo=rwx", "=X", "u=rwxs,g=rxs,o=t", "-s", "+s",
    "u+t", "g=t", "g=s,o=", "a=rws", "u=o,g-s",
]  # fmt: skip
MODES = (0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o000, 0o6751)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("directory", [False, True], ids=["file", "directory"])
def test_a_mode_is_what_chmod_makes_of_it(tmp_path: Path, text: str, directory: bool) -> None:
    paths = {mode: tmp_path / f"{mode:o}" for mode in MODES}
    for mode, path in paths.items():
        path.mkdir() if directory else path.touch()
        os.chmod(path, mode)
    # a number clears a directory's set-id bits for us: it says what the mode is
    if directory and text.isdigit():
        for path in paths.values():
            os.chmod(path, 0)
    subprocess.run(["chmod", "--", text, *paths.values()], check=True, umask=0)
    for mode, path in paths.items():
        wanted = stat.S_IMODE(path.stat().st_mode)
        assert oct(apply_mode(text, mode, directory=directory)) == oct(wanted), oct(mode)
