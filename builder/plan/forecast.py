"""Forecast: what a plan comes to, by what the store remembers: how long steps took when they were
last made, which of them failed, how many bytes a push would send. No server is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import BuilderError
from builder.oci.digest import CacheKey, Digest
from builder.oci.reference import parse_reference
from builder.plan.image import ImageUnknown
from builder.plan.last import LastBuild, load_last
from builder.plan.planned import Hit, NoLayer, Planned
from builder.store.logs import load_failure
from builder.store.records import failed_log, load_record

if TYPE_CHECKING:
    from builder.oci.image import Layer
    from builder.plan.plan import ImagePlan
    from builder.store.store import Store


class Forecast(NamedTuple):
    """Of one image."""

    seconds: dict[int, float]  # by the number of a step that is no hit, where it is known
    failed: dict[int, str]  # alike, what the last build of the image failed with
    push: int | None
    """Bytes of layers that no push is known to have brought where the spec's tags are. Of layers
    that are to be made, what they had in the last build. None: no tags, or nothing is known."""


def forecast(store: Store, plan: ImagePlan) -> Forecast:
    last = load_last(store, plan.name)
    made = [step for step in plan.steps if not isinstance(step.decision, Hit | NoLayer)]
    return Forecast(
        dict(_seconds(store, last, made)),
        dict(_failed(store, plan, made)),
        _push(store, plan, last, made) if plan.spec.tags else None,
    )


def _seconds(
    store: Store, last: LastBuild | None, made: list[Planned]
) -> Iterator[tuple[int, float]]:
    for step in made:
        before = last.match(step.number - 1, step.name, step.step.kind) if last else None
        record = load_record(store, CacheKey(before.key)) if before else None
        if record:
            yield step.number, record.seconds


def _failed(store: Store, plan: ImagePlan, made: list[Planned]) -> Iterator[tuple[int, str]]:
    failure = load_failure(store, failed_log(plan.name)) if made else None
    for step in made:
        if failure and (failure.number, failure.name) == (step.number, step.name):
            yield step.number, failure.message


def _push(store: Store, plan: ImagePlan, last: LastBuild | None, made: list[Planned]) -> int | None:
    from builder.transport.registry.seen import seen_at

    layers: tuple[Layer, ...] = ()
    anew: set[str] = set()  # diff_ids of the last build whose steps are made again
    if not isinstance(plan.image, ImageUnknown):
        layers = plan.image.image.layers
    elif last:
        layers = _layers(store, last)
        found = (last.match(step.number - 1, step.name, step.step.kind) for step in made)
        anew = {each.diff_id for each in found if each}
    if not layers:
        return None
    homes = {parse_reference(tag).name for tag in plan.spec.tags}
    lacking = {
        layer.blob
        for layer in layers
        if layer.diff_id in anew or not homes <= set(seen_at(store, layer.blob.digest))
    }
    return sum(blob.size for blob in lacking)


def _layers(store: Store, last: LastBuild) -> tuple[Layer, ...]:
    from builder.oci import media
    from builder.transport.stored import read_images

    try:
        blob = store.blob(Digest(last.manifest), media.MANIFEST)
        return read_images(store, blob, "the last build")[0][1].layers if blob else ()
    except BuilderError:
        return ()  # it is no longer there
