"""Dockerfiles beside BuildKit and buildah: trees, times of copied files, and configs are the same.

A few of them by default, all with DOCKERFILES=full."""

from __future__ import annotations

import os

import pytest

from tests.dockerfile.cases import CASES
from tests.dockerfile.comparing import Builders, differing

FULL = os.environ.get("DOCKERFILES") == "full"
UNSET = ("arg without a default",)  # is empty in a spec
SHARE = list(CASES) if FULL else list(CASES)[:: len(CASES) // 6]


def test_cases_are_many() -> None:
    assert len(CASES) >= 150


@pytest.mark.root
@pytest.mark.needs("dockerd", "buildah", "busybox")
@pytest.mark.parametrize("name", SHARE)
def test_is_as_with_others(builders: Builders, name: str) -> None:
    case = CASES[name]
    ours = builders.build("ours", case)
    if name not in UNSET:
        assert differing(builders.converted(case), ours) == {}
    for who in case.onto:
        found = differing(ours, builders.build(who, case))
        expected = {each for each, whose in case.differs.items() if who in whose}
        assert {*found} == expected, (who, found)
