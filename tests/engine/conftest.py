"""A private engine, a store with a small image of busybox, and steps run on both sides."""

from __future__ import annotations

import importlib.util
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from builder.events import Event, Warned
from builder.executor.base import Command, Executor, Parent
from builder.executor.changes import Tree, changeset
from builder.executor.docker import Docker
from builder.executor.merged import Merged
from builder.executor.sandbox import Sandbox
from builder.layer.entry import Entry
from builder.layer.write import write_layer
from builder.oci.image import Layer, empty_image, host_platform
from builder.rootfs.layers import Layers
from builder.rootfs.table import make_table
from builder.store.store import Store

EPOCH = 315532800
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _module(name: str) -> Any:
    path = Path(__file__).parents[1] / name
    spec = importlib.util.spec_from_file_location(f"shared_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_engine = _module("dockerd.py")
_registries = _module("registry/conftest.py")
start_registry, registry = _registries.start_registry, _registries.registry
Proxy = _module("engine/proxy.py").Proxy

# what Docker cannot: its mounted files cannot be removed
LIMITS = ("the sandbox's files",)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`step` is each step of the executors' table."""
    if "step" in metafunc.fixturenames:
        table = _module("executor/test_executor_changes.py").STEPS
        steps = {name: text for name, (text, _) in table.items() if name not in LIMITS}
        metafunc.parametrize("step", list(steps.values()), ids=list(steps))


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """One for each file: what is in an engine, and what is left in it, is what they test."""
    with _engine.running_engine() as started:
        yield started


class Run(NamedTuple):
    layer: Layer | None
    entries: list[Entry]
    output: bytes


class Bench:
    """A store, an image of busybox in it, and an engine."""

    def __init__(self, folder: Path, socket: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.socket = folder, socket
        self.environ = {"DOCKER_HOST": socket}
        self.warnings: list[str] = []
        self.store = Store(str(folder / "store"), self._take)
        self.image = empty_image(host_platform())
        self.docker = Docker(self.environ, self.store, self.warnings.append)

    def _take(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.text)

    def add_folder(self, root: Path) -> None:
        """Put a layer with everything in `root` on top."""
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        tree = Tree(os.fsencode(root))
        below = Merged([os.fsencode(empty)])
        self.add(list(changeset(tree, below, EPOCH, etc=b"none")))
        tree.close()

    def add(self, changes: Any) -> Layer:
        entries: list[Entry] = []
        written = write_layer(changes, self.store, seen=entries.append)
        assert written is not None
        make_table(self.store, written.layer.diff_id, entries, {})
        self.image = self.image.append(written.layer, {"created_by": "test"})
        return written.layer

    def parent(self) -> Parent:
        return Parent(self.image, Layers(self.store))

    def embedded(self) -> Executor:
        return Sandbox(self.store.temporary, self.warnings.append)

    def run(
        self, text: str | tuple[str, ...], executor: Executor | None = None, **changes: Any
    ) -> Run:
        argv = text if isinstance(text, tuple) else ("sh", "-ec", text)
        env = {"PATH": PATH, "HOME": "/root", "SOURCE_DATE_EPOCH": str(EPOCH)}
        command = Command(argv, env, 0, 0, (), "/", "none")._replace(**changes)
        said: list[bytes] = []
        entries: list[Entry] = []
        executor = executor or self.docker
        with executor.run(command, self.parent(), said.append, EPOCH) as found:
            written = write_layer(found, self.store, seen=entries.append)
        if written:
            make_table(self.store, written.layer.diff_id, entries, {})
        return Run(written.layer if written else None, entries, b"".join(said))


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = _module("executor/conftest.py").make_rootfs(
        tmp_path_factory.mktemp("image") / "root"
    )
    return made


@pytest.fixture(scope="module")
def bench(engine: Any, rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("bench"), engine.socket)
    made.add_folder(rootfs)
    yield made
    made.docker.close()


@pytest.fixture
def make_bench(engine: Any, rootfs: Path, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """make_bench(): one of one's own. make_bench(host): with its engine there."""
    made: list[Bench] = []

    def make(host: str = "") -> Bench:
        bench = Bench(tmp_path / f"bench{len(made)}", host or engine.socket)
        bench.add_folder(rootfs)
        made.append(bench)
        return bench

    yield make
    for each in made:
        each.docker.close()


@pytest.fixture
def make_proxy(engine: Any) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(tls: ssl.SSLContext | None = None) -> Any:
        made.append(Proxy(engine.socket, tls))
        return made[-1]

    yield make
    for each in made:
        each.cut()
