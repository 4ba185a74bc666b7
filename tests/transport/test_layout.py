"""OCI layouts as bases and as outputs."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import TransportError
from builder.oci.image import Image, Platform
from builder.rootfs.table import PathTable
from builder.spec.model import BaseRef
from builder.store.records import is_imported, load_layer
from builder.store.store import Store
from builder.transport.base import Base
from builder.transport.layout import LayoutSource
from builder.transport.outputs import parse_output

MakeImage = Callable[..., Image]
Ref = Callable[[str], BaseRef]
AMD64 = Platform()


@pytest.fixture
def layout(store: Store, make_image: MakeImage, tmp_path: Path) -> Path:
    """A layout `base` with one image `v1` of two layers; `store` holds them too."""
    image = make_image(store, {"etc/": b"", "etc/passwd": b"root:x:0:0::/:/bin/sh\n"}, {"b": b"2"})
    parse_output(f"oci:{tmp_path}/base:v1")(store, "x").put([image])
    return tmp_path / "base"


@pytest.fixture
def fresh(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "fresh"))


def resolve(store: Store, folder: Path, ref: BaseRef, platform: Platform = AMD64) -> Base:
    base = LayoutSource(store, str(folder)).resolve(ref, platform, make=True, pull="missing")
    assert base is not None
    return base


def fetch_all(base: Base) -> None:
    assert base.provider is not None
    for layer in base.image.layers:
        assert base.provider.bring(layer)


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs/sha256" / digest.removeprefix("sha256:")


def rewrite(layout: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of the only image and make the index name the result."""
    index = json.loads((layout / "index.json").read_bytes())
    entry = index["manifests"][0]
    manifest = json.loads(blob(layout, entry["digest"]).read_bytes())
    change(manifest)
    data = json.dumps(manifest).encode()
    entry.update(digest="sha256:" + hashlib.sha256(data).hexdigest(), size=len(data))
    blob(layout, entry["digest"]).write_bytes(data)
    (layout / "index.json").write_text(json.dumps(index))


def test_a_layout_is_a_base_and_its_layers_are_imported_once(
    layout: Path, fresh: Store, ref: Ref, tmp_path: Path
) -> None:
    base = resolve(fresh, tmp_path, ref("oci:base:v1"))
    assert not any(fresh.has(layer.blob) for layer in base.image.layers)
    fetch_all(base)
    for layer in base.image.layers:
        assert is_imported(fresh, layer)
        known = load_layer(fresh, layer.diff_id)
        assert known is not None
        assert known.blobs == {layer.blob.digest: layer.blob}
    table = PathTable.open(fresh.table_path(base.image.layers[0].diff_id))
    assert table.files[b"etc/passwd"].startswith(b"root:")
    for layer in base.image.layers:
        blob(layout, layer.blob.digest).unlink()
    assert resolve(fresh, tmp_path, ref("oci:base")).provider is None  # documents only


def test_the_copy_in_the_store_is_no_link(
    layout: Path, fresh: Store, ref: Ref, tmp_path: Path
) -> None:
    base = resolve(fresh, tmp_path, ref("oci:base:v1"))
    fetch_all(base)
    for layer in base.image.layers:
        assert os.stat(fresh.blob_path(layer.blob.digest)).st_nlink == 1


def test_tags_are_chosen_and_told(
    layout: Path, store: Store, fresh: Store, make_image: MakeImage, ref: Ref, tmp_path: Path
) -> None:
    other = make_image(store, {"c": b"3"})
    parse_output(f"oci:{layout}:v2")(store, "x").put([other])
    assert resolve(fresh, tmp_path, ref("oci:base:v2")).image.layers == other.layers
    assert len(resolve(fresh, tmp_path, ref("oci:base:v1")).image.layers) == 2
    for text, said in (("oci:base", "which image?"), ("oci:base:v3", "no image 'v3'")):
        with pytest.raises(TransportError) as caught:
            resolve(fresh, tmp_path, ref(text))
        assert said in caught.value.message
        assert caught.value.hint == "its tags are: v1, v2"
    parse_output(f"oci:{layout}")(store, "x").put([other])
    assert resolve(fresh, tmp_path, ref("oci:base")).image.layers == other.layers


