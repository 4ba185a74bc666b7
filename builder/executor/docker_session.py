"""What one builder has in an engine: labelled with who owns it, so that the next builder finds and
removes what a killed one left."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from builder.errors import TransportError
from builder.oci.digest import hex_of

if TYPE_CHECKING:
    from builder.transport.engine import Engine

LABEL = "builder.owner"
_STALE = (
    24 * 3600
)  # seconds after which the things of an owner that cannot be looked up are removed


def owner() -> str:
    """This process, as others can look it up: host, pid namespace, pid, start, and the time."""
    return f"{_host()} {os.getpid()} {_start(os.getpid())} {int(time.time())}"


def gone(label: str) -> bool:
    """Whether the process of an owner's label has ended. Of another machine's only the age says."""
    try:
        host, pid, start, then = label.split(" ")
        if host == _host():
            return _start(int(pid)) != start
        return time.time() - int(then) > _STALE
    except ValueError:
        return False  # not written by us


def sweep(engine: Engine, mine: str | None = None) -> None:
    """Remove containers, volumes and images of owners that are gone, and those of the owner `mine`.

    What cannot be removed now (in use, removed meanwhile) is left to the next sweep.
    """
    api = engine.api
    with engine.asking():
        containers = api.containers(all=True, filters={"label": LABEL})
    for found in containers:
        label = (found.get("Labels") or {}).get(LABEL, "")
        if label == mine or gone(label):
            with contextlib.suppress(TransportError), engine.asking():
                api.remove_container(found["Id"], force=True, v=True)
    with engine.asking():
        volumes = api.volumes(filters={"label": LABEL}).get("Volumes") or ()
    for found in volumes:
        label = (found.get("Labels") or {}).get(LABEL, "")
        if label == mine or gone(label):
            with contextlib.suppress(TransportError), engine.asking():
                api.remove_volume(found["Name"])
    with engine.asking():
        images = api.images(all=True, filters={"label": LABEL})
    # an image that was made from another one has to go first
    for found in sorted(images, key=lambda image: -image.get("Created", 0)):
        label = (found.get("Labels") or {}).get(LABEL, "")
        if label == mine or gone(label):
            with contextlib.suppress(TransportError), engine.asking():
                api.remove_image(found["Id"], force=True, noprune=True)


def _host() -> str:
    """The same for processes that see each other's pids, until the machine is started again."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        boot = file.read().strip()
    return hex_of(boot + os.readlink(b"/proc/self/ns/pid"))[:16]


def _start(pid: int) -> str:
    """When a process was started, in clock ticks since the machine was; "" when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
