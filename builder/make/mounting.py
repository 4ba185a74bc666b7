"""Mounts of a step, made ready in the job that runs it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.errors import BuilderError
from builder.executor.base import File, Folder, Memory, Mounted, Value
from builder.executor.syscalls import initial_user_namespace
from builder.layer.write import write_layer
from builder.plan.mounts import NAME, Held, Placed
from builder.spec.mounts import Bind, Secret, Ssh, Tmpfs
from builder.store.records import Record, add_blob, load_record, save_document, save_record

if TYPE_CHECKING:
    from builder.executor.base import Command
    from builder.make.guard import Guard
    from builder.make.workshop import Workshop
    from builder.oci.image import Layer


def mounted(
    shop: Workshop, command: Command, mounts: tuple[Placed, ...], held: ExitStack
) -> Command:
    """The command with its mounts; what they need is held as long as `held` is."""
    found: list[Mounted] = []
    env: dict[str, str] = {}
    hidden: dict[str, bytes] = {}
    for each in mounts:
        match each.mount:
            case Bind():
                assert each.held is not None
                source = _bound(shop, each.held)
                kind = File if each.held.is_file else Folder
                found.append(kind(each.target, source))
            case Tmpfs(size=size):
                found.append(Memory(each.target, size))
            case Secret() as mount:
                value = _guard(shop).value(mount)
                if value is None:
                    continue
                if mount.env is not None:
                    hidden[mount.env] = value
                if each.target:
                    mode = int(mount.mode or "0400", 8)
                    found.append(Value(each.target, value, mode, *each.owner))
            case Ssh(name=name):
                agent = _guard(shop).agents.forwarded(name, command.uid, command.gid)
                found.append(File(each.target, held.enter_context(agent)))
                env["SSH_AUTH_SOCK"] = each.target
            case _:
                raise BuilderError(
                    f"a mount of the kind {type(each.mount).__name__.lower()!r} cannot be made yet"
                )
    return command._replace(mounts=tuple(found), env={**command.env, **env}, hidden=hidden)


def _guard(shop: Workshop) -> Guard:
    assert shop.guard is not None  # there is one where steps have mounts
    return shop.guard


def _bound(shop: Workshop, held: Held) -> str:
    """The file or folder that a bind shows: a layer, unpacked in the store."""
    with shop.store.lock(f"bind-{held.key}"):
        record = load_record(shop.store, held.key)
        hit = shop.planner.layer_of(record) if record else None
        layer = hit.layer if hit else None
        if layer is None:
            layer = _written(shop, held)
    (folder,) = shop.layers.lowers((layer,), privileged=initial_user_namespace())
    return f"{folder}/{NAME}"


def _written(shop: Workshop, held: Held) -> Layer:
    """It is in no image: not compressed."""
    began = time.monotonic()
    written = write_layer(held.changes.sorted(), shop.store, "none")
    assert written is not None  # it holds NAME
    add_blob(shop.store, written.layer, written.size, "none")
    if held.document is not None:
        save_document(shop.store, held.key, held.document)
    seconds = round(time.monotonic() - began, 3)
    save_record(shop.store, held.key, Record(written.layer.diff_id, seconds, int(shop.now())))
    return written.layer
