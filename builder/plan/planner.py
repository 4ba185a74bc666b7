"""Planner: a step's key, whether its layer is there, and why not.

The build walks the same way: `Planner.step` decides about one step on a Stack; building differs
only in that a miss is made and its layer put on the Stack before the next step is decided.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from builder.errors import BuilderError, FailedStep, SpecError, StoreError, UsageError
from builder.oci.digest import CacheKey, chain_id, hex_of, is_key
from builder.oci.image import MAX_LAYERS, Document, Image, Layer, Platform, encode
from builder.plan import config, keys
from builder.plan.bases import Bases
from builder.plan.clock import command_time, file_time
from builder.plan.config import settings_of, working_dir_of
from builder.plan.context import Absent, Context, Matched, Scanned
from builder.plan.last import LastBuild
from builder.plan.nodes import Tree
from builder.plan.planned import (
    BuildFiles,
    BuildRun,
    Fetch,
    Hit,
    NoLayer,
    Planned,
    Settings,
    Unknown,
    day,
)
from builder.plan.step import (
    CommandStep,
    ConfigStep,
    FileStep,
    Step,
    history,
    own_steps,
    step_name,
    steps_of,
)
from builder.rootfs.layers import Layers
from builder.rootfs.stack import Stack
from builder.spec.model import BaseRef, ImageSpec, without_values
from builder.store.names import ImageName
from builder.store.records import Record, load_layer, load_record, parse_object
from builder.transport.base import BaseSource

if TYPE_CHECKING:
    # what only a miss needs is imported when there is one: a build in which nothing changed is
    # mostly imports
    from builder.executor.base import Command
    from builder.layer.write import Learned
    from builder.plan.changes import Changes
    from builder.plan.mounts import Placed
    from builder.plan.origin import SourceImage
    from builder.plan.remote import Fetched
    from builder.plan.waiting import Reread
    from builder.plan.why import Below
    from builder.rootfs.base import Listing
    from builder.rootfs.view import View


class Planner:
    """Decides about steps. Reads the context and the store; makes nothing."""

    def __init__(
        self,
        layers: Layers,
        context: Context,
        sources: Mapping[str, BaseSource],
        settings: Settings,
        reread: Reread,
        environ: Mapping[str, str],
    ) -> None:
        self.layers, self.store = layers, layers.store
        self.context = context
        self.settings = settings
        self.bases = Bases(layers, context.root, sources, settings)
        self._reread = reread
        self._environ = environ
        self._began = int(time.time())
        self.made: set[CacheKey] = set()  # what this run made, whatever the clock says

    # -- images -------------------------------------------------------------------------------

    def name_of(self, spec: ImageSpec) -> ImageName:
        """What the image is called in the store."""
        # a stage may run on this machine, and say another thing for each platform
        platform = spec.target if spec.stage and spec.target else self.platform(spec)
        return ImageName(spec.name, platform, self.settings.project)

    def context_of(self, spec: ImageSpec) -> Context:
        """What its steps take files from. Raises SpecError."""
        return self.context.of(spec.context)

    # -- bases --------------------------------------------------------------------------------

    def platform(self, spec: ImageSpec) -> Platform:
        return self.settings.platform_of(spec)

    def on_base(self, spec: ImageSpec, document: Document) -> ImageSpec:
        if not (spec.waits or any(step.reads_base for step in own_steps(spec))):
            return spec
        from builder.plan.waiting import on_base

        return on_base(spec, document, self._reread)

    def configured(self, spec: ImageSpec, stack: Stack) -> Stack:
        """With the config that the spec's commands run under."""
        layers, steps = len(stack.image.layers) if stack.image else 0, len(steps_of(spec))
        if layers + steps > MAX_LAYERS:
            raise SpecError(
                f"{layers} layers of the base and {steps}"
                f" steps are more than the {MAX_LAYERS} layers an image may have",
                "join steps: several lines in one `run`, several sources in one `copy`",
            ).at(spec.base.place)
        return stack._replace(config=config.merge_config(config.as_base(stack.config), spec.config))

    # -- steps --------------------------------------------------------------------------------

    def step(
        self,
        spec: ImageSpec,
        index: int,
        stack: Stack,
        last: LastBuild | None,
        origins: Sequence[Stack | None] = (),
        *,
        read_later: bool = False,
    ) -> tuple[Planned, Stack]:
        """Decide about one step; also the stack above it, were it built as planned. `origins` are
        the images that it takes files from, None for one that is not known. `read_later`: it
        will be built if need be, so the files of a `copy` that was never built are not read for
        its key first, only to be read once more for its layer."""
        try:
            return self._step(spec, index, stack, last, origins, read_later=read_later)
        except BuilderError as error:
            raise of_step(error, spec, index) from None

    def knows(
        self, spec: ImageSpec, index: int, stack: Stack, origins: Sequence[Stack | None]
    ) -> bool:
        """Whether a step that takes files from `origins` is a hit, as far as that is known without
        reading files."""
        step = steps_of(spec)[index]
        if stack.layers is None or any(each is None or each.image is None for each in origins):
            return False
        try:
            scanned = step.scan(self.context_of(spec))
            inputs = self._inputs(step, scanned, stack, self.platform(spec), origins)
        except BuilderError:
            return False  # said when the step's turn comes
        return self._remembered(spec, step, inputs, [tree for _, tree in scanned]) is not None

    def _step(
        self,
        spec: ImageSpec,
        index: int,
        stack: Stack,
        last: LastBuild | None,
        origins: Sequence[Stack | None],
        *,
        read_later: bool,
    ) -> tuple[Planned, Stack]:
        step = steps_of(spec)[index]
        name = step_name(step)
        label = f"step {index + 1} ({name})"
        if isinstance(step, ConfigStep):
            key = keys.key_of(encode([step.verb, *step.values()]))
            planned = Planned(index + 1, name, step, NoLayer(), key)
            return planned, self._set(stack, step)
        platform = self.platform(spec)
        scanned = step.scan(self.context_of(spec))
        sources = tuple(tree for _, tree in scanned)
        planned = Planned(index + 1, name, step, Unknown(stack.undecided), sources=sources)
        command_step = isinstance(step, CommandStep)
        if stack.layers is None or (command_step and stack.image is None):
            return planned, stack.unknown(label, command=True) if command_step else stack
        for ref, of in zip(step.origins, origins, strict=False):
            if of is None or of.image is None:
                after = f"{ref}: {of.undecided}" if of else str(ref)
                planned = planned._replace(decision=Unknown(stack.undecided or after))
                return planned, stack.unknown(label, command=command_step)
        images = tuple(map(self.origin, step.origins, origins))
        inputs = self._inputs(step, scanned, stack, platform, origins)
        planned = planned._replace(inputs=inputs)
        if remembered := self._remembered(spec, step, planned.inputs, sources):
            key, hit = remembered
            planned = planned._replace(decision=hit, key=key)
            return planned, self._above(stack, planned)
        asked: dict[str, str | None] = {}
        miss: BuildFiles | BuildRun | Fetch
        if isinstance(step, CommandStep):
            assert stack.image is not None
            view = self.layers.view(stack.layers)
            command = step.command_on(stack.config, view, self.settings.epoch)
            clamp = command_time(self.settings.epoch, stack.commands)
            mounts = self._mounts(spec, step, command, images, view)
            document: bytes | None = keys.run_document(
                *(command, clamp, stack.image.chain_id, platform, self.settings.executor()),
                mounts=_documents(mounts),
                rotated=self._rotated(step),
            )
            assert document is not None
            key = keys.key_of(document)
            shown = [each.held.changes for each in mounts if each.held and each.held.changes]
            notes = tuple(note for each in shown for note in each.notes)
            planned = planned._replace(notes=notes)
            miss = BuildRun("", command, mounts)
            above = stack.unknown(label, command=True)
        else:
            # what is too young to be known the next time is better hashed, and perhaps found
            read_later = read_later and all(tree.settled for tree in sources)
            read_later = read_later and (last is None or last.match(index, name, "files") is None)
            remote = step.remote(platform)
            came = remote.find(self.store) if remote else None
            fetched = came or (remote.promised() if remote else None)
            if remote and not fetched:
                planned = planned._replace(decision=Fetch("never fetched", remote))
                return planned, stack.unknown(label, command=False)
            changes = self.changes_on(
                spec, step, scanned, stack, images, asked, fetched, read_later
            )
            planned = planned._replace(notes=changes.notes)
            if changes.unread:
                why = self._why(spec, index, None, None, last, stack)
                planned = planned._replace(decision=BuildFiles(why, changes))
                return planned, stack.unknown(label, command=False)
            key, document = keys.key_of_changes(changes, platform)
            miss = BuildFiles("", changes) if came or not remote else Fetch("", remote)
            if isinstance(miss, Fetch) and changes.accounts:  # they are read for names of owners
                above = stack.unknown(label, command=False)
            else:
                above = stack.promise(key, changes, label)
        planned = planned._replace(key=key, document=document)
        self._memorize(planned, asked)
        if found := self._hit(spec, step, key):
            planned = planned._replace(decision=found)
            return planned, self._above(stack, planned)
        record = load_record(self.store, key)
        if record and (outdated := self._outdated(spec, step, key, record)):
            why = outdated
        else:
            mounts = miss.mounts if isinstance(miss, BuildRun) else ()
            why = self._why(spec, index, key, document, last, stack, mounts)
        return planned._replace(decision=miss._replace(why=why)), above

    def _mounts(
        self,
        spec: ImageSpec,
        step: CommandStep,
        command: Command,
        images: tuple[SourceImage, ...],
        view: View,
    ) -> tuple[Placed, ...]:
        """What a command sees beside its image; `images` are those that the step takes files from.
        Raises SpecError."""
        if not step.mounts:
            return ()
        from builder.plan import mounts
        from builder.spec.mounts import Bind, Cache, is_own, origin_of

        copies, left, found = iter(step.copies()), iter(images), []
        for placed in mounts.place(step.mounts, command, view):
            image = next(left) if origin_of(placed.mount) else None
            if isinstance(placed.mount, Cache) and is_own(placed.mount):
                if self.settings.executor():
                    continue
                name = f"{placed.mount.name}-{hex_of(self.settings.project.encode())[:12]}"
                placed = placed._replace(mount=placed.mount._replace(name=name))
            if isinstance(placed.mount, Bind):
                with mounts.at(placed.mount.place):
                    changes = self._copied(spec, next(copies), image)
                    held = mounts.held(changes, self.platform(spec))
                placed = placed._replace(held=held)
            elif image:
                placed = placed._replace(seed=partial(self._copied, spec, next(copies), image))
            if placed.target:
                mounts.fits(placed, view)
            found.append(placed)
        return tuple(found)

    def _copied(self, spec: ImageSpec, copy: FileStep, image: SourceImage | None) -> Changes:
        """What a hidden `copy` makes in an empty image."""
        from builder.plan.changes import Ground
        from builder.plan.materials import Materials
        from builder.rootfs.view import View

        context, epoch = self.context_of(spec), self.settings.epoch
        ground = Ground(View(), file_time(epoch, 0), epoch)
        images = (image,) if image else ()
        return copy.changes(
            Materials(*(context, copy.scan(context), ground, self._environ, {}), origins=images)
        )

    def _rotated(self, step: CommandStep) -> dict[str, str]:
        """What stands in the key for the values of secrets that are part of it. Raises
        BuilderError: they are not given."""
        if not step.mounts:
            return {}
        from builder.spec.mounts import Secret

        mounts = [each for each in step.mounts if isinstance(each, Secret) and each.rotate]
        return {each.name: self.settings.rotated(each) for each in mounts}

    def _set(self, stack: Stack, step: ConfigStep) -> Stack:
        """The stack with the config that holds from this step on."""
        merged = config.merge_config(stack.config, step.change)
        return stack.push(None, history(step, self.settings.epoch), command=False)._replace(
            config=merged
        )

    def finish(
        self, spec: ImageSpec, planned: Planned, changes: Changes, learned: Learned
    ) -> Planned:
        """With the key of a `copy` whose files were read while its layer was made."""
        digest_of = changes.finder(learned)
        for tree, pieces in changes.unread:
            self.context_of(spec).save(tree, pieces, digest_of)
        key, document = keys.key_of_changes(changes.read(learned), self.platform(spec))
        planned = planned._replace(key=key, document=document)
        self._memorize(planned, {})
        return planned

    def found(self, spec: ImageSpec, planned: Planned) -> tuple[CacheKey, Hit] | None:
        """The key and layer of a step, if it was built since it was planned."""
        if planned.key is None:
            if remembered := self._remembered(spec, planned.step, planned.inputs, planned.sources):
                return remembered
            planned = self._read_meanwhile(spec, planned)
        hit = self._hit(spec, planned.step, planned.key) if planned.key else None
        return (planned.key, hit) if planned.key and hit else None

    def _read_meanwhile(self, spec: ImageSpec, planned: Planned) -> Planned:
        """With the key of a `copy`, if another one read all of its files since it was planned."""
        assert isinstance(planned.decision, BuildFiles)
        changes = planned.decision.changes
        digests: dict[bytes, bytes] = {}
        for tree, pieces in changes.unread:
            found = self.context_of(spec).read_meanwhile(tree, pieces)
            if found is None:
                return planned
            digests.update(found)
        key, document = keys.key_of_changes(
            changes.read(changes.learned(digests)), self.platform(spec)
        )
        planned = planned._replace(key=key, document=document)
        self._memorize(planned, {})
        return planned

    def changes_on(
        self,
        spec: ImageSpec,
        step: FileStep,
        scanned: Scanned,
        stack: Stack,
        images: tuple[SourceImage, ...],
        asked: dict[str, str | None],
        fetched: Fetched | None,
        read_later: bool,
    ) -> Changes:
        """A file step's changes; `asked` takes what its template asked the environment for."""
        from builder.plan.changes import Ground
        from builder.plan.folders import made_in
        from builder.plan.materials import Materials

        epoch = self.settings.epoch
        time = file_time(epoch, stack.commands)
        folder, user = working_dir_of(stack.config), settings_of(stack.config).get("User") or "0"
        assert stack.layers is not None
        view = self.layers.view(stack.layers)
        made = made_in(folder, view, user, time) if step.in_working_dir else ()
        if made:
            from builder.rootfs.table import MemoryTable

            view = view.push(MemoryTable(made))
        ground = Ground(view, time, epoch, made)
        materials = Materials(
            self.context_of(spec),
            scanned,
            ground,
            self._environ,
            asked,
            fetched,
            read_later,
            images,
        )
        return step.rooted(folder).changes(materials)

    def origin(self, ref: BaseRef, stack: Stack | None) -> SourceImage:
        """An image to take files from, all of which is known."""
        from builder.plan.origin import SourceImage

        assert stack is not None
        assert stack.image is not None
        return SourceImage(str(ref), self.layers, stack.image.layers)

    def _inputs(
        self,
        step: Step,
        scanned: Scanned,
        stack: Stack,
        platform: Platform,
        origins: Sequence[Stack | None] = (),
    ) -> str:
        """A name for all that decides a step's key, sources told by lstat alone. Where they lie is
        no part of it: the same files in another folder make the same layer."""
        settings, folder = settings_of(stack.config), working_dir_of(stack.config)
        match step:
            case FileStep():
                under: Any = [settings.get("User"), folder] if step.in_working_dir else None
            case CommandStep():
                under = [settings, self.settings.executor(), step.script, self._rotated(step)]
            case ConfigStep():
                raise AssertionError("it is decided by nothing but itself")
            case other:
                assert_never(other)
        inputs = [
            keys.KEY_VERSION,
            step.verb,
            step.rooted(folder).without_sources().values(),
            under,
            stack.identities,
            self.settings.epoch,
            stack.commands,
            platform,
            [(_landing(source), tree.fingerprint()) for source, tree in scanned],
        ]
        inputs += [each.identities for each in origins if each is not None]
        return hex_of(encode(inputs))

    def _memorize(self, planned: Planned, asked: Mapping[str, str | None]) -> None:
        """Note which key the inputs led to, a speed-up; not where a source is too young to be told
        by its times. `asked`: what a template asked the environment for."""
        if not planned.notes and all(tree.settled for tree in planned.sources):
            told = {name: _told(value) for name, value in asked.items()}
            value = {"key": planned.key, "asked": told}
            self.store.remember("memos", planned.inputs, encode(value))

    def _remembered(
        self, spec: ImageSpec, step: Step, inputs: str, sources: Iterable[Tree]
    ) -> tuple[CacheKey, Hit] | None:
        """The hit that the inputs led to, if what it was made from still holds."""
        if not all(tree.settled for tree in sources):
            return None
        value = parse_object(self.store.load("memos", inputs)) or {}
        key, asked = value.get("key"), value.get("asked")
        if not is_key(key) or not isinstance(asked, dict):
            return None
        if any(_told(self._environ.get(name)) != told for name, told in asked.items()):
            return None
        hit = self._hit(spec, step, key)
        return (key, hit) if hit else None

    # -- hits ---------------------------------------------------------------------------------

    def _why(
        self,
        spec: ImageSpec,
        index: int,
        key: CacheKey | None,
        document: bytes | None,
        last: LastBuild | None,
        stack: Stack,
        mounts: tuple[Placed, ...] = (),
    ) -> str:
        from builder.plan.why import why_step

        steps = steps_of(spec)
        names = [step_name(each) for each in steps]
        below = _below(stack.image, names[:index]) if stack.image else None
        kind = steps[index].kind
        held = {each.held.key: each.held.document for each in mounts if each.held}
        return why_step(self.store, last, index, names, kind, document, key, below, held)

    def _hit(self, spec: ImageSpec, step: Step, key: CacheKey) -> Hit | None:
        record = load_record(self.store, key)
        if record is None or self._outdated(spec, step, key, record):
            return None
        hit = self.layer_of(record)
        return hit._replace(made=record.created) if hit and _dated(step) else hit

    def _outdated(self, spec: ImageSpec, step: Step, key: CacheKey, record: Record) -> str:
        """Why it is made anew though it is there, once in a run: `--no-cache` asks for it, or it
        depends on the day, and `--pull` does. "": it is not."""
        if record.created > self._began or key in self.made:
            return ""
        if self.settings.anew and spec.key.partition(":")[0] in self.settings.anew:
            return "--no-cache"
        if self.settings.pull == "always" and _dated(step):
            return f"--pull: the package lists are of {day(record.created)}"
        return ""

    def layer_of(self, record: Record) -> Hit | None:
        """The layer a record names, in the wanted codec, or None when its blob is gone."""
        if record.diff_id is None:
            return Hit(None)
        info = load_layer(self.store, record.diff_id)
        if info is None:
            return None
        blob = info.blobs.get(self.settings.encoding)
        if blob and self.store.claim(blob):
            return Hit(Layer(record.diff_id, blob))
        for blob in info.blobs.values():
            if self.store.claim(blob):
                return Hit(Layer(record.diff_id, blob), encoded=False)
        return None

    def _above(self, stack: Stack, planned: Planned) -> Stack:
        return self.above(stack, planned.layer, planned.step, planned.name)

    def above(
        self,
        stack: Stack,
        layer: Layer | None,
        step: Step,
        name: str,
        made: Listing | None = None,
    ) -> Stack:
        """The stack over a step whose layer is there; `made` is what it was made of just now."""
        entry = history(step, self.settings.epoch)
        return stack.push(layer, entry, made, command=isinstance(step, CommandStep))


