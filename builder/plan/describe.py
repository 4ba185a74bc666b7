"""Steps as people see them: their names, history entries for the image's config."""

from __future__ import annotations

from typing import Any

from builder.plan.step import Step
from builder.spec.model import shown


def step_name(step: Step) -> str:
    """The step's name, or what it does in a few words."""
    return shown(step.name) if step.name else step.title()


def history(step: Step, epoch: int) -> dict[str, Any]:
    """A history entry (image-spec config.md). `created_by` is the step as one reads it."""
    entry = {"created": timestamp(epoch), "created_by": _published(step.created_by())}
    if step.name:
        entry["comment"] = _published(shown(step.name))
    return entry


def _published(text: str) -> str:
    """Without the digests of what env() gave: whoever has the image could try values."""
    if "<env " not in text:
        return text
    import re

    return re.sub("(<env [^ >]*) [0-9a-f]{12}>", r"\1>", text)


def timestamp(seconds: int) -> str:
    """RFC 3339 in UTC."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
