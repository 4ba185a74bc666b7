"""docker-archive and oci-archive, in and out, with the tools that use them on the other side."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.errors import TransportError
from builder.oci.image import Image, Platform
from builder.spec.model import BaseRef
from builder.store.store import Store
from builder.transport.archive import ArchiveSource
from builder.transport.outputs import parse_output

if TYPE_CHECKING:
    from tests.dockerd import Engine

BUSYBOX = Path("/bin/busybox")
MakeImage = Callable[..., Image]
Ref = Callable[[str], BaseRef]


def resolve(store: Store, folder: Path, ref: BaseRef, now: float = 2e9) -> Image:
    source = ArchiveSource(store, str(folder), lambda: now)
    base = source.resolve(ref, Platform(), make=True, pull="missing")
    assert base is not None
    return base.image


def archive(path: Path, members: list[tuple[str, bytes | str]]) -> None:
    """A tar of files, and of symlinks where the content is text."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def layer_tar(name: str = "hello", data: bytes = b"hi") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def config_of(*layers: bytes, architecture: str = "amd64") -> bytes:
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return json.dumps({"os": "linux", "architecture": architecture, "rootfs": rootfs}).encode()


def manifest(config: str, *layers: str, tags: tuple[str, ...] = ("a:1",)) -> bytes:
    return json.dumps([{"Config": config, "RepoTags": tags, "Layers": layers}]).encode()


def test_docker_loads_and_runs_our_archive(
    engine: Engine, store: Store, make_image: MakeImage, tmp_path: Path
) -> None:
    if not BUSYBOX.exists():
        pytest.skip("needs busybox-static")
    script = {"bin/": b"", "bin/busybox": BUSYBOX.read_bytes()}
    for codec in ("gzip", "zstd", "none"):
        image = make_image(store, script, {"word": codec.encode()}, codec=codec)
        path = tmp_path / f"{codec}.tar"
        parse_output(f"docker-archive:{path}:test/{codec}:1")(store, "x").put([image])
        assert f"test/{codec}:1".encode() in engine.docker("load", "-i", str(path))
        ran = engine.docker(
            "run", "--rm", "--network=none", f"test/{codec}:1", "/bin/busybox", "cat", "/word"
        )
        assert ran == codec.encode()


def test_what_docker_saves_is_a_base_with_the_same_layers(
    engine: Engine, store: Store, make_image: MakeImage, ref: Ref, tmp_path: Path
) -> None:
    image = make_image(store, {"a": b"1"}, {"b": b"2"}, {"a": b"1"})
    path = tmp_path / "ours.tar"
    parse_output(f"docker-archive:{path}:saved:1")(store, "x").put([image])
    engine.docker("load", "-i", str(path))
    (tmp_path / "saved.tar").write_bytes(engine.docker("save", "saved:1"))
    (tmp_path / "saved.tar.gz").write_bytes(gzip.compress((tmp_path / "saved.tar").read_bytes()))
    for name in ("saved.tar", "saved.tar:1", "saved.tar:saved:1", "saved.tar.gz"):
        other = Store(str(tmp_path / f"store-{name}"))
        base = resolve(other, tmp_path, ref(f"docker-archive:{name}"))
        assert [each.diff_id for each in base.layers] == [each.diff_id for each in image.layers]
        assert all(other.has(each.blob) for each in base.layers)
        assert base.config["config"]["Cmd"] == ["/hello"]


@pytest.mark.needs("skopeo")
def test_skopeo_reads_both_archives(store: Store, make_image: MakeImage, tmp_path: Path) -> None:
    image = make_image(store, {"a": b"1"}, {"b": b"2"})
    for kind in ("docker-archive", "oci-archive"):
        path = tmp_path / f"{kind}.tar"
        parse_output(f"{kind}:{path}")(store, "Site").put([image])
        copied = tmp_path / f"{kind}-copied"
        subprocess.run(["skopeo", "copy", f"{kind}:{path}", f"dir:{copied}"], check=True)
        said = json.loads((copied / "manifest.json").read_bytes())
        assert len(said["layers"]) == 2


@pytest.mark.needs("skopeo")
def test_what_skopeo_writes_is_a_base(
    store: Store, make_image: MakeImage, ref: Ref, tmp_path: Path
) -> None:
    image = make_image(store, {"a": b"1"})
    parse_output(f"oci:{tmp_path}/layout:v1")(store, "x").put([image])
    target = f"docker-archive:{tmp_path}/s.tar:some/name:v2"
    subprocess.run(["skopeo", "copy", f"oci:{tmp_path}/layout:v1", target], check=True)
    other = Store(str(tmp_path / "other"))
    base = resolve(other, tmp_path, ref("docker-archive:s.tar:v2"))
    assert [each.diff_id for each in base.layers] == [each.diff_id for each in image.layers]


