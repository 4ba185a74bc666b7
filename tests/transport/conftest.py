"""A store, a small image in it, and a context folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.layer.entry import DIRECTORY, FILE, Change, Entry
from builder.layer.write import write_layer
from builder.oci.image import Image, Platform, empty_image
from builder.spec.model import BaseRef, Place
from builder.store.store import Store

HISTORY = {"created": "1980-01-01T00:00:00Z", "created_by": "test"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def make_image() -> Callable[..., Image]:
    """make_image(store, {path: content}, ..., codec="gzip"): a layer per mapping."""

    def make(store: Store, *layers: dict[str, bytes], codec: str = "gzip") -> Image:
        image = empty_image(Platform())
        for files in layers:
            changes: list[Change] = []
            for path in sorted(files):
                if path.endswith("/"):
                    changes.append((Entry(path[:-1].encode(), DIRECTORY, 0o755), None))
                else:
                    data = files[path]
                    changes.append((Entry(path.encode(), FILE, 0o755, size=len(data)), data))
            written = write_layer(changes, store, codec)
            assert written is not None
            image = image.append(written.layer, HISTORY)
        config = {**image.config, "created": HISTORY["created"], "config": {"Cmd": ["/hello"]}}
        return image._replace(config=config)

    return make


@pytest.fixture
def ref() -> Callable[[str], BaseRef]:
    """ref("oci:dir"): as the spec parser would give it."""

    def parse(text: str) -> BaseRef:
        kind, _, value = text.partition(":")
        return BaseRef(kind, value, Place("specs/a.yaml", 1, 7))

    return parse
