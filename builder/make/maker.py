"""Maker: makes what a walk finds missing in one image, in jobs for other threads."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, assert_never, cast

from builder.errors import (
    BuilderError,
    CannotRun,
    CommandFailed,
    Excerpt,
    StoreError,
)
from builder.events import (
    Lines,
    StepDone,
    StepFailed,
    StepProgress,
    StepStarted,
    Warned,
)
from builder.make.workshop import BaseTask, Workshop
from builder.oci.digest import CacheKey
from builder.oci.image import Image, Layer, Platform, encode
from builder.plan.clock import command_time
from builder.plan.context import Context
from builder.plan.last import LastBuild
from builder.plan.nodes import Tree
from builder.plan.planned import (
    BuildFiles,
    BuildRun,
    Decision,
    Fetch,
    Hit,
    NoLayer,
    Planned,
    Unknown,
)
from builder.plan.planner import of_step
from builder.plan.step import CommandStep, Explained, Step, own_steps
from builder.plan.walk import Made, Origins, Work
from builder.rootfs.stack import Stack, stack_on
from builder.spec.model import BaseRef, ImageSpec, without_values
from builder.store.records import Record, save_document, save_record
from builder.transport.base import Base, quiet
from builder.work.schedule import After, Alone

if TYPE_CHECKING:
    from builder.executor.base import Command
    from builder.layer.write import Written
    from builder.make.image import Built
    from builder.make.output import Output
    from builder.plan.changes import Changes
    from builder.plan.mounts import Placed
    from builder.plan.remote import Remote


class BuiltStep(NamedTuple):
    """One line of the result. `number` counts from 1, None for layers of the base; `layer` is None
    when empty."""

    number: int | None
    name: str
    status: str  # base | hit | built, for people
    why: str
    key: str
    layer: Layer | None
    seconds: float


def base_task(ref: BaseRef, platform: Platform) -> BaseTask:
    """What a schedule calls an image that is no spec's."""
    return BaseTask(ref.kind, ref.value, encode(dict(ref.options)).decode(), platform)