def test_the_same_image_gives_the_same_archive(
    store: Store, make_image: MakeImage, tmp_path: Path
) -> None:
    image = make_image(store, {"a": b"1"}, {"b": b"2"})
    for kind in ("docker-archive", "oci-archive"):
        paths = [tmp_path / f"{kind}-{number}.tar" for number in range(2)]
        for path in paths:
            parse_output(f"{kind}:{path}:v1")(store, "x").put([image])
        assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_symlinked_layers_are_followed_within_the_archive(
    store: Store, ref: Ref, tmp_path: Path
) -> None:
    layer = layer_tar()
    archive(
        tmp_path / "a.tar",
        [
            ("one/layer.tar", layer),
            ("two/layer.tar", "../one/layer.tar"),
            ("c.json", config_of(layer, layer)),
            ("manifest.json", manifest("c.json", "one/layer.tar", "two/layer.tar")),
        ],
    )
    base = resolve(store, tmp_path, ref("docker-archive:a.tar"))
    assert len(base.layers) == 2
    assert base.layers[0] == base.layers[1]


def test_compressed_layers_are_kept_as_they_are(store: Store, ref: Ref, tmp_path: Path) -> None:
    layer = layer_tar()
    packed = gzip.compress(layer, mtime=0)
    name = "blobs/sha256/" + hashlib.sha256(packed).hexdigest()
    members = [
        (name, packed),
        ("c.json", config_of(layer)),
        ("manifest.json", manifest("c.json", name)),
    ]
    archive(tmp_path / "a.tar", members)
    base = resolve(store, tmp_path, ref("docker-archive:a.tar"))
    assert base.layers[0].blob.digest == "sha256:" + hashlib.sha256(packed).hexdigest()


def test_a_known_archive_is_not_read_again_and_a_changed_one_is(
    store: Store, ref: Ref, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar"
    images = []
    for data in (b"one", b"two"):
        layer = layer_tar(data=data)
        members = [("l", layer), ("c", config_of(layer)), ("manifest.json", manifest("c", "l"))]
        archive(path, members)
        images.append(resolve(store, tmp_path, ref("docker-archive:a.tar")))
        known = ArchiveSource(store, str(tmp_path), lambda: 2e9).resolve(
            ref("docker-archive:a.tar"), Platform(), make=False, pull="missing"
        )
        assert known is not None
        assert known.image == images[-1]
    assert images[0].layers != images[1].layers


LAYER = layer_tar()
GOOD = [("l", LAYER), ("c", config_of(LAYER)), ("manifest.json", manifest("c", "l"))]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (GOOD[:2], "no manifest.json"),
        ([*GOOD[:2], ("manifest.json", b"{}")], "not a list"),
        ([*GOOD[:2], ("manifest.json", b"[" * 100_000)], "nested too deeply"),
        ([*GOOD[:2], ("manifest.json", manifest("c", "/etc/passwd"))], "no file '/etc/passwd'"),
        ([*GOOD[:2], ("manifest.json", manifest("c", "../../l"))], "no file '../../l'"),
        ([*GOOD[1:], ("l", "/etc/passwd")], "no file 'l'"),
        ([*GOOD[1:], ("l", "l")], "no file 'l'"),
        ([GOOD[0], ("c", config_of(b"x")), GOOD[2]], "not those that the config's diff_ids"),
        ([GOOD[0], ("c", config_of(LAYER, architecture="arm64")), GOOD[2]], "linux/arm64"),
        ([*GOOD[:2], ("manifest.json", manifest("c", *["l"] * 128))], "at most 127"),
        ([*GOOD[:2], ("manifest.json", manifest("c", "c"))], "diff_ids"),
        ([("l", b"no tar" * 200), GOOD[1], GOOD[2]], "is not a number"),
        ([*GOOD, GOOD[0]], "twice"),
        ([*GOOD, ("../../x", b"")], "'..'"),
    ],
)
def test_hostile_archives_are_refused(
    store: Store, ref: Ref, tmp_path: Path, members: list[tuple[str, bytes]], said: str
) -> None:
    archive(tmp_path / "a.tar", members)  # type: ignore[arg-type]  # list is invariant
    with pytest.raises(TransportError, match=r"^docker-archive:a\.tar: ") as caught:
        resolve(store, tmp_path, ref("docker-archive:a.tar"))
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_an_unknown_tag_lists_the_tags(store: Store, ref: Ref, tmp_path: Path) -> None:
    archive(tmp_path / "a.tar", GOOD)  # type: ignore[arg-type]
    with pytest.raises(TransportError, match="no images 'nope'") as caught:
        resolve(store, tmp_path, ref("docker-archive:a.tar:nope"))
    assert caught.value.hint == "its tags are: a:1"
