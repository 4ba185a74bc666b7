"""Sixteen builders on one store, half of them killed."""

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
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

COMMON = """\
from: rootfs:base.tar
steps:
  - {name: tree, copy: tree/, dest: /srv/}
  - {name: slow, run: "sleep 0.3; echo done >/done"}
"""
OWN = """\
from: image:common
steps:
  - {name: own, run: "echo %d >/own; sleep 0.1"}
"""


def test_sixteen_builders_make_each_step_once_and_agree(
    scene: Any, rounds: Callable[[int, int], int], seeded: random.Random, figures: Any
) -> None:
    """Steps that run are counted by `built` in the results and by what the killed ones told; a step
    that nobody was killed in runs once."""
    scene.spec("common", COMMON)
    names = [f"own{number}" for number in range(4)]
    for number, name in enumerate(names):
        scene.spec(name, OWN % number)
    reference = {}
    for name in names:
        done = scene.run("build", name, "--json", "--progress", "quiet")
        reference[name] = json.loads(done.out)["images"][-1]["digest"]
    counts: Counter[str] = Counter()
    longest = 0.0
    for number in range(rounds(3, 200)):
        shutil.rmtree(scene.store)
        kill = number % 3 != 0  # also rounds in which all survive
        wanted = [names[each % 4] for each in range(16)]
        seeded.shuffle(wanted)
        started = [scene.start("build", name, "--json", "--progress", "json") for name in wanted]
        doomed = set(seeded.sample(range(16), 8)) if kill else set()
        for at in sorted(doomed, key=lambda at: seeded.random()):
            time.sleep(seeded.random() * 0.3)
            with contextlib.suppress(ProcessLookupError):
                os.kill(started[at].pid, signal.SIGKILL)
        built: Counter[str] = Counter()
        interrupted: set[str] = set()
        waited = False
        for at, running in enumerate(started):
            done = running.wait(120)
            longest = max(longest, done.seconds)
            if at in doomed and done.status == -signal.SIGKILL:
                counts["killed"] += 1
                told = [json.loads(line) for line in done.err.splitlines() if line.endswith("}")]
                begun = {each["name"] for each in told if each["event"] == "step_started"}
                ended = [each["name"] for each in told if each["event"] == "step_done"]
                interrupted |= begun - set(ended)
                for each in told:
                    # the base is step 0: several may look at it, whoever brought it
                    if each["event"] == "step_done" and each["status"] == "built" and each["step"]:
                        built[f"{each['image']} {each['name']}"] += 1
                continue
            assert done.said_clearly().status == 0, done.err
            counts["survived"] += 1
            document = json.loads(done.out)["images"]
            assert document[-1]["digest"] == reference[wanted[at]]
            for image in document:
                for layer in image["layers"]:
                    built[f"{image['name']} {layer['name']}"] += layer["status"] == "built"
            waited = waited or "waiting for" in done.err
        for step, times in built.items():
            name = step.partition(" ")[2]
            if times:
                assert times == 1 or name in interrupted, (number, built, interrupted)
        if not kill:
            assert built["common slow"] == 1 and waited
        scene.check_published()
        assert scene.build(wanted[0]) == reference[wanted[0]]
        scene.check_at_rest()
    figures(longest_seconds=round(longest, 1), **counts)


def test_a_waiter_says_whom_it_waits_for(scene: Any) -> None:
    scene.spec("slow", 'from: rootfs:base.tar\nsteps:\n- {name: long, run: "sleep 1.5"}\n')
    first = scene.start("build", "slow")
    while not list((scene.store / "locks").glob("step-*")):
        time.sleep(0.01)
    second = scene.run("build", "slow")
    assert first.wait().status == second.status == 0
    assert "waiting for" in second.err
    assert "slow: long" in second.err and f"{first.pid}" in second.err
    assert "built meanwhile by another builder" in second.err
