"""Ctrl-C at any moment of a push or a pull: it ends within two seconds, says one line, and leaves
nothing torn, neither here nor there.

REGISTRY_INTERRUPTS=200 for more rounds than the usual few, REGISTRY_SEED for other moments.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuilderError
from builder.oci import media
from builder.oci.digest import digest_of
from builder.oci.image import Image, Platform
from builder.oci.reference import parse_reference
from builder.store.names import ImageName
from builder.store.store import Store
from builder.transport.registry.push import Push, push_all
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings
from builder.transport.stored import find_manifest, read_images

pytestmark = pytest.mark.needs("docker-registry")

QUICK = Settings(backoff=0.02)
ROUNDS = int(os.environ.get("REGISTRY_INTERRUPTS", "8"))
RANDOM = random.Random(int(os.environ.get("REGISTRY_SEED", "1")))
PROGRESS = re.compile(r" (sent|pulled|mounted), \d+ bytes$|:1: .* sent$|:1: up to date$")
LONGEST = 2.0  # seconds from the signal to the end
# Dead by the signal is what a shell calls 130 as well. Python ends so by itself, whatever main()
# returns, when the signal came within an eval() that a library makes of text (NamedTuple does).
STATUS = (130, -signal.SIGINT)
# the moment is counted from where the interpreter has started: before, nobody of us is there
COMMAND = """
import sys
import builder.errors
from builder.cli import main
print("ready", flush=True)
sys.exit(main())
"""


class Running:
    """`builder ARGUMENTS`, at the beginning of its main()."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def interrupt(self) -> bool:
        """Whether it had done all its work before. Fails when it does not end as it should."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            _, said = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, said = self.process.communicate()
            pytest.fail(f"it did not end: {said}")
        assert time.monotonic() - began < LONGEST
        progress = said.splitlines()
        interrupted = progress[-1:] == ["interrupted"]
        assert all(PROGRESS.search(line) for line in progress[: -1 if interrupted else None]), said
        # a signal that meets the interpreter's own end kills it
        assert self.process.returncode in (STATUS if interrupted else (0, -signal.SIGINT)), said
        return not interrupted


def moments(longest: float) -> Iterator[float]:
    """Half of them while it starts, which takes some tenths of a second."""
    for number in range(ROUNDS):
        yield RANDOM.uniform(0, longest if number % 2 else 0.3)


@pytest.fixture
def named(store: Store, make_image: Callable[..., Image]) -> Image:
    """An image that the store knows as `it`."""
    image = make_image(store, (50, 900_000), (51, 300_000), (52, 10_000))
    store.put(image.config_bytes(), media.CONFIG)
    store.tag(ImageName("it", Platform()), store.put(image.manifest_bytes(), media.MANIFEST))
    return image


def test_a_push_ends_at_any_moment(
    before: Callable[..., Any],
    fault: Callable[..., Any],
    registry: str,
    store: Store,
    named: Image,
) -> None:
    proxy = before(fault("PUT", "/uploads/", times=10**6, hang=0.3))
    for number, moment in enumerate(moments(1.2)):
        if number % 4 == 3:
            proxy.faults[0].hang = 60  # one that waits for an answer
        name = f"interrupted/push{number}:1"
        for entry in store.entries("bases"):  # where to mount from
            store.forget("bases", entry)
        push = ("push", "--cache-dir", store.root, "it", f"{proxy.name}/{name}")
        running = Running(*push)
        time.sleep(moment)
        done = running.interrupt()
        proxy.faults[0].hang = 0.3
        with Registry(QUICK) as session:
            client = session.client(parse_reference(f"{registry}/{name}"))
            there = client.head_manifest("1", client.pull_scope)
            assert there is None or there.digest == digest_of(named.manifest_bytes())
            assert (there is not None) or not done
    assert all(store.read(layer.blob) for layer in named.layers)


def test_a_pull_ends_at_any_moment(
    before: Callable[..., Any],
    fault: Callable[..., Any],
    registry: str,
    store: Store,
    named: Image,
    tmp_path: Path,
) -> None:
    reference = parse_reference(f"{registry}/interrupted/pull:1")
    with Registry(QUICK) as session:
        push_all(session, store, [Push(named, (reference,))])
    proxy = before(fault("GET", "/blobs/", times=10**6, pause=0.05, block=65536))
    name = str(reference._replace(registry=proxy.name))
    for number, moment in enumerate(moments(1.2)):
        root = tmp_path / f"pulled{number}"
        running = Running("pull", "--cache-dir", str(root), "--platform", "linux/amd64", name)
        time.sleep(moment)
        done = running.interrupt()
        for blob in root.glob("blobs/sha256/*"):
            assert digest_of(blob.read_bytes()) == f"sha256:{blob.name}"
        assert not list(root.glob("tmp/*"))
        pulled = Store(str(root))
        try:
            name = reference._replace(registry=proxy.name).familiar
            ((_, image),) = read_images(pulled, find_manifest(pulled, name, None), name)
        except BuilderError:
            assert not done
        else:
            assert all(pulled.has(layer.blob) for layer in image.layers)
        pulled.close()


def test_an_interrupt_wakes_whoever_waits_for_a_socket(
    before: Callable[..., Any], fault: Callable[..., Any], store: Store, named: Image
) -> None:
    """All jobs wait for an answer that does not come; their connections are shut under them."""
    proxy = before(fault("PUT", "/uploads/", times=9, hang=60))
    running = Running("push", "--cache-dir", store.root, "it", f"{proxy.name}/interrupted/waits:1")
    for _ in range(500):
        if proxy.count("PUT", "/uploads/") == 3:
            break
        time.sleep(0.02)
    began = time.monotonic()
    assert not running.interrupt()
    assert time.monotonic() - began < 0.9  # before the patience with threads ends
