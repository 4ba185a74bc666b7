"""Specs whose templates name their base: `base.env.NAME`, `base.user` and the like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from builder.errors import SpecError
from builder.oci.image import Document
from builder.plan.config import DEFAULT_PATH, variable, working_dir
from builder.plan.step import own_steps
from builder.spec.model import ImageSpec

Reread = Callable[[ImageSpec, Mapping[str, Any]], ImageSpec]
"""A spec that waits, and what `base` is in its templates, to the spec as it is then."""


def on_base(spec: ImageSpec, document: Document, reread: Reread) -> ImageSpec:
    """The spec on a base with this config document; as it was while that is not known ({})."""
    if "rootfs" not in document:
        return spec
    base = _values(document)
    if spec.waits:
        known, spec = {(ref.kind, ref.value) for ref in spec.refs}, reread(spec, base)
        for ref in spec.refs:
            if ref.kind != "stage" and (ref.kind, ref.value) not in known:
                raise SpecError(
                    f"{str(ref)!r} is copied from only if the base says so, which is read later",
                    "make it a stage, and copy from that",
                ).at(ref.place)
    return spec._replace(steps=tuple(step.on_base(base) for step in own_steps(spec)))


def _values(document: Document) -> dict[str, Any]:
    config = document.get("config") or {}
    env = dict(map(variable, config.get("Env") or ()))
    return {
        "env": {"PATH": DEFAULT_PATH, **env},
        "user": config.get("User") or "",
        "working_dir": working_dir(config.get("WorkingDir")),
        "labels": dict(config.get("Labels") or {}),
        "onbuild": list(config.get("OnBuild") or ()),
    }
