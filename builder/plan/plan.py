"""Plan: for every step of an image its key, whether its layer is there, and why not.

The build walks the same functions: `plan_step` decides about one step on a State; building differs
only in that a miss is made and its layer put on the State before the next step is decided.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from builder.errors import BuilderError, SpecError, UsageError
from builder.executor.base import Command
from builder.layer.entry import FILE, Content, HostFile
from builder.oci.digest import CacheKey, hex_of
from builder.oci.image import MAX_LAYERS, Image, Layer, Platform, empty_image, encode
from builder.plan import config, files, keys
from builder.plan.context import Context, Tree
from builder.plan.describe import history, step_name
from builder.plan.files import Changes
from builder.plan.last import LastBuild, load_last
from builder.plan.state import (
    Fetch,
    State,
    base_state,
    open_table,
)
from builder.plan.why import why_base, why_step
from builder.rootfs.accounts import ACCOUNT_FILE, is_account_file, resolve_user
from builder.rootfs.table import MemoryTable
from builder.spec.model import (
    Copy,
    Directory,
    File,
    ImageSpec,
    Place,
    Remove,
    Run,
    Step,
    Symlink,
    Unpack,
)
from builder.store.records import Record, load_layer, load_record
from builder.store.store import Store
from builder.transport.base import Base, BaseSource


class Settings(NamedTuple):
    """What holds for a whole run, decided by the command line."""

    platform: Platform
    epoch: int  # seconds since 1970: SOURCE_DATE_EPOCH, else 1980-01-01
    codec: str = "gzip"
    level: int | None = None
    pull: str = "missing"  # always | missing | never

    @property
    def encoding(self) -> str:
        """How records name blobs of this codec and level."""
        return self.codec if self.level is None else f"{self.codec}:{self.level}"


Sources = tuple[str | Tree, ...]


class Planned(NamedTuple):
    """What is known of one step. `key` is None while something below it is not known."""

    number: int  # within the spec, from 0
    name: str
    step: Step
    status: str  # hit | build | unknown
    why: str
    key: CacheKey | None = None
    layer: Layer | None = None  # of a hit; None: an empty layer
    encoded: bool = True  # the hit's blob is in the codec and level that are wanted
    document: dict[str, Any] | None = None  # what the key is the hash of; None where it was kept
    make: Changes | Command | None = None  # of a build
    sources: Sources = ()  # host files and trees that were looked at
    notes: tuple[str, ...] = ()


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


class Planner:
    """Decides about steps. Reads the context and the store; makes nothing."""

    def __init__(
        self,
        store: Store,
        context: Context,
        sources: Mapping[str, BaseSource],
        settings: Settings,
        render: Callable[[File, ImageSpec], bytes],
    ) -> None:
        self.store = store
        self.context = context
        self.settings = settings
        self._sources = sources
        self._render = render  # a template step to its bytes

    # -- bases --------------------------------------------------------------------------------

    def platform(self, spec: ImageSpec) -> Platform:
        return spec.platform or self.settings.platform

    def base(self, spec: ImageSpec, *, make: bool) -> Base | None:
        """The base of a spec whose base is not another spec. None: it would have to be made."""
        ref, platform = spec.base, self.platform(spec)
        if ref.kind == "scratch":
            return Base(empty_image(platform), "scratch")
        source = self._sources.get(ref.kind)
        if source is None:
            raise SpecError(f"{ref.place}: no way to read a base of the kind {ref.kind!r}")
        return source.resolve(ref, platform, make=make, pull=self.settings.pull)

    def start(self, spec: ImageSpec, image: Image, fetch: Fetch) -> State:
        """The state on a base, with the config that the spec's commands run under."""
        state = base_state(self.store, image, fetch)
        if len(image.layers) + len(spec.steps) > MAX_LAYERS:
            raise SpecError(
                f"{spec.base.place}: {len(image.layers)} layers of the base and {len(spec.steps)}"
                f" steps are more than the {MAX_LAYERS} layers an image may have",
                "join steps: several lines in one `run`, several sources in one `copy`",
            )
        return self.configured(spec, state)

    def configured(self, spec: ImageSpec, state: State) -> State:
        merged = config.merge_config(state.config, spec.config)
        return State(state.image, merged, state.identities, lambda: state.view, state.undecided)

    # -- steps --------------------------------------------------------------------------------

    def step(
        self, spec: ImageSpec, index: int, state: State, last: LastBuild | None
    ) -> tuple[Planned, State]:
        """Decide about one step; also the state above it, were it built as planned."""
        step = spec.steps[index]
        try:
            return self._step(spec, index, state, last)
        except (SpecError, UsageError):
            raise
        except BuilderError as error:
            raise self._placed(error, step.place) from error

    @staticmethod
    def _placed(error: BuilderError, place: Place) -> SpecError:
        return SpecError(f"{place}: {error.message}", error.hint)

    def _step(
        self, spec: ImageSpec, index: int, state: State, last: LastBuild | None
    ) -> tuple[Planned, State]:
        step = spec.steps[index]
        name = step_name(step)
        label = f"step {index + 1} ({name})"
        platform = self.platform(spec)
        if state.identities is None or (isinstance(step, Run) and state.image is None):
            planned = Planned(
                index, name, step, "unknown", f"decided after {state.undecided}",
                sources=self._looked_at(step),
            )  # fmt: skip
            return planned, state.unknown(label) if isinstance(step, Run) else state
        if isinstance(step, Run):
            assert state.image is not None
            command = self._command(step, state)
            document = keys.run_document(command, state.image.chain_id, platform)
            planned = self._decide(index, name, step, document, last, platform)
            if planned.status == "hit":
                return planned, self._above(state, planned)
            return planned._replace(make=command), state.unknown(label)

        scanned = files.scan(step, self.context) if isinstance(step, Copy | Unpack) else []
        sources: Sources = tuple(tree for _, tree in scanned)
        memo = self._memo(step, scanned, state, platform)
        known = self.store.load("memos", memo) if memo else None
        if known:
            key = CacheKey(known.decode("ascii", "replace"))
            hit = self._hit(key, platform)
            if hit:
                planned = Planned(
                    index, name, step, "hit", "unchanged", key, hit.layer, hit.encoded,
                    sources=sources,
                )  # fmt: skip
                return planned, self._above(state, planned)
        changes, sources = self._changes(spec, step, scanned, state, sources)
        document = keys.files_document(changes.document(), platform)
        planned = self._decide(index, name, step, document, last, platform)._replace(
            sources=sources, notes=tuple(changes.notes)
        )
        if memo and planned.key:
            self.store.save("memos", memo, planned.key.encode())
        if planned.status == "hit":
            return planned, self._above(state, planned)
        planned = planned._replace(make=changes)

        def table() -> MemoryTable:
            return MemoryTable((entry for entry, *_ in changes.entries.values()), accounts(changes))

        assert planned.key is not None
        return planned, state.with_files(planned.key, table, label)

    def _changes(
        self,
        spec: ImageSpec,
        step: Step,
        scanned: files.Scanned,
        state: State,
        sources: Sources,
    ) -> tuple[Changes, Sources]:
        epoch, view = self.settings.epoch, state.view
        if isinstance(step, Copy):
            return files.copy(step, self.context, scanned, view, epoch), sources
        if isinstance(step, File):
            data = self._render(step, spec)
            named = (self._host(step.template),) if step.template else ()
            return files.file(step, data, view, epoch), named
        if isinstance(step, Directory):
            return files.directory(step, view, epoch), ()
        if isinstance(step, Symlink):
            return files.symlink(step, view, epoch), ()
        if isinstance(step, Remove):
            return files.remove(step, view, epoch), ()
        assert isinstance(step, Unpack)
        from builder.plan.unpack import unpack

        return unpack(step, scanned[0][1], view, epoch), sources

    def _host(self, path: str) -> str:
        return os.path.join(self.context.root, path)

    def _looked_at(self, step: Step) -> Sources:
        """Host paths of a step that cannot be decided yet, for the depfile."""
        if isinstance(step, Copy | Unpack):
            return tuple(tree for _, tree in files.scan(step, self.context))
        if isinstance(step, File) and step.template:
            return (self._host(step.template),)
        return ()

    def _memo(
        self, step: Step, scanned: files.Scanned, state: State, platform: Platform
    ) -> str | None:
        """A name for everything that decides a step's key, from lstat alone: a speed-up. None for
        steps without sources, and where one is too young to be told by its times."""
        if not scanned or not all(tree.settled for _, tree in scanned):
            return None
        inputs = [
            keys.KEY_VERSION,
            step._replace(place=Place("", 0, 0), name=None),
            state.identities,
            self.settings.epoch,
            platform,
            [(source, tree.fingerprint()) for source, tree in scanned],
        ]
        return hex_of(encode(inputs))

    def _command(self, step: Run, state: State) -> Command:
        settings = state.config.get("config") or {}
        user = resolve_user(step.user or settings.get("User") or "", state.view)
        if isinstance(step.command, str):
            shell = step.shell or tuple(settings.get("Shell") or ()) or ("/bin/sh", "-e", "-c")
            argv = (*shell, step.command)
        else:
            argv = step.command
        return Command(
            argv,
            config.environment(settings, step, user.home, self.settings.epoch),
            user.uid,
            user.gid,
            user.groups,
            config.working_dir(settings.get("WorkingDir"), step.working_dir),
            step.network,
        )

    # -- hits ---------------------------------------------------------------------------------

    def _decide(
        self,
        index: int,
        name: str,
        step: Step,
        document: dict[str, Any],
        last: LastBuild | None,
        platform: Platform,
    ) -> Planned:
        key = keys.key_of(document)
        hit = self._hit(key, platform)
        if hit:
            return Planned(
                index, name, step, "hit", "unchanged", key, hit.layer, hit.encoded, document
            )
        why = why_step(self.store, last, index, name, document, key)
        return Planned(index, name, step, "build", why, key, document=document)

    def _hit(self, key: CacheKey, platform: Platform) -> Hit | None:
        record = load_record(self.store, key)
        return self.layer_of(record) if record else None

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

    def _above(self, state: State, planned: Planned) -> State:
        return self.above(state, planned.layer, planned.step, planned.name)

    def above(self, state: State, layer: Layer | None, step: Step, name: str) -> State:
        """The state over a step whose layer is there."""
        image = None
        if state.image is not None:
            image = state.image.append(layer, history(step, name, self.settings.epoch))
        if layer is None:
            return state.with_layer(None, image, lambda: MemoryTable(()))
        return state.with_layer(layer, image, lambda: open_table(self.store, layer, None))


