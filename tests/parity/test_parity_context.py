"""A spec's own context beside `docker build FOLDER`."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

FILES = {
    ".dockerignore": "*.py\napi\n",
    "other": "x",
    "api/.dockerignore": ".dockerignore\n*.md\n!keep.md\n/deep/*\n",
    "api/a.py": "a",
    "api/b.md": "b",
    "api/keep.md": "k",
    "api/deep/c": "c",
    "api/link": "-> a.py",
}


@pytest.mark.root
@pytest.mark.needs("dockerd", "skopeo")
@pytest.mark.parametrize("buildkit", [False, True])
def test_a_folder_with_its_own_ignore_file(sides: Any, tmp_path: Path, buildkit: bool) -> None:
    context = tmp_path / "context"
    sides.make_tree(context, FILES)
    text = "FROM scratch\nCOPY . /srv/\nCOPY link keep.md /two/\n"
    assert not sides.build(text, context / "api", "parity:theirs", buildkit=buildkit)
    steps = [{"copy": ".", "dest": "/srv/"}, {"copy": ["link", "keep.md"], "dest": "/two/"}]
    spec = {"from": "scratch", "context": "api/", "steps": steps}
    done = sides.ours(spec, context, tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    sides.load(tmp_path / "cache/store", "ours", "parity:ours", tmp_path / "load")
    assert sides.tree("parity:ours") == sides.tree("parity:theirs")
    assert "srv/keep.md" in sides.tree("parity:ours")


@pytest.mark.root
@pytest.mark.needs("dockerd", "skopeo")
def test_an_archives_times_are_kept_as_add_keeps_them(sides: Any, tmp_path: Path) -> None:
    """Of all that it has entries for; a folder that the step makes has the clock's time."""
    context = tmp_path / "context"
    context.mkdir()
    kinds = {"d": tarfile.DIRTYPE, "d/l": tarfile.SYMTYPE, "d/p": tarfile.FIFOTYPE}
    with tarfile.open(context / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for number, name in enumerate(("d", "d/f", "d/l", "d/p", "old", "new")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kinds.get(name, tarfile.REGTYPE), "x" * (name == "d/l")
            member.mode = 0o755
            member.mtime = {"old": 0, "new": 4_000_000_000}.get(name, 1_000_000_000 + number)
            tar.addfile(member)
    assert not sides.build(
        "FROM scratch\nADD a.tar /srv/\n", context, "parity:theirs", buildkit=True
    )
    steps = [{"unpack": "a.tar", "dest": "/srv/", "preserve": "mtime"}]
    done = sides.ours({"from": "scratch", "steps": steps}, context, tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    sides.load(tmp_path / "cache/store", "ours", "parity:ours", tmp_path / "load")
    found = []
    for image in ("parity:theirs", "parity:ours"):
        container = sides.out("create", "--network", "none", image, "x").decode().strip()
        try:
            with tarfile.open(fileobj=io.BytesIO(sides.out("export", container))) as tar:
                found.append({each.name: each.mtime for each in tar if each.name > "srv/"})
        finally:
            sides.out("rm", container)
    theirs, ours = ({k: v for k, v in each.items() if k.startswith("srv/")} for each in found)
    assert theirs == ours and len(ours) == 6
