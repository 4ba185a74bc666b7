"""Parallel: a few threads over a list of tasks; the first failure or Ctrl-C stops all."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from builder.transport.registry.network import Network, Stopped

T = TypeVar("T")
_PATIENCE = 1.0  # seconds for the others to notice; what still hangs in the system dies with us
_TICK = 0.1  # seconds


def run_all(tasks: Sequence[Callable[[], T]], jobs: int, network: Network) -> list[T]:
    """The results in the order of `tasks`. On a failure while others still work `network` is
    stopped for good, so that no request begins any more; then the failure is raised.

    Also a single task has a thread of its own, a daemon: the main thread stays free for Ctrl-C
    whatever the others wait for (a name server cannot be interrupted), and looks up ten times a
    second: a signal that comes just before a thread goes to sleep for good does not wake it.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    results: dict[int, T] = {}
    for number in range(len(tasks)):
        waiting.put(number)

    def work() -> None:
        try:
            while not network.stopped.is_set():
                number = waiting.get_nowait()
                results[number] = tasks[number]()
        except queue.Empty:
            ended.put(None)
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(Stopped("stopped"))

    count = min(max(jobs, 1), len(tasks))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    left = len(threads)
    try:
        for thread in threads:
            thread.start()
        while left:
            try:
                error = ended.get(timeout=_TICK)
            except queue.Empty:
                continue
            left -= 1
            if error is not None:
                raise error
    except BaseException:
        if left:
            network.stopped.set()
            deadline = time.monotonic() + _PATIENCE
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))
        raise
    return [results[number] for number in range(len(tasks))]
