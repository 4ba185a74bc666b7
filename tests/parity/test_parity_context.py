"""A spec's own context beside `docker build FOLDER`."""

from __future__ import annotations

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