class Maker:
    """Makes what is not there, in jobs for other threads."""

    read_later = True

    def __init__(
        self, shop: Workshop, spec: ImageSpec, last: LastBuild | None, below: Built | None
    ) -> None:
        self._shop, self._spec, self._last = shop, spec, last
        self.done: list[BuiltStep] = []
        self._begun: dict[int, float] = {}  # when steps began that fetched something first
        self._outputs: dict[int, Output] = {}  # what steps printed that are being made
        self._base_chain = ""
        self.sources: list[Tree] = []
        self.made = self.reused = 0  # layers
        self.waited = 0.0  # seconds, for the images that it copies from
        self.below = [below] if below else []  # the images that this one is made of

    def base_layers(self, image: Image) -> tuple[Layer, ...]:
        own = sum(step.layer is not None for step in self.done)
        return image.layers[: len(image.layers) - own]

    # -- the base -----------------------------------------------------------------------------

    def base(self, spec: ImageSpec) -> Work[Base | None]:
        task = base_task(spec.base, self._shop.planner.platform(spec))
        if task not in self._shop.bases:  # while it comes, copies are hashed and files fetched
            hashing = [partial(self._hash, step) for step in own_steps(spec) if step.hashes]
            yield [*hashing, *self._ahead(0)]
        base: Base = yield After(task)
        self._base_chain = base.image.chain_id
        self._shop.planner.bases.check_machine(spec, base.image)
        if base.note:
            self._shop.emit(Warned(f"{spec.base}: {base.note}", spec.base.place, spec.label))
        if (base.image.config.get("config") or {}).get("OnBuild"):
            text = "the base's ONBUILD is not run: write it as steps"
            self._shop.emit(Warned(text, spec.base.place, spec.label))
        return base

    def _hash(self, step: Step) -> None:
        """Note the digests of the files that a step takes, with a context of its own: this one is
        another thread's."""
        context = Context(self._shop.planner.context.root, self._shop.store)
        try:
            context = context.of(self._spec.context)
            for _, tree in step.scan(context):
                context.digests(tree)
        except BuilderError:
            pass  # said when the step's turn comes

    # -- steps --------------------------------------------------------------------------------

    def origins(self, spec: ImageSpec, index: int, stack: Stack) -> Work[Origins]:
        shop, began, step = self._shop, time.monotonic(), own_steps(spec)[index]
        found = []
        for ref in step.origins:
            if ref.of_spec:
                built: Built = yield After(ref.task)
                if all(each is not built for each in self.below):
                    self.below.append(built)
                found.append(built.walked.stack)
            else:
                base: Base = yield After(base_task(ref, shop.planner.platform(spec)))
                found.append(stack_on(base.image))
        self.waited += time.monotonic() - began
        if not shop.planner.knows(spec, index, stack, found):
            yield partial(self._read, step, found)
        return tuple(found)

    def _read(self, step: Step, found: list[Stack]) -> None:
        """Have the digests of the files that a step takes from other images."""
        try:
            step.look_into(list(map(self._shop.planner.origin, step.origins, found)))
        except BuilderError:
            pass  # said when the step's turn comes

    def fetch(self, planned: Planned) -> Work[bool]:
        assert isinstance(planned.decision, Fetch)
        own = Alone(frozenset({planned.decision.remote}), partial(self._fetch, planned))
        yield [own, *self._ahead(planned.number)]
        return True

    def _ahead(self, done: int) -> list[Alone]:
        """Bring what the steps behind the first `done` take from servers, in the first build of an
        image; later ones may be hits without it."""
        shop, jobs = self._shop, {}
        for step in own_steps(self._spec)[done:] if self._last is None else ():
            try:
                remote = step.remote(shop.planner.platform(self._spec))
            except BuilderError:
                continue  # said when the step's turn comes
            if remote and not remote.find(shop.store):
                jobs[remote] = Alone(frozenset({remote}), partial(self._bring_ahead, remote))
        return list(jobs.values())

    def _bring_ahead(self, remote: Remote) -> None:
        try:
            remote.fetch(self._shop.fetcher(), quiet, lambda done, total: None)
        except BuilderError:
            pass  # said when the step's turn comes

    def _fetch(self, planned: Planned) -> None:
        assert isinstance(planned.decision, Fetch)
        shop, image, number = self._shop, self._spec.label, planned.number
        self._begun[number] = time.monotonic()
        shop.emit(StepStarted(image, number, planned.name, planned.why))
        lines = self._output(number).lines()

        def progress(done: int, total: int | None) -> None:
            shop.emit(StepProgress(image, number, done, total))

        try:
            planned.decision.remote.fetch(shop.fetcher(), lines.feed, progress)
        except BuilderError as error:
            lines.close()
            self._failed(planned, error.message)
            raise of_step(error, self._spec, number - 1) from None
        lines.close()

    def _output(self, number: int) -> Output:
        """Of a step that is being made, perhaps after something was fetched for it."""
        from builder.make.output import Output

        if number not in self._outputs:
            self._outputs[number] = Output(self._shop, self._spec, number)
        return self._outputs[number]

    def _failed(self, planned: Planned, said: str) -> Excerpt:
        """Keep what a step printed that failed, and tell of it."""
        excerpt = self._keep_failure(planned, said)
        self._shop.emit(StepFailed(self._spec.label, planned.number, planned.name, said, excerpt))
        return excerpt

    def _keep_failure(self, planned: Planned, said: str) -> Excerpt:
        before = [
            (each.number, each.name, each.key) for each in self.done if each.number is not None
        ]
        output = self._output(planned.number)
        return output.fail(planned.name, said, before, self._base_chain)

    def step(self, planned: Planned, stack: Stack, *, hidden: bool) -> Work[Made | None]:
        match planned.decision:
            case Hit(layer, encoded):
                took = _Took("hit", "unchanged", planned.key, layer)
                if layer and not encoded:
                    took = yield partial(self._convert, took, layer)
            case BuildFiles() | BuildRun():
                # a config's working_dir that is there already is noted as empty, so it is known
                take = partial(self._take, planned, stack, hidden)
                took = yield Alone(frozenset(_names(planned)), take)
            case NoLayer():
                assert planned.key is not None
                self.done.append(
                    BuiltStep(
                        planned.number, planned.name, "config", planned.why, planned.key, None, 0.0
                    )
                )
                return None
            case Fetch():
                text = f"step {planned.name!r}: what was fetched is no longer in the store"
                raise StoreError(text, "build again")
            case Unknown(after):
                raise AssertionError(f"step {planned.name!r} is decided after {after}")
            case other:
                assert_never(other)
        if hidden:
            return None
        shop, number, name = self._shop, planned.number, planned.name
        size = took.layer.blob.size if took.layer else 0
        shop.emit(
            StepDone(self._spec.label, number, name, took.status, took.seconds, size, took.why)
        )
        assert took.key is not None
        self.done.append(BuiltStep(number, name, took.status, took.why, took.key, *took[3:5]))
        self.sources += planned.sources
        self.made += took.made
        self.reused += took.status == "hit"
        return Made(took.layer, _listed_later(planned.decision) if took.made else None)

    def _take(self, planned: Planned, stack: Stack, hidden: bool) -> _Took:
        """Make a layer, or find that somebody else has."""
        shop, name = self._shop, self._spec.label
        started = self._begun.get(planned.number) or time.monotonic()
        for note in () if hidden else planned.notes:
            shop.emit(Warned(note, planned.step.place, name))
        with contextlib.ExitStack() as held:
            for each in _names(planned):
                held.enter_context(shop.store.lock(f"step-{each}", f"{name}: {planned.name}"))
            # who waited may find that the work is done
            if found := shop.planner.found(self._spec, planned):
                key, hit = found
                by = f"for {shop.made[key]}" if key in shop.made else "by another builder"
                took = _Took("hit", f"built meanwhile {by}", key, hit.layer)
                if hit.layer and not hit.encoded:
                    took = self._convert(took, hit.layer)
            else:
                if not hidden and planned.number not in self._begun:
                    shop.emit(StepStarted(name, planned.number, planned.name, planned.why))
                layer, key = self._make(planned, stack)
                took = _Took("built", planned.why, key, layer, made=True)
        return took._replace(seconds=time.monotonic() - started)

    def _convert(self, took: _Took, layer: Layer) -> _Took:
        from builder.make.layer import convert

        return took._replace(layer=convert(self._shop, layer))

    def _make(self, planned: Planned, stack: Stack) -> tuple[Layer | None, CacheKey]:
        """Make a layer and record it. A step that fails leaves nothing, and the error names it."""
        try:
            made = self._made(planned, stack)
        except BuilderError as error:
            if not isinstance(error, StoreError):
                self._keep_failure(planned, error.what)
            raise of_step(error, self._spec, planned.number - 1) from None
        if output := self._outputs.pop(planned.number, None):
            output.save(made[1])
        return made

    def _made(self, planned: Planned, stack: Stack) -> tuple[Layer | None, CacheKey]:
        shop, started = self._shop, time.monotonic()
        match planned.decision:
            case BuildRun(_, command, mounts):
                if shop.guard:
                    shop.guard.check(command)
                written = self._run(planned, command, mounts, stack)
            case BuildFiles(_, changes):
                written = self._write(planned, changes)
                if planned.key is None:
                    assert written is not None  # it holds the files that were read
                    planned = shop.planner.finish(self._spec, planned, changes, written.learned)
            case _:
                raise AssertionError("nothing to make")
        assert planned.key is not None
        if planned.document is not None:
            save_document(shop.store, planned.key, planned.document)
        diff_id = written.layer.diff_id if written else None
        record = Record(diff_id, round(time.monotonic() - started, 3), int(shop.now()))
        save_record(shop.store, planned.key, record)
        shop.made[planned.key] = self._spec.label
        shop.planner.made.add(planned.key)
        return written.layer if written else None, planned.key

    def _write(self, planned: Planned, changes: Changes) -> Written | None:
        from builder.make.layer import write_files

        shop = self._shop
        try:
            return write_files(shop, self._spec, planned, changes, self._last)
        except StoreError:
            raise
        except BuilderError:
            # a file may not be what was noted of it
            shop.planner.context_of(self._spec).forget(planned.sources)
            raise

    def _run(
        self, planned: Planned, command: Command, mounts: tuple[Placed, ...], stack: Stack
    ) -> Written | None:
        from builder.executor.base import Parent
        from builder.make.layer import write

        shop, spec, image = self._shop, self._spec, stack.image
        assert image is not None
        output = self._output(planned.number)
        parent, kept = Parent(image, shop.layers), list[str]()

        def keep(upper: str) -> None:
            if shop.failed:
                from builder.make.failure import Failure

                name = shop.planner.name_of(spec)
                step = name, spec.label, planned.number, planned.name
                failure = Failure(*step, image.layers, stack.config, wanted, mounts)
                kept.append(shop.failed(failure, upper))

        wanted = command
        clamp = command_time(shop.planner.settings.epoch, stack.commands)
        try:
            executor = shop.executor()
            if not executor.elsewhere and not shop.planner.settings.allow_foreign:
                shop.check_runs(image.platform)
            with contextlib.ExitStack() as held:
                if mounts:
                    from builder.make.mounting import mounted

                    command = mounted(
                        *(shop, command, mounts, image.platform),
                        *(f"{spec.label}: {planned.name}", held),
                    )
                # made last: a step that waited for its base may have brought secrets of its own
                lines = shop.guard.lines(output.take) if shop.guard else Lines(output.take)
                run = executor.run(command, parent, lines.feed, clamp, keep)
                with run as changes:
                    lines.close()
                    return write(shop, spec, planned, changes)
        except CannotRun as error:
            said = without_values(error.what, planned.step)
            self._failed(planned, said)
            raise CannotRun(f"step {planned.name!r} could not be run: {said}", error.hint).at(
                planned.step.place
            ) from error
        except CommandFailed as error:
            lines.close()
            explained = cast(CommandStep, planned.step).explain(error)
            why = explained or Explained(error.what, error.hint, planned.step.place)
            said = without_values(why.what, planned.step)
            excerpt = self._failed(planned, said)
            raise CommandFailed(
                f"step {planned.name!r} failed: {said}",
                "\n".join(filter(None, (why.hint, *kept))) or None,
                exit_status=error.exit_status,
                excerpt=Excerpt(command=excerpt.command) if explained else excerpt,
            ).at(why.place) from error


def _names(planned: Planned) -> tuple[str, ...]:
    """What makes a step the same work as another one. Its key may not be known yet; its inputs
    are, and others may lead to the same key."""
    return (planned.inputs, planned.key) if planned.key else (planned.inputs,)


class _Took(NamedTuple):
    """What came of a step."""

    status: str  # hit | built, for people
    why: str
    key: CacheKey | None
    layer: Layer | None
    seconds: float = 0.0
    made: bool = False


def _listed_later(decision: Decision) -> Changes | None:
    from builder.make.layer import listed_later

    return listed_later(decision)
