"""ImageSpec: a spec after rendering and checking, as frozen values.

Values on the path of every build are NamedTuples, not dataclasses: importing `dataclasses` costs
20 ms and each slotted class 0.5 ms, more than the rest of a build in which nothing changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from builder import errors
from builder.oci.image import Platform

if TYPE_CHECKING:
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node
    from builder.spec.tests import Test

Place = errors.Place
MAX_PATH = 4095  # bytes of a path


class FromEnv(str):
    """A text that env() had a part in. `shown` is what may be said of it and kept: digests in the
    places of what templates put out."""

    shown: str

    def __new__(cls, text: str, shown: str) -> FromEnv:
        made = super().__new__(cls, text)
        made.shown = shown
        return made


def shown(text: str) -> str:
    return text.shown if isinstance(text, FromEnv) else text


def holds_env(base: Mapping[str, Any]) -> bool:
    """Whether env() had a part in what a base says."""
    groups = (each.values() if isinstance(each, dict) else (each,) for each in base.values())
    return any(isinstance(value, FromEnv) for group in groups for value in group)


def without_values(message: str, step: Step) -> str:
    """A message about a step, with what may be shown in the places of its texts."""
    for text in _texts((step.name, *step.values())):
        if isinstance(text, FromEnv) and text:
            message = message.replace(text, text.shown)
    return message


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _texts(each)


class BaseRef(NamedTuple):
    """`from:` parsed, of a spec, a stage or a copy. `kind` is scratch, image, stage, dockerfile,
    oci, docker-archive, rootfs, debootstrap, docker-daemon or registry; `value` is what follows the
    colon (a registry reference whole; of a stage the key of its spec). Paths are as written:
    relative to the context."""

    kind: str
    value: str
    place: Place
    options: Mapping[str, Any] = {}  # debootstrap: variant, include (list), mirror
    of_task: str = ""  # ImageSpec.task of its spec

    @property
    def task(self) -> str:
        """What a run calls the image of a spec."""
        return self.of_task or self.value

    @property
    def of_spec(self) -> bool:
        """Whether it is an image of the project: `value` is the key of its spec."""
        return self.kind in ("image", "stage", "dockerfile")

    def __str__(self) -> str:
        if self.kind in ("registry", "scratch"):
            return self.value or self.kind
        if self.kind == "stage":
            return f"stage:{self.value.rpartition(':')[2]}"
        return f"{self.kind}:{self.value}"


class Step:
    """One step of a spec: a named tuple of a verb's own class, whose first fields are `place` and
    `name`. This is what reading a spec needs of it; what it does is asked by plan.step."""

    __slots__ = ()
    verb: str
    """The key of a step that makes it one of these."""
    doc: str
    """What the verb does, a sentence for the schema."""
    kind: str
    """files | run | config: what its layer comes of; config: it has none."""
    stands_in = False
    """Whether it is in another's place, which names a base that is not known yet."""
    origins: tuple[BaseRef, ...] = ()
    """The images that it takes files from."""

    @property
    def place(self) -> Place:
        raise NotImplementedError

    @property
    def name(self) -> str | None:
        raise NotImplementedError

    @classmethod
    def fields(cls) -> Table:
        """The verb's fields, its own under the verb's name."""
        raise NotImplementedError

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Step:
        """The step of the fields that are given. Raises Fault."""
        raise NotImplementedError

    @classmethod
    def waiting(cls, place: Place, name: str, origins: tuple[BaseRef, ...] = ()) -> Step:
        """In the place of such a step while it waits for what the base says: it tells what that one
        will be, and is never made."""
        raise NotImplementedError

    @classmethod
    def suited(cls, table: Table, node: Node) -> Table:
        """The fields of one step, which may depend on which are given."""
        return table

    def within(self, rename: Callable[[BaseRef], BaseRef]) -> Step:
        """The step with other names for the images that it takes files from."""
        return self

    def values(self) -> tuple[Any, ...]:
        """All fields but `place` and `name`."""
        return cast("tuple[Any, ...]", self)[2:]


Verbs = Mapping[str, type[Step]]
"""The verbs of the language by name, in the order in which they are told. Asked for one, it may
import it first: a spec that is known needs those it uses, and no table of fields."""


class Healthcheck(NamedTuple):
    test: tuple[str, ...]
    interval: int = 0  # nanoseconds, as in the config document; 0: inherit
    timeout: int = 0
    start_period: int = 0
    retries: int = 0
    start_interval: int = 0


class ConfigChange(NamedTuple):
    """What the spec says of the image's config; None: what the base says stays."""

    env: Mapping[str, str] = {}
    user: str | None = None
    working_dir: str | None = None
    entrypoint: str | tuple[str, ...] | None = None  # text: for the shell; clears an inherited cmd
    cmd: str | tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    stop_signal: str | None = None
    healthcheck: Healthcheck | None = None
    path: tuple[str, ...] = ()  # folders in front of the PATH there is
    author: str | None = None
    onbuild: tuple[str, ...] = ()  # Dockerfile instructions for images on this one


class Skipped(NamedTuple):
    """A step that is left out. It stands after the first `after` steps of those that are not."""

    place: Place
    name: str
    why: str
    after: int

    @property
    def status(self) -> str:
        return "skipped"


class Folder(NamedTuple):
    """A spec's own context, below the project's."""

    path: str
    place: Place


class ImageSpec(NamedTuple):
    name: str
    file: str  # the spec's path as the user would name it
    base: BaseRef
    steps: tuple[Step, ...]
    config: ConfigChange = ConfigChange()
    tags: tuple[str, ...] = ()
    platform: Platform | None = None  # None: what the run is for
    variables: Mapping[str, Any] = {}  # in force, as they may be shown; for `why`
    environment: Mapping[str, str | None] = {}  # what env('NAME') was asked for; part of the keys
    waits: bool = False  # for its base, which templates name; what they stand in is not yet right
    key: str = ""  # what `image:` and the command line call it
    skipped: tuple[Skipped, ...] = ()  # steps that `when` left out
    left_out: str | None = None  # why its own `when` leaves it out; it has no steps then
    row: int | None = None  # of the file's matrix, from 0
    axes: tuple[str, ...] = ()  # variables that the matrix gives
    parts: tuple[str, ...] = ()  # files that it extends and includes
    stages: tuple[ImageSpec, ...] = ()  # its own; those that nothing uses, too
    stage: str = ""  # what it is called in the image whose stage it is
    context: Folder | None = None  # what its steps take files from; None: the project's
    platforms: tuple[Platform, ...] = ()  # what it says it is built for, sorted
    target: Platform | None = None  # what it was read for, where a run is for others too
    task: str = ""  # what a run calls it that builds it for several; "": its key
    tests: tuple[Test, ...] = ()

    @property
    def label(self) -> str:
        """What users are told that it is: with the platform, where a run has it for several."""
        return f"{self.name} ({self.target})" if self.task else self.name

    @property
    def place(self) -> Place:
        """Where it begins: the file, or the body of a stage."""
        return self.base.place if self.stage else Place(self.file, 1, 1)

    @property
    def refs(self) -> tuple[BaseRef, ...]:
        """The images that it is made of: its base, and those that it takes files from."""
        return (self.base, *(ref for step in self.steps for ref in step.origins))
