"""A base with accounts, a context, and planners over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from builder.layer.entry import DIRECTORY, FILE, SYMLINK, Change, Entry
from builder.layer.write import write_layer
from builder.oci.image import Image, Platform, empty_image
from builder.plan.changes import Changes
from builder.plan.context import Context
from builder.plan.planned import Planned, Settings
from builder.plan.planner import Planner
from builder.plan.step import Step
from builder.rootfs.layers import Layers
from builder.rootfs.stack import stack_on
from builder.rootfs.table import make_table
from builder.spec.model import BaseRef, ConfigChange, ImageSpec, Place
from builder.store.store import Store

EPOCH = 315619200
ACCOUNTS: Mapping[str, bytes] = {
    "etc/passwd": b"root:x:0:0::/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\n",
    "etc/group": b"root:x:0:\nwww:x:34:\nextra:x:44:www\n",
}
BASE: tuple[Any, ...] = (
    Entry(b"dir", DIRECTORY, 0o750, 5, 6, EPOCH),
    Entry(b"dir/old", FILE, 0o644, 0, 0, EPOCH, 0),
    Entry(b"file", FILE, 0o644, 0, 0, EPOCH, 0),
    Entry(b"lib", SYMLINK, 0o777, 0, 0, EPOCH, 0, b"usr/lib"),
    Entry(b"loop", SYMLINK, 0o777, 0, 0, EPOCH, 0, b"loop"),
    Entry(b"tmp", DIRECTORY, 0o1777, 0, 0, EPOCH),
    Entry(b"usr", DIRECTORY, 0o755, 0, 0, EPOCH),
    Entry(b"usr/lib", DIRECTORY, 0o755, 0, 0, EPOCH),
)


def base_image(store: Store, accounts: Mapping[str, bytes] = ACCOUNTS) -> Image:
    changes: list[Change] = [(entry, b"" if entry.type == FILE else None) for entry in BASE]
    changes.append((Entry(b"etc", DIRECTORY, 0o755), None))
    for path, data in accounts.items():
        changes.append((Entry(path.encode(), FILE, 0o644, size=len(data)), data))
    changes.sort(key=lambda change: change[0].path.split(b"/"))
    written = write_layer(changes, store)
    assert written is not None
    files = {path.encode(): data for path, data in accounts.items()}
    make_table(store, written.layer.diff_id, (entry for entry, _ in changes), files)
    history = {"created": "1980-01-01T00:00:00Z", "created_by": "base"}
    return empty_image(Platform()).append(written.layer, history)


def _no_base(spec: ImageSpec, base: Mapping[str, Any]) -> ImageSpec:
    raise AssertionError("specs are values here")


class Shop(NamedTuple):
    """A store, a context folder, and what a step becomes in them."""

    store: Store
    context: Path
    image: Image

    def planned(
        self,
        *steps: Step,
        config: ConfigChange | None = None,
        platform: Platform | None = None,
        epoch: int = EPOCH,
        environ: Mapping[str, str] | None = None,
        image: Image | None = None,
        executor: str = "",
        **spec: Any,
    ) -> Planned:
        """The last of `steps` as planned over the base."""
        store = self.store
        context = Context(str(self.context), store)
        environ = environ or {}
        settings = Settings(platform or Platform(), epoch, executor=lambda: executor)
        planner = Planner(Layers(store), context, {}, settings, _no_base, environ)
        place = Place(spec.pop("file", "specs/a.yaml"), 1, 1)
        made = ImageSpec(
            "a", place.file, BaseRef("scratch", "", place), steps, config or ConfigChange(), **spec
        )
        stack = planner.configured(made, stack_on(image or self.image))
        for number in range(len(steps)):
            planned, stack = planner.step(made, number, stack, None)
        return planned

    def key(self, *steps: Step, **options: Any) -> str:
        key = self.planned(*steps, **options).key
        assert key is not None
        return key

    def entries(self, *steps: Step, **options: Any) -> dict[str, Entry]:
        """What the last of the steps puts into its layer."""
        made = self.planned(*steps, **options).decision.changes
        assert isinstance(made, Changes)
        return {os.fsdecode(entry.path): entry for entry, _ in made.sorted()}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    context = tmp_path / "context"
    context.mkdir()
    store = Store(str(tmp_path / "store"))
    return Shop(store, context, base_image(store))


@pytest.fixture
def make_base() -> Callable[..., Image]:
    return base_image
