"""`builder plan` and `builder why`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, assert_never

from builder.cli import screen, wiring
from builder.errors import UsageError
from builder.plan.image import ImageBuild, ImageHit, ImageUnknown
from builder.plan.last import load_last
from builder.plan.plan import ImagePlan
from builder.plan.planned import Planned
from builder.plan.why import why_variables
from builder.project import Project
from builder.store.store import Store


def _plans(
    arguments: argparse.Namespace, images: list[str]
) -> tuple[dict[str, ImagePlan], tuple[str, ...], Store]:
    with screen.renderer(arguments.progress) as emit:
        project = Project(wiring.options(arguments), emit)
        specs, names = project.load(images)
        return project.plan(specs), names, project.store


def plan(arguments: argparse.Namespace) -> int:
    found, _, store = _plans(arguments, arguments.images)
    plans = list(found.values())
    if arguments.json:
        document = {"images": [_document(each) for each in plans]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _show(plans, store)
    changed = any(each.changes for each in plans)
    return 3 if changed and arguments.exit_code else 0


def _show(plans: list[ImagePlan], store: Store) -> None:
    from builder.ui.human import count
    from builder.ui.text import BOLD, CYAN, DIM, GREEN, YELLOW, cells, cut, harmless, paint

    color, width = screen.color(sys.stdout), screen.width()
    codes = {"hit": GREEN, "build": YELLOW, "unknown": CYAN, "config": GREEN}
    out = []
    for each in plans:
        head = f"{each.spec.name}  from {each.spec.base}"
        variables = _variables(store, each) if each.changes else ""
        if variables:
            head += f"  (variable {variables})"
        out.append(paint(harmless(head), BOLD, color))
        names = ["image", *(step.name for step in each.steps)]
        column = min(max(map(cells, map(harmless, names))), 40)
        if width:
            column = min(column, max(10, width - 30))  # room for a reason
        lines = [("", "base", each.base_status, _base_text(each))]
        lines += [(str(step.number), step.name, step.status, step.why) for step in each.steps]
        lines.append(("", "image", *_image_row(each)))
        for number, name, status, why in lines:
            state = paint(f"{status:<7}", codes[status], color)
            name = cut(harmless(name), column)
            text = f"{number:>4}  {name}{' ' * (column - cells(name))}  "
            told = status == "config" or (status, why) == ("hit", "unchanged")
            reason = "" if told else harmless(why)
            if width:
                reason = cut(reason, max(10, width - cells(text) - 9))
            out.append(f"{text}{state}  {paint(reason, DIM, color and status == 'hit')}".rstrip())
    total = sum(step.status != "config" for each in plans for step in each.steps)
    builds = sum(step.status == "build" for each in plans for step in each.steps)
    unknown = sum(step.status == "unknown" for each in plans for step in each.steps)
    bases = sum(each.base_status == "build" for each in plans)
    parts = [f"{total - builds - unknown} hit", f"{builds} to build"]
    if unknown:
        parts.append(f"{unknown} decided on the way")
    if bases:
        parts.append(f"{count(bases, 'base')} to make")
    out.append(f"{count(total, 'step')}: {', '.join(parts)}")
    sys.stdout.write("\n".join(out) + "\n")


def _base_text(plan: ImagePlan) -> str:
    if plan.base_status == "hit" and plan.base_why == "unchanged":
        return plan.base
    return f"{plan.base}: {plan.base_why}"


def _image_row(plan: ImagePlan) -> tuple[str, str]:
    """Status and reason of the image itself."""
    match plan.image:
        case ImageHit():
            return "hit", "unchanged"
        case ImageBuild(why):
            return "build", why
        case ImageUnknown(after):
            return "unknown", f"decided after {after}"
        case other:
            assert_never(other)


def _variables(store: Store, plan: ImagePlan) -> str:
    return why_variables(load_last(store, plan.name), plan.spec.variables)


def _document(plan: ImagePlan) -> dict[str, Any]:
    status, why = _image_row(plan)
    digest = None if isinstance(plan.image, ImageUnknown) else plan.image.manifest.digest
    return {
        "name": plan.spec.name,
        "base": {"from": str(plan.spec.base), "status": plan.base_status, "why": plan.base_why},
        "steps": [
            {
                "step": step.number,
                "name": step.name,
                "status": step.status,
                "why": step.why,
                "key": f"sha256:{step.key}" if step.key else None,
                "diff_id": step.layer.diff_id if step.layer else None,
            }
            for step in plan.steps
        ],
        "platform": str(plan.name.platform),
        "image": {
            "status": status,
            "why": why,
            "digest": digest,
        },
    }


def why(arguments: argparse.Namespace) -> int:
    """For each step: why it would be built; for a hit, why it was built when it last was."""
    plans, names, store = _plans(arguments, [arguments.image])
    each = plans[names[0]]
    steps = list(each.steps)
    if arguments.step is not None:
        steps = [_find(each, arguments.step)]
    last = load_last(store, each.name)
    lines = []
    if arguments.step is None:
        lines.append(f"base: {each.base_status}: {_base_text(each)}")
    for step in steps:
        before = last.match(step.number - 1, step.name, "") if last else None
        if step.status == "config":
            text = step.why
        elif step.status != "hit":
            text = f"{step.status}: {step.why}"
        elif before and before.key == step.key:
            from builder.plan.clock import timestamp

            text = f"hit: unchanged since {timestamp(before.built)}, then built: {before.why}"
            text = text.replace("then built: never built", "when it was first built")
        else:
            text = "hit: the same was built before"
        lines.append(f"{step.number} {step.name}: {text}")
    if arguments.step is None:
        status, text = _image_row(each)
        lines.append(f"image: {status}: {text}")
    variables = _variables(store, each) if each.changes else ""
    if variables:
        lines.append(f"variable {variables}")
    from builder.ui.text import harmless

    sys.stdout.write("".join(harmless(line) + "\n" for line in lines))
    return 0


def _find(plan: ImagePlan, wanted: str) -> Planned:
    for step in plan.steps:
        if wanted in (step.name, str(step.number)):
            return step
    import difflib

    names = [step.name for step in plan.steps]
    near = difflib.get_close_matches(wanted, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"its steps: {', '.join(names)}"
    raise UsageError(f"{plan.spec.name!r} has no step {wanted!r}", hint)
