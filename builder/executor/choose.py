"""Which executor runs command steps here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from builder.errors import ExecutorError
from builder.events import Emit, Warned
from builder.executor.base import Executor
from builder.executor.path import TOOLS, in_container, namespaces_work
from builder.store.files import failure
from builder.store.store import Store
from builder.work.cancel import Cancel


def choose(
    name: str,
    store: Store,
    emit: Emit,
    path: str = TOOLS,
    environ: Mapping[str, str] = MappingProxyType({}),
    cancel: Cancel | None = None,
) -> Executor:
    """The executor called `name`; `auto` is the first of AUTO that works here, tried with a trivial
    command, and a chroot only in a container that has no namespaces to give. It is for the whole
    run: what fails in it later fails. `path` is searched for tools, `environ` says where a Docker
    engine is, `cancel` ends what runs. Raises ExecutorError: unknown, tool missing, none works;
    StoreError: nothing can be written."""
    if name != "auto":
        return _make(name, store, emit, path, environ, cancel)
    faults = []
    for each in AUTO:
        try:
            executor = _make(each, store, emit, path, environ, cancel)
            why = executor.probe()
        except ExecutorError as error:
            why = error.message
        if why is None:
            return executor
        faults.append(why)
    _check_room(store)
    said = "; ".join(faults)
    if os.geteuid() == 0 and in_container(environ) and not namespaces_work():
        emit(Warned(_CHROOT.format(said)))
        return _make("chroot", store, emit, path, environ, cancel)
    raise ExecutorError(
        f"no executor works here: {said}",
        "`builder doctor` says more; without isolation, as root: `--executor chroot`",
    )


def _check_room(store: Store) -> None:
    """Where nothing can be written, no executor works, and none is at fault. Raises StoreError."""
    folder = store.temporary()
    try:
        with open(os.path.join(folder, "room"), "wb") as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        raise failure(error, "write in", folder, store.root) from error
    finally:
        store.folder.session().discard(folder)


def doctor(
    store: Store,
    emit: Emit,
    path: str = TOOLS,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> list[Finding]:
    """Each executor, tried with a trivial command."""
    findings = []
    for name in NAMES:
        try:
            why = _make(name, store, emit, path, environ).probe()
        except ExecutorError as error:
            why = error.message
        findings.append(Finding(name, why is None, why or "works"))
    return findings


def private_network(
    name: str,
    store: Store,
    emit: Emit,
    path: str = TOOLS,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Finding:
    """Whether the executor `name` can give a step a private network, tried with a trivial command,
    and by what."""
    from builder.executor import outward, probe

    executor = _make(name, store, emit, path, environ)
    why = probe.try_it(executor, "private")
    program = os.path.basename(outward.find(path) or "")
    return Finding("private", why is None, why or f"by {program}")


class Finding(NamedTuple):
    name: str
    works: bool
    why: str


_ROOM = 1 << 16  # bytes that a step's files take at least

AUTO = ("sandbox", "runc")
"""What `auto` tries, in this order. The others are asked for by name."""

NAMES = (*AUTO, "chroot", "docker")


def _make(
    name: str,
    store: Store,
    emit: Emit,
    path: str,
    environ: Mapping[str, str],
    cancel: Cancel | None = None,
) -> Executor:
    def warn(text: str) -> None:
        emit(Warned(text))

    if name == "sandbox":
        from builder.executor.sandbox import Sandbox

        return Sandbox(store.temporary, warn, cancel, path)
    if name == "runc":
        from builder.executor.runc import Runc

        binary = shutil.which("runc", path=path)
        if binary is None:
            raise ExecutorError("runc is not installed", "apt-get install runc")
        return Runc(binary, store.temporary, warn, cancel, path)
    if name == "chroot":
        from builder.executor.chroot import Chroot

        return Chroot(store.temporary, warn, cancel)
    if name == "docker":
        from builder.executor.docker import Docker

        return Docker(environ, store, warn, cancel)
    names = ", ".join(("auto", *NAMES))
    raise ExecutorError(f"{name!r} is no executor, expected one of {names}")


_CHROOT = (
    "no sandbox can be made here ({}): command steps run in a chroot on a copy of the image,"
    " without /proc and without isolation"
)
