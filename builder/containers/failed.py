"""Failed states: what a command step left that failed, kept as a container.

The newest one of an image, MOST in all, none larger than LARGEST. A later success of the image
removes it. Beside what a container has, its folder holds `step.json`: whose it is, and what the
step had mounted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.containers import container as containers
from builder.containers.about import Container, to_bytes
from builder.errors import BuilderError, UsageError
from builder.make.failure import mounts_document, mounts_of, without_values
from builder.oci.image import encode
from builder.store.files import CREATE
from builder.store.trees import tree_size

if TYPE_CHECKING:
    from builder.make.failure import Failure
    from builder.make.guard import Guard
    from builder.plan.mounts import Placed
    from builder.store.store import Store

LARGEST = 2 * 10**9  # bytes on disk
MOST = 5
_PREFIX = "failed-"


class State(NamedTuple):
    container: Container
    project: str  # whose image it is, as names of images have it
    image: str  # what users call it
    mounts: tuple[Placed, ...]
    unset: tuple[str, ...]  # variables that are not kept: env() gave them


def keep(store: Store, guard: Guard | None, failure: Failure, upper: str) -> str:
    """Keep what a step left in the folder `upper`, which is moved; says how to stand there, or why
    that cannot be done."""
    try:
        size = tree_size(store.files, upper)
        if size > LARGEST:
            return f"what it left is not kept: {size / 10**9:.1f} GB, and at most 2 GB are"
        if guard:
            guard.check_folder(upper)
        name = _place(store, failure, upper)
    except BuilderError as error:
        return f"what it left is not kept: {error.what}"
    except OSError as error:
        return f"what it left is not kept: {error.strerror}"
    _remove_others(store, name)
    quoted = f"'{failure.label}'" if " " in failure.label else failure.label
    return f"`builder shell --failed {quoted}` stands where it failed"


def _place(store: Store, failure: Failure, upper: str) -> str:
    """Gives the state's name. Raises OSError, and UsageError where somebody stands in the one that
    it is to replace."""
    name = _name_for(store, failure)
    command, unset = without_values(failure.command)
    made = Container(
        name, failure.label, "", failure.layers, failure.config, command, int(time.time()),
        failure.step,
    )  # fmt: skip
    told = {
        "project": failure.image.project,
        "image": failure.label,
        "mounts": mounts_document(failure.mounts),
        "unset": unset,
    }
    folder = store.temporary(f".{name}")
    try:
        for file, data in (("about.json", to_bytes(made)), ("step.json", encode(told))):
            handle = os.open(os.path.join(folder, file), CREATE | os.O_CLOEXEC, 0o600)
            with open(handle, "wb") as out:
                out.write(data)
        os.rename(upper, os.path.join(folder, "upper"))
        target = os.path.join(store.root, "containers", name)
        if os.path.lexists(target):
            containers.remove(store, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(folder, target)
    except BaseException:
        store.folder.session().discard(folder)
        raise
    return name


def _name_for(store: Store, failure: Failure) -> str:
    """The one of its image, or one that nothing has: another project's image may be called so."""
    wanted = _PREFIX + re.sub(r"[^a-zA-Z0-9_.]+", "-", failure.label).strip("-")[:80]
    taken = {each.name for each in containers.kept(store)}
    for state in states(store):
        if (state.project, state.image) == (failure.image.project, failure.label):
            taken.discard(state.container.name)
    number = 1
    while (name := f"{wanted}-{number}" if number > 1 else wanted) in taken:
        number += 1
    return name


def _remove_others(store: Store, name: str) -> None:
    """Those that are too many, the oldest first; not where somebody stands."""
    others = [each.container for each in states(store) if each.container.name != name]
    others.sort(key=lambda each: -each.created)
    for each in others[MOST - 1 :]:
        with contextlib.suppress(BuilderError):
            containers.remove(store, each.name)


def states(store: Store) -> list[State]:
    """All that are kept."""
    found = (_state(each) for each in containers.kept(store) if each.failed)
    return [each for each in found if each]


def _state(container: Container) -> State | None:
    """None: not understood."""
    try:
        data = containers.read_about(os.path.join(container.folder, "step.json"))
        told: dict[str, Any] = json.loads(data.decode("utf-8", "surrogateescape"))
        return State(
            container,
            str(told["project"]),
            str(told["image"]),
            mounts_of(told["mounts"]),
            tuple(map(str, told["unset"])),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, BuilderError):
        return None


def find(store: Store, project: str, image: str | None) -> State:
    """The failed state of an image of this project, or of the one that failed last. `image` may be
    the name of a state, too. Raises UsageError."""
    every = sorted(states(store), key=lambda each: -each.container.created)
    own = [each for each in every if each.project == project]
    for each in own:
        if image in (None, each.image):
            return each
    for each in every:
        if image == each.container.name:
            return each
    if own:
        others = ", ".join(each.image for each in own)
        raise UsageError(f"no failed state of {image!r} is kept", f"there is one of: {others}")
    of = f"of {image!r}" if image else "of this project"
    raise UsageError(
        f"no failed state {of} is kept",
        "a build keeps one when a command step fails, until the image is built",
    )


def forget(store: Store, project: str, images: Collection[str]) -> None:
    """Remove the failed states of images that have been built."""
    for each in states(store):
        if each.project == project and each.image in images:
            with contextlib.suppress(BuilderError):  # somebody stands there
                containers.remove(store, each.container.name)


def collect(store: Store, max_age: float, *, dry_run: bool) -> list[int]:
    """Remove those in which nobody stood for `max_age` seconds; gives the bytes of each."""
    freed = []
    for status in containers.listed(store):
        found = status.container
        used = float(found.created)
        with contextlib.suppress(OSError):
            used = max(used, os.lstat(os.path.join(found.folder, "lock")).st_mtime)
        if not found.failed or status.process or time.time() - used < max_age:
            continue
        size = tree_size(store.files, found.folder)
        if not dry_run:
            try:
                containers.remove(store, found.name)
            except BuilderError:
                continue  # somebody stands there by now
        freed.append(size)
    return freed
