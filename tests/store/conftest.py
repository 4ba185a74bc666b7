"""A store in a fresh folder, what it warned of, and files whose Nth call fails."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.events import Event
from builder.store.files import Files
from builder.store.store import Store


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def store(tmp_path: Path, events: list[Event]) -> Store:
    return Store(str(tmp_path / "store"), events.append)


@pytest.fixture
def fast_path(tmp_path: Path) -> Iterator[Path]:
    """A folder on tmpfs, where there is one: thousands of rounds without waiting for a disk."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


class FaultyFiles(Files):
    """Call number `at`, counted from 1, raises `error`; a close closes first, as the kernel's."""

    def __init__(self, at: int, error: Callable[[], BaseException]) -> None:
        self.at, self.error, self.count = at, error, 0


def _failing(name: str) -> Callable[..., Any]:
    real = getattr(Files, name)

    def call(self: FaultyFiles, *args: Any) -> Any:
        self.count += 1
        if self.count == self.at:
            if name == "close":
                real(self, *args)
            raise self.error()
        return real(self, *args)

    return call


for _name in [name for name in vars(Files) if not name.startswith("_")]:
    setattr(FaultyFiles, _name, _failing(_name))


@pytest.fixture
def faulty() -> type[FaultyFiles]:
    return FaultyFiles
