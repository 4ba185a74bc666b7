"""`builder plan`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from builder.cli import screen, wiring
from builder.plan.forecast import Forecast, forecast
from builder.plan.image import ImageBuild, ImageHit, ImageUnknown
from builder.plan.last import load_last
from builder.plan.plan import ImagePlan
from builder.plan.planned import Planned
from builder.plan.why import why_variables
from builder.project import Project
from builder.spec.model import ImageSpec, Skipped
from builder.store.store import Store


def plans_of(
    arguments: argparse.Namespace, images: list[str]
) -> tuple[dict[str, ImagePlan], tuple[str, ...], Project]:
    with screen.renderer(arguments.progress) as emit:
        project = Project(wiring.options(arguments), emit)
        specs, names = project.load(images)
        return project.plan(specs), names, project


def plan(arguments: argparse.Namespace) -> int:
    found, _, project = plans_of(arguments, arguments.images)
    plans, left_out = list(found.values()), project.left_out
    forecasts = [forecast(project.store, each) for each in plans]
    if arguments.json:
        images = [
            _document(each, expected, project.store)
            for each, expected in zip(plans, forecasts, strict=True)
        ]
        images += map(_left_out, left_out)
        document = {"images": images}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _show(plans, forecasts, left_out, project.store)
    changed = any(each.changes or _to_run(each, project.store) for each in plans)
    return 3 if changed and arguments.exit_code else 0


def _show(
    plans: list[ImagePlan],
    forecasts: list[Forecast],
    left_out: Sequence[ImageSpec],
    store: Store,
) -> None:
    from builder.ui.human import count, seconds, size
    from builder.ui.text import BOLD, CYAN, DIM, GREEN, RED, YELLOW, cells, cut, harmless, paint

    color, width = screen.color(sys.stdout), screen.width()
    codes = {"hit": GREEN, "build": YELLOW, "unknown": CYAN, "config": GREEN, "skipped": DIM}
    codes |= {"failed": RED, "test": YELLOW, "passed": GREEN}
    out = []
    for each, expected in zip(plans, forecasts, strict=True):
        head = f"{each.spec.label}  from {each.spec.base}"
        variables = variables_of(store, each) if each.changes else ""
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
        took = {str(number): seconds(time) for number, time in expected.seconds.items()}
        last = max(map(len, took.values()), default=0)
        lines = [("", "base", each.base_status, base_text(each))]
        for number, step in steps:
            said = expected.failed.get(int(number)) if number != "-" else None
            if said is None:
                lines.append((number, step.name, step.status, step.why))
            else:
                lines.append((number, step.name, "failed", f"{said}; {step.why}"))
        lines.append(("", "image", *image_row(each)))
        lines += [
            ("", name, "passed" if passed else "test", "") for name, passed in _tests(each, store)
        ]
        for number, name, status, why in lines:
            state = paint(f"{status:<7}", codes[status], color)
            name = cut(harmless(name), column)
            text = f"{number:>4}  {name}{' ' * (column - cells(name))}  "
            if last:
                state += f"  {took.get(number, ''):>{last}}"
            told = status == "config" or (status, why) == ("hit", "unchanged")
            reason = "" if told else harmless(why)
            if width:
                reason = cut(reason, max(10, width - cells(text) - 9 - (last + 2 if last else 0)))
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
    times = [time for each in forecasts for time in each.seconds.values()]
    if times:
        parts.append(f"{seconds(sum(times))} when they were last built")
    out.append(f"{count(total, 'step')}: {', '.join(parts)}")
    if push := sum(each.push or 0 for each in forecasts):
        about = "about " if builds or unknown else ""
        out.append(f"to push: {about}{size(push)}")
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


def base_text(plan: ImagePlan) -> str:
    if plan.base_status == "hit" and plan.base_why == "unchanged":
        return plan.base
    return f"{plan.base}: {plan.base_why}"


def image_row(plan: ImagePlan) -> tuple[str, str]:
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


def variables_of(store: Store, plan: ImagePlan) -> str:
    return why_variables(load_last(store, plan.name), plan.spec.variables)


def _document(plan: ImagePlan, expected: Forecast, store: Store) -> dict[str, Any]:
    status, why = image_row(plan)
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
                **_expected(step, expected),
            }
            for _, step in _rows(plan)
        ],
        "platform": str(plan.name.platform),
        "image": {
            "status": status,
            "why": why,
            "digest": digest,
            "push": expected.push,
        },
        "tests": [
            {"name": name, "status": "passed" if passed else "run"}
            for name, passed in _tests(plan, store)
        ],
    }


def _expected(step: Planned | Skipped, expected: Forecast) -> dict[str, Any]:
    number = step.number if isinstance(step, Planned) else None
    return {
        "seconds": expected.seconds.get(number or 0),
        "failed": expected.failed.get(number or 0),
    }


def _left_out(spec: ImageSpec) -> dict[str, Any]:
    """The document of an image that is not built."""
    status = {"status": "skipped", "why": spec.left_out}
    return {"name": spec.name, "steps": [], "image": {**status, "digest": None}}
