"""Project: a folder of specs with a store; plans and builds them. What the command line and the
Python API share."""

from __future__ import annotations

import os
from _thread import allocate_lock
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from builder.errors import (
    BuilderError,
    BuildErrors,
    CannotRun,
    CorruptBlob,
    ExecutorError,
    SpecError,
    SpecErrors,
    UsageError,
    each_of,
)
from builder.events import BuildStarted, Emit, Event, Noted, Warned, ignore
from builder.oci.image import Descriptor, Image, Platform, host_platform
from builder.plan.clock import EPOCH
from builder.plan.context import Context
from builder.plan.image import ImageUnknown, is_stored
from builder.plan.plan import ImagePlan, plan_image
from builder.plan.planned import Hit, Settings
from builder.plan.planner import Planner
from builder.plan.sources import check_sources
from builder.plan.step import CommandStep, own_steps, step_name
from builder.rootfs.layers import Layers
from builder.sources import Sources
from builder.spec.model import ImageSpec
from builder.steps import VERBS
from builder.store.store import Store
from builder.work.cancel import Cancel
from builder.work.schedule import Done, Failed, NotRun, Outcome, Task, run

if TYPE_CHECKING:
    from contextlib import ExitStack

    from builder.dockerfile.reader import Dockerfiles
    from builder.executor.agent import Agents
    from builder.executor.base import Command, Executor
    from builder.executor.emulator import Emulation
    from builder.make.failure import Failure
    from builder.make.guard import Guard
    from builder.make.image import Built
    from builder.plan.mounts import Placed
    from builder.secrets.given import Given, Secrets
    from builder.spec.gather import Loaded
    from builder.spec.load import Inputs
    from builder.spec.mounts import Secret
    from builder.spec.platforms import Spread
    from builder.spec.project import ProjectFile
    from builder.spec.tests import Test
    from builder.store.files import Files
    from builder.testing.tester import Tester
    from builder.transport.fetcher import Fetcher

T = TypeVar("T")


class Options(NamedTuple):
    """What a run is asked for. Paths are relative to the working directory."""

    cache_dir: str
    specs: str = "specs"  # folder
    context: str | None = None  # None: the folder that holds `specs`
    variables: Mapping[str, str] = {}
    vars_files: tuple[str, ...] = ()  # YAML
    environ: Mapping[str, str] = {}  # for env('NAME'), proxies, registry credentials
    platforms: tuple[Platform, ...] = ()  # each once, sorted; none: what specs say, this machine's
    allow_foreign: bool = False  # a base's programs may be for another CPU than the platform's
    pull: str = "missing"  # always | missing | never
    no_cache: bool = False  # make every step of the images that are asked for, though it is there
    codec: str = "gzip"  # gzip | zstd | none
    level: int | None = None  # None: the codec's default
    epoch: int | None = None  # seconds since 1970, the last that what is written has; None: EPOCH
    executor: str | None = None  # auto | sandbox | runc | docker | chroot; None: auto
    insecure_registries: tuple[str, ...] = ()
    jobs: int | None = None  # how many at once; None: as many as there are cores
    keep_going: bool = False  # build what does not stand on a failed image
    target: str = ""  # of a Dockerfile: the stage; "": the last
    ignore_file: str = ".dockerignore"  # of the context
    secrets: Mapping[str, Given] = {}  # a path, env:NAME, or the value as bytes
    tests: bool = True  # an image gets its name only when the tests of its spec are passed
    test_names: tuple[str, ...] = ()  # only tests that have one of these in their names; none: all
    test_again: bool = False  # also those that have passed before
    ssh: Mapping[str, str] = {}  # a socket, key files with commas between them; "": $SSH_AUTH_SOCK


class Ready(NamedTuple):
    """An image whose documents are in the store; `Project.layers` brings layers that are not."""

    image: Image
    manifest: Descriptor


class _Telling:
    """Gives events on. Not the project itself: what it makes holds this, and would hold it."""

    def __init__(self, told: Emit, cancel: Cancel) -> None:
        self.told, self._cancel, self._saying = told, cancel, allocate_lock()
        self.guard: Guard | None = None

    def emit(self, event: Event) -> None:
        """From any thread: whoever is told gets one event at a time, none after an interrupt."""
        with self._saying:
            if not self._cancel.is_set():
                self.told(self.guard.event(event) if self.guard else event)


