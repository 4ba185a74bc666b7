"""Schedule: tasks that take turns in one thread, and their jobs in a few others.

A task is a generator. What it decides, it decides in the caller's thread, so tasks share what they
like without locks. What takes long it yields: a job, several at once, or another task's name. It
is resumed with the job's result, the list of results, or what the other task returned.

    def image(name):
        base, pages = yield [pull_base, hash_pages]     # side by side, in other threads
        built = yield After("tools")                    # what another task returns
        return (yield partial(pack, base, pages, built))
"""

from __future__ import annotations

import contextlib
import threading
import time
from _queue import Empty, SimpleQueue  # queue imports more than a build with nothing to do needs
from collections import deque
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from builder.work.cancel import Cancel, Cancelled, raise_in

T = TypeVar("T")
Name = TypeVar("Name", bound=Hashable)
Job = Callable[[], Any]


class After(NamedTuple):
    """What a task yields to wait for another one; it may have ended already."""

    task: Hashable


class Alone(NamedTuple):
    """A job that waits while another one with one of its names runs, and takes no worker then."""

    names: frozenset[Hashable]
    job: Job

    def __call__(self) -> Any:
        return self.job()


Task = Generator[Job | Sequence[Job] | After, Any, T]

PATIENCE = 1.5
"""Seconds for jobs that are cancelled to undo what they began; what still hangs in the system ends
with the process, as its threads are daemons."""
_TICK = 0.1  # seconds: a signal that comes just before a thread goes to sleep for good wakes nobody


class Failed(NamedTuple):
    """A task that raised `error`."""

    error: BaseException


class NotRun(NamedTuple):
    """A task that was not run to its end: the task `because` failed, before it or beside it."""

    because: Hashable


class Done(NamedTuple, Generic[T]):
    value: T


Outcome = Done[T] | Failed | NotRun


def run(
    tasks: Mapping[Name, Callable[[], Task[T]]],
    workers: int,
    cancel: Cancel,
    *,
    keep_going: bool = False,
) -> dict[Name, Outcome[T]]:
    """Run tasks to their ends, at most `workers` jobs at a time; they begin in their order.

    When one fails, those that wait for it are skipped. The others go on with `keep_going`; without
    it, jobs that run come to their ends, as with make, and nothing else begins. A single worker
    runs its jobs in turn. KeyboardInterrupt sets `cancel`, is Cancelled in the jobs, gives them
    PATIENCE to end, and goes on. Tasks that wait for each other in a circle are the caller's
    mistake: RuntimeError.
    """
    outcomes = _Schedule(tasks, workers, cancel, keep_going).run()
    return {name: outcomes[name] for name in tasks}


