"""Push: the image that a spec means now, of this project, under these variables; nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import TransportError
from builder.oci.image import host_platform
from builder.oci.reference import parse_reference
from builder.store.store import Store
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(folder: str, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "builder", *arguments],
            cwd=tmp_path / folder,
            env={**os.environ, "BUILDER_CACHE_DIR": str(tmp_path / "store")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        return done

    return call


def spec(folder: Path, registry: str, content: str) -> None:
    (folder / "specs").mkdir(parents=True, exist_ok=True)
    (folder / "specs/web.yaml").write_text(
        "from: scratch\nvars: {v: '1'}\n"
        f"steps: [{{file: /x, content: '{content} {{{{ v }}}}'}}]\n"
        f"tags: ['{registry}/names/{folder.name}:{{{{ v }}}}']\n"
    )


def content(registry: str, name: str, store: Store) -> bytes:
    """What /x holds in the image that is at the registry now."""
    from builder.layer.decompress import open_layer
    from builder.layer.read import read_layer

    with Registry(Settings()) as session:
        pulled = session.pull(parse_reference(f"{registry}/{name}"), host_platform(), store)
    with store.open(pulled.image.layers[0].blob) as blob:
        return next(
            stream.read() for entry, stream in read_layer(open_layer(blob, "gzip")) if entry.size
        )


def test_each_tag_gets_what_its_spec_says(
    registry: str, store: Store, run: Run, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        spec(tmp_path / folder, registry, folder)
    for folder, value in (("a", "1"), ("b", "1"), ("a", "2"), ("b", "2")):
        run(folder, "build", "--set", f"v={value}")
    digests = {}
    for folder, value in (("a", "1"), ("b", "2"), ("b", "1"), ("a", "2")):
        done = run(folder, "push", "web", "--set", f"v={value}", "--no-build", "--json")
        (pushed,) = json.loads(done.stdout)["pushed"]
        digests[folder, value] = pushed["digest"]
    assert len(set(digests.values())) == 4
    again = run("b", "push", f"{registry}/names/a:1", "--json")  # by where it is already
    assert json.loads(again.stdout)["pushed"][0]["digest"] == digests["a", "1"]
    for (folder, value), digest in digests.items():
        reference = f"{registry}/names/{folder}:{value}"
        assert json.loads(run(folder, "inspect", reference).stdout)["digest"] == digest
        expected = f"{folder} {value}".encode()
        assert content(registry, f"names/{folder}:{value}", store) == expected


def test_a_spec_that_changed_is_built_before_it_is_pushed_or_refused(
    registry: str, store: Store, run: Run, tmp_path: Path
) -> None:
    spec(tmp_path / "changing", registry, "old")
    refused = run("changing", "push", "web", "--no-build", status=2)
    assert "first build" in refused.stderr
    with pytest.raises(TransportError):
        content(registry, "names/changing:1", store)
    run("changing", "push", "web")
    assert content(registry, "names/changing:1", store) == b"old 1"
    spec(tmp_path / "changing", registry, "new")
    refused = run("changing", "push", "web", "--no-build", status=2)
    assert "step 1 (file /x): /x: content" in refused.stderr
    assert content(registry, "names/changing:1", store) == b"old 1"
    run("changing", "push", "web")
    assert content(registry, "names/changing:1", store) == b"new 1"
