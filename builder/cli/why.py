"""`builder why`."""

from __future__ import annotations

import argparse
import sys

from builder.cli.plan import base_text, image_row, plans_of, variables_of
from builder.errors import UsageError
from builder.plan.differences import differences
from builder.plan.last import load_last
from builder.plan.plan import ImagePlan
from builder.plan.planned import Planned
from builder.project import Project


def why(arguments: argparse.Namespace) -> int:
    """For each step: why it would be built; for a hit, why it was built when it last was."""
    plans, names, project = plans_of(arguments, [arguments.image])
    parts = project.images[project.only(arguments.image, names)]
    for part in parts:
        if len(parts) > 1:
            sys.stdout.write(f"{part}\n")
        _why(arguments.step, project, plans[part], whole=arguments.all)
    return 0


def _why(wanted: str | None, project: Project, each: ImagePlan, *, whole: bool) -> None:
    store = project.store
    steps = list(each.steps)
    if wanted is not None:
        steps = [_find(each, wanted)]
    last = load_last(store, each.name)
    lines = []
    if wanted is None:
        lines.append(f"base: {each.base_status}: {base_text(each)}")
    for step in steps:
        before = last.match(step.number - 1, step.name, "") if last else None
        if step.status == "config":
            text = step.why
        elif step.status != "hit":
            text = f"{step.status}: {step.why}"
        elif before and before.key == step.key:
            from builder.plan.clock import timestamp

            text = f"hit: unchanged since {timestamp(before.built)}, then built: {before.why}"
            text = text.replace("then built: first build", "when it was first built")
        else:
            text = "hit: the same was built before"
        lines.append(f"{step.number} {step.name}: {text}")
        if whole and step.status == "build" and last:
            was = last.match(step.number - 1, step.name, step.step.kind)
            for difference in differences(project.layers, each.spec, was, step):
                lines += ["    " + line for line in (difference.what, *difference.diff)]
    if wanted is None:
        status, text = image_row(each)
        lines.append(f"image: {status}: {text}")
    variables = variables_of(store, each) if each.changes else ""
    if variables:
        lines.append(f"variable {variables}")
    from builder.ui.text import harmless

    sys.stdout.write("".join(harmless(line) + "\n" for line in lines))


def _find(plan: ImagePlan, wanted: str) -> Planned:
    for step in plan.steps:
        if wanted in (step.name, str(step.number)):
            return step
    import difflib

    names = [step.name for step in plan.steps]
    near = difflib.get_close_matches(wanted, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"its steps: {', '.join(names)}"
    raise UsageError(f"{plan.spec.name!r} has no step {wanted!r}", hint)
