"""`dir:` and `tar:` beside what BuildKit's outputs `local` and `tar` make of the same image."""

from __future__ import annotations

import io
import os
import random
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuilderError
from builder.oci.image import Image
from builder.store.store import Store
from builder.transport.outputs import parse_output
from tests.transport.snapshot import snapshot
from tests.transport.test_files_out import image_of, random_layers

FULL = os.environ.get("RELIABILITY") == "full"
COUNT = 100 if FULL else 6
SEED = int(os.environ.get("RELIABILITY_SEED", "0"))


def members(data: bytes) -> dict[bytes, Any]:
    """What a tar says of each path; of paths that are one file each has what the file has."""
    found: dict[bytes, Any] = {}
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        for member in archive:
            path = os.fsencode(member.name)
            if member.islnk():
                found[path] = found[os.fsencode(member.linkname)]
                continue
            file = archive.extractfile(member) if member.isreg() else None
            found[path] = (
                *(member.type, member.mode if not member.issym() else 0, member.uid, member.gid),
                *(int(member.mtime), file.read() if file else member.linkname),
                (member.devmajor, member.devminor) if member.isdev() else None,
            )
    return found


def unowned(folder: Path) -> dict[bytes, Any]:
    """What BuildKit's `local` writes is its user's, and folders are of now."""
    return {
        path: (*seen[:2], 0 if stat.S_ISDIR(seen[0]) else seen[4], *seen[5:])
        for path, seen in snapshot(os.fsencode(folder))[0].items()
    }


def differences(theirs: dict[bytes, Any], ours: dict[bytes, Any]) -> list[str]:
    return [
        f"{path!r}: theirs {theirs.get(path)}, ours {ours.get(path)}"
        for path in sorted({*theirs, *ours})
        if theirs.get(path) != ours.get(path)
    ]


def load(sides: Any, store: Store, image: Image, tag: str, folder: Path) -> bool:
    """Whether Docker takes the image."""
    parse_output(f"docker-archive:{folder}/saved.tar:{tag}")(store, "x").put([image])
    return not sides.run("load", "--quiet", "-i", f"{folder}/saved.tar")[1]


@pytest.mark.root
@pytest.mark.needs("dockerd", "unshare")
@pytest.mark.timeout(3600)
def test_files_are_what_buildkit_puts_out(sides: Any, tmp_path: Path) -> None:
    compared = 0
    for number in range(SEED, SEED + COUNT):
        here = tmp_path / str(number)
        store = Store(str(here / "store"))
        image = image_of(random_layers(random.Random(number), store, tidy=True))
        tag = f"parity:outputs-{number}"
        try:
            parse_output(f"tar:{here}/ours.tar")(store, "x").put([image])
            parse_output(f"dir:{here}/ours")(store, "x").put([image])
        except BuilderError:
            continue
        if not load(sides, store, image, tag, here):
            continue
        compared += 1
        (here / "context").mkdir()
        (here / "context/Dockerfile").write_text(f"FROM {tag}\n")
        data = sides.out("build", "-q", "-o", "-", f"{here}/context", buildkit=True)
        theirs, ours = members(data), members((here / "ours.tar").read_bytes())
        assert not differences(theirs, ours), number
        sides.out("build", "-q", "-o", f"{here}/theirs", f"{here}/context", buildkit=True)
        theirs, ours = (unowned(here / each) for each in ("theirs", "ours"))
        assert not differences(theirs, ours), number
    assert compared > COUNT / 3