def test_another_platform_is_refused(layout: Path, fresh: Store, ref: Ref, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="no image for linux/arm64; there is linux/amd64"):
        resolve(fresh, tmp_path, ref("oci:base:v1"), Platform("linux", "arm64"))


@pytest.mark.needs("skopeo", "umoci")
def test_skopeo_and_umoci_read_what_we_write_and_we_what_they_write(
    layout: Path, store: Store, make_image: MakeImage, fresh: Store, ref: Ref, tmp_path: Path
) -> None:
    def run(*argv: str) -> bytes:
        return subprocess.run(argv, check=True, capture_output=True).stdout

    run("umoci", "unpack", "--rootless", "--image", f"{layout}:v1", str(tmp_path / "bundle"))
    assert (tmp_path / "bundle/rootfs/b").read_bytes() == b"2"
    run("umoci", "config", "--image", f"{layout}:v1", "--tag", "v2", "--config.user", "me")
    assert resolve(fresh, tmp_path, ref("oci:base:v2")).image.config["config"]["User"] == "me"
    run("skopeo", "copy", f"oci:{layout}:v1", f"oci:{tmp_path}/copied:latest")
    assert resolve(fresh, tmp_path, ref("oci:copied")).image.layers
    docker = ["skopeo", "copy", "--format", "v2s2", f"oci:{layout}:v1", f"dir:{tmp_path}/dir"]
    run(*docker)
    run("skopeo", "copy", f"dir:{tmp_path}/dir", f"oci:{tmp_path}/again:latest")
    fetch_all(resolve(fresh, tmp_path, ref("oci:again")))
    parse_output(f"oci:{layout}:v3")(store, "x").put([make_image(store, {"c": b"3"})])
    assert run("umoci", "ls", "--layout", str(layout)).split() == [b"v1", b"v2", b"v3"]


def test_blobs_that_are_there_are_not_copied_again(
    store: Store, make_image: MakeImage, tmp_path: Path
) -> None:
    image = make_image(store, {"a": b"1"})
    first = parse_output(f"oci:{tmp_path}/out:v1")(store, "x").put([image])
    stamp = os.stat(tmp_path / "out/index.json").st_mtime_ns
    again = parse_output(f"oci:{tmp_path}/out:v1")(store, "x").put([image])
    assert first.sent > 0
    assert again.sent == 0
    assert os.stat(tmp_path / "out/index.json").st_mtime_ns == stamp
    assert sorted(os.listdir(tmp_path / "out")) == ["blobs", "index.json", "oci-layout"]


def test_a_folder_with_other_files_is_not_taken_for_a_layout(
    store: Store, make_image: MakeImage, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/precious").touch()
    with pytest.raises(TransportError, match="holds other files and is no OCI layout"):
        parse_output(f"oci:{tmp_path}/home")(store, "x").put([make_image(store, {"a": b"1"})])
    assert os.listdir(tmp_path / "home") == ["precious"]


def test_what_other_tools_wrote_into_an_index_stays(
    layout: Path, store: Store, make_image: MakeImage
) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    index["annotations"] = {"org.example": "kept"}
    index["manifests"][0]["org.example.unknown"] = [1]
    (layout / "index.json").write_text(json.dumps(index))
    parse_output(f"oci:{layout}:v2")(store, "x").put([make_image(store, {"a": b"1"})])
    after = json.loads((layout / "index.json").read_bytes())
    assert after["annotations"] == {"org.example": "kept"}
    assert after["manifests"][0] == index["manifests"][0]
    assert len(after["manifests"]) == 2


def lie_about(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["layers"][0].__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lie_about("size", 1), "its descriptor says 1"),
        (lie_about("size", True), "size True is not a number"),
        (lie_about("size", -1), "size -1 is not a number"),
        (lie_about("digest", "sha256:../../../../etc/passwd"), "is not a digest"),
        (lie_about("digest", "sha256:" + "0" * 64), "No such file"),
        (lie_about("mediaType", "text/plain"), "not a known kind of layer"),
        (lambda manifest: manifest["layers"].pop(), "1 layers, the config 2 diff_ids"),
        (lambda manifest: manifest["layers"].reverse(), "its config says"),
        (lambda manifest: manifest["layers"].extend(manifest["layers"] * 70), "at most 127"),
        (lambda manifest: manifest.update(manifests=[]), "as an index and as a manifest"),
        (lambda manifest: manifest.update(schemaVersion=1), "schema 1"),
    ],
)
def test_lying_manifests_are_refused(
    layout: Path,
    fresh: Store,
    ref: Ref,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    said: str,
) -> None:
    rewrite(layout, change)
    with pytest.raises(TransportError, match=r"^(specs/a\.yaml:1:7: )?oci:base:v1: ") as caught:
        fetch_all(resolve(fresh, tmp_path, ref("oci:base:v1")))
    assert said in caught.value.message
    assert os.listdir(tmp_path / "fresh" / "tmp") == []


