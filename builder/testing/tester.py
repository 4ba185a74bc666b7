"""Tester: runs the tests of the images of one run, as jobs of its schedule."""

from __future__ import annotations

import time
from _thread import allocate_lock
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import BuilderError, BuildErrors, CannotRun, StoreError, TestFailure
from builder.events import Emit, Noted, TestDone, TestStarted
from builder.oci.image import Image, Platform
from builder.spec.tests import PortTest, RunTest, Test
from builder.testing.verdicts import has_passed, keep_verdict

if TYPE_CHECKING:
    from collections.abc import Generator

    from builder.executor.base import Executor
    from builder.look.packages import Packages
    from builder.rootfs.layers import Layers
    from builder.spec.model import ImageSpec

_TOLD = 20  # lines of a failed test's output


class Result(NamedTuple):
    """What came of a test."""

    test: Test
    status: str  # passed | cached | failed | skipped
    seconds: float = 0.0
    why: str = ""  # of a failed or a skipped one; one line
    output: tuple[str, ...] = ()  # the last lines that its command printed


class Tester:
    """`wanted` says which tests are run, `again` that those are which have passed before. What came
    of all is in `results`, by the image."""

    def __init__(
        self,
        layers: Layers,
        executor: Callable[[], Executor],
        check_runs: Callable[[Platform], None],
        emit: Emit,
        wanted: Callable[[Test], bool] = lambda test: True,
        *,
        again: bool = False,
    ) -> None:
        self._layers, self._executor, self._check_runs = layers, executor, check_runs
        self._emit, self._wanted, self._again = emit, wanted, again
        self.results: dict[str, tuple[Result, ...]] = {}
        self._reading = allocate_lock()
        self._packages: dict[tuple[str, ...], Packages] = {}  # of the image that was last asked

    def test(self, spec: ImageSpec, image: Image) -> Generator[Any, Any, bool]:
        """Run the tests of an image, beside one another: a part of a task for a schedule. Gives
        whether all of them have passed, now or before. Raises TestFailure, BuildErrors."""
        store, count = self._layers.store, len(spec.tests)
        results: dict[int, Result] = {}
        todo: list[tuple[int, Test]] = []
        left_out = False
        for number, test in enumerate(spec.tests, 1):
            known = has_passed(store, image, test)
            if not self._wanted(test):
                left_out |= not known
            elif known and not self._again:
                results[number] = Result(test, "cached")
            else:
                todo.append((number, test))
        jobs, away = [], ""
        if any(isinstance(test, RunTest | PortTest) for _, test in todo):
            away = yield partial(self._why_not, image)
        for number, test in todo:
            if away and isinstance(test, RunTest | PortTest):
                results[number] = Result(test, "skipped", why=away)
            else:
                jobs.append(partial(self._run, spec, image, number, count, test))
        if skipped := len(todo) - len(jobs):
            some = "a test" if skipped == 1 else f"{skipped} tests"
            self._emit(Noted(f"{spec.label}: {some} skipped: {away}", spec.label))
        for number, result in results.items():
            self._tell(spec, number, count, result)
        results.update((yield jobs))
        ordered = tuple(results[number] for number in sorted(results))
        self.results[spec.label] = ordered
        failed = [_failure(spec, each) for each in ordered if each.status == "failed"]
        if len(failed) > 1:
            raise BuildErrors(tuple(failed))
        if failed:
            raise failed[0]
        return not left_out

    def _why_not(self, image: Image) -> str:
        """Why programs of the image do not run here; "": they do."""
        try:
            if not self._executor().elsewhere:
                self._check_runs(image.platform)
        except CannotRun as error:
            return error.what
        return ""

    def _run(
        self, spec: ImageSpec, image: Image, number: int, count: int, test: Test
    ) -> tuple[int, Result]:
        self._emit(TestStarted(spec.label, number, count, test.name))
        began = time.monotonic()
        try:
            why, output = self._judge(image, test)
        except StoreError:
            raise
        except BuilderError as error:
            why, output = [error.what + (f" ({error.hint})" if error.hint else "")], ()
        seconds = time.monotonic() - began
        if not why:
            keep_verdict(self._layers.store, image, test)
        status = "failed" if why else "passed"
        result = Result(test, status, seconds, "; ".join(why), output[-_TOLD:] if why else ())
        self._tell(spec, number, count, result)
        return number, result

    def _judge(self, image: Image, test: Test) -> tuple[list[str], tuple[str, ...]]:
        """What does not hold, and what was printed."""
        if isinstance(test, RunTest | PortTest):
            from builder.testing.running import listen, run

            if isinstance(test, RunTest):
                return run(self._layers, self._executor(), image, test)
            return listen(self._layers, self._executor(), image, test)
        from builder.testing.files import look

        installed = partial(self._installed, image)
        return list(look(self._layers, image.layers, installed, test)), ()

    def _installed(self, image: Image) -> Packages:
        """Read once for all tests of an image."""
        from builder.look.packages import find_packages
        from builder.look.tree import Tree

        with self._reading:
            name = tuple(each.diff_id for each in image.layers)
            if name not in self._packages:
                self._packages = {name: find_packages(Tree(self._layers, image.layers))}
            return self._packages[name]

    def _tell(self, spec: ImageSpec, number: int, count: int, result: Result) -> None:
        test, status, seconds, why, output = result
        self._emit(
            TestDone(spec.label, number, count, test.name, status, seconds, why, "\n".join(output))
        )


def _failure(spec: ImageSpec, result: Result) -> TestFailure:
    test = result.test
    return TestFailure(
        f"test {test.name!r} of {spec.label} failed: {result.why}", tail=result.output
    ).at(test.place)
