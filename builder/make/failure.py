"""Failure: what is known of a command step that failed, so that one can stand where it did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from builder.errors import Place, StoreError
from builder.executor.base import Command
from builder.oci.digest import CacheKey
from builder.oci.image import Document, Layer
from builder.plan.mounts import Held, Placed
from builder.spec.model import FromEnv, shown
from builder.spec.mounts import Bind, Cache, Mount, Secret, Ssh, Tmpfs
from builder.store.names import ImageName

_NOWHERE = Place("", 0, 0)


class Failure(NamedTuple):
    image: ImageName
    label: str  # what users call the image
    number: int  # of the step, from 1
    step: str  # its name
    layers: tuple[Layer, ...]  # what it stood on, bottom first
    config: Document  # what it ran under
    command: Command  # without its mounts
    mounts: tuple[Placed, ...]


def without_values(command: Command) -> tuple[Command, tuple[str, ...]]:
    """The command as it may be kept, and which variables are not in it: what env() gave is not
    written to a disk."""
    hidden = [name for name, value in command.env.items() if isinstance(value, FromEnv)]
    env = {name: value for name, value in command.env.items() if name not in hidden}
    argv = tuple(map(shown, command.argv))
    return command._replace(argv=argv, env=env, mounts=(), hidden={}), tuple(hidden)


def mounts_document(mounts: Iterable[Placed]) -> list[dict[str, Any]]:
    """Mounts as they may be kept, for `mounts_of`."""
    return [
        {
            "kind": type(each.mount).__name__,
            "mount": _told(each.mount),
            "target": each.target,
            "owner": list(each.owner),
            "held": [each.held.key, each.held.is_file] if each.held else None,
        }
        for each in mounts
    ]


def _told(mount: Mount) -> dict[str, Any]:
    fields: tuple[str, ...]
    match mount:
        case Bind():
            fields = ("target",)
        case Cache():
            fields = ("target", "name", "sharing", "mode")
        case Secret():
            fields = ("name", "target", "env", "mode")
        case Ssh():
            fields = ("name",)
        case Tmpfs():
            fields = ("target", "size")
    return {name: getattr(mount, name) for name in fields}


def mounts_of(documents: Iterable[Mapping[str, Any]]) -> tuple[Placed, ...]:
    """Mounts that were kept: what binds showed, if the store still has it; caches; memory that is
    empty; secrets and agents, if they are given. Raises StoreError."""
    try:
        return tuple(map(_placed, documents))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise StoreError("what the failed step had mounted is not understood") from error


def _placed(document: Mapping[str, Any]) -> Placed:
    told, held = document["mount"], document["held"]
    mount: Mount
    match document["kind"]:
        case "Bind":
            mount = Bind(_NOWHERE, told["target"], ())
        case "Cache":
            mount = Cache(_NOWHERE, **told)
        case "Secret":
            mount = Secret(_NOWHERE, **told, required=False)
        case "Ssh":
            mount = Ssh(_NOWHERE, **told, required=False)
        case "Tmpfs":
            mount = Tmpfs(_NOWHERE, **told)
        case other:
            raise ValueError(other)
    uid, gid = document["owner"]
    kept = Held(CacheKey(held[0]), None, None, held[1]) if held else None
    return Placed(mount, document["target"], (uid, gid), kept)
