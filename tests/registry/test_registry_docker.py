"""A Docker engine as the other side: it pulls what we push, we pull what it pushes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from builder.oci.image import Image, Platform
from builder.oci.reference import parse_reference
from builder.store.store import Store
from builder.transport.registry.push import Push, push_all
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings

pytestmark = [pytest.mark.needs("docker-registry", "docker", "dockerd"), pytest.mark.root]


def test_docker_pulls_what_we_push_and_we_pull_what_it_pushes(
    engine: str,
    registry: str,
    store: Store,
    new_store: Callable[[], Store],
    make_image: Callable[..., Image],
) -> None:
    def docker(*words: str) -> str:
        done = subprocess.run(["docker", "-H", engine, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    image = make_image(store, (60, 500_000), (61, 100))
    diff_ids = [layer.diff_id for layer in image.layers]
    ours, theirs = f"{registry}/docker/ours:1", f"{registry}/docker/theirs:1"
    with Registry(Settings()) as session:
        (result,) = push_all(session, store, [Push(image, (parse_reference(ours),))])

    docker("pull", "-q", ours)
    (inspected,) = json.loads(docker("image", "inspect", ours))
    assert inspected["RepoDigests"] == [f"{registry}/docker/ours@{result.digest}"]
    assert inspected["RootFS"]["Layers"] == diff_ids

    docker("tag", ours, theirs)
    docker("push", "-q", theirs)
    with Registry(Settings()) as session:
        pulled = session.pull(parse_reference(theirs), Platform("linux", "amd64"), new_store())
    assert [layer.diff_id for layer in pulled.image.layers] == diff_ids
    docker("rmi", ours, theirs)
