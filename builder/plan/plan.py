"""The plan of one image: for every step whether its layer is there, and why not."""

from __future__ import annotations

from typing import NamedTuple

from builder.plan.describe import steps_of
from builder.plan.last import load_last
from builder.plan.planned import Planned
from builder.plan.planner import Planner
from builder.plan.state import State, no_view
from builder.spec.model import ImageSpec


class ImagePlan(NamedTuple):
    spec: ImageSpec
    base: str  # as the user should see it
    base_status: str  # hit | build | unknown
    base_why: str
    steps: tuple[Planned, ...]

    @property
    def changes(self) -> int:
        """How many lines are not a plain hit."""
        return (self.base_status != "hit") + sum(step.status != "hit" for step in self.steps)


def plan_image(planner: Planner, spec: ImageSpec, below: State | None) -> tuple[ImagePlan, State]:
    """Plan one image. `below`: the state that its `image:` base will have; None: another base."""
    from builder.plan.why import why_base

    last = load_last(planner.store, spec.name)
    if below is not None:
        text, status = f"image {spec.base.value}", "hit"
        why = "unchanged"
        if below.image is None:
            status, why = "unknown", f"decided after {below.undecided}"
        elif last and last.base_chain != below.image.chain_id:
            why = why_base(last, str(spec.base), below.image.chain_id)
        state = planner.configured(spec, below)
    else:
        base = planner.base(spec, make=False)
        if base is None:
            text, status, why = str(spec.base), "build", "made when the image is built"
            state = State(None, {}, None, no_view, f"the base {spec.base}")
        else:
            text, status, why = base.about, "hit", "unchanged"
            if last and last.base_chain != base.image.chain_id:
                why = why_base(last, str(spec.base), base.image.chain_id)
            state = planner.start(spec, base.image, base.fetch)
    steps = []
    for index in range(len(steps_of(spec))):
        planned, above = planner.step(spec, index, state, last)
        if index < len(spec.steps) or planned.makes_layer:
            steps.append(planned)
            state = above
    return ImagePlan(spec, text, status, why, tuple(steps)), state
