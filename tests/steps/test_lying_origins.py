"""A layout whose config says other layers than it has: nothing is ever copied out of it, and no
other image's files become its own, in whatever order they come."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.steps.test_set import layers

OCI = "application/vnd.oci.image."


def layer(text: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("f")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def layout(root: Path, held: list[bytes], said: list[bytes]) -> None:
    """Holds the layers `held`, and its config names those `said`."""
    blobs = root / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"mediaType": OCI + kind, "digest": f"sha256:{name}", "size": len(data)}

    ids = ["sha256:" + hashlib.sha256(each).hexdigest() for each in said]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(gzip.compress(each, mtime=0), "layer.v1.tar+gzip") for each in held],
    }
    index = {
        "schemaVersion": 2,
        "manifests": [put(json.dumps(manifest).encode(), "manifest.v1+json")],
    }
    (root / "index.json").write_text(json.dumps(index))
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


@pytest.mark.parametrize(
    "order", [*itertools.permutations(("good", "victim", "liar"))], ids="-".join
)
def test_each_image_gives_its_own_file(project: Any, order: tuple[str, ...]) -> None:
    below, good, victim = layer("below"), layer("good"), layer("victim")
    layout(project.root / "good", [below, good], [below, good])
    layout(project.root / "victim", [below, victim], [below, victim])
    layout(project.root / "liar", [below, good], [below, victim])
    for name in (*order, *order):
        project.spec("x", f"from: scratch\nsteps: [{{copy: /f, from: 'oci:{name}', dest: /o}}]\n")
        (project.root / "o.tar").unlink(missing_ok=True)
        if name == "liar":
            project.run("build", "x", status=1)
            continue
        project.run("build", "x", "-o", "docker-archive:o.tar")
        assert layers(project.root / "o.tar")["o"] == name.encode()
