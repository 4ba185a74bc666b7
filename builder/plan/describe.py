"""Steps as people see them: all of them, their names, history entries for the image's config."""

from __future__ import annotations

from typing import Any

from builder.plan.config import working_dir
from builder.spec.model import (
    Copy,
    Directory,
    File,
    ImageSpec,
    Place,
    Remove,
    Run,
    Step,
    Unpack,
    shown,
)


def step_name(step: Step) -> str:
    """The step's name, or what it does in a few words."""
    if step.name:
        return shown(step.name)
    if isinstance(step, Copy):
        return f"copy {' '.join(map(shown, step.sources))}"
    if isinstance(step, Run):
        line = _command(step).strip().partition("\n")[0]
        return "run " + (line if len(line) <= 50 else line[:49] + "…")
    if isinstance(step, File):
        return f"{'template' if step.template else 'file'} {shown(step.dest)}"
    if isinstance(step, Remove):
        return f"remove {' '.join(map(shown, step.paths))}"
    if isinstance(step, Unpack):
        return f"unpack {shown(step.source)}"
    return f"{type(step).__name__.lower()} {shown(step.dest)}"


def _command(step: Run) -> str:
    return (
        shown(step.command) if isinstance(step.command, str) else " ".join(map(shown, step.command))
    )


def history(step: Step, name: str, epoch: int) -> dict[str, Any]:
    """A history entry (image-spec config.md). `created_by` is the step as one reads it."""
    if isinstance(step, Run):
        by = "RUN " + _command(step).strip()
    elif step.name:
        by = step_name(step._replace(name=None))
    else:
        by = name
    entry = {"created": timestamp(epoch), "created_by": _published(by)}
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


def steps_of(spec: ImageSpec) -> tuple[Step, ...]:
    """The spec's steps, and the one that config's working_dir asks for: it is made when no step
    needed it before (plan.folders). That one counts only where there is something to make."""
    path = spec.config.working_dir
    if path is None:
        return spec.steps
    path = working_dir(path)
    if path == "/":
        return spec.steps
    return (*spec.steps, Directory(Place(spec.file, 1, 1), f"working_dir {path}", "."))