class Project:
    """Specs, store and context of one run. `emit` gets the events, `files` does the store's file
    calls (None: the real ones)."""

    def __init__(self, options: Options, emit: Emit = ignore, files: Files | None = None) -> None:
        self.options = options
        self.cancel = Cancel()
        self._telling = _Telling(emit, self.cancel)
        self.emit = self._telling.emit
        self.store = Store(options.cache_dir, self.emit, files)
        self.layers = Layers(self.store)
        folder = options.context
        if folder and not os.path.isdir(folder):
            raise UsageError(f"--context {folder!r} is not a folder")
        above = os.path.dirname(os.path.abspath(options.specs))
        self.context = folder or above
        self.folder = os.path.realpath(above)
        self._file: ProjectFile | None = None
        self._inputs: Inputs | None = None
        self._dockerfiles: Dockerfiles | None = None
        self.left_out: tuple[ImageSpec, ...] = ()  # of load(): what its own `when` leaves out
        self.images: Mapping[str, tuple[str, ...]] = {}
        """Of load(): of each image that was asked for its specs, one for each platform."""
        self._spread: Spread | None = None  # of load(), where there is more than one platform
        self._choosing = allocate_lock()
        self._executor: Executor | None = None
        self._fetching: Fetcher | None = None
        self._executor_fault: ExecutorError | None = None
        self._emulated: dict[str, Emulation] = {}  # by architecture
        self._other: str | None = None
        self._secrets: Secrets | None = None
        self._agents: Agents | None = None
        self.failures: list[Failure] = []
        """The command steps that failed, of build()."""
        self._tester: Tester | None = None

    def tell(self, emit: Emit) -> None:
        """Tell `emit` from now on."""
        self._telling.told = emit

    @property
    def name(self) -> str:
        """Whose the names of images are: what the project file says, else the folder that holds
        the specs, as an absolute path. Raises SpecErrors for what is wrong in the file."""
        return (self.file.name if self.file else None) or self.folder

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """What is built for where a spec does not say it."""
        own = self.file.built_for if self.file else ()
        return self.options.platforms or own or (host_platform(),)

    @property
    def executor_name(self) -> str:
        own = self.file.executor if self.file else None
        return self.options.executor or own or "auto"

    @property
    def epoch(self) -> int:
        return EPOCH if self.given_epoch is None else self.given_epoch

    @property
    def given_epoch(self) -> int | None:
        """What SOURCE_DATE_EPOCH, or else the project file says; None: nothing."""
        own = self.file.epoch if self.file else None
        return own if self.options.epoch is None else self.options.epoch

    @property
    def file(self) -> ProjectFile | None:
        """`builder.yaml`, where there is one. Raises SpecErrors, UsageError."""
        if self._file is None and os.path.lexists(os.path.join(self.folder, "builder.yaml")):
            from builder.spec.project import load_project_file

            try:
                self._file = load_project_file(self.folder, _SpecCache(self.store))
            finally:
                self.store.close()
        return self._file

    @property
    def secrets(self) -> Secrets:
        """Who gives the values of secrets."""
        if self._secrets is None:
            from builder.secrets.given import Secrets

            own = self.file.secrets if self.file else {}
            options = self.options
            self._secrets = Secrets(options.secrets, options.environ, own, self.folder)
        return self._secrets

    @property
    def agents(self) -> Agents:
        """Who signs for `ssh` mounts."""
        if self._agents is None:
            from builder.executor.agent import Agents

            options = self.options
            self._agents = Agents(options.ssh, options.environ, self.store.temporary)
        return self._agents

    def load(self, images: Sequence[str]) -> tuple[Mapping[str, ImageSpec], tuple[str, ...]]:
        """The specs of `images` (all, when none is named) and of what they stand on, bases first,
        by the names that `image:` uses, with the platform where there are several; and the names
        that were asked for, whose specs `images` tells."""
        from builder.spec.gather import is_plain, load_project

        options = self.options

        def load(platform: Platform) -> Loaded:
            return load_project(
                images,
                options.specs,
                verbs=VERBS,
                environ=options.environ,
                sets=options.variables,
                vars_files=options.vars_files,
                platform=platform,
                groups=self.file.groups if images and self.file else {},
                shared=self.file.vars if self.file else {},
                cache=_SpecCache(self.store),
                dockerfiles=self._of_dockerfiles,
            )

        try:
            found = load(self.platforms[0])
            if is_plain(found, self.platforms):
                specs, self.left_out = found.specs, found.left_out
                self.images = {name: (name,) for name in found.asked}
            else:
                from builder.spec.platforms import spread

                self._spread = spread(load, self.platforms, options.platforms)
                specs, self.left_out = self._spread.specs, self._spread.left_out
                self.images = self._spread.images
        finally:
            self.store.close()
        for remark in self._dockerfiles.remarks.values() if self._dockerfiles else ():
            self.emit(Warned(remark.message))
        return {key: self._tagged(spec) for key, spec in specs.items()}, tuple(self.images)

    def _of_dockerfiles(self) -> Dockerfiles:
        """What reads Dockerfiles, once there is one."""
        if self._dockerfiles is None:
            from builder.dockerfile.reader import Dockerfiles

            self._dockerfiles = Dockerfiles(self.context, self.options.target, self._fetcher)
        return self._dockerfiles

    def _tagged(self, spec: ImageSpec) -> ImageSpec:
        """With the project's registry before tags that name none."""
        if not spec.tags or not self.file or not self.file.registry:
            return spec
        return spec._replace(tags=self.file.tagged(spec.tags))

    def has_row(self, image: str) -> bool:
        """Whether IMAGE of a command line is an image of a matrix."""
        from builder.spec.gather import is_of_matrix

        try:
            return is_of_matrix(image, self.options.specs, self._given(self.platforms[0]))
        finally:
            self.store.close()

    def only(self, image: str, names: Sequence[str]) -> str:
        """The one image that IMAGE of a command line means, of the names that load() gave."""
        if len(names) > 1:
            some = ", ".join(names[:10])
            raise UsageError(f"{image!r} means {len(names)} images, expected one of: {some}")
        for spec in self.left_out if not names else ():
            raise UsageError(f"image {spec.name!r} is left out by its {spec.left_out}")
        return names[0]

    def plan(self, specs: Mapping[str, ImageSpec]) -> dict[str, ImagePlan]:
        """Plan specs in the order of load(). Makes nothing."""
        try:
            return self._plan(specs)
        finally:
            self.store.close()

    def _plan(self, specs: Mapping[str, ImageSpec]) -> dict[str, ImagePlan]:
        planner = self._planner()
        check_sources(specs.values(), planner.context)
        tasks = {name: partial(plan_image, planner, spec) for name, spec in specs.items()}
        return _results(run(tasks, 1, self.cancel))

    def taken_from(self, plan: ImagePlan, number: int, path: bytes) -> str | None:
        """See plan.taken."""
        from builder.plan.taken import taken_from

        return taken_from(self._planner(), plan, number, path)

    def use(
        self,
        specs: Mapping[str, ImageSpec],
        name: str,
        action: Callable[[tuple[Ready, ...]], T],
        *,
        build: bool,
        tested: bool = False,
    ) -> T:
        """Let `action` have the image `name` that was asked for, one for each of its platforms, as
        its spec stands now, while gc leaves it alone. What is not there is built; without `build`
        that is refused, with what differs. `tested`: the tests of its spec are passed, too."""
        from builder.plan.plan import first_change

        with self.store.live():
            plans, parts = self._plan(specs), self.images[name]
            ready = [self._ready(plans[part], tested) for part in parts]
            if found := tuple(each for each in ready if each) if all(ready) else ():
                try:
                    return action(found)
                except CorruptBlob:
                    if not build:
                        raise
                    self.layers.renew()
            elif not build:
                missing = parts[ready.index(None)]
                differs = first_change(plans, missing)
                if self._ready(plans[missing], False):
                    differs = "its tests are not passed"
                raise UsageError(
                    f"image {missing!r} is not built as its spec stands now: {differs}",
                    f"builder build {name}, or leave out --no-build",
                )
        results: list[T] = []

        def deliver(built: Mapping[str, Built]) -> None:
            images = [built[part] for part in parts]
            results.append(action(tuple(Ready(each.image, each.manifest) for each in images)))

        self.build(specs, deliver, tested=tested)
        return results[-1]

    def _ready(self, plan: ImagePlan, tested: bool) -> Ready | None:
        """The image, if all of it is there; its name may mean another by now."""
        found = plan.image
        if isinstance(found, ImageUnknown) or not is_stored(
            self.store, found.image, found.manifest
        ):
            return None
        if tested and plan.spec.tests and self.options.tests:
            from builder.testing.verdicts import all_passed

            if not all_passed(self.store, found.image, plan.spec.tests):
                return None
        return Ready(found.image, found.manifest)

    def build(
        self,
        specs: Mapping[str, ImageSpec],
        deliver: Callable[[dict[str, Built]], None] = lambda built: None,
        until: tuple[str, str] | None = None,
        *,
        tested: bool = True,
    ) -> dict[str, Built]:
        """Build specs in the order of load(), then `deliver` them while gc leaves them alone. What
        is built when one fails stays cached. `until`: of this one alone (its task), as far as this
        step (its name or number); it is called nothing then. Without `tested` no test is run, and
        an image whose tests have not passed before gets no name.

        What is cached is only looked at, so a corrupt blob may first be seen when it is read: it
        is out of the store by then, and all is built once more.
        """
        seen: set[str] = set()
        with self.store.live(), self.store.writing():
            while True:
                try:
                    built = self._build(specs, until, tested)
                    deliver(built)
                    return built
                except CorruptBlob as error:
                    if error.message in seen:
                        raise
                    seen.add(error.message)
                    self.layers.renew()

    def _build(
        self, specs: Mapping[str, ImageSpec], until: tuple[str, str] | None, tested: bool
    ) -> dict[str, Built]:
        from builder.make.image import base_tasks, build_image, build_index
        from builder.make.workshop import Workshop

        planner = self._planner()
        keep_going = self.options.keep_going
        whole = specs
        if until:
            from builder.plan.until import needed

            specs = needed(specs, *until)
        if not keep_going:
            check_sources(specs.values(), planner.context)
        guard = self._guard(specs)
        shop = Workshop(
            self.store,
            self.layers,
            planner,
            self.executor,
            self._fetcher,
            self.check_runs,
            self.emit,
            {},
            {},
            guard,
            partial(self._keep_failed, guard),
            tester=partial(self.tester, tested) if self.options.tests else None,
        )

        images = sum(not spec.stage for spec in specs.values())
        steps = [(spec.label, tuple(map(step_name, own_steps(spec)))) for spec in specs.values()]
        self.emit(BuildStarted(images, tuple(steps)))
        several = {
            name: parts
            for name, parts in self.images.items()
            if len(parts) > 1 and all(part in specs for part in parts)
        }
        indexed = {part for parts in several.values() for part in parts}

        def image(name: str) -> Task[Built]:
            if keep_going:  # what one lacks is no fault of the others
                check_sources([specs[name]], planner.context)
            spec = whole[name]
            end = until[1] if until and until[0] == name else None
            return (yield from build_image(shop, spec, indexed=spec.task in indexed, until=end))

        tasks: dict[Any, Callable[[], Task[Any]]] = {}
        for spec in specs.values():
            for name, bring in base_tasks(shop, spec):
                tasks.setdefault(name, bring)
        tasks.update((name, partial(image, name)) for name in specs)
        for each, parts in several.items():
            tasks[each] = partial(build_index, shop, specs[parts[0]], parts)
        jobs = self.options.jobs or len(os.sched_getaffinity(0))
        try:
            outcomes = run(tasks, jobs, self.cancel, keep_going=keep_going)
        finally:
            self._end_fetching()
            if self._agents is not None:
                self._agents.close()
        if not until:
            done = [name for name, outcome in outcomes.items() if isinstance(outcome, Done)]
            self._forget_failed([specs[name].label for name in done if name in specs])
        try:
            built = _results(outcomes)
        except CorruptBlob:
            raise
        except BuilderError as error:
            if guard:
                guard.error(error)
            for name, outcome in outcomes.items():
                if isinstance(outcome, NotRun) and len(outcomes) > 2:
                    self.emit(Noted(f"{name}: not built, {outcome.because} failed", str(name)))
            raise
        return {name: built[name] for name in specs}

    def _keep_failed(self, guard: Guard | None, failure: Failure, upper: str) -> str:
        """See Workshop.failed."""
        from builder.containers import failed

        self.failures.append(failure)
        return failed.keep(self.store, guard, failure, upper)

    def _forget_failed(self, images: Sequence[str]) -> None:
        if os.path.isdir(os.path.join(self.store.root, "containers")):
            from builder.containers import failed

            failed.forget(self.store, self.name, images)

    def mounted(
        self,
        command: Command,
        mounts: tuple[Placed, ...],
        platform: Platform,
        what: str,
        held: ExitStack,
    ) -> Command:
        """The command of a failed step with what that had mounted; what it needs is held as long as
        `held` is. Secrets and agents are there if they are given."""
        from builder.make.guard import Guard
        from builder.make.mounting import mounted
        from builder.make.workshop import Workshop

        guard = Guard({}, self.secrets, self.agents)
        held.callback(self.agents.close)
        parts = self.store, self.layers, self._planner(), self.executor, self._fetcher
        shop = Workshop(*parts, self.check_runs, self.emit, {}, {}, guard)
        return mounted(shop, command, mounts, platform, what, held)

    def tester(self, tested: bool = True) -> Tester:
        """What runs the tests of this run's images. `tested`: it does so."""
        if self._tester is None:
            from builder.testing.tester import Tester

            names = tuple(each.lower() for each in self.options.test_names)

            def wanted(test: Test) -> bool:
                called = test.name.lower()
                return tested and (not names or any(each in called for each in names))

            self._tester = Tester(
                self.layers,
                self.executor,
                self.check_runs,
                self.emit,
                wanted,
                again=self.options.test_again,
            )
        return self._tester

    def _guard(self, specs: Mapping[str, ImageSpec]) -> Guard | None:
        """What keeps the secrets that steps see; None where none does. Raises SpecErrors: all
        secrets and agents that are not there, though a step is to run that needs them."""
        steps = [step for spec in specs.values() for step in own_steps(spec)]
        # what waits for its base may have mounts that are not known yet
        if not any(isinstance(s, CommandStep) and (s.mounts or s.stands_in) for s in steps):
            return None
        from builder.make.guard import Guard, lacking_agents, needs_of

        needs = list(needs_of(specs.values()))
        values, errors = self.secrets.read(needs)
        errors.update(lacking_agents(self.agents, needs))
        if errors:
            try:
                planned = [each for plan in self._plan(specs).values() for each in plan.steps]
            except BuilderError as fault:
                known = {each.what for each in errors.values()}
                if not any(each.what in known for each in each_of(fault)):
                    raise
                running = {need.step for need in errors}  # the value is part of a key: all run
            else:
                running = {
                    each.step.place for each in planned if not isinstance(each.decision, Hit)
                }
            wanted: dict[tuple[bool, str], SpecError] = {}
            for need, error in errors.items():
                if need.step in running:
                    wanted.setdefault((need.ssh, need.name), error)
            if wanted:
                self.agents.close()
                raise SpecErrors(tuple(wanted.values()))
        self._telling.guard = guard = Guard(values, self.secrets, self.agents)
        for name, size in guard.too_short():
            self.emit(Warned(f"secret {name!r} has {size} bytes: too few to be masked or found"))
        return guard

    def _rotated(self, mount: Secret) -> str:
        """See Settings: an HMAC with a key that the store made for itself."""
        from builder.oci.digest import keyed_hex

        if not mount.required and not self.secrets.known(mount.name):
            return ""
        value, store = self.secrets.value(mount.name), self.store
        with store.lock("rotated-secrets"):
            key = store.load("memos", "rotated-secrets")
            if key is None:
                key = os.urandom(32)
                store.save("memos", "rotated-secrets", key)
        return keyed_hex(key, value)

    def _fetcher(self) -> Fetcher:
        """What brings files from servers; connected when the first step asks for one, from any
        thread."""
        with self._choosing:
            if self._fetching is None:
                from builder.transport.fetcher import Fetcher

                options = self.options
                insecure = frozenset(options.insecure_registries)
                self._fetching = Fetcher(
                    self.store, options.environ, insecure, self.emit, self.cancel
                )
            return self._fetching

    def _end_fetching(self) -> None:
        if self._fetching is not None:
            self._fetching.close()
            self._fetching = None

    def become_root(self, specs: Mapping[str, ImageSpec]) -> None:
        """As an ordinary user: enter a user namespace in which command steps can run. Only while
        this process has one thread; where it is not possible, the first command step says why."""
        if os.geteuid() == 0 or self.executor_name == "docker":
            return
        if not any(
            spec.tests or any(isinstance(step, CommandStep) for step in spec.steps)
            for spec in specs.values()
        ):
            return
        self._end_fetching()  # a Dockerfile's ADD may have asked a server: a thread watches that
        from builder.executor.userns import become_root

        try:
            become_root()
        except ExecutorError as error:
            self._executor_fault = error

    def executor(self) -> Executor:
        """What runs command steps; chosen when the first one has to run, from any thread."""
        with self._choosing:
            if self._executor is None:
                if self._executor_fault:
                    raise self._executor_fault
                from builder.executor.choose import choose

                options = self.options
                self._executor = choose(
                    self.executor_name, self.store, self.emit,
                    environ=options.environ, cancel=self.cancel,
                )  # fmt: skip
            return self._executor

    def check_runs(self, platform: Platform) -> None:
        """Raises CannotRun where programs for this platform do not run here; tried once, from any
        thread."""
        if platform.architecture == host_platform().architecture:
            return
        from builder.executor.emulator import emulation, hint_for

        with self._choosing:
            found = self._emulated.get(platform.architecture)
            if found is None:
                found = emulation(platform.architecture, self.store.temporary)
                self._emulated[platform.architecture] = found
        if not found.works:
            raise CannotRun(f"no emulator for {platform}: {found.why}", hint_for(platform))

    def _unlike(self) -> str:
        """See executor.path.unlike. Asked when a command step is planned: it takes time to know."""
        if self._other is None:
            from builder.executor.path import unlike

            self._other = unlike(self.executor_name, self.options.environ)
        return self._other

    def _planner(self) -> Planner:
        options = self.options
        context = Context(self.context, self.store, self.emit, ignore_file=self.options.ignore_file)
        settings = Settings(
            self.platforms[0],
            self.epoch,
            options.codec,
            options.level,
            options.pull,
            self._unlike,
            self.name,
            options.allow_foreign,
            self._rotated,
            self._anew(),
        )
        sources = Sources(
            self.store,
            context.root,
            self.emit,
            self.cancel,
            options.environ,
            options.insecure_registries,
        )
        return Planner(self.layers, context, sources, settings, self._reread, options.environ)

    def _anew(self) -> frozenset[str]:
        """Of load(): the images whose steps are made though they are there."""
        asked = self.images if self.options.no_cache else ()
        return frozenset(name.partition(":")[0] for name in asked)

    def _reread(self, spec: ImageSpec, base: Mapping[str, Any]) -> ImageSpec:
        from builder.spec.load import load_on_base

        given = self._given(spec.target or self.platforms[0])
        found = self._tagged(load_on_base(spec, base, given))
        if self._spread is None:
            return found
        told = found._replace(platform=spec.platform, target=spec.target, task=spec.task)
        return self._spread.pointing(told)

    def _given(self, platform: Platform) -> Inputs:
        """What specs are read with."""
        if self._inputs is None:
            from builder.spec.load import inputs

            options = self.options
            self._inputs = inputs(
                VERBS,
                options.environ,
                options.variables,
                options.vars_files,
                platform,
                _SpecCache(self.store),
                self.file.vars if self.file else {},
                self._of_dockerfiles,
            )
        return self._inputs._replace(platform=platform)


def _results(outcomes: Mapping[Any, Outcome[T]]) -> dict[Any, T]:
    """What the tasks returned. Raises what one failed with; BuildErrors, when others did too."""
    failures = [each.error for each in outcomes.values() if isinstance(each, Failed)]
    for error in failures:
        if not isinstance(error, BuilderError) or isinstance(error, CorruptBlob):
            raise error
    errors = [error for error in failures if isinstance(error, BuilderError)]
    if len(errors) > 1:
        raise BuildErrors(tuple(errors))
    if errors:
        raise errors[0]
    return {name: each.value for name, each in outcomes.items() if isinstance(each, Done)}


class _SpecCache:
    """Checked specs by content, so that an unchanged spec costs no YAML and no Jinja."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, name: str) -> bytes | None:
        return self._store.load("specs", name)

    def save(self, name: str, data: bytes) -> None:
        self._store.remember("specs", name, data)
