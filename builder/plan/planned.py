"""Planned: what is known of a step before it is built, and under which settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from builder.oci.digest import CacheKey
from builder.oci.image import Layer, Platform
from builder.plan.nodes import Tree
from builder.spec.model import Run, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.executor.base import Command
    from builder.plan.changes import Changes


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

    @property
    def encoding(self) -> str:
        """How records name blobs of this codec and level."""
        return self.codec if self.level is None else f"{self.codec}:{self.level}"


class Planned(NamedTuple):
    """What is known of one step. `key` is None while something below it is not known, and of a
    `copy` whose files are read when its layer is made."""

    number: int  # within the spec, from 1
    name: str
    step: Step
    status: str  # hit | build | unknown
    why: str
    key: CacheKey | None = None
    layer: Layer | None = None  # of a hit; None: an empty layer
    encoded: bool = True  # the hit's blob is in the codec and level that are wanted
    inputs: str = ""  # a name for all that decides the key, sources told by lstat alone
    document: bytes | None = None  # what the key is the hash of, where it was made and is held
    make: Changes | Command | None = None  # of a build
    sources: tuple[Tree, ...] = ()  # what was looked at on the host
    notes: tuple[str, ...] = ()

    @property
    def makes_layer(self) -> bool:
        """Whether it is known to give a layer that is not empty."""
        if self.status != "build":
            return self.layer is not None
        # what a command changes is not known beforehand
        return isinstance(self.step, Run) or len(cast("Changes", self.make)) > 0


class Hit(NamedTuple):
    layer: Layer | None
    encoded: bool = True  # False: the right layer in another codec, converted when built
