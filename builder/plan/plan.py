"""The plan of one image: for every step, and for the image, whether it is there, and why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, assert_never

from builder.plan.describe import steps_of
from builder.plan.image import ImageBuild, ImageDecision, ImageHit, ImageUnknown, decide, finish
from builder.plan.last import LastBuild, load_last
from builder.plan.planned import Planned
from builder.plan.planner import Planner
from builder.plan.state import Fetch, State, no_view
from builder.spec.model import ImageSpec
from builder.store.names import ImageName
from builder.store.store import Store


class ImagePlan(NamedTuple):
    spec: ImageSpec
    name: ImageName  # in the store
    base: str  # as the user should see it
    base_status: str  # hit | build | unknown
    base_why: str
    steps: tuple[Planned, ...]
    image: ImageDecision
    fetch: Fetch  # of the base's layers that are not in the store

    @property
    def changes(self) -> int:
        """How many lines are not a plain hit."""
        steps = sum(step.status != "hit" for step in self.steps)
        return (self.base_status != "hit") + steps + (not isinstance(self.image, ImageHit))


class Below(NamedTuple):
    """What an `image:` base will be."""

    plan: ImagePlan
    state: State


def plan_image(planner: Planner, spec: ImageSpec, base_plan: Below | None) -> Below:
    """Plan one image. `base_plan`: its `image:` base's; None: another base."""
    from builder.plan.why import why_base
    from builder.transport.importing import is_imported, labelled

    name = planner.name_of(spec)
    last = load_last(planner.store, name)
    fetch: Fetch = None
    annotations: Mapping[str, str] = {}
    read_first = ""  # what has to be read before the image's documents are known
    if base_plan is not None:
        planner.check_below(spec, base_plan.plan.name.platform)
        below, fetch = base_plan.state, base_plan.plan.fetch
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
            image = labelled(planner.store, base.image)
            if all(is_imported(planner.store, layer) for layer in image.layers):
                planner.check_machine(spec, image)
            else:
                read_first = f"the base {spec.base}"
            state = planner.start(spec, image, base.fetch)
            fetch, annotations = base.fetch, base.image.annotations
    steps = []
    for index in range(len(steps_of(spec))):
        planned, above = planner.step(spec, index, state, last)
        if index < len(spec.steps) or planned.makes_layer:
            steps.append(planned)
            state = above
    if state.image is not None:
        image = finish(state.image, spec, planner.settings.epoch, annotations)
        state = state.finished(image)
    if base_plan and isinstance(base_plan.plan.image, ImageUnknown):
        read_first = base_plan.plan.image.after
    decision = _decide_image(planner.store, spec, state, steps, last, read_first)
    plan = ImagePlan(spec, name, text, status, why, tuple(steps), decision, fetch)
    return Below(plan, state)


def first_change(plans: Mapping[str, ImagePlan], name: str) -> str:
    """The first row of these plans, in the order of a build, that keeps the image `name` from being
    there; what other images would be called or say is not among them."""
    for each in plans.values():
        of = "" if each is plans[name] else f"image {each.spec.name}: "
        if each.base_status == "build":
            return f"{of}base {each.base}: {each.base_why}"
        for step in each.steps:
            if step.status == "build":
                return f"{of}step {step.number} ({step.name}): {step.why}"
    match plans[name].image:
        case ImageHit():
            return "it is no longer in the cache"
        case ImageBuild(why):
            return why
        case ImageUnknown(after):
            return f"decided after {after}"
        case other:
            assert_never(other)


def _decide_image(
    store: Store,
    spec: ImageSpec,
    state: State,
    steps: Sequence[Planned],
    last: LastBuild | None,
    read_first: str,
) -> ImageDecision:
    if state.image is None or read_first:
        return ImageUnknown(state.undecided or read_first)
    for step in steps:
        if not step.encoded:
            return ImageUnknown(f"step {step.number} ({step.name}), whose layer is converted")
    return decide(store, last, spec, state.image)
