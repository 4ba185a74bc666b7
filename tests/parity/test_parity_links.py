"""Hard links of a context in an image: which paths are one file, as both of Docker's builders and
buildah have it."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

DOCKERFILE = """FROM scratch
COPY d/ /whole/
COPY d/a e/x /named/
COPY d e /both/
COPY d/sub /part/
"""
STEPS = [
    {"copy": "d/", "dest": "/whole/"},
    {"copy": ["d/a", "e/x"], "dest": "/named/"},
    {"copy": ["d", "e"], "dest": "/both/"},
    {"copy": "d/sub", "dest": "/part/"},
]

Links = list[dict[str, str]]
"""Of each layer its files, each with the first path of the same file."""


def links(layers: Iterable[bytes]) -> Links:
    found = []
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            members = [each for each in tar if each.isreg() or each.islnk()]
            found.append({each.name: each.linkname or each.name for each in members})
    return found


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    for folder in ("d/sub/deep", "e"):
        (root / folder).mkdir(parents=True)
    for name in ("d/b", "d/z", "d/alone", "e/q"):
        (root / name).write_text(name)
    for old, new in (
        ("d/b", "d/a"), ("d/b", "d/sub/c"), ("d/b", "d/sub/deep/c"), ("d/b", "e/x"), ("d/z", "d/y"),
        ("d/z", "top"), ("e/q", "e/p"), ("d/b", "d/ignored"),
    ):  # fmt: skip
        os.link(root / old, root / new)
    (root / "Dockerfile").write_text(DOCKERFILE)
    (root / ".dockerignore").write_text("d/ignored\n")
    return root


def ours(sides: Any, context: Path, cache: Path) -> Links:
    done = sides.ours({"from": "scratch", "steps": STEPS}, context, cache)
    assert done.returncode == 0, done.stderr
    return links(map(gzip.decompress, sides.built(cache)[0]))


@pytest.mark.root
@pytest.mark.needs("dockerd")
@pytest.mark.parametrize("buildkit", [True, False])
def test_paths_are_one_file_where_docker_has_them_so(
    sides: Any, tmp_path: Path, context: Path, buildkit: bool
) -> None:
    assert not sides.build(DOCKERFILE, context, "parity:links", buildkit=buildkit)
    with tarfile.open(fileobj=io.BytesIO(sides.out("save", "parity:links"))) as saved:

        def member(name: str) -> bytes:
            file = saved.extractfile(name)
            assert file is not None
            return file.read()

        (manifest,) = json.loads(member("manifest.json"))
        theirs = links(member(name) for name in manifest["Layers"])
    assert ours(sides, context, tmp_path / "cache") == theirs


@pytest.mark.root
@pytest.mark.needs("buildah", "dockerd")
def test_paths_are_one_file_where_buildah_has_them_so(
    sides: Any, tmp_path: Path, context: Path
) -> None:
    options = ["--root", tmp_path / "images", "--runroot", tmp_path / "run"]
    for command in (
        ["bud", "-q", "--layers", "--isolation", "chroot", "-t", "links", context],
        ["push", "-q", "links", f"oci:{tmp_path}/layout:links"],
    ):
        program = ["buildah", *options, "--storage-driver", "vfs", *command]
        subprocess.run(program, check=True, capture_output=True)
    layout = tmp_path / "layout"

    def blob(digest: str) -> bytes:
        return (layout / "blobs" / digest.replace(":", "/")).read_bytes()

    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    layers = json.loads(blob(entry["digest"]))["layers"]
    theirs = links(gzip.decompress(blob(layer["digest"])) for layer in layers)
    assert ours(sides, context, tmp_path / "cache") == theirs