def _dated(step: Step) -> bool:
    return isinstance(step, CommandStep) and step.dated


def _landing(source: Matched) -> Matched:
    """A source without what a layer does not hold of it: where it lies, and the name of a folder
    whose contents are copied."""
    named = source.globbed or not source.is_dir
    return source._replace(path="", below=source.below if named else "")


def _told(value: str | None) -> str | None:
    """What is kept of a value that env() gave."""
    return None if value is None else hex_of(value.encode("utf-8", "surrogateescape"))


def of_step(error: BuilderError, spec: ImageSpec, index: int) -> BuilderError:
    """An error with its step and place. What is wrong with what the step names is the spec's fault,
    whether it is met while planning or while making; what cannot be read is nobody's."""
    step = steps_of(spec)[index]
    if type(error) in (BuilderError, Absent):
        place = step.place
        if error.field:
            from builder.spec.files import field_place

            place = field_place(place, error.field)
        error = SpecError(without_values(error.what, step), error.hint).at(place)
    elif not isinstance(error, (SpecError, StoreError, UsageError)):
        error.at(step.place)
    if step.place.file != spec.file and not error.via:
        error.via = (spec.place,)
    return error.within(FailedStep(spec.label, index + 1, step_name(step)))


def _documents(mounts: tuple[Placed, ...]) -> list[list[Any]]:
    if not mounts:
        return []
    from builder.plan.mounts import documents

    return documents(mounts)


def _below(image: Image, names: list[str]) -> Below:
    """What a step stands on: the base, and the steps of these names, each with its layer."""
    from builder.plan.why import Below

    entries = image.config.get("history", ())[-len(names) :] if names else ()
    made = [not entry.get("empty_layer") for entry in entries]
    count = len(image.layers) - sum(made)
    diff_ids = iter([layer.diff_id for layer in image.layers[count:]])
    steps = tuple(
        (name, next(diff_ids) if real else "") for name, real in zip(names, made, strict=True)
    )
    return Below(chain_id(layer.diff_id for layer in image.layers[:count]), steps)
