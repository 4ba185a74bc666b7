"""Walk: the one loop over an image, for plan and build: its base, its steps, the image above them.

Every decision is made here, in the caller's thread. What is done about it is the actor's: planning
does nothing, building yields jobs to a schedule (work.schedule) and says what came of them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from builder.plan.image import finish
from builder.plan.last import LastBuild
from builder.plan.planned import Fetch, Planned
from builder.plan.planner import Planner
from builder.plan.step import own_steps, steps_of
from builder.rootfs.stack import Stack, stack_on
from builder.spec.model import ImageSpec
from builder.transport.base import Base

if TYPE_CHECKING:
    from builder.oci.image import Layer
    from builder.plan.changes import Changes

T = TypeVar("T")
Work = Generator[Any, Any, T]
"""Yields what a schedule runs."""


Origins = tuple[Stack | None, ...]
"""The images that a step takes files from, in its order. None: it is not there, and shall not be
made."""


class BaseHit(NamedTuple):
    """The base is known."""

    why: str  # "unchanged", or what changed since the last build


class BaseBuild(NamedTuple):
    """It has to be made, or brought from where it is."""

    why: str


class BaseUnknown(NamedTuple):
    """An `image:` base some layers of which have to be built first."""

    after: str


BaseDecision = BaseHit | BaseBuild | BaseUnknown


class Made(NamedTuple):
    """A step's layer, which is in the store."""

    layer: Layer | None  # None: an empty one
    changes: Changes | None = None  # what it was made of just now, where its table is made of that


class Actor(Protocol):
    """Does what one image's walk decides."""

    read_later: bool  # files of a copy that was never built may stay unread (Planner.step)

    def base(self, spec: ImageSpec) -> Work[Base | None]:
        """A base that is no other spec. None: it is not there, and shall not be made."""
        ...

    def origins(self, spec: ImageSpec, index: int, stack: Stack) -> Work[Origins]:
        """The images that a step takes files from. Where the step is no hit by them, what the step
        takes has been read."""
        ...

    def fetch(self, planned: Planned) -> Work[bool]:
        """What a step takes from a server. False: it is not to come."""
        ...

    def step(self, planned: Planned, stack: Stack, *, hidden: bool) -> Work[Made | None]:
        """A step on `stack`. None: nothing is made; go on as if it had been. A `hidden` one is
        nobody's: config's working_dir where it is there already."""
        ...


class Walked(NamedTuple):
    """An image at the end of its walk."""

    spec: ImageSpec
    base: str  # as the user should see it
    base_decision: BaseDecision
    base_chain: str  # the base's chain_id, "" where it is not known
    steps: tuple[Planned, ...]
    stack: Stack


def walk(
    planner: Planner,
    spec: ImageSpec,
    last: LastBuild | None,
    below: Walked | None,
    actor: Actor,
    until: str | None = None,
) -> Work[Walked]:
    """Walk one image; `below` is its `image:` base, walked before. `until` is the step to end at,
    by its name or number. Raises BuilderError."""
    text, annotations = str(spec.base), {}
    decision: BaseDecision
    if below is not None:
        text, stack = str(spec.base).replace(":", " ", 1), below.stack
    else:
        base = yield from actor.base(spec)
        if base is None:
            stack = Stack(None, {}, None, f"the base {spec.base}")
        else:
            text, annotations = base.about, dict(base.image.annotations)
            stack = stack_on(base.image)
    if stack.image is not None:
        decision = BaseHit(_changed(spec, last, stack.image.chain_id))
    elif below is not None:
        decision = BaseUnknown(stack.undecided)
    else:
        decision = BaseBuild("made when the image is built")
    chain = stack.image.chain_id if stack.image else ""
    spec = planner.on_base(spec, stack.config)
    stack = planner.configured(spec, stack)
    own, all_steps = spec, steps_of(spec)
    if until is not None:
        from builder.plan.until import number_of

        # what the image's working_dir asks for stands behind the last
        all_steps = own_steps(spec)[: number_of(spec, until)]
        own = spec._replace(steps=all_steps)
    steps = []
    for index, step in enumerate(all_steps):
        origins: Origins = ()
        if step.origins:
            origins = yield from actor.origins(spec, index, stack)
        planned, above = planner.step(
            spec, index, stack, last, origins, read_later=actor.read_later
        )
        if isinstance(planned.decision, Fetch) and (yield from actor.fetch(planned)):
            planned, above = planner.step(spec, index, stack, last)
        hidden = index == len(spec.steps) and not planned.makes_layer
        made = yield from actor.step(planned, stack, hidden=hidden)
        if hidden:
            continue
        steps.append(planned)
        if made is None:
            stack = above
        else:
            stack = planner.above(stack, made.layer, planned.step, planned.name, made.changes)
    if stack.image is not None:
        stack = stack.finished(finish(stack.image, own, planner.settings.epoch, annotations))
    return Walked(spec, text, decision, chain, tuple(steps), stack)


def _changed(spec: ImageSpec, last: LastBuild | None, chain: str) -> str:
    if last is None or last.base_chain == chain:
        return "unchanged"
    from builder.plan.why import why_base

    return why_base(last, str(spec.base), chain)
