"""What a build works with."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from builder.events import Emit
from builder.oci.digest import CacheKey
from builder.oci.image import Image, Platform
from builder.plan.planner import Planner
from builder.rootfs.layers import Layers
from builder.store.store import Store
from builder.transport.base import Base

if TYPE_CHECKING:
    from builder.executor.base import Executor
    from builder.make.failure import Failure
    from builder.make.guard import Guard
    from builder.spec.model import ImageSpec
    from builder.transport.fetcher import Fetcher


class BaseTask(NamedTuple):
    """An image that is no spec's, to stand on or to copy from, for one platform."""

    kind: str
    value: str
    options: str  # as JSON
    platform: Platform

    def __str__(self) -> str:
        return f"the base {self.kind}:{self.value}" if self.kind != "registry" else self.value


class Tester(Protocol):
    """What runs the tests of specs (builder.testing.tester)."""

    def test(self, spec: ImageSpec, image: Image) -> Generator[Any, Any, bool]:
        """A part of a task: run the tests of an image. Gives whether all of them have passed; one
        may be left out. Raises BuilderError for one that failed."""
        ...


class Workshop(NamedTuple):
    store: Store
    layers: Layers
    planner: Planner
    executor: Callable[[], Executor]  # made when the first command step misses
    fetcher: Callable[[], Fetcher]  # made when the first step needs a server
    check_runs: Callable[[Platform], None]
    """Raises CannotRun where programs for this platform do not run on this machine."""
    emit: Emit
    bases: dict[BaseTask, Base]  # those that are known without asking or making anything
    made: dict[CacheKey, str]  # what was made in this build, and for which image
    guard: Guard | None = None  # where steps see secrets
    failed: Callable[[Failure, str], str] | None = None
    """Takes a step that failed and the upper directory of what it left, as an executor's `keep`
    does; says what became of it."""
    tester: Callable[[], Tester] | None = None  # made for the first image with tests; None: none
    now: Callable[[], float] = time.time
