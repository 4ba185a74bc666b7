"""Errors of bases have their place as data, once, and say what is wrong without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder import build
from builder.errors import BuilderError, Place
from builder.oci.image import Image
from builder.store.store import Store
from builder.transport.outputs import parse_output

BROKEN = {
    "oci:base:nope": "oci:base:nope: the layout has no image",
    "oci:base": "oci:base: sha256:",  # met when its layer is brought
    "docker-archive:a.tar": "docker-archive:a.tar: ",
    "rootfs:a.tar": "rootfs:a.tar: ",
    "debootstrap:bookworm": "debootstrap:bookworm: it was not made yet",
}


@pytest.mark.parametrize("base", BROKEN)
def test_the_place_of_a_base_is_data_whatever_is_wrong_with_it(
    base: str, store: Store, make_image: Callable[..., Image], tmp_path: Path
) -> None:
    image = make_image(store, {"f": b"1"})
    parse_output(f"oci:{tmp_path}/base:v1")(store, "x").put([image])
    blob = tmp_path / "base/blobs/sha256" / image.layers[0].blob.digest[7:]
    blob.write_bytes(bytes(len(blob.read_bytes())))
    (tmp_path / "a.tar").write_bytes(b"no archive" * 100)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/a.yaml").write_text(f"from: {base}\nsteps: [{{file: /g, content: ''}}]\n")
    specs = str(tmp_path / "specs")
    with pytest.raises(BuilderError) as caught:
        build(["a"], specs=specs, cache_dir=str(tmp_path / "fresh"), pull="never")
    error = caught.value
    assert error.place == Place(f"{specs}/a.yaml", 1, 7)
    assert error.what.startswith(BROKEN[base])
    assert error.message == f"{error.place}: {error.what}"
    assert error.message.count(specs) == 1
