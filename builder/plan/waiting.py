"""Specs whose templates name their base: `base.env.NAME`, `base.user` and the like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from builder.oci.image import Document
from builder.plan.config import DEFAULT_PATH, variable, working_dir
from builder.spec.model import File, ImageSpec

Reread = Callable[[ImageSpec, Mapping[str, Any]], ImageSpec]
"""A spec that waits, and what `base` is in its templates, to the spec as it is then."""


def on_base(spec: ImageSpec, document: Document, reread: Reread) -> ImageSpec:
    """The spec on a base with this config document; as it was while that is not known ({})."""
    if "rootfs" not in document:
        return spec
    base = _values(document)
    if spec.waits:
        spec = reread(spec, base)
    if not any(isinstance(step, File) and step.template is not None for step in spec.steps):
        return spec
    from builder.spec.render import plain_base

    seen = plain_base(base)
    steps = tuple(
        step._replace(variables={"base": seen, **step.variables})
        if isinstance(step, File) and step.template is not None
        else step
        for step in spec.steps
    )
    return spec._replace(steps=steps)


def _values(document: Document) -> dict[str, Any]:
    config = document.get("config") or {}
    env = dict(map(variable, config.get("Env") or ()))
    return {
        "env": {"PATH": DEFAULT_PATH, **env},
        "user": config.get("User") or "",
        "working_dir": working_dir(config.get("WorkingDir")),
        "labels": dict(config.get("Labels") or {}),
    }