class _Schedule(Generic[T]):
    def __init__(
        self,
        tasks: Mapping[Any, Callable[[], Task[T]]],
        workers: int,
        cancel: Cancel,
        keep_going: bool,
    ) -> None:
        self._tasks: dict[Hashable, Task[T]] = {name: make() for name, make in tasks.items()}
        self._workers, self._cancel, self._keep_going = max(1, workers), cancel, keep_going
        self._outcomes: dict[Hashable, Outcome[T]] = {}
        self._ready: deque[tuple[Hashable, Any, BaseException | None]] = deque(
            (name, None, None) for name in tasks
        )
        self._waiting: dict[Hashable, list[Hashable]] = {}  # task -> those that wait for it
        self._left: dict[Hashable, int] = {}  # jobs of a task that have not ended
        self._results: dict[Hashable, list[Any]] = {}
        self._several: set[Hashable] = set()
        self._todo: deque[tuple[Hashable, int, Job]] = deque()
        self._begun: SimpleQueue[tuple[Hashable, int, Job] | None] = SimpleQueue()
        self._ended: SimpleQueue[tuple[Hashable, int, Any, BaseException | None]] = SimpleQueue()
        self._running = 0  # jobs that a thread has
        self._held: dict[tuple[Hashable, int], frozenset[Hashable]] = {}  # names of those, by job
        self._threads: list[threading.Thread] = []
        self._first: Hashable = None  # the first task that failed
        self._draining = False

    def run(self) -> dict[Hashable, Outcome[T]]:
        try:
            while self._ready or self._todo or self._running:
                while self._ready:
                    self._turn(*self._ready.popleft())
                while self._running < self._workers and (job := self._next()):
                    self._begin(job)
                if self._running:
                    self._take()
        except BaseException:
            self._cancel.set()
            for thread in self._threads:
                if thread.ident is not None and thread.is_alive():
                    raise_in(thread.ident)
            self._end(PATIENCE)
            raise
        self._end(None)
        if stuck := [name for name in self._tasks if name not in self._outcomes]:
            if not self._draining:
                raise RuntimeError(f"tasks wait for each other: {stuck}")
            for name in stuck:
                self._finish(name, NotRun(self._first))
        return self._outcomes

    def _turn(self, name: Hashable, value: Any, error: BaseException | None) -> None:
        """Resume a task; hand out what it yields."""
        if name in self._outcomes:
            return
        task = self._tasks[name]
        try:
            wanted = task.throw(error) if error is not None else task.send(value)
        except StopIteration as end:
            self._finish(name, Done(end.value))
            return
        except Exception as failure:
            if self._first is None:
                self._first = name
            self._finish(name, Failed(failure))
            if not self._keep_going:
                self._draining = True
                for waiting in dict.fromkeys(job[0] for job in self._todo):
                    self._finish(waiting, NotRun(name))
                self._todo.clear()
            return
        if isinstance(wanted, After):
            outcome = self._outcomes.get(wanted.task)
            if outcome is None:
                self._waiting.setdefault(wanted.task, []).append(name)
            elif isinstance(outcome, Done):
                self._ready.append((name, outcome.value, None))
            else:
                self._finish(name, _skipped(wanted.task, outcome))
        elif self._draining:
            self._finish(name, NotRun(self._first))
        else:
            self._hand_out(name, wanted)

    def _hand_out(self, name: Hashable, wanted: Job | Sequence[Job]) -> None:
        jobs = [wanted] if callable(wanted) else list(wanted)
        if not callable(wanted):
            self._several.add(name)
        if not jobs:
            self._several.discard(name)
            self._ready.append((name, [], None))
            return
        self._left[name] = len(jobs)
        self._results[name] = [None] * len(jobs)
        self._todo += [(name, number, job) for number, job in enumerate(jobs)]

    def _next(self) -> tuple[Hashable, int, Job] | None:
        """The first job that may begin, taken out of those to do."""
        held = frozenset().union(*self._held.values())
        for at, (name, number, job) in enumerate(self._todo):
            names = job.names if isinstance(job, Alone) else frozenset()
            if held.isdisjoint(names):
                if names:
                    self._held[name, number] = names
                del self._todo[at]
                return name, number, job
        return None

    def _begin(self, job: tuple[Hashable, int, Job]) -> None:
        self._running += 1
        self._begun.put(job)
        if len(self._threads) < self._running:
            thread = threading.Thread(target=self._work, name="worker", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        with contextlib.suppress(Cancelled):  # between two jobs
            while (given := self._begun.get()) is not None:
                name, number, job = given
                try:
                    result, failure = job(), None
                except BaseException as error:
                    result, failure = None, error
                self._ended.put((name, number, result, failure))
                del job, result, failure, given

    def _take(self) -> None:
        try:
            name, number, result, error = self._ended.get(timeout=_TICK)
        except Empty:
            return
        self._running -= 1
        self._held.pop((name, number), None)
        if name in self._outcomes:
            return
        self._left[name] -= 1
        self._results[name][number] = result if error is None else error
        if error is not None:  # no use to begin the others of its list
            begun = [job for job in self._todo if job[0] != name]
            self._left[name] -= len(self._todo) - len(begun)
            self._todo = deque(begun)
        if self._left[name]:
            return
        results = self._results.pop(name)
        several = name in self._several
        self._several.discard(name)
        failure = next((each for each in results if isinstance(each, BaseException)), None)
        self._ready.append((name, results if several else results[0], failure))

    def _finish(self, name: Hashable, outcome: Outcome[T]) -> None:
        self._outcomes[name] = outcome
        self._tasks[name].close()
        for waiting in self._waiting.pop(name, ()):
            if isinstance(outcome, Done):
                self._ready.append((waiting, outcome.value, None))
            else:
                self._finish(waiting, _skipped(name, outcome))

    def _end(self, patience: float | None) -> None:
        """Let the threads go; those that do not end within `patience` seconds are left alone."""
        for _ in self._threads:
            self._begun.put(None)
        deadline = None if patience is None else time.monotonic() + patience
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        for task in self._tasks.values():
            task.close()


def _skipped(task: Hashable, outcome: Failed | NotRun) -> NotRun:
    return NotRun(task if isinstance(outcome, Failed) else outcome.because)
