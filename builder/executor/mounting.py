"""Mounts of a command: their order, and what there has to be in the image to mount them on.

What is missing there is made on a layer that is not the command's, so that it is in no changeset;
what an engine makes in the command's own is known by `missing`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from builder.executor import syscalls
from builder.executor.base import Command, File, Folder, Memory, Mounted, Value
from builder.executor.enter import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY

Resolve = Callable[[bytes], bytes | None]
"""A path with the image's symlinks followed; None: they lead in a circle."""


_ALL = 0o1777  # runc gives a tmpfs the mode of what it is mounted on


class Point(NamedTuple):
    """Where something is mounted, relative to the root."""

    path: bytes
    directory: bool
    mode: int = 0o755  # of what is made there


def in_order(mounts: Iterable[Mounted]) -> list[Mounted]:
    """One that lies in another comes after it."""
    return sorted(mounts, key=lambda each: each.target.split("/"))


def points_of(mounts: Iterable[Mounted]) -> tuple[Point, ...]:
    """Those that are in the image itself, and not in another mount."""
    found: list[Point] = []
    for each in in_order(mounts):
        path = os.fsencode(each.target.strip("/"))
        if not any(path.startswith(other.path + b"/") for other in found):
            mode = _ALL if isinstance(each, Memory) else 0o755
            found.append(Point(path, isinstance(each, Folder | Memory), mode))
    return tuple(found)


def working_dirs(command: Command, below: Resolve) -> list[bytes]:
    """The folders that a command's working directory is and lies in, parents first, as far as they
    are in no mount: where they are missing, they are made in its layer."""
    whole = below(os.fsencode(command.working_dir.strip("/")))
    if not whole:
        return []
    over = {point.path for point in points_of(command.mounts)}
    found: list[bytes] = []
    for path in (*ancestors(whole), whole):
        if path:
            found.append(path)
        if path in over:
            break
    return found


def missing(command: Command, below: Resolve, there: Callable[[bytes], bool]) -> frozenset[bytes]:
    """The paths that are made in an image to mount on: those and their parents that are not
    `there`."""
    points = points_of(command.mounts)
    paths = {path for point in points for path in (*ancestors(point.path), point.path) if path}
    own = working_dirs(command, below) if paths else ()
    return frozenset(path for path in paths.difference(own) if not there(path))


def ancestors(path: bytes) -> Iterator[bytes]:
    """The folders that a path lies in, the root first."""
    parts = path.split(b"/")
    for end in range(len(parts)):
        yield b"/".join(parts[:end])


def in_memory(mounts: Iterable[Mounted], folder: bytes) -> tuple[Mounted, ...]:
    """In a thread with mounts of its own: with values as files on a tmpfs, which ends with the
    thread and what it started."""
    found: list[Mounted] = []
    for number, each in enumerate(mounts):
        if isinstance(each, Value):
            if not os.path.lexists(folder):
                os.mkdir(folder, 0o700)
                flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
                syscalls.mount(b"tmpfs", folder, b"tmpfs", flags, b"mode=700")
            each = _written(each, folder + b"/%d" % number)
        found.append(each)
    return tuple(found)


def _written(value: Value, path: bytes) -> File:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        file.write(value.content)
        os.fchown(handle, value.uid, value.gid)
        os.fchmod(handle, value.mode)
    return File(value.target, os.fsdecode(path))


def mount_plan(mounts: Iterable[Mounted]) -> dict[str, Any]:
    """What enter.py needs to know of them."""
    sources: list[str] = []
    plan: list[tuple[str, bool, int, str]] = []
    for each in in_order(mounts):
        match each:
            case Memory(target, size):
                sources.append("")
                plan.append((target, True, 0, f",size={size}" if size else ""))
            case Folder(target, source, writable):
                sources.append(source)
                plan.append((target, True, 0 if writable else MS_RDONLY, ""))
            case File(target, source, writable):
                sources.append(source)
                plan.append((target, False, 0 if writable else MS_RDONLY, ""))
            case Value():
                raise AssertionError("values are files by now")
    return {"sources": sources, "mounts": plan}
