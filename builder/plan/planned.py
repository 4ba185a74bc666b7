"""Planned: what is known of a step before it is built, and under which settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, assert_never

from builder.oci.digest import CacheKey
from builder.oci.image import Layer, Platform
from builder.plan.nodes import Tree
from builder.plan.step import Step
from builder.spec.model import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.executor.base import Command
    from builder.plan.changes import Changes
    from builder.plan.mounts import Placed
    from builder.plan.remote import Remote
    from builder.spec.mounts import Secret


class Settings(NamedTuple):
    """What holds for a whole run, decided by the command line."""

    platform: Platform
    epoch: int  # SOURCE_DATE_EPOCH, else clock.EPOCH
    codec: str = "gzip"
    level: int | None = None
    pull: str = "missing"  # always | missing | never
    executor: Callable[[], str] = str
    """One whose steps may make other bytes: chroot | docker; else ""."""
    project: str = ""  # whose the names of images are
    allow_foreign: bool = False  # a base's programs may be for another CPU
    rotated: Callable[[Secret], str] = str
    """What stands in a key for the value of a secret. Raises BuilderError."""
    anew: frozenset[str] = (
        frozenset()
    )  # images whose steps are made again, and those of their stages

    def platform_of(self, spec: ImageSpec) -> Platform:
        return spec.platform or self.platform

    @property
    def encoding(self) -> str:
        """How records name blobs of this codec and level."""
        return self.codec if self.level is None else f"{self.codec}:{self.level}"


class Hit(NamedTuple):
    """Its layer is there."""

    layer: Layer | None  # None: an empty layer
    encoded: bool = True  # False: the right layer in another codec, converted when built
    made: int = 0  # seconds since 1970, of one that depends on the day


class BuildFiles(NamedTuple):
    """A layer of these changes has to be made."""

    why: str
    changes: Changes


class BuildRun(NamedTuple):
    """A command has to run."""

    why: str
    command: Command
    mounts: tuple[Placed, ...] = ()


class Fetch(NamedTuple):
    """What the step takes from a server has to come; then it is decided anew."""

    why: str
    remote: Remote


class Unknown(NamedTuple):
    """Something below has to be built before anything can be said."""

    after: str


class NoLayer(NamedTuple):
    """It makes none: what it says is in the config of the steps after it, and the image's."""


Decision = Hit | BuildFiles | BuildRun | Fetch | NoLayer | Unknown


class Planned(NamedTuple):
    """What is known of one step. `key` is None while something below it is not known, and of a
    `copy` whose files are read when its layer is made."""

    number: int  # within the spec, from 1
    name: str
    step: Step
    decision: Decision
    key: CacheKey | None = None
    inputs: str = ""  # a name for all that decides the key, sources told by lstat alone
    document: bytes | None = None  # what the key is the hash of, where it was made and is held
    sources: tuple[Tree, ...] = ()  # what was looked at on the host
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """In a word, for people: hit, build or unknown."""
        match self.decision:
            case Hit():
                return "hit"
            case BuildFiles() | BuildRun() | Fetch():
                return "build"
            case NoLayer():
                return "config"
            case Unknown():
                return "unknown"
            case other:
                assert_never(other)

    @property
    def why(self) -> str:
        match self.decision:
            case Hit(made=made):
                return f"package lists of {day(made)}" if made else "unchanged"
            case BuildFiles(why) | BuildRun(why) | Fetch(why):
                return why
            case NoLayer():
                return "makes no layer"
            case Unknown(after):
                return f"decided after {after}"
            case other:
                assert_never(other)

    @property
    def layer(self) -> Layer | None:
        """Of a hit that is not empty."""
        return self.decision.layer if isinstance(self.decision, Hit) else None

    @property
    def makes_layer(self) -> bool:
        """Whether it is known to give a layer that is not empty."""
        match self.decision:
            case Hit(layer):
                return layer is not None
            case BuildFiles(_, changes):
                return len(changes.rows) > 0
            case BuildRun() | Fetch():  # what it changes is not known beforehand
                return True
            case NoLayer() | Unknown():
                return False
            case other:
                assert_never(other)


def day(seconds: int) -> str:
    """In UTC."""
    import time

    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
