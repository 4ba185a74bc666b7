from __future__ import annotations

import io
import lzma
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import pytest

from builder.layer.compress import codec_of
from builder.layer.decompress import open_layer
from builder.work.cancel import Cancel, Cancelled, raise_in
from builder.work.schedule import After, Alone, Done, Failed, NotRun, Outcome, Task, run


def go(
    tasks: dict[Hashable, Callable[[], Task[Any]]], workers: int = 2, **more: Any
) -> dict[Hashable, Outcome[Any]]:
    return run(tasks, workers, Cancel(), **more)


def of(job: Callable[[], Any], *after: str) -> Callable[[], Task[Any]]:
    """A task that waits for others, then does one job."""

    def task() -> Task[Any]:
        for each in after:
            yield After(each)
        return (yield job)

    return task


def nap(seconds: float) -> Callable[[], None]:
    return partial(time.sleep, seconds)


def fail() -> None:
    raise ValueError("no")


def wait_for(cancel: Cancel) -> None:
    while not cancel.is_set():
        time.sleep(0.01)


def test_jobs_run_beside_one_another_and_give_their_results_in_order() -> None:
    def task() -> Task[list[int]]:
        return (yield [lambda: (time.sleep(0.2), 1)[1], lambda: (time.sleep(0.1), 2)[1]])

    started = time.monotonic()
    assert go({"a": task, "b": of(nap(0.2))}, workers=3)["a"] == Done([1, 2])
    assert time.monotonic() - started < 0.35


def test_one_worker_runs_jobs_in_turn() -> None:
    running = []

    def job() -> int:
        running.append(1)
        time.sleep(0.01)
        return running.pop() + len(running)

    def task() -> Task[list[int]]:
        return (yield [job] * 5)

    assert go({"a": task, "b": task}, workers=1) == {"a": Done([1] * 5), "b": Done([1] * 5)}


def test_a_task_decides_in_the_callers_thread_and_its_jobs_do_not() -> None:
    def task() -> Task[tuple[int, int]]:
        there = yield threading.get_ident
        return threading.get_ident(), there

    ((here, there),) = [each.value for each in go({"a": task}).values() if isinstance(each, Done)]
    assert here == threading.get_ident() != there


def test_a_task_gets_what_another_returned_whichever_ended_first() -> None:
    def user() -> Task[str]:
        first = yield After("base")
        yield nap(0.01)
        again = yield After("base")
        return first + again

    assert go({"user": user, "base": of(lambda: "x")})["user"] == Done("xx")


@pytest.mark.parametrize("keep_going", [False, True])
def test_what_waits_for_a_failed_task_is_skipped(keep_going: bool) -> None:
    tasks = {"c": of(fail, "b"), "b": of(lambda: 1, "a"), "a": of(fail)}
    found = go(tasks, keep_going=keep_going)
    assert isinstance(found["a"], Failed)
    assert found["b"] == found["c"] == NotRun("a")


def test_without_keep_going_what_runs_comes_to_its_end_and_nothing_else_begins() -> None:
    begun: list[str] = []

    def two() -> Task[None]:
        yield lambda: (begun.append("first"), time.sleep(0.1))
        yield lambda: begun.append("second")

    def several() -> Task[None]:
        yield [lambda: begun.append("late")] * 3

    found = go({"two": two, "bad": of(lambda: (time.sleep(0.02), fail())), "late": several})
    assert begun == ["first"]
    assert isinstance(found["bad"], Failed)
    assert found["two"] == found["late"] == NotRun("bad")


def test_with_keep_going_the_others_end() -> None:
    found = go({"bad": of(fail), "good": of(lambda: 1), "too": of(fail)}, keep_going=True)
    assert [type(each) for each in found.values()] == [Failed, Done, Failed]


def test_a_jobs_failure_can_be_caught_where_it_was_asked_for() -> None:
    def task() -> Task[str]:
        try:
            yield fail
        except ValueError as error:
            return str(error)
        return ""

    assert go({"a": task}) == {"a": Done("no")}


def test_a_task_without_jobs_starts_no_thread() -> None:
    def task() -> Task[int]:
        assert (yield []) == []
        return threading.active_count()

    assert go({"a": task}) == {"a": Done(threading.active_count())}


def test_a_circle_is_told() -> None:
    with pytest.raises(RuntimeError, match="wait for each other"):
        go({"a": of(fail, "b"), "b": of(fail, "a")})


def test_an_interrupt_cancels_jobs_and_closes_tasks() -> None:
    cancel, closed = Cancel(), []

    def task() -> Task[None]:
        try:
            yield lambda: wait_for(cancel)
        finally:
            closed.append(cancel.is_set())

    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run({"a": task, "b": task}, 2, cancel)
    assert closed == [True, True]
    assert time.monotonic() - started < 1


