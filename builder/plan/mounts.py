"""Mounts in a plan: where each is, and what of it is part of the key of a command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from builder.errors import BuilderError
from builder.plan.config import in_image
from builder.spec.model import shown
from builder.spec.mounting import check_target
from builder.spec.mounts import Bind, Cache, Mount, Secret, Ssh, Tmpfs
from builder.spec.source import quote
from builder.spec.syntax import Malformed

if TYPE_CHECKING:
    from builder.oci.digest import CacheKey
    from builder.plan.changes import Changes
    from builder.plan.origin import SourceImage


class Held(NamedTuple):
    """What a bind shows: the layer of a hidden `copy` to NAME in the root of an empty image."""

    key: CacheKey
    document: bytes | None
    changes: Changes
    is_file: bool


class Placed(NamedTuple):
    """A mount of one command. `target` is absolute, and no symlink of the image is on the way; ""
    for what is seen nowhere. `seed` is what a new cache holds."""

    mount: Mount
    target: str
    held: Held | None = None
    seed: SourceImage | None = None


NAME = "mount"
"""What a hidden `copy` makes."""


def target_of(mount: Mount, working_dir: str) -> str:
    """Absolute, without a slash at its end; "" for what is seen nowhere. Raises BuilderError."""
    match mount:
        case Ssh():
            return ""
        case Secret(target=None, env=None):
            return f"/run/secrets/{mount.name}"
        case Secret(target=None):
            return ""
        case Bind() | Cache() | Secret() | Tmpfs():
            target = cast(str, mount.target)
    path = in_image(target, working_dir).rstrip("/") or "/"
    try:
        check_target(path)
    except Malformed as error:
        raise BuilderError(
            f"the mount {quote(shown(target))} is {path!r}, which {error.what}"
        ) from None
    return path


def documents(mounts: Sequence[Placed]) -> list[list[Any]]:
    """What of them is part of the key: where they are, since nothing that is written there reaches
    a layer, and what binds show."""
    found = []
    for each in mounts:
        mount = each.mount
        said = [type(mount).__name__.lower(), shown(each.target)]
        match mount:
            case Secret(env=str(name)):
                said.append(shown(name))
            case Bind():
                assert each.held is not None
                said.append(each.held.key)
        found.append(said)
    return sorted(found)
