"""Build: for each planned step, take the layer that is there or make it; then the image."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

from builder.errors import (
    BuilderError,
    CannotRun,
    CommandFailed,
    LayerError,
    SpecError,
    StoreError,
)
from builder.events import (
    ImageDone,
    ImageStarted,
    Lines,
    StepDone,
    StepFailed,
    StepOutput,
    StepStarted,
    Warned,
)
from builder.make.workshop import Workshop
from builder.oci import media
from builder.oci.digest import CacheKey, DiffID
from builder.oci.image import Descriptor, Image, Layer
from builder.plan.clock import command_time
from builder.plan.describe import steps_of
from builder.plan.image import finish
from builder.plan.last import LastBuild, LastStep, load_last, save_last
from builder.plan.nodes import Tree
from builder.plan.planned import Planned
from builder.plan.state import Fetch, State
from builder.spec.model import ImageSpec, Run, without_values
from builder.store.records import (
    Record,
    save_document,
    save_record,
)
from builder.transport.importing import settle

if TYPE_CHECKING:
    from builder.executor.base import Command
    from builder.layer.write import Written
    from builder.plan.changes import Changes


class BuiltStep(NamedTuple):
    """One line of the result. `number` counts from 1, None for layers of the base; `layer` is None
    when empty."""

    number: int | None
    name: str
    status: str  # base | hit | built
    why: str
    key: str
    layer: Layer | None
    seconds: float


class Built(NamedTuple):
    spec: ImageSpec
    image: Image
    manifest: Descriptor
    config: Descriptor
    steps: tuple[BuiltStep, ...]  # the base's layers first
    files: tuple[str, ...]  # specs it was made from, host paths
    sources: tuple[Tree, ...]  # what it took from the context
    fetch: Fetch
    seconds: float
    commands: int  # command steps, those of an `image:` base too


def build_image(shop: Workshop, spec: ImageSpec, below: Built | None) -> Built:
    """Build one image; `below` is what its `image:` base was built to. Its name means the image
    when all is there. Raises BuilderError; what was built before stays cached."""
    started = time.monotonic()
    shop.emit(ImageStarted(spec.name, len(spec.steps)))
    planner, store = shop.planner, shop.store
    name_in_store = planner.name_of(spec)
    last = load_last(store, name_in_store)
    annotations: Mapping[str, str] = {}
    fetch: Fetch
    if below is None:
        base = planner.base(spec, make=True)
        if base is None:
            raise SpecError(f"the base {spec.base} could not be made").at(spec.base.place)
        image = settle(store, base.image, base.fetch, f"{spec.base.place}: {spec.base}")
        planner.check_machine(spec, image)
        fetch, annotations, name = base.fetch, base.image.annotations, base.about
        if base.note:
            shop.emit(Warned(f"{spec.base.place}: {spec.base}: {base.note}"))
        if (image.config.get("config") or {}).get("OnBuild"):
            place = spec.base.place
            shop.emit(Warned(f"{place}: the base's ONBUILD is not run: write it as steps"))
    else:
        planner.check_below(spec, planner.platform(below.spec))
        image, fetch, name = below.image, below.fetch, spec.base.value
    state = planner.start(spec, image, fetch, below.commands if below else 0)
    chain = image.chain_id
    done = [BuiltStep(None, name, "base", "", "", layer, 0.0) for layer in image.layers]
    files, sources = [spec.file], list[Tree]()
    if below is not None:
        files += below.files
        sources += below.sources
    for number in range(len(steps_of(spec))):
        planned, _ = planner.step(spec, number, state, last, leave=True)
        if number == len(spec.steps) and not planned.makes_layer:
            if planned.status == "build":
                # noted as empty, so that it is known
                _make(shop, spec, planned, state, fetch, last)
            continue
        sources += planned.sources
        for note in planned.notes:
            shop.emit(Warned(f"{planned.step.place}: {note}"))
        built = _step(shop, spec, planned, state, fetch, last)
        done.append(built)
        changes = None
        if built.status == "built":
            from builder.make.layer import listed_later

            changes = listed_later(planned)
        state = planner.above(state, built.layer, planned.step, planned.name, changes)
    assert state.image is not None
    image = finish(state.image, spec, planner.settings.epoch, annotations)
    config = store.put(image.config_bytes(), media.CONFIG)
    manifest = store.put(image.manifest_bytes(), media.MANIFEST)
    store.tag(name_in_store, manifest)
    _remember(shop, spec, last, chain, done, manifest)
    seconds = time.monotonic() - started
    made = sum(step.status == "built" for step in done)
    shop.emit(ImageDone(spec.name, manifest.digest, seconds, made))
    return Built(
        spec, image, manifest, config, tuple(done), tuple(files), tuple(sources), fetch, seconds,
        state.commands,
    )  # fmt: skip


def _step(
    shop: Workshop,
    spec: ImageSpec,
    planned: Planned,
    state: State,
    fetch: Fetch,
    last: LastBuild | None,
) -> BuiltStep:
    started = time.monotonic()
    layer, why, status, encoded = planned.layer, planned.why, "hit", planned.encoded
    key = planned.key
    if planned.status == "build":
        with shop.store.lock(f"step-{key or planned.inputs}", f"{spec.name}: {planned.name}"):
            # who waited for the lock may find that the work is done
            found = shop.planner.found(planned)
            if found:
                key, hit = found
                layer, encoded = hit
                why = "built meanwhile by another builder"
            else:
                shop.emit(StepStarted(spec.name, planned.number, planned.name, why))
                layer, key = _make(shop, spec, planned, state, fetch, last)
                status = "built"
    assert key is not None
    if layer and not encoded:
        from builder.make.layer import convert

        layer = convert(shop, layer)
    seconds = time.monotonic() - started
    size = layer.blob.size if layer else 0
    shop.emit(StepDone(spec.name, planned.number, planned.name, status, seconds, size, why))
    return BuiltStep(planned.number, planned.name, status, why, key, layer, seconds)


def _make(
    shop: Workshop,
    spec: ImageSpec,
    planned: Planned,
    state: State,
    fetch: Fetch,
    last: LastBuild | None,
) -> tuple[Layer | None, CacheKey]:
    """Make a layer and record it. A step that fails leaves nothing."""
    started = time.monotonic()
    if isinstance(planned.step, Run):
        written = _run(shop, spec, planned, cast("Command", planned.make), state, fetch)
    else:
        from builder.make.layer import write_files

        changes = cast("Changes", planned.make)
        try:
            written = write_files(shop, spec, planned, changes, last)
        except StoreError:
            raise
        except BuilderError as error:
            shop.planner.context.forget(planned.sources)  # a file may not be what was noted of it
            error.at(planned.step.place)
            raise
        if planned.key is None:
            planned = shop.planner.settle(spec, planned)
    assert planned.key is not None
    if planned.document is not None:
        save_document(shop.store, planned.key, planned.document)
    diff_id = written.layer.diff_id if written else None
    record = Record(diff_id, round(time.monotonic() - started, 3), int(shop.now()))
    save_record(shop.store, planned.key, record)
    return written.layer if written else None, planned.key


def _run(
    shop: Workshop,
    spec: ImageSpec,
    planned: Planned,
    command: Command,
    state: State,
    fetch: Fetch,
) -> Written | None:
    from builder.executor.base import Parent
    from builder.make.layer import write

    image = state.image
    assert image is not None
    lines = Lines(lambda text: shop.emit(StepOutput(spec.name, planned.number, text)))
    parent = Parent(image, lambda: shop.lowers(image, fetch), fetch, lambda: state.view)
    clamp = command_time(shop.planner.settings.epoch, state.commands)
    try:
        with shop.executor().run(command, parent, lines.feed, clamp) as changes:
            lines.close()
            return write(shop, spec, planned, changes)
    except LayerError as error:
        error.at(planned.step.place)
        raise
    except CannotRun as error:
        said = without_values(error.message, planned.step)
        shop.emit(StepFailed(spec.name, planned.number, planned.name, said))
        raise CannotRun(f"step {planned.name!r} could not be run: {said}", error.hint).at(
            planned.step.place
        ) from error
    except CommandFailed as error:
        lines.close()
        said = without_values(error.message, planned.step)
        shop.emit(StepFailed(spec.name, planned.number, planned.name, said))
        raise CommandFailed(
            f"step {planned.name!r} failed: {said}",
            error.hint,
            exit_status=error.exit_status,
            tail=error.tail,
        ).at(planned.step.place) from error


def _remember(
    shop: Workshop,
    spec: ImageSpec,
    last: LastBuild | None,
    chain: str,
    done: list[BuiltStep],
    manifest: Descriptor,
) -> None:
    """Keep what this build was, for `why`; nothing is written when it was the same as the last."""
    now = int(shop.now())
    before = {step.key: step for step in last.steps} if last else {}
    steps = []
    for step in done:
        if step.number is None:
            continue
        old = before.get(step.key)
        diff_id = step.layer.diff_id if step.layer else DiffID("")
        verb = "run" if isinstance(steps_of(spec)[step.number - 1], Run) else "files"
        if old and step.status != "built":
            steps.append(old._replace(name=step.name, diff_id=diff_id))
        else:
            why = step.why if step.status == "built" else "found in the cache: built before"
            steps.append(LastStep(step.name, verb, step.key, diff_id, why, now))
    this = LastBuild(
        str(spec.base),
        chain,
        dict(spec.variables),
        tuple(steps),
        manifest.digest,
        now,
        spec.tags,
    )
    if last is None or this._replace(created=last.created) != last:
        save_last(shop.store, shop.planner.name_of(spec), this)
