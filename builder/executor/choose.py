"""Which executor runs command steps here."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from builder.errors import ExecutorError
from builder.events import Emit, Warned
from builder.executor.base import Command, Executor, Parent
from builder.executor.path import TOOLS
from builder.layer.entry import Change
from builder.store.store import Store


def choose(
    name: str,
    store: Store,
    emit: Emit,
    path: str = TOOLS,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Executor:
    """The executor called `name`; `auto` is the first that works when a command is run, of bwrap,
    runc, chroot. `path` is searched for tools, `environ` says where a Docker engine is. Raises
    ExecutorError: unknown, or its tool missing."""
    if name == "auto":
        return Auto(lambda each: _make(each, store, emit, path, environ), emit)
    return _make(name, store, emit, path, environ)


def doctor(
    store: Store,
    emit: Emit,
    path: str = TOOLS,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> list[Finding]:
    """Each executor, tried with a trivial command."""
    findings = []
    for name in (*NAMES, "docker"):
        try:
            why = _make(name, store, emit, path, environ).probe()
        except ExecutorError as error:
            why = error.message
        findings.append(Finding(name, why is None, why or "works"))
    return findings


class Finding(NamedTuple):
    name: str
    works: bool
    why: str


NAMES = ("bwrap", "runc", "chroot")
"""What `auto` tries, in this order. Not docker: an engine is asked for by name."""


def _make(name: str, store: Store, emit: Emit, path: str, environ: Mapping[str, str]) -> Executor:
    def warn(text: str) -> None:
        emit(Warned(text))

    if name == "bwrap":
        from builder.executor.bwrap import bwrap, find_bwrap

        binary = find_bwrap(path)
        if binary is None:
            raise ExecutorError("bwrap is not installed", "apt-get install bubblewrap")
        return bwrap(binary, store.temporary, warn)
    if name == "runc":
        from builder.executor.runc import runc

        binary = shutil.which("runc", path=path)
        if binary is None:
            raise ExecutorError("runc is not installed", "apt-get install runc")
        return runc(binary, store.temporary, warn)
    if name == "chroot":
        from builder.executor.chroot import Chroot

        return Chroot(store.temporary, warn)
    if name == "docker":
        from builder.executor.docker import Docker

        return Docker(environ, store, warn)
    names = ", ".join(("auto", *NAMES, "docker"))
    raise ExecutorError(f"{name!r} is no executor, expected one of {names}")


_CHROOT = (
    "no sandbox can be made here ({}): command steps run in a chroot on a copy of the image,"
    " without /proc and without isolation"
)


class Auto:
    """Runs with the first executor that starts, and stays with it."""

    name = "auto"

    def __init__(self, make: Callable[[str], Executor], emit: Emit) -> None:
        self._make, self._emit = make, emit
        self._left = list(NAMES)
        self._faults: list[str] = []
        self._warned = False

    @contextlib.contextmanager
    def run(
        self, command: Command, parent: Parent, output: Callable[[bytes], None], epoch: int
    ) -> Iterator[Iterable[Change]]:
        with contextlib.ExitStack() as stack:
            yield self._enter(stack, command, parent, output, epoch)

    def _enter(
        self,
        stack: contextlib.ExitStack,
        command: Command,
        parent: Parent,
        output: Callable[[bytes], None],
        epoch: int,
    ) -> Iterable[Change]:
        while self._left:
            name = self._left[0]
            try:
                executor = self._make(name)
                if name == "chroot" and not self._warned:
                    self._warned = True
                    self._emit(Warned(_CHROOT.format("; ".join(self._faults))))
                return stack.enter_context(executor.run(command, parent, output, epoch))
            except ExecutorError as error:
                if error.message not in self._faults:
                    self._faults.append(error.message)
                if self._left and self._left[0] == name:
                    self._left.pop(0)
        raise ExecutorError(
            f"no executor works here: {'; '.join(self._faults)}",
            "`builder doctor` says more; root, user namespaces or a Docker engine help",
        )

    def probe(self) -> str | None:
        faults = []
        for name in NAMES:
            try:
                why = self._make(name).probe()
            except ExecutorError as error:
                why = error.message
            if why is None:
                return None
            faults.append(why)
        return "; ".join(faults)
