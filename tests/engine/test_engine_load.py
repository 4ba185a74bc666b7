"""Images into an engine and out of it: only what it lacks, and the same when they come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import TransportError
from builder.oci.image import Image, host_platform
from builder.rootfs.layers import Layers
from builder.spec.model import BaseRef, Place
from builder.store.store import Store
from builder.transport.engine import connect
from builder.transport.engine_base import DaemonSource
from builder.transport.engine_send import Sent, send_image

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

Load = Callable[..., Sent]


@pytest.fixture
def load(engine: Any) -> Load:
    def run(bench: Any, *tags: str, host: str = "") -> Sent:
        with connect({"DOCKER_HOST": host or engine.socket}) as opened:
            image = bench.image
            return send_image(opened, Layers(bench.store), image, image.config_bytes(), tags)

    return run


def with_layer(bench: Any, text: str) -> Any:
    bench.image = bench.image._replace(
        config={**bench.image.config, "config": {"Cmd": ["cat", "/new"], "Env": ["PATH=/bin"]}}
    )
    found = bench.run(f"echo {text} > /new", bench.embedded())
    bench.image = bench.image.append(found.layer, {"created_by": text})
    return bench


def big_layer(bench: Any) -> int:
    """Two megabytes that no compressor makes smaller."""
    found = bench.run("dd if=/dev/urandom of=/big bs=65536 count=32", bench.embedded())
    bench.image = bench.image.append(found.layer, {"created_by": "noise"})
    return int(found.layer.blob.size)


def ref(value: str) -> BaseRef:
    return BaseRef("docker-daemon", value, Place("specs/a.yaml", 1, 7))


def test_a_loaded_image_runs_as_it_was_built(make_bench: Any, engine: Any, load: Load) -> None:
    bench = with_layer(make_bench(), "hello")
    sent = load(bench, "run/one:1", "run/one:2")
    assert engine.docker("run", "--rm", "--network", "none", "run/one:2") == b"hello\n"
    found = json.loads(engine.docker("image", "inspect", "run/one:1"))[0]
    assert found["Id"] == sent.image
    assert found["RootFS"]["Layers"] == [layer.diff_id for layer in bench.image.layers]
    assert sent.layers == len(bench.image.layers)


def test_only_the_layers_that_the_engine_lacks_are_sent(
    make_bench: Any, load: Load, make_proxy: Any
) -> None:
    bench = make_bench()
    size = big_layer(bench)
    image = bench.image
    assert load(with_layer(bench, "first"), "less:1").bytes > size
    bench.image = image
    proxy = make_proxy()
    sent = load(with_layer(bench, "second"), "less:2", host=proxy.host)
    assert sent.layers == 1 and sent.bytes < 50_000 and proxy.bytes < 60_000
    again = load(bench, "less:2", "less:3")
    assert (again.layers, again.bytes, again.image) == (0, 0, sent.image)


def test_another_config_over_the_same_layers_sends_no_layer(make_bench: Any, load: Load) -> None:
    bench = make_bench()
    load(bench, "config:1")
    bench.image = bench.image._replace(config={**bench.image.config, "author": "me"})
    assert load(bench, "config:2").layers == 0


def test_zstd_layers_are_unpacked_on_the_way(make_bench: Any, engine: Any, load: Load) -> None:
    from builder.layer.entry import FILE, Entry
    from builder.layer.write import write_layer

    bench = make_bench()
    written = write_layer([(Entry(b"new", FILE, 0o644, size=4), b"zstd")], bench.store, "zstd")
    assert written is not None
    bench.image = bench.image.append(written.layer, {})
    load(bench, "zstd:1")
    assert engine.docker("run", "--rm", "--network", "none", "zstd:1", "cat", "/new") == b"zstd"


def test_a_damaged_layer_is_not_sent(make_bench: Any, load: Load) -> None:
    bench = with_layer(make_bench(), "damaged")
    path = Path(bench.store.blob_path(bench.image.layers[-1].blob.digest))
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Exception, match=r"sha256|corrupt|damaged"):
        load(bench, "damaged:1")


def test_a_base_from_an_engine_has_the_layers_that_went_in(
    make_bench: Any, load: Load, engine: Any, tmp_path: Path
) -> None:
    bench = with_layer(make_bench(), "base")
    load(bench, "base/of:1")
    store = Store(str(tmp_path / "other"))
    source = DaemonSource(store, {"DOCKER_HOST": engine.socket})
    assert source.resolve(ref("base/of:1"), host_platform(), make=False, pull="missing") is None
    base = source.resolve(ref("base/of:1"), host_platform(), make=True, pull="missing")
    assert base is not None and base.image.config == bench.image.config
    assert diff_ids(base.image) == diff_ids(bench.image)
    assert all(store.has(layer.blob) for layer in base.image.layers)
    identity = json.loads(engine.docker("image", "inspect", "base/of:1"))[0]["Id"]
    assert base.about == f"docker-daemon:base/of:1, {identity[:19]}"
    by_id = source.resolve(ref(identity), host_platform(), make=False, pull="missing")
    assert by_id is not None and by_id.image == base.image


def diff_ids(image: Image) -> list[str]:
    return [layer.diff_id for layer in image.layers]


def test_a_base_that_is_known_costs_one_question(
    make_bench: Any, load: Load, make_proxy: Any
) -> None:
    bench = make_bench()
    load(bench, "known:1")
    proxy = make_proxy()
    source = DaemonSource(bench.store, {"DOCKER_HOST": proxy.host})
    source.resolve(ref("known:1"), host_platform(), make=True, pull="missing")
    before = proxy.bytes
    source.resolve(ref("known:1"), host_platform(), make=True, pull="always")
    assert 0 < proxy.bytes - before < 500
    proxy.cut()
    never = DaemonSource(bench.store, {"DOCKER_HOST": proxy.host})
    assert never.resolve(ref("known:1"), host_platform(), make=True, pull="never")
    with pytest.raises(TransportError, match=r"specs/a.yaml:1:7: .*was never taken"):
        never.resolve(ref("other:1"), host_platform(), make=True, pull="never")


def test_an_unknown_base_names_what_is_near(make_bench: Any, load: Load, engine: Any) -> None:
    load(make_bench(), "team/web:1.25")
    source = DaemonSource(make_bench().store, {"DOCKER_HOST": engine.socket})
    with pytest.raises(
        TransportError, match=r"^specs/a.yaml:1:7: .*no image 'team/web:1.24'"
    ) as caught:
        source.resolve(ref("team/web:1.24"), host_platform(), make=True, pull="missing")
    assert caught.value.hint and "team/web:1.25" in caught.value.hint


def test_a_base_for_another_platform_is_refused(make_bench: Any, load: Load, engine: Any) -> None:
    from builder.oci.image import Platform

    bench = make_bench()
    load(bench, "foreign:1")
    source = DaemonSource(bench.store, {"DOCKER_HOST": engine.socket})
    other = Platform("linux", "s390x")
    with pytest.raises(TransportError, match="expected linux/s390x"):
        source.resolve(ref("foreign:1"), other, make=True, pull="missing")


def builder(tmp_path: Path, engine: Any, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "builder", *args, "--cache-dir", str(tmp_path / "cache")],
        cwd=tmp_path,
        env={**os.environ, "DOCKER_HOST": engine.socket},
        capture_output=True,
        text=True,
    )


def test_the_command_line(tmp_path: Path, engine: Any) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "bb").write_bytes(Path("/bin/busybox").read_bytes())
    (tmp_path / "specs/cli.yaml").write_text(
        "from: scratch\ntags: [team/cli:1]\nconfig: {cmd: [/bin/echo, hi]}\n"
        "steps: [{copy: bb, dest: /bin/echo, mode: '0755'}]\n"
    )
    (tmp_path / "specs/on.yaml").write_text(
        "from: docker-daemon:team/cli:1\nsteps: [{file: /x, content: x}]\n"
    )
    missing = builder(tmp_path, engine, "load", "cli", "--no-build")
    assert (missing.returncode, missing.stderr) == (
        2,
        "error: image 'cli' is not built as its spec stands now:"
        " step 1 (copy bb): first build\n"
        "hint: builder build cli, or leave out --no-build\n",
    )
    loaded = builder(tmp_path, engine, "load", "cli")
    name, identity = loaded.stdout.split()
    assert name == "team/cli:1" and identity.startswith("sha256:")
    assert engine.docker("run", "--rm", "--network", "none", "team/cli:1") == b"hi\n"
    again = builder(tmp_path, engine, "load", "cli", "--tag", "other/name", "--json")
    assert json.loads(again.stdout) == {
        "image": identity,
        "tags": ["other/name:latest"],
        "sent": {"bytes": 0, "layers": 0},
    }
    assert builder(tmp_path, engine, "build", "on").returncode == 0
    assert "hit" in builder(tmp_path, engine, "plan", "on").stdout
    wrong = builder(tmp_path, engine, "load", "cli", "--tag", "UPPER")
    assert wrong.returncode == 2 and "not lower case" in wrong.stderr
