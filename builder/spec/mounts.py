"""Mounts: what a command step sees beside its image, as the spec says it. None reaches a layer.

Targets are as written: a relative one is below the directory that the command runs in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from builder.spec.model import BaseRef, Place


class Bind(NamedTuple):
    """Files of the context or of another image, read-only: matched as `copy` does."""

    place: Place
    target: str
    sources: tuple[str, ...]
    origin: BaseRef | None = None  # None: the context


class Cache(NamedTuple):
    """A folder of the store that outlives the step, by its name and the platform. One whose name
    begins with a dot is a verb's own, which no spec can name: it is there for speed alone, so where
    an executor has no caches the step does without, and each project has its own."""

    place: Place
    target: str
    name: str
    sharing: str = "shared"  # shared | locked | private
    mode: str | None = None  # octal text; None: 0755
    owner: str | None = None  # user[:group]; None: the step's user
    seed: BaseRef | None = None  # what a new one holds; None: nothing


class Secret(NamedTuple):
    """A value that only the step sees, in a file, in a variable or in both."""

    place: Place
    name: str
    target: str | None = None  # None, and no variable: /run/secrets/NAME
    env: str | None = None
    mode: str | None = None  # octal text; None: 0400
    owner: str | None = None  # None: root
    required: bool = True
    rotate: bool = False  # another value is another key


class Ssh(NamedTuple):
    """An agent's socket, which SSH_AUTH_SOCK names."""

    place: Place
    name: str = "default"
    required: bool = True


class Tmpfs(NamedTuple):
    """An empty folder in memory."""

    place: Place
    target: str
    size: int | None = None  # bytes, at most; None: as the kernel has it


Mount = Bind | Cache | Secret | Ssh | Tmpfs
KINDS: dict[str, type[Any]] = {each.__name__: each for each in (Bind, Cache, Secret, Ssh, Tmpfs)}


def is_own(mount: Mount) -> bool:
    return isinstance(mount, Cache) and mount.name.startswith(".")


def origins_of(mounts: Iterable[Mount]) -> tuple[BaseRef, ...]:
    """The images that mounts take files from, in order."""
    found = (origin_of(each) for each in mounts)
    return tuple(each for each in found if each is not None)


def origin_of(mount: Mount) -> BaseRef | None:
    if isinstance(mount, Cache):
        return mount.seed
    return mount.origin if isinstance(mount, Bind) else None


def renamed(mount: Mount, rename: Callable[[BaseRef], BaseRef]) -> Mount:
    """The mount with another name for the image that it takes files from."""
    ref = origin_of(mount)
    if ref is None:
        return mount
    if isinstance(mount, Cache):
        return mount._replace(seed=rename(ref))
    assert isinstance(mount, Bind)
    return mount._replace(origin=rename(ref))
