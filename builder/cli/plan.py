"""`builder plan` and `builder why`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from builder.cli import screen, wiring
from builder.errors import UsageError
from builder.plan.image import ImageBuild, ImageHit, ImageUnknown
from builder.plan.last import load_last
from builder.plan.plan import ImagePlan
from builder.plan.planned import Planned
from builder.plan.why import why_variables
from builder.project import Project
from builder.spec.model import ImageSpec, Skipped
from builder.store.store import Store


def _plans(
    arguments: argparse.Namespace, images: list[str]
) -> tuple[dict[str, ImagePlan], tuple[str, ...], Project]:
    with screen.renderer(arguments.progress) as emit:
        project = Project(wiring.options(arguments), emit)
        specs, names = project.load(images)
        return project.plan(specs), names, project


def plan(arguments: argparse.Namespace) -> int:
    found, _, project = _plans(arguments, arguments.images)
    plans, left_out = list(found.values()), project.left_out
    if arguments.json:
        images = [_document(each, project.store) for each in plans]
        images += map(_left_out, left_out)
        document = {"images": images}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _show(plans, left_out, project.store)
    changed = any(each.changes or _to_run(each, project.store) for each in plans)
    return 3 if changed and arguments.exit_code else 0


def _show(plans: list[ImagePlan], left_out: Sequence[ImageSpec], store: Store) -> None:
    from builder.ui.human import count
    from builder.ui.text import BOLD, CYAN, DIM, GREEN, YELLOW, cells, cut, harmless, paint

    color, width = screen.color(sys.stdout), screen.width()
    codes = {"hit": GREEN, "build": YELLOW, "unknown": CYAN, "config": GREEN, "skipped": DIM}
    codes |= {"test": YELLOW, "passed": GREEN}
    out = []
    for each in plans:
        head = f"{each.spec.label}  from {each.spec.base}"
        variables = _variables(store, each) if each.changes else ""
        if variables:
            head += f"  (variable {variables})"
        out.append(paint(harmless(head), BOLD, color))
        steps = list(_rows(each))
        names = [
            "image",
            *(step.name for _, step in steps),
            *(name for name, _ in _tests(each, store)),
        ]
        column = min(max(map(cells, map(harmless, names))), 40)
        if width:
            column = min(column, max(10, width - 30))  # room for a reason
        lines = [("", "base", each.base_status, _base_text(each))]
        lines += [(number, step.name, step.status, step.why) for number, step in steps]
        lines.append(("", "image", *_image_row(each)))
        lines += [
            ("", name, "passed" if passed else "test", "") for name, passed in _tests(each, store)
        ]
        for number, name, status, why in lines:
            state = paint(f"{status:<7}", codes[status], color)
            name = cut(harmless(name), column)
            text = f"{number:>4}  {name}{' ' * (column - cells(name))}  "
            told = status == "config" or (status, why) == ("hit", "unchanged")
            reason = "" if told else harmless(why)
            if width:
                reason = cut(reason, max(10, width - cells(text) - 9))
            out.append(f"{text}{state}  {paint(reason, DIM, color and status == 'hit')}".rstrip())
    for spec in left_out:
        out.append(paint(harmless(f"{spec.name}  skipped  {spec.left_out}"), DIM, color))
    total = sum(step.status != "config" for each in plans for step in each.steps)
    builds = sum(step.status == "build" for each in plans for step in each.steps)
    unknown = sum(step.status == "unknown" for each in plans for step in each.steps)
    bases = sum(each.base_status == "build" for each in plans)
    parts = [f"{total - builds - unknown} hit", f"{builds} to build"]
    if unknown:
        parts.append(f"{unknown} decided on the way")
    if bases:
        parts.append(f"{count(bases, 'base')} to make")
    if to_run := sum(_to_run(each, store) for each in plans):
        parts.append(f"{count(to_run, 'test')} to run")
    out.append(f"{count(total, 'step')}: {', '.join(parts)}")
    sys.stdout.write("\n".join(out) + "\n")


def _tests(plan: ImagePlan, store: Store) -> list[tuple[str, bool]]:
    """The names of an image's tests, and whether it has passed them."""
    if not plan.spec.tests:
        return []
    from builder.testing.verdicts import has_passed

    image = None if isinstance(plan.image, ImageUnknown) else plan.image.image
    return [
        (each.name, image is not None and has_passed(store, image, each))
        for each in plan.spec.tests
    ]


def _to_run(plan: ImagePlan, store: Store) -> int:
    return sum(not passed for _, passed in _tests(plan, store))


def _rows(plan: ImagePlan) -> Iterator[tuple[str, Planned | Skipped]]:
    """The steps with their numbers, and those that `when` leaves out, as the spec has them."""
    skipped = list(plan.spec.skipped)
    for step in plan.steps:
        while skipped and skipped[0].after < step.number:
            yield "-", skipped.pop(0)
        yield str(step.number), step
    for each in skipped:
        yield "-", each


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


def _document(plan: ImagePlan, store: Store) -> dict[str, Any]:
    status, why = _image_row(plan)
    digest = None if isinstance(plan.image, ImageUnknown) else plan.image.manifest.digest
    return {
        "name": plan.spec.name,
        "base": {"from": str(plan.spec.base), "status": plan.base_status, "why": plan.base_why},
        "steps": [
            {
                "step": step.number if isinstance(step, Planned) else None,
                "name": step.name,
                "status": step.status,
                "why": step.why,
                "key": f"sha256:{step.key}" if isinstance(step, Planned) and step.key else None,
                "diff_id": step.layer.diff_id if isinstance(step, Planned) and step.layer else None,
            }
            for _, step in _rows(plan)
        ],
        "platform": str(plan.name.platform),
        "image": {
            "status": status,
            "why": why,
            "digest": digest,
        },
        "tests": [
            {"name": name, "status": "passed" if passed else "run"}
            for name, passed in _tests(plan, store)
        ],
    }


def _left_out(spec: ImageSpec) -> dict[str, Any]:
    """The document of an image that is not built."""
    status = {"status": "skipped", "why": spec.left_out}
    return {"name": spec.name, "steps": [], "image": {**status, "digest": None}}


def why(arguments: argparse.Namespace) -> int:
    """For each step: why it would be built; for a hit, why it was built when it last was."""
    plans, names, project = _plans(arguments, [arguments.image])
    parts = project.images[project.only(arguments.image, names)]
    for part in parts:
        if len(parts) > 1:
            sys.stdout.write(f"{part}\n")
        _why(arguments.step, project.store, plans[part])
    return 0


def _why(wanted: str | None, store: Store, each: ImagePlan) -> None:
    steps = list(each.steps)
    if wanted is not None:
        steps = [_find(each, wanted)]
    last = load_last(store, each.name)
    lines = []
    if wanted is None:
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
            text = text.replace("then built: first build", "when it was first built")
        else:
            text = "hit: the same was built before"
        lines.append(f"{step.number} {step.name}: {text}")
    if wanted is None:
        status, text = _image_row(each)
        lines.append(f"image: {status}: {text}")
    variables = _variables(store, each) if each.changes else ""
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
