"""Mounts of a step, made ready in the job that runs it."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import BuilderError, StoreError
from builder.executor.base import File, Folder, Memory, Mounted, Value
from builder.executor.mounting import in_order
from builder.executor.syscalls import initial_user_namespace
from builder.layer.entry import DIRECTORY, HARDLINK, Content, HostFile
from builder.layer.write import write_layer
from builder.plan.mounts import NAME, Held, Placed, at
from builder.spec.mounts import Bind, Cache, Secret, Ssh, Tmpfs
from builder.store.files import failure
from builder.store.records import Record, add_blob, load_record, save_document, save_record

if TYPE_CHECKING:
    from builder.executor.base import Command
    from builder.make.guard import Guard
    from builder.make.workshop import Workshop
    from builder.oci.image import Layer, Platform
    from builder.plan.changes import Changes


def mounted(
    shop: Workshop,
    command: Command,
    mounts: tuple[Placed, ...],
    platform: Platform,
    what: str,
    held: ExitStack,
) -> Command:
    """The command with its mounts; what they need is held as long as `held` is."""
    found: list[Mounted] = []
    env: dict[str, str] = {}
    hidden: dict[str, bytes] = {}
    caches = _caches(shop, platform, mounts, what, held)
    for each in mounts:
        match each.mount:
            case Bind():
                assert each.held is not None
                source = _bound(shop, each.held, each.target)
                kind = File if each.held.is_file else Folder
                found.append(kind(each.target, source))
            case Cache(name=name):
                found.append(Folder(each.target, caches[name], writable=True))
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
            case Ssh(name=name, required=required):
                agents = _guard(shop).agents
                if not (required or agents.known(name)):
                    continue
                agent = agents.forwarded(name, command.uid, command.gid)
                found.append(File(each.target, held.enter_context(agent)))
                env["SSH_AUTH_SOCK"] = each.target
    _check_nested(mounts, found)
    return command._replace(mounts=tuple(found), env={**command.env, **env}, hidden=hidden)


def _check_nested(mounts: Iterable[Placed], found: Iterable[Mounted]) -> None:
    """What lies in a folder that is mounted fits what is there. No link is followed: in a cache it
    is hostile, and where it leads nobody looked. Raises SpecError."""
    places = {each.target: each.mount for each in mounts}
    within: list[Mounted] = []  # each in the one before
    for each in in_order(found):
        while within and not each.target.startswith(within[-1].target + "/"):
            within.pop()
        if within:
            with at(places[each.target].place):
                _check_in(within[-1], each)
        within.append(each)


def _check_in(outer: Mounted, inner: Mounted) -> None:
    what = f"nothing can be mounted at {inner.target!r}"
    if isinstance(outer, File | Value):
        raise BuilderError(f"{what}: a file is mounted at {outer.target!r}")
    if isinstance(outer, Memory):
        return
    path, shown = outer.source, outer.target
    *parents, name = inner.target[len(outer.target) + 1 :].split("/")
    for part, last in (*((parent, False) for parent in parents), (name, True)):
        path, shown = f"{path}/{part}", f"{shown}/{part}"
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            if outer.writable:
                return
            raise BuilderError(
                f"{what}: {shown!r} is missing in what is bound at {outer.target!r}",
                "a bind is read-only, and nothing can be made in it: have it there,"
                " or mount both beside each other",
            ) from None
        if stat.S_ISLNK(mode):
            raise BuilderError(f"{what}: {shown!r} is a symlink in what is mounted there")
        directory = not last or isinstance(inner, Folder | Memory)
        if stat.S_ISDIR(mode) != directory:
            is_one = "is no directory" if directory else "is a directory"
            raise BuilderError(f"{what}: {shown!r} {is_one} in what is mounted there")


def _guard(shop: Workshop) -> Guard:
    assert shop.guard is not None  # there is one where steps have mounts
    return shop.guard


def _caches(
    shop: Workshop, platform: Platform, mounts: tuple[Placed, ...], what: str, held: ExitStack
) -> dict[str, str]:
    """The folders of caches by name. They are taken in the order of names, the same for all: no two
    steps wait for each other."""
    found: dict[str, str] = {}
    wanted = [(each.mount, each) for each in mounts if isinstance(each.mount, Cache)]
    for mount, each in sorted(wanted, key=lambda pair: pair[0].name):
        from builder.store.caches import Use

        use = Use(shop.store, mount.name, str(platform), mount.sharing, what)
        copy = held.enter_context(use.held(each.seed and partial(_seeded, each.seed)))
        try:
            os.chown(copy.data, *each.owner)
            os.chmod(copy.data, int(mount.mode or "0755", 8))
        except OSError as error:
            raise failure(error, "give away", copy.data, shop.store.root) from error
        found[mount.name] = copy.data
    return found


def _seeded(seed: Callable[[], Changes], folder: str) -> None:
    """Put what a hidden `copy` makes into a folder."""
    from builder.rootfs.jail import FOLDER, Jail

    jail = Jail(os.open(folder, FOLDER), devices=initial_user_namespace())
    top = NAME.encode() + b"/"
    folders = []
    try:
        for entry, content in seed().sorted():
            if not entry.path.startswith(top):
                continue
            entry = entry._replace(
                path=entry.path.removeprefix(top),
                link=entry.link.removeprefix(top) if entry.type == HARDLINK else entry.link,
            )
            with opened(content) as stream:
                jail.add(entry, stream)
            if entry.type == DIRECTORY:
                folders.append(entry)
        for entry in reversed(folders):
            jail.settle(entry.path, entry)
    finally:
        jail.close()


def opened(content: Content) -> BinaryIO:
    """A file's bytes as a stream; an empty one for what is no file."""
    if content is None or isinstance(content, bytes):
        return io.BytesIO(content or b"")
    return open(content.path, "rb") if isinstance(content, HostFile) else content()


def _bound(shop: Workshop, held: Held, target: str) -> str:
    """The file or folder that a bind shows: a layer, unpacked in the store."""
    with shop.store.lock(f"bind-{held.key}"):
        record = load_record(shop.store, held.key)
        hit = shop.planner.layer_of(record) if record else None
        layer = hit.layer if hit else None
        if layer is None:
            layer = _written(shop, held, target)
    (folder,) = shop.layers.lowers((layer,), privileged=initial_user_namespace())
    return f"{folder}/{NAME}"


def _written(shop: Workshop, held: Held, target: str) -> Layer:
    """It is in no image: not compressed. Raises LayerError for what would hold a secret: the store
    keeps it."""
    began = time.monotonic()
    if held.changes is None:
        raise StoreError(f"what was bound at {target!r} is no longer in the store", "build again")
    changes = _guard(shop).changes(held.changes.sorted(), NAME.encode(), os.fsencode(target))
    written = write_layer(changes, shop.store, "none")
    assert written is not None  # it holds NAME
    add_blob(shop.store, written.layer, written.size, "none")
    if held.document is not None:
        save_document(shop.store, held.key, held.document)
    seconds = round(time.monotonic() - began, 3)
    save_record(shop.store, held.key, Record(written.layer.diff_id, seconds, int(shop.now())))
    return written.layer
