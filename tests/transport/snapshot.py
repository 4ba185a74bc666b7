"""What a folder holds, as the kernel says it: every path with all that an image says of it, and
which of them are one file. A program: prints that of a folder, after mounting an overlay there when
options are given."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import Any


def snapshot(top: bytes) -> tuple[dict[bytes, Any], list[list[bytes]]]:
    found: dict[bytes, Any] = {}
    inodes: dict[int, list[bytes]] = {}
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        for name in os.listdir(os.path.join(top, folder)):
            path = os.path.join(folder, name)
            here = os.path.join(top, path)
            status = os.lstat(here)
            kind: Any = stat.S_IFMT(status.st_mode)
            holds: Any = None
            if stat.S_ISDIR(kind):
                waiting.append(path)
            elif stat.S_ISREG(kind):
                with open(here, "rb") as file:
                    holds = file.read()
            elif stat.S_ISLNK(kind):
                holds = os.readlink(here)
            elif kind != stat.S_IFIFO:
                holds = status.st_rdev
            xattrs = [
                (key, os.getxattr(here, key))
                for key in sorted(os.listxattr(here, follow_symlinks=False))
                if key.startswith(("user.", "security.capability"))
            ]
            found[path] = (
                *(kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid),
                *(status.st_mtime_ns, holds, xattrs),
            )
            if not stat.S_ISDIR(kind):
                inodes.setdefault(status.st_ino, []).append(path)
    return found, sorted(sorted(paths) for paths in inodes.values() if len(paths) > 1)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        mount = ["mount", "-t", "overlay", "overlay", "-o", sys.argv[2], sys.argv[1]]
        subprocess.run(mount, check=True)
    sys.stdout.write(repr(snapshot(os.fsencode(sys.argv[1]))))
