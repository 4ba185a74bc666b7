"""Images made of folders by tar, and trees of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.look.tree import Tree
from builder.oci.image import Image, Layer, empty_image, host_platform
from builder.rootfs.layers import Layers
from builder.store.store import Store
from builder.transport.importing import import_tar

Pack = Callable[[Path], Layer]


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(Store(str(tmp_path / "store"), print))


@pytest.fixture
def pack(layers: Layers) -> Pack:
    """A layer of the store with what is in a folder, as tar packs it."""

    def pack(folder: Path) -> Layer:
        argv = ["tar", "--xattrs", "--xattrs-include=*", "-C", folder, "-c", "."]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as tar:
            assert tar.stdout
            return import_tar(layers.store, tar.stdout, str(folder))

    return pack


@pytest.fixture
def image(pack: Pack) -> Callable[..., Image]:
    """An image with a layer for each folder, bottom first."""

    def image(*folders: Path) -> Image:
        return empty_image(host_platform())._replace(layers=tuple(map(pack, folders)))

    return image


@pytest.fixture
def tree_of(layers: Layers, image: Callable[..., Image]) -> Callable[..., Tree]:
    """The tree of an image with a layer for each folder, bottom first."""

    def tree_of(*folders: Path) -> Tree:
        return Tree(layers, image(*folders).layers)

    return tree_of
