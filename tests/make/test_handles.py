"""Whoever builds many times in one process runs out of no descriptors."""

from __future__ import annotations

import gc
import os
from typing import Any

import pytest

import builder

pytestmark = pytest.mark.needs("busybox")


def handles() -> set[str]:
    names = os.listdir("/proc/self/fd")
    return {os.path.realpath(f"/proc/self/fd/{name}") for name in names}


def test_what_a_build_opened_is_closed_without_the_collector_of_circles(scene: Any) -> None:
    scene.spec("low", "from: rootfs:base.tar\nsteps: [{run: 'true'}]\n")
    scene.spec("top", 'from: image:low\nsteps: [{copy: /bin/sh, from: "image:low", dest: /x}]\n')
    given = {"specs": str(scene.root / "specs"), "cache_dir": str(scene.store)}
    builder.build(["top"], **given)
    gc.collect()
    before = handles()
    gc.disable()
    try:
        for number in range(3):
            scene.spec("low", f"from: rootfs:base.tar\nsteps: [{{run: echo {number}}}]\n")
            builder.make_plan(["top"], **given)
            assert handles() <= before
            builder.build(["top"], **given)
            assert handles() <= before
    finally:
        gc.enable()