class Hit(NamedTuple):
    layer: Layer | None
    encoded: bool = True  # False: the right layer in another codec, converted when built


def plan_image(planner: Planner, spec: ImageSpec, below: State | None) -> tuple[ImagePlan, State]:
    """Plan one image. `below`: the state that its `image:` base will have; None: another base."""
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
            nowhere = State(None, {}, None, lambda: _never(), f"the base {spec.base}")
            state = nowhere
        else:
            text, status, why = base.about, "hit", "unchanged"
            if last and last.base_chain != base.image.chain_id:
                why = why_base(last, str(spec.base), base.image.chain_id)
            state = planner.start(spec, base.image, base.fetch)
    steps = []
    for index in range(len(spec.steps)):
        planned, state = planner.step(spec, index, state, last)
        steps.append(planned)
    return ImagePlan(spec, text, status, why, tuple(steps)), state


def _never() -> Any:
    raise AssertionError("a view of layers that are not known")


def accounts(changes: Changes) -> dict[bytes, bytes]:
    """The contents of account files that a step writes, for owners named in later steps."""
    return {
        path: read_account(content)
        for path, (entry, content, _) in changes.entries.items()
        if entry.type == FILE and is_account_file(path)
    }


def read_account(content: Content) -> bytes:
    """An account file's bytes; only the first of one that is too large to be one."""
    if isinstance(content, bytes):
        return content[:ACCOUNT_FILE]
    if isinstance(content, HostFile):
        with open(content.path, "rb") as file:
            return file.read(ACCOUNT_FILE)
    if content is None:
        return b""
    with content() as stream:
        return stream.read(ACCOUNT_FILE)
