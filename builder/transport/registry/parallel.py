"""Parallel: a few threads over a list of tasks; the first failure or Ctrl-C stops all."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from builder.transport.registry.network import Network, Stopped

T = TypeVar("T")
_PATIENCE = 2.0  # seconds for the others to notice; what still hangs in a socket dies with us


def run_all(tasks: Sequence[Callable[[], T]], jobs: int, network: Network) -> list[T]:
    """The results in the order of `tasks`. On a failure `network` is stopped for good, so that no
    request begins any more; then the failure is raised. Daemon threads: a socket that hangs for
    its timeout does not keep an interrupted process alive."""
    if len(tasks) == 1 or jobs <= 1:
        return [task() for task in tasks]
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

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(tasks)))]
    try:
        for thread in threads:
            thread.start()
        failure: BaseException | None = None
        for _ in threads:
            error = ended.get()
            if error is not None and failure is None:
                failure = error
                network.stopped.set()
                break
        if failure is not None:
            raise failure
    except BaseException:
        network.stopped.set()
        deadline = time.monotonic() + _PATIENCE
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        raise
    return [results[number] for number in range(len(tasks))]