def test_a_diff_id_of_another_blob_is_not_believed(
    layout: Path, fresh: Store, ref: Ref, tmp_path: Path
) -> None:
    base = resolve(fresh, tmp_path, ref("oci:base:v1"))
    fetch_all(base)
    rewrite(layout, lambda manifest: manifest["layers"].reverse())
    swapped = resolve(fresh, tmp_path, ref("oci:base:v1"))
    with pytest.raises(TransportError, match="its config says"):
        fetch_all(swapped)


def first_blob(layout: Path) -> Path:
    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(blob(layout, index["manifests"][0]["digest"]).read_bytes())
    return blob(layout, manifest["layers"][0]["digest"])


def into_symlink(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def into_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (into_symlink, "Too many levels of symbolic links"),
        (into_fifo, "not a regular file"),
        (into_folder, "not a regular file"),
        (flipped, "the bytes have"),
        (lambda path: os.truncate(path, 10), "has 10 bytes"),
        (lambda path: os.truncate(path, 1 << 40), "has 1099511627776 bytes"),
    ],
)
def test_spoiled_blobs_are_refused(
    layout: Path,
    fresh: Store,
    ref: Ref,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    said: str,
) -> None:
    spoil(first_blob(layout))
    base = resolve(fresh, tmp_path, ref("oci:base:v1"))
    with pytest.raises(TransportError) as caught:
        fetch_all(base)
    assert said in caught.value.message
    assert not any(fresh.has(layer.blob) for layer in base.image.layers[:1])


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("oci-layout", b"{}", "the version is not 1.0.0"),
        ("oci-layout", None, "no OCI layout"),
        ("index.json", None, "No such file"),
        ("index.json", b"\x00", "not valid JSON"),
        ("index.json", b" " * (5 << 20), "more than 4194304 bytes"),
    ],
)
def test_broken_layouts_are_refused(
    layout: Path, fresh: Store, ref: Ref, tmp_path: Path, name: str, data: bytes | None, said: str
) -> None:
    (layout / name).unlink()
    if data is not None:
        (layout / name).write_bytes(data)
    with pytest.raises(TransportError) as caught:
        resolve(fresh, tmp_path, ref("oci:base"))
    assert said in caught.value.message


def test_a_gzip_bomb_ends_at_a_limit_not_in_memory(
    layout: Path, fresh: Store, ref: Ref, tmp_path: Path
) -> None:
    bomb = gzip.compress(bytes(64 << 20))  # zeros: the archive's end, then far too much of it
    digest = hashlib.sha256(bomb).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(bomb)
    rewrite(
        layout,
        lambda manifest: manifest["layers"][0].update(digest=f"sha256:{digest}", size=len(bomb)),
    )
    with pytest.raises(TransportError, match="its config says"):
        fetch_all(resolve(fresh, tmp_path, ref("oci:base:v1")))
