"""`copy` from an image gives one layer wherever the image is kept, and nothing is brought again
when nothing changed."""

from __future__ import annotations

import json
import os
import tarfile
from typing import Any

import pytest

from tests.cli.conftest import project

__all__ = ["project"]


@pytest.mark.needs("dockerd", "docker-registry")
def test_the_same_files_from_every_kind_of_image(project: Any, registry: str, engine: str) -> None:
    env = {"DOCKER_HOST": engine}
    tree = project.root / "tree"
    (tree / "d/e").mkdir(parents=True)
    (tree / "d/e/file").write_text("file")
    os.link(tree / "d/e/file", tree / "d/again")
    (tree / "d/abs").symlink_to("/d/e/file")
    (tree / "l").symlink_to("d")
    with tarfile.open(project.root / "tree.tar", "w") as tar:
        for path in sorted(tree.rglob("*")):
            tar.add(path, str(path.relative_to(tree)), recursive=False)
    project.spec("below", f"from: rootfs:tree.tar\ntags: ['{registry}/below:1']\n")
    project.run("build", "below", "-o", "oci:layout:tag", "-o", "docker-archive:saved.tar:a/b:1")
    project.run("build", "below", "--push")
    project.run("load", "below", env=env)
    origins = (
        "rootfs:tree.tar",
        "image:below",
        "stage:s",
        "oci:layout:tag",
        "docker-archive:saved.tar",
        f"{registry}/below:1",
        f"docker-daemon:{registry}/below:1",
    )
    digests = {}
    for origin in origins:
        project.spec(
            "x",
            "from: scratch\nstages: {s: {from: 'rootfs:tree.tar'}}\n"
            f"steps: [{{copy: [/l, /l/e], from: '{origin}', dest: /o/}}]\n",
        )
        for _ in range(2):
            done = project.run(
                "build", "x", "--json", "--cache-dir", f"new-{len(digests)}", env=env
            )
        assert '"built"' not in done.stdout
        (image,) = [each for each in json.loads(done.stdout)["images"] if each["name"] == "x"]
        digests[origin] = image["layers"][-1]["diff_id"]
    assert len(set(digests.values())) == 1, digests