def test_cancel_ends_what_said_how() -> None:
    cancel, stop, threads = Cancel(), threading.Event(), []
    ended = []

    def wait() -> None:
        try:
            with cancel.ending(stop.set):
                stop.wait(10)
        except Cancelled:
            ended.append(stop.is_set())

    for _ in range(3):
        threads.append(threading.Thread(target=wait))
        threads[-1].start()
    time.sleep(0.05)
    cancel.set()
    for thread in threads:
        thread.join(1)
    assert ended == [True] * 3
    with pytest.raises(Cancelled), cancel.ending(fail):
        raise AssertionError("not reached")


@pytest.mark.parametrize("codec", ["gzip", "zstd", "xz"])
def test_work_that_is_cancelled_is_taken_for_no_fault_of_its_bytes(codec: str) -> None:
    """Codecs have errors of many kinds, and what reads them takes any; this is not theirs."""
    plain = random.Random(1).randbytes(4096) * 50
    data = lzma.compress(plain, preset=0) if codec == "xz" else codec_of(codec).compress(plain)
    ended: list[type[BaseException] | None] = []

    def work() -> None:
        try:
            while True:
                stream = open_layer(io.BytesIO(data), codec)
                while stream.read(64):
                    pass
        except BaseException as error:
            ended.append(type(error))

    for seed in range(100):
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(random.Random(seed).random() / 200)
        assert thread.ident is not None
        raise_in(thread.ident)
        thread.join(5)
    assert ended == [Cancelled] * 100


def test_jobs_of_one_name_take_turns_and_keep_no_worker_from_others() -> None:
    """Random jobs with names: those that share one never overlap, and a job waits only while all
    workers are taken or one of its names is."""
    for seed in range(60):
        chance = random.Random(seed)
        workers = chance.randint(1, 4)
        running: list[frozenset[str]] = []
        lock, most = threading.Lock(), [0]

        def job(
            names: frozenset[str],
            running: list[frozenset[str]] = running,
            lock: threading.Lock = lock,
            most: list[int] = most,
        ) -> None:
            with lock:
                assert all(names.isdisjoint(each) for each in running)
                running.append(names)
                most[0] = max(most[0], len(running))
            time.sleep(0.002)
            with lock:
                running.remove(names)

        tasks: dict[Hashable, Callable[[], Task[Any]]] = {}
        for number in range(12):
            names = frozenset(chance.sample("abc", chance.randint(0, 2)))
            work = partial(job, names)
            tasks[number] = of(Alone(names, work) if names else work)
        outcomes = go(tasks, workers)
        assert all(isinstance(each, Done) for each in outcomes.values()), outcomes
        assert most[0] <= workers
    begun: list[str] = []
    same = Alone(frozenset("x"), lambda: (begun.append("x"), time.sleep(0.3)))
    other = of(lambda: begun.append("other"))
    go({"a": of(same), "b": of(same), "c": other}, 2)
    assert begun == ["x", "other", "x"]


def test_what_ended_is_not_ended_again_and_faults_pass() -> None:
    cancel = Cancel()
    with cancel.ending(fail):
        pass
    with pytest.raises(ValueError, match="no"), cancel.ending(fail):
        fail()
    cancel.set()
    with pytest.raises(Cancelled):
        cancel.check()


def test_random_graphs_run_each_task_once_and_after_what_it_waits_for() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        count = chance.randint(1, 12)
        below = {n: chance.sample(range(n), chance.randint(0, min(n, 3))) for n in range(count)}
        bad = {n for n in range(count) if chance.random() < 0.1}
        ended: list[int] = []

        def work(number: int, bad: set[int] = bad, ended: list[int] = ended) -> int:
            if number in bad:
                fail()
            ended.append(number)
            return number

        def make(number: int, below: dict[int, list[int]] = below, work: Any = work) -> Any:
            def task() -> Task[int]:
                for each in below[number]:
                    assert (yield After(each)) == each
                return (yield partial(work, number))

            return task

        order = list(range(count))
        chance.shuffle(order)
        found = go({n: make(n) for n in order}, chance.randint(1, 4), keep_going=True)
        assert len(set(ended)) == len(ended)
        for number, outcome in found.items():
            lost = isinstance(outcome, NotRun)
            assert isinstance(number, int)
            assert lost == any(not isinstance(found[each], Done) for each in below[number])
            if isinstance(outcome, Done):
                assert all(ended.index(each) < ended.index(number) for each in below[number])
            elif isinstance(outcome, Failed):
                assert number in bad
