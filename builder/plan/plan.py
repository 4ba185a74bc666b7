"""The plan of one image: for every step, and for the image, whether it is there, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, assert_never

from builder.plan.image import ImageBuild, ImageDecision, ImageHit, ImageUnknown, decide
from builder.plan.last import LastBuild, load_last
from builder.plan.planned import BuildFiles, BuildRun, Fetch, Hit, NoLayer, Planned
from builder.plan.planner import Planner
from builder.plan.step import own_steps
from builder.plan.walk import (
    BaseBuild,
    BaseDecision,
    BaseHit,
    BaseUnknown,
    Made,
    Origins,
    Walked,
    Work,
    walk,
)
from builder.rootfs.stack import Stack, stack_on
from builder.spec.model import ImageSpec
from builder.store.names import ImageName
from builder.store.records import is_imported, labelled
from builder.store.store import Store
from builder.transport.base import Base
from builder.work.schedule import After


class ImagePlan(NamedTuple):
    spec: ImageSpec
    name: ImageName  # in the store
    base: str  # as the user should see it
    base_decision: BaseDecision
    steps: tuple[Planned, ...]
    image: ImageDecision
    walked: Walked
    below: tuple[Stack, ...]  # what each of the steps stands on

    @property
    def changes(self) -> int:
        """How many lines are not a plain hit."""
        steps = sum(not isinstance(step.decision, Hit | NoLayer) for step in self.steps)
        base, image = isinstance(self.base_decision, BaseHit), isinstance(self.image, ImageHit)
        return steps + (not base) + (not image)

    @property
    def base_status(self) -> str:
        """In a word, for people: hit, build or unknown."""
        match self.base_decision:
            case BaseHit():
                return "hit"
            case BaseBuild():
                return "build"
            case BaseUnknown():
                return "unknown"
            case other:
                assert_never(other)

    @property
    def base_why(self) -> str:
        match self.base_decision:
            case BaseHit(why) | BaseBuild(why):
                return why
            case BaseUnknown(after):
                return f"decided after {after}"
            case other:
                assert_never(other)


class _Looker:
    """Makes nothing."""

    read_later = False

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self.read_first = ""  # what has to be read before the image's documents are known
        self.below: list[Stack] = []  # what each step stands on

    def base(self, spec: ImageSpec) -> Work[Base | None]:
        planner = self._planner
        base = planner.bases.resolve(spec.base, planner.platform(spec), make=False)
        if base is None:
            return None
        image = labelled(planner.store, base.image)
        if all(is_imported(planner.store, layer) for layer in image.layers):
            planner.bases.check_machine(spec, image)
        else:
            self.read_first = f"the base {spec.base}"
        return base._replace(image=image)
        yield

    def origins(self, spec: ImageSpec, index: int, stack: Stack) -> Work[Origins]:
        found: list[Stack | None] = []
        away: list[int] = []  # which are known and not all here
        for ref in own_steps(spec)[index].origins:
            if ref.of_spec:
                plan: ImagePlan = yield After(ref.task)
                found.append(plan.walked.stack)
                continue
            planner = self._planner
            base = planner.bases.resolve(ref, planner.platform(spec), make=False)
            image = labelled(planner.store, base.image) if base else None
            found.append(stack_on(image) if image else None)
            if image and not all(is_imported(planner.store, layer) for layer in image.layers):
                away.append(len(found) - 1)
        if away and not self._planner.knows(spec, index, stack, found):
            found = [None if at in away else each for at, each in enumerate(found)]
        return tuple(found)

    def fetch(self, planned: Planned) -> Work[bool]:
        return False
        yield

    def step(self, planned: Planned, stack: Stack, *, hidden: bool) -> Work[Made | None]:
        self.below.append(stack)
        return None
        yield


def plan_image(planner: Planner, spec: ImageSpec) -> Work[ImagePlan]:
    """Plan one image, after its `image:` base: a task for a schedule, named as the spec is."""
    below: ImagePlan | None = None
    if spec.base.of_spec:
        below = yield After(spec.base.task)
    name = planner.name_of(spec)
    last = load_last(planner.store, name)
    looker = _Looker(planner)
    walked = yield from walk(planner, spec, last, below.walked if below else None, looker)
    read_first = looker.read_first
    if below and isinstance(below.image, ImageUnknown):
        read_first = below.image.after
    image = _decide_image(planner.store, walked, last, read_first)
    return ImagePlan(
        *(walked.spec, name, walked.base, walked.base_decision, walked.steps, image, walked),
        tuple(looker.below),
    )


def first_change(plans: Mapping[str, ImagePlan], name: str) -> str:
    """The first row of these plans, in the order of a build, that keeps the image `name` from being
    there; what other images would be called or say is not among them."""
    for each in plans.values():
        of = "" if each is plans[name] else f"image {each.spec.label}: "
        if isinstance(each.base_decision, BaseBuild):
            return f"{of}base {each.base}: {each.base_why}"
        for step in each.steps:
            if isinstance(step.decision, BuildFiles | BuildRun | Fetch):
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
    store: Store, walked: Walked, last: LastBuild | None, read_first: str
) -> ImageDecision:
    stack = walked.stack
    if stack.image is None or read_first:
        return ImageUnknown(stack.undecided or read_first)
    for step in walked.steps:
        if isinstance(step.decision, Hit) and not step.decision.encoded:
            return ImageUnknown(f"step {step.number} ({step.name}), whose layer is converted")
    return decide(store, last, walked.spec, stack.image)
