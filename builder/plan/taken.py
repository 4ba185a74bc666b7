"""Taken: which file of the context a path of a step's layer is from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.layer.entry import HostFile
from builder.plan.step import FileStep, steps_of

if TYPE_CHECKING:
    from builder.plan.plan import ImagePlan
    from builder.plan.planner import Planner


def taken_from(planner: Planner, plan: ImagePlan, number: int, path: bytes) -> str | None:
    """The host path of the file that a step (from 1) takes for `path`, or makes it of; None for
    what is not of the context. Raises BuilderError."""
    spec, stack = plan.spec, plan.below[number - 1]
    step = steps_of(spec)[number - 1]
    if not isinstance(step, FileStep) or step.origins or step.remote(planner.platform(spec)):
        return None
    context = planner.context_of(spec)
    scanned = step.scan(context)
    changes = planner.changes_on(spec, step, scanned, stack, (), {}, None, True)
    for entry, content in changes.sorted():
        if entry.path == path and isinstance(content, HostFile) and content.beneath:
            return os.fsdecode(content.beneath.whole(os.fsencode(content.path)))
    files = [each for _, tree in scanned for each in tree.paths()]
    return files[0] if len(files) == 1 else None  # a template
