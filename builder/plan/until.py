"""Until: an image as far as one of its steps, and what has to be there for that."""

from __future__ import annotations

from collections.abc import Mapping

from builder.errors import UsageError
from builder.plan.step import own_steps, step_name
from builder.spec.model import ImageSpec


def number_of(spec: ImageSpec, wanted: str) -> int:
    """The number of a step, from 1, that is named so or has this number; 0 is the base. Raises
    UsageError."""
    names = [step_name(step) for step in own_steps(spec)]
    for number, name in enumerate(names, 1):
        if wanted in (name, str(number)):
            return number
    if wanted == "0":
        return 0
    import difflib

    near = difflib.get_close_matches(wanted, names, 1)
    said = f"0 is its base, its steps: {', '.join(names)}" if names else "0 is its base"
    hint = f"did you mean {near[0]!r}?" if near else said
    raise UsageError(f"{spec.label!r} has no step {wanted!r}", hint)


def up_to(spec: ImageSpec, wanted: str | None) -> ImageSpec:
    """Without the steps behind one; of a spec that waits for its base, which steps it has is not
    known yet."""
    if wanted is None or spec.waits:
        return spec
    return spec._replace(steps=spec.steps[: number_of(spec, wanted)])


def needed(specs: Mapping[str, ImageSpec], task: str, wanted: str) -> dict[str, ImageSpec]:
    """Of specs by their tasks those that this one is made of up to a step, in their order, and
    itself, as long as it is then."""
    own = up_to(specs[task], wanted)
    if own.waits:  # which of its stages it uses may be decided by what the base says
        return dict(specs)
    found, waiting = {task}, [own]
    while waiting:
        for ref in waiting.pop().refs:
            if ref.of_spec and ref.task not in found:
                found.add(ref.task)
                waiting.append(specs[ref.task])
    return {name: own if name == task else spec for name, spec in specs.items() if name in found}
