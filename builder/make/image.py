"""Build: take the layer that is there or make it, for each planned step; then the image."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import (
    BuilderError,
    LayerError,
    SpecError,
    TransportError,
)
from builder.events import (
    ImageDone,
    ImageStarted,
    StepDone,
    StepFailed,
    StepStarted,
    Warned,
)
from builder.make.maker import BuiltStep, Maker, base_task
from builder.make.workshop import BaseTask, Workshop
from builder.oci import media
from builder.oci.digest import DiffID
from builder.oci.image import Descriptor, Image, Platform, host_platform
from builder.plan.last import LastBuild, LastStep, load_last, save_last
from builder.plan.nodes import Tree
from builder.plan.sources import image_files
from builder.plan.step import steps_of
from builder.plan.walk import Walked, Work, walk
from builder.rootfs.stack import stack_on
from builder.spec.model import BaseRef, ImageSpec
from builder.store.names import ANY, ImageName
from builder.store.records import forget_failure, is_settled, labelled
from builder.transport.base import Base
from builder.work.schedule import After, Task

if TYPE_CHECKING:
    from builder.make.guard import Guard


class Built(NamedTuple):
    spec: ImageSpec
    image: Image
    manifest: Descriptor
    config: Descriptor
    steps: tuple[BuiltStep, ...]  # the base's layers first
    files: tuple[str, ...]  # specs and images' files it was made from, host paths
    sources: tuple[Tree, ...]  # what it took from the context
    walked: Walked
    seconds: float
    right: bool = True  # no test that was left out may be against it


def build_image(
    shop: Workshop, spec: ImageSpec, *, indexed: bool = False, until: str | None = None
) -> Work[Built]:
    """Build one image, after its `image:` base: a task for a schedule, named as the spec is. Its
    name means the image when all is there and its tests are passed; of one that is `indexed` it
    will mean the index. With `until` it is built as far as this step, and called nothing. Raises
    BuilderError; what was built before stays cached."""
    below: Built | None = None
    if spec.base.of_spec:
        below = yield After(spec.base.task)
    started = time.monotonic()
    wanted = spec
    if until is not None:
        from builder.plan.until import up_to

        wanted = up_to(spec, until)
    shop.emit(ImageStarted(spec.label, len(wanted.steps)))
    planner, store = shop.planner, shop.store
    name = planner.name_of(spec)
    last = load_last(store, name)
    maker = Maker(shop, wanted, last, below)
    walked = yield from walk(planner, spec, last, below.walked if below else None, maker, until)
    image = walked.stack.image
    assert image is not None
    if shop.guard:
        _check(shop.guard, spec, image)
    config = store.put(image.config_bytes(), media.CONFIG)
    manifest = store.put(image.manifest_bytes(), media.MANIFEST)
    named = until is None and not spec.stage
    changed = last is None or last.manifest != manifest.digest
    if changed and named and _is_foreign(spec, image.platform):
        said = yield partial(_misfit, shop, image)
        if said:
            shop.emit(Warned(f"{spec.label}: {said}", spec.place, spec.label))
    right = True
    if until is None and shop.tester and walked.spec.tests:
        right = yield from shop.tester().test(walked.spec, image)
    if right and named and not indexed:
        store.tag(name, manifest)
    about = spec.base.value if below and spec.base.kind != "stage" else str(spec.base)
    done = [BuiltStep(None, about, "base", "", "", each, 0.0) for each in maker.base_layers(image)]
    done += maker.done
    if until is None:
        _remember(shop, walked, last, done, manifest)
        forget_failure(store, name)
    seconds = time.monotonic() - started - maker.waited
    shop.emit(ImageDone(spec.label, manifest.digest, seconds, maker.made, maker.reused))
    # what stands on it reads it from the store, and keeps nothing of what it was made of
    stack = stack_on(image, walked.stack.commands)
    files = [spec.file, *spec.parts, *image_files(walked.spec, planner.context.root)]
    files += [file for each in maker.below for file in each.files]
    # each once: an image may lie below by many ways
    taken = (*(tree for each in maker.below for tree in each.sources), *maker.sources)
    return Built(
        walked.spec,
        image,
        manifest,
        config,
        tuple(done),
        tuple(dict.fromkeys(files)),
        tuple({id(tree): tree for tree in taken}.values()),
        walked._replace(stack=stack),
        seconds,
        right,
    )


def _is_foreign(spec: ImageSpec, platform: Platform) -> bool:
    """Whether programs of another CPU may have got into it: what was made here is for this one."""
    return bool(spec.task) or platform.architecture != host_platform().architecture


def _misfit(shop: Workshop, image: Image) -> str | None:
    """What is to be said of an image whose own program is for another CPU than its config says."""
    from builder.plan.config import settings_of
    from builder.rootfs.machine import architecture_of

    settings = settings_of(image.config)
    argv = [*(settings.get("Entrypoint") or ()), *(settings.get("Cmd") or ())]
    if not argv or image.platform.os != "linux":
        return None
    folders = [""]
    if "/" not in argv[0]:
        env = dict(each.partition("=")[::2] for each in settings.get("Env") or ())
        folders = env.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")\
            .split(":")  # fmt: skip
    for folder in folders:
        path = os.path.join("/", settings.get("WorkingDir") or "", folder, argv[0])
        try:
            found = architecture_of(shop.layers, image.layers, os.fsencode(os.path.normpath(path)))
        except BuilderError:
            return None  # whoever reads that layer next says it
        if found and found != image.platform.architecture:
            return (
                f"{argv[0]!r}, which the image runs, is for {found}, the image for {image.platform}"
            )
        if found:
            return None
    return None


def build_index(shop: Workshop, spec: ImageSpec, parts: Sequence[str]) -> Work[Descriptor]:
    """The index of an image that is built for several platforms, after these tasks. The image's
    name means it."""
    from builder.oci.index import index_of

    images, right = [], True
    for each in parts:
        built: Built = yield After(each)
        images.append(built.image)
        right = right and built.right
    index = shop.store.put(index_of(images), media.INDEX)
    if right and not spec.stage:
        name = ImageName(spec.name, ANY, shop.planner.settings.project)
        shop.store.tag(name, index)
    return index


def _check(guard: Guard, spec: ImageSpec, image: Image) -> None:
    try:
        guard.check_image(image)
    except LayerError as error:
        raise SpecError(error.what, error.hint).at(spec.place) from None


def base_tasks(
    shop: Workshop, spec: ImageSpec
) -> Iterator[tuple[BaseTask, Callable[[], Task[Base]]]]:
    """The tasks that a spec waits for beside those of other specs: they bring the image that it
    stands on and those that it copies from. One that several need comes once."""
    platform = shop.planner.platform(spec)
    for ref in spec.refs:
        if not ref.of_spec:
            yield base_task(ref, platform), partial(bring_base, shop, spec, ref, platform)


def bring_base(shop: Workshop, spec: ImageSpec, ref: BaseRef, platform: Platform) -> Work[Base]:
    """Have an image that is no spec's: a task for a schedule. `spec` stands on it or copies from
    it. Raises BuilderError."""
    base = _known(shop, ref, platform)
    if base is None or not is_settled(shop.store, base.image):
        brought: Base = yield partial(_bring, shop, spec, ref, platform)
        return brought._replace(image=labelled(shop.store, brought.image))
    base = base._replace(image=labelled(shop.store, base.image))
    shop.bases[base_task(ref, platform)] = base
    return base


def _known(shop: Workshop, ref: BaseRef, platform: Platform) -> Base | None:
    """The base, if it is known without asking a registry or making anything. An engine is asked:
    what its names mean is its to say."""
    if shop.planner.settings.pull == "always":
        return None
    try:
        pull = "never" if ref.kind == "registry" else None
        return shop.planner.bases.resolve(ref, platform, make=False, pull=pull)
    except TransportError:
        return None  # said when it is brought


def _bring(shop: Workshop, spec: ImageSpec, ref: BaseRef, platform: Platform) -> Base:
    from builder.make.output import Output
    from builder.store.records import base_log

    name = str(ref)
    of = spec.label if ref is spec.base else name
    started = time.monotonic()
    shop.emit(StepStarted(of, 0, name, ""))
    output = Output(shop, spec, 0, of)
    lines = output.lines()
    try:
        base = shop.planner.bases.resolve(ref, platform, make=True, tell=lines.feed)
        if base is None:
            raise SpecError(f"the base {ref} could not be made").at(ref.place)
        shop.layers.settle(base.image)
    except BuilderError as error:
        if isinstance(error, TransportError):
            error.at(ref.place)
        lines.close()
        excerpt = output.fail(name, error.message, ())
        if "\n" in (error.hint or ""):  # it holds the end of what the tool printed
            excerpt = excerpt._replace(skipped=0, last=())
        shop.emit(StepFailed(of, 0, name, error.message, excerpt))
        raise
    lines.close()
    output.save(base_log(base.image.chain_id))
    seconds = time.monotonic() - started
    size = sum(layer.blob.size for layer in base.image.layers)
    shop.emit(StepDone(of, 0, name, "built", seconds, size, base.about))
    return base


def _remember(
    shop: Workshop,
    walked: Walked,
    last: LastBuild | None,
    done: Iterable[BuiltStep],
    manifest: Descriptor,
) -> None:
    """Keep what this build was, for `why`; nothing is written when it was the same as the last."""
    now, spec = int(shop.now()), walked.spec
    before = {step.key: step for step in last.steps} if last else {}
    steps = []
    for step in done:
        if step.number is None:
            continue
        old = before.get(step.key)
        diff_id = step.layer.diff_id if step.layer else DiffID("")
        kind = steps_of(spec)[step.number - 1].kind
        if old and step.status != "built":
            steps.append(old._replace(name=step.name, diff_id=diff_id))
        else:
            why = step.why if step.status == "built" else "found in the cache: built before"
            steps.append(LastStep(step.name, kind, step.key, diff_id, why, now))
    this = LastBuild(
        str(spec.base),
        walked.base_chain,
        dict(spec.variables),
        tuple(steps),
        manifest.digest,
        now,
        spec.tags,
    )
    if last is None or this._replace(created=last.created) != last:
        save_last(shop.store, shop.planner.name_of(spec), this)
