"""What the source of a base is asked, and who hears what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.oci.image import Platform, empty_image
from builder.plan.context import Context
from builder.plan.planned import Settings
from builder.plan.planner import Planner
from builder.rootfs.layers import Layers
from builder.spec.model import BaseRef, Place
from builder.store.store import Store
from builder.transport.base import Base, Tell, quiet

PLACE = Place("specs/a.yaml", 1, 1)


class Source:
    """Says a line, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def resolve(
        self, ref: BaseRef, platform: Platform, *, make: bool, pull: str, tell: Tell = quiet
    ) -> Base:
        self.asked.append(pull)
        tell(b"a line\n")
        return Base(empty_image(platform), "it")


@pytest.mark.parametrize("settings", ["missing", "always", "never"])
def test_a_base_is_asked_for_as_the_caller_says_else_as_the_settings(
    tmp_path: Path, settings: str
) -> None:
    source, store, said = Source(), Store(str(tmp_path / "store")), list[bytes]()
    context = Context(str(tmp_path), store)
    planner = Planner(
        Layers(store),
        context,
        {"registry": source},
        Settings(Platform(), 0, pull=settings),
        lambda spec, _: spec,
        {},
    )
    ref = BaseRef("registry", "debian:12", PLACE)
    for pull in (None, "never", "always"):
        planner.bases.resolve(ref, Platform(), make=True, pull=pull, tell=said.append)
    assert source.asked == [settings, "never", "always"]
    assert said == [b"a line\n"] * 3
