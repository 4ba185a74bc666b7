"""What a build works with."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from builder.events import Emit
from builder.oci.image import Image
from builder.plan.planner import Planner
from builder.plan.state import Fetch
from builder.store.store import Store

if TYPE_CHECKING:
    from builder.executor.base import Executor


class Workshop(NamedTuple):
    store: Store
    planner: Planner
    executor: Callable[[], Executor]  # made when the first command step misses
    lowers: Callable[[Image, Fetch], tuple[str, ...]]
    emit: Emit
    now: Callable[[], float] = time.time
