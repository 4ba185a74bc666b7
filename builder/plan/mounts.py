"""Mounts in a plan: where each is, and what of it is part of the key of a command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from builder.errors import BuilderError, LayerError, SpecError
from builder.layer.entry import DIRECTORY, FILE
from builder.plan import keys
from builder.plan.config import in_image
from builder.plan.context import MAY_BE_MISSING, Absent
from builder.rootfs.accounts import resolve_owner
from builder.spec.model import Place, shown
from builder.spec.mounting import check_target
from builder.spec.mounts import Bind, Cache, Mount, Secret, Ssh, Tmpfs
from builder.spec.source import quote
from builder.spec.syntax import Malformed

if TYPE_CHECKING:
    from builder.executor.base import Command
    from builder.oci.digest import CacheKey
    from builder.oci.image import Platform
    from builder.plan.changes import Changes
    from builder.rootfs.view import View


class Held(NamedTuple):
    """What a bind shows: the layer of a hidden `copy` to NAME in the root of an empty image.
    `changes` make it; None: of a step that ran."""

    key: CacheKey
    document: bytes | None
    changes: Changes | None
    is_file: bool


class Placed(NamedTuple):
    """A mount of one command. `target` is absolute, and no symlink of the image is on the way; ""
    for what is seen nowhere. `owner` is of a cache's folder or a secret's file, `seed` gives what a
    new cache holds, below NAME."""

    mount: Mount
    target: str
    owner: tuple[int, int] = (0, 0)
    held: Held | None = None
    seed: Callable[[], Changes] | None = None


NAME = "mount"
"""What a hidden `copy` makes."""
OWN_FILES = (b"etc/resolv.conf", b"etc/hosts")
"""What every step has, whatever the image has there."""
AGENT = "/run/ssh-agent"
"""The socket of an `ssh` mount."""


def place(mounts: Sequence[Mount], command: Command, view: View) -> list[Placed]:
    """Where they are in the image that the command runs on. Raises SpecError, at the mount."""
    found: list[Placed] = []
    for each in mounts:
        with at(each.place):
            target = _target_of(each, command.working_dir)
            if target:
                target = _resolved(target, view)
            if any(target and other.target == target for other in found):
                raise BuilderError(f"two mounts are at {target!r} in the image, expected one")
            owner = (command.uid, command.gid) if isinstance(each, Cache) else (0, 0)
            if isinstance(each, Cache | Secret) and each.owner is not None:
                owner = resolve_owner(each.owner, view)
        found.append(Placed(each, target, owner))
    return found


@contextlib.contextmanager
def at(place: Place) -> Iterator[None]:
    """Have what is wrong with a mount told at its place."""
    try:
        yield
    except BuilderError as error:
        if type(error) in (BuilderError, Absent):
            hint = None if error.hint == MAY_BE_MISSING else error.hint  # a bind has no `optional`
            raise SpecError(error.what, hint).at(place) from None
        raise


def fits(placed: Placed, view: View) -> None:
    """What is there in the image is of the kind that is mounted on it. Raises SpecError."""
    directory = not isinstance(placed.mount, Secret | Ssh) and not (
        placed.held and placed.held.is_file
    )
    with at(placed.mount.place):
        path = os.fsencode(placed.target.lstrip("/"))
        for end in range(1, path.count(b"/") + 1):
            parent = b"/".join(path.split(b"/")[:end])
            found = view.lookup(parent)
            if parent in OWN_FILES or (found is not None and found.entry.type != DIRECTORY):
                raise BuilderError(
                    f"nothing can be mounted at {placed.target!r}:"
                    f" '/{os.fsdecode(parent)}' is no directory in the image"
                )
        if directory and path in OWN_FILES:
            raise BuilderError(f"a folder cannot be mounted at {placed.target!r}, which is a file")
        found = view.lookup(path) if path else None
        if found is None or (found.entry.type == DIRECTORY) == directory:
            return
        if directory:
            raise BuilderError(
                f"a folder cannot be mounted at {placed.target!r}, which is a file in the image",
                "mount it beside the file, or remove the file in a step before",
            )
        raise BuilderError(
            f"a file cannot be mounted at {placed.target!r}, which is a directory in the image",
            f"to have it in there, end the target with '/': {placed.target}/"
            if isinstance(placed.mount, Bind)
            else f"name a file in it, such as {placed.target}/{placed.mount.name}"
            if isinstance(placed.mount, Secret)
            else None,
        )


def _target_of(mount: Mount, working_dir: str) -> str:
    """Absolute, without a slash at its end; "" for what is seen nowhere. Raises BuilderError."""
    match mount:
        case Ssh():
            return AGENT
        case Secret(target=None, env=None):
            return f"/run/secrets/{mount.name}"
        case Secret(target=None):
            return ""
        case Bind() | Cache() | Secret() | Tmpfs():
            target = cast(str, mount.target)
    return _allowed(in_image(target, working_dir).rstrip("/") or "/", target)


def _resolved(target: str, view: View) -> str:
    """With the image's symlinks followed."""
    try:
        path = view.resolve(os.fsencode(target.lstrip("/")), follow_last=True)
    except LayerError:
        raise BuilderError(f"{target!r} leads through symlinks in a circle") from None
    return _allowed("/" + os.fsdecode(path), target)


def _allowed(path: str, target: str) -> str:
    try:
        check_target(path)
    except Malformed as error:
        said = f"{quote(shown(target))} is {path!r}, which " if path != target else f"{path!r} "
        raise BuilderError(f"a mount at {said}{error.what}") from None
    return path


def held(changes: Changes, platform: Platform) -> Held:
    """What a hidden `copy` makes. Raises BuilderError for what cannot be mounted."""
    kind = next(iter(changes.rows))[0].type
    if kind not in (DIRECTORY, FILE):
        raise BuilderError("what is bound is neither a file nor a folder")
    key, document = keys.key_of_changes(changes, platform)
    return Held(key, document, changes, kind == FILE)


def documents(mounts: Sequence[Placed]) -> list[list[Any]]:
    """What of them is part of the key: where they are, since nothing that is written there reaches
    a layer, and what binds show."""
    found = []
    for each in mounts:
        mount = each.mount
        said: list[Any] = [type(mount).__name__.lower(), shown(each.target)]
        match mount:
            case Secret(env=str(name)):
                said.append(shown(name))
            case Bind():
                assert each.held is not None
                said.append(each.held.key)
        found.append(said)
    return sorted(found)
