"""However a build ends, nothing of it stays in the engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import ExecutorError
from builder.executor.docker import Docker
from builder.executor.docker_session import LABEL, gone, owner

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

BUILDER = [sys.executable, "-m", "builder"]


def ours(engine: Any) -> list[str]:
    """Containers and images in the engine that a builder labelled."""
    wanted = ["--filter", f"label={LABEL}", "--quiet"]
    found: str = (
        engine.docker("ps", "--all", *wanted) + engine.docker("images", "--all", *wanted)
    ).decode()
    return found.split()


def running(engine: Any) -> str:
    found: bytes = engine.docker("ps", "--quiet", "--filter", f"label={LABEL}")
    return found.decode().strip()


def wait_for(condition: Any) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("not within 15 s")


@pytest.fixture
def build(engine: Any, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A build whose step sleeps."""
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/slow.yaml").write_text(
        textwrap.dedent("""
            from: scratch
            steps:
              - {copy: busybox, dest: /bin/sh, mode: "0755"}
              - {copy: busybox, dest: /bin/sleep, mode: "0755"}
              - run: "trap '' INT TERM; touch /x; sleep 4715; sleep 4715"
        """)
    )
    (tmp_path / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    process = subprocess.Popen(
        [*BUILDER, "build", "slow", "--executor", "docker", "--cache-dir", str(tmp_path / "cache")],
        cwd=tmp_path,
        env={**os.environ, "DOCKER_HOST": engine.socket},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        wait_for(lambda: running(engine) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_removes_all(
    number: signal.Signals, status: int, build: Any, engine: Any
) -> None:
    started = time.monotonic()
    build.send_signal(number)
    assert build.wait(20) == status
    assert time.monotonic() - started < 5
    assert ours(engine) == []


def test_the_next_build_removes_what_a_killed_one_left(build: Any, engine: Any, bench: Any) -> None:
    build.kill()
    build.wait()
    assert len(ours(engine)) == 2
    docker = Docker(bench.environ, bench.store, print)
    bench.run("true", docker)
    docker.close()
    assert ours(engine) == []


def test_the_things_of_a_living_builder_stay(build: Any, engine: Any, bench: Any) -> None:
    there = ours(engine)
    docker = Docker(bench.environ, bench.store, print)
    bench.run("true", docker)
    docker.close()
    assert sorted(ours(engine)) == sorted(there) and running(engine)


def test_who_is_gone() -> None:
    host, pid, start, now = owner().split(" ")
    assert not gone(f"{host} {pid} {start} {now}")
    assert gone(f"{host} {pid} {int(start) - 1} {now}")
    assert gone(f"{host} 4194304 {start} {now}")
    assert not gone(f"elsewhere {pid} {start} {now}")
    assert gone(f"elsewhere {pid} {start} {int(now) - 25 * 3600}")
    assert not gone("") and not gone("somebody else's label")


def test_what_was_removed_between_steps_is_sent_again(make_bench: Any, engine: Any) -> None:
    bench = make_bench()
    wanted = bench.run("touch /x")
    engine.docker("image", "prune", "--force")
    assert bench.run("touch /x").entries == wanted.entries


def test_an_engine_that_dies_is_told(make_bench: Any, make_proxy: Any, engine: Any) -> None:
    proxy = make_proxy()
    bench = make_bench(proxy.host)
    bench.run("true")
    threading.Timer(1.5, proxy.cut).start()
    with pytest.raises(ExecutorError, match=r"the Docker engine at tcp://127.0.0.1:\d+|nobody"):
        bench.run("sleep 4716")
    # the engine that it could not reach any more has it still
    for kind, each in zip(("rm", "rmi"), ours(engine), strict=True):
        engine.docker(kind, "--force", each)


def test_a_failed_step_leaves_nothing(engine: Any, tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/bad.yaml").write_text(
        "from: scratch\nsteps:\n  - {copy: busybox, dest: /bin/sh, mode: '0755'}\n  - run: exit 4\n"
    )
    (tmp_path / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    done = subprocess.run(
        [*BUILDER, "build", "--executor", "docker", "--cache-dir", str(tmp_path / "cache")],
        cwd=tmp_path,
        env={**os.environ, "DOCKER_HOST": engine.socket},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "exit status 4" in done.stderr
    assert ours(engine) == [] and os.listdir(tmp_path / "cache/tmp") == []


def test_images_of_others_stay(engine: Any, bench: Any) -> None:
    before = engine.docker("images", "--all", "--quiet", "--no-trunc")
    docker = Docker(bench.environ, bench.store, print)
    bench.run("true", docker)
    docker.close()
    assert engine.docker("images", "--all", "--quiet", "--no-trunc") == before
