"""kill -9 at random points: nothing published is torn, the next run needs no help."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]


def descendants(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                text = Path(f"/proc/{parent}/task/{task}/children").read_text()
                waiting += map(int, text.split())
        found.append(parent)
    return found[1:]


def strike(how: str, running: Any, seeded: random.Random) -> bool:
    """Kill what `how` says. False: there was nothing to kill."""
    with contextlib.suppress(ProcessLookupError):
        if how == "builder":
            os.kill(running.pid, signal.SIGKILL)
        elif how == "group":
            os.killpg(running.pid, signal.SIGKILL)
        else:
            while not (inner := descendants(running.pid)):
                if running.ended:
                    return False
                time.sleep(0.001)
            time.sleep(seeded.random() * 0.03)
            os.kill(seeded.choice(inner), signal.SIGKILL)
        return True
    return False


def content(done: Any) -> list[tuple[str, ...]]:
    """An image's digest, and each layer's name, diff_id and blob."""
    (image,) = json.loads(done.out)["images"]
    layers = [(each["name"], each["diff_id"], each["digest"]) for each in image["layers"]]
    return [(image["digest"],), *layers]


def test_a_killed_build_leaves_nothing_torn_and_the_next_one_needs_no_help(
    scene: Any, rounds: Callable[[int, int], int], seeded: random.Random, figures: Any
) -> None:
    first = scene.run("build", "site", "--json")
    reference = content(first)
    scene.check_at_rest()
    shutil.rmtree(scene.store / "records")
    seconds = {True: first.seconds, False: scene.run("build", "site").seconds}
    counts: Counter[str] = Counter()
    largest = 0
    for number in range(rounds(50, 1000)):
        fresh = number % 3 == 0  # else what the last round left is there, but no record of a step
        if fresh:
            shutil.rmtree(scene.store)
        elif (scene.store / "records").exists():
            shutil.rmtree(scene.store / "records")
        how = ("builder", "group", "sandbox")[seeded.randrange(3)]
        running = scene.start("build", "site")
        if how != "sandbox":
            time.sleep(seeded.random() * seconds[fresh])
        hit = strike(how, running, seeded)
        done = running.wait().said_clearly() if how == "sandbox" else running.wait()
        if how == "sandbox" and done.status:
            assert done.status == 1 and "step '" in done.err, done.err
            assert "error: " in done.err
        counts[how if hit and done.status else "too late"] += 1
        scene.check_published()
        if (scene.store / "tmp").exists():
            left = sum(path.lstat().st_size for path in (scene.store / "tmp").rglob("*"))
            largest = max(largest, left)
            assert len(os.listdir(scene.store / "tmp")) <= 8
        after = scene.run("build", "site", "--json")
        assert after.status == 0 and not after.warnings, after.err
        where = f"round {number}, {how}: {done.err}{after.err}"
        assert content(after) == reference, where
        scene.check_at_rest()
    figures(rounds=sum(counts.values()), killed=dict(counts), largest_leftover=largest)


def test_gc_may_be_killed_and_may_run_beside_builds(
    scene: Any, rounds: Callable[[int, int], int], seeded: random.Random, figures: Any
) -> None:
    reference = scene.build()
    counts: Counter[str] = Counter()
    for number in range(rounds(12, 200)):
        if number % 2:
            shutil.rmtree(scene.store / "records")  # the build has work to do
        build = scene.start("build", "site")
        collectors = []
        for _ in range(2):
            time.sleep(seeded.random() * 0.3)
            collectors.append(scene.start("cache", "gc", "--max-size", "0"))
        victim = seeded.choice(collectors)
        time.sleep(seeded.random() * 0.3)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
        for each in collectors:
            done = each.wait()
            assert done.status in (0, -signal.SIGKILL), done.err
            counts["gc killed" if done.status else "gc done"] += 1
        done = build.wait().said_clearly()
        assert done.status == 0, done.err
        assert done.out.split()[-1] == reference
        scene.check_published()
        assert scene.build() == reference
        scene.check_at_rest()
    figures(**counts)


def test_terminated_builders_leave_nothing(scene: Any, seeded: random.Random) -> None:
    """Ctrl-C and SIGTERM: the builder itself cleans up, within 5 s."""
    scene.spec("slow", "from: rootfs:base.tar\nsteps:\n- run: sleep 60\n")
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        running = scene.start("build", "slow")
        while not descendants(running.pid):
            time.sleep(0.01)
        time.sleep(seeded.random() * 0.2)
        os.kill(running.pid, number)
        done = running.wait(5).said_clearly()
        assert done.status == status, done.err
        scene.check_at_rest()
