"""Wiring: store, specs, bases and executor, as the arguments and the environment ask."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from builder.errors import BuilderError, UsageError
from builder.events import Emit, Lines, StepOutput
from builder.oci.image import Image, Platform, host_platform, parse_platform
from builder.plan.context import Context
from builder.plan.plan import Planner, Settings
from builder.plan.state import Fetch, open_table
from builder.spec.model import File, ImageSpec
from builder.store.store import Store
from builder.transport.base import BaseSource

if TYPE_CHECKING:
    from builder.build.build import Built
    from builder.executor.base import Executor

EPOCH = 315532800
"""1980-01-01, the first day that zip can say."""


def open_store(arguments: argparse.Namespace, emit: Emit) -> Store:
    path = arguments.cache_dir or os.environ.get("BUILDER_CACHE_DIR")
    if not path:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        path = os.path.join(home, "builder")
    return Store(path, emit)


def epoch() -> int:
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return EPOCH
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"SOURCE_DATE_EPOCH {text!r} is not a number of seconds since 1970")
    return int(text)


def settings(arguments: argparse.Namespace) -> Settings:
    codec, _, level = arguments.compression.partition(":")
    if codec not in ("gzip", "zstd", "none") or (level and not level.isdigit()):
        raise UsageError(
            f"--compression {arguments.compression!r}: expected gzip, zstd or none, and a level"
            " after a colon"
        )
    return Settings(
        platform(arguments), epoch(), codec, int(level) if level else None, arguments.pull
    )


def platform(arguments: argparse.Namespace) -> Platform:
    return parse_platform(arguments.platform) if arguments.platform else host_platform()


class Project:
    """The specs of a folder, loaded when they are asked for."""

    def __init__(self, arguments: argparse.Namespace, store: Store) -> None:
        self._arguments = arguments
        self._store = store
        self.folder: str = arguments.specs

    @property
    def context(self) -> str:
        given = self._arguments.context
        if given:
            if not os.path.isdir(given):
                raise UsageError(f"--context {given!r} is not a folder")
            return str(given)
        return os.path.dirname(os.path.abspath(self.folder))

    def load(self, images: list[str]) -> tuple[Mapping[str, ImageSpec], tuple[str, ...]]:
        """The specs of `images` (all, when none is named) and of what they stand on, bases first,
        by the names that `image:` uses; and the names that were asked for."""
        from builder.spec.load import load_project

        project = load_project(
            images,
            self.folder,
            environ=os.environ,
            sets=pairs(self._arguments.sets),
            vars_files=self._arguments.vars_file,
            cache=_SpecCache(self._store),
        )
        return project.specs, project.asked


class _SpecCache:
    """Checked specs by content, so that an unchanged spec costs no YAML and no Jinja."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, name: str) -> bytes | None:
        return self._store.load("specs", name)

    def save(self, name: str, data: bytes) -> None:
        self._store.save("specs", name, data)


def pairs(sets: list[str]) -> dict[str, str]:
    found = {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {text!r}: expected NAME=VALUE")
        found[name] = value
    return found


def planner(arguments: argparse.Namespace, store: Store, project: Project, emit: Emit) -> Planner:
    context = Context(project.context, store)
    return Planner(
        store,
        context,
        bases(arguments, store, context.root, emit),
        settings(arguments),
        partial(_render, context),
    )


def _render(context: Context, step: File, spec: ImageSpec) -> bytes:
    if step.template is None:
        return (step.content or "").encode("utf-8", "surrogateescape")
    from builder.spec.render import render_template

    source, *others = context.find(step.template)
    if others or source.is_dir:
        raise BuilderError(f"{step.template!r} is not one template")
    return render_template(
        os.path.join(context.root, source.path),
        step.variables,
        {"name": spec.name},
        os.environ,
        name=step.template,
    )


class _Lazy(Mapping[str, BaseSource]):
    """Base sources by kind, each imported when a spec asks for it."""

    def __init__(self, makers: Mapping[str, Callable[[], BaseSource]]) -> None:
        self._makers = makers
        self._made: dict[str, BaseSource] = {}

    def __getitem__(self, kind: str) -> BaseSource:
        if kind not in self._made:
            self._made[kind] = self._makers[kind]()
        return self._made[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def bases(
    arguments: argparse.Namespace, store: Store, context: str, emit: Emit
) -> Mapping[str, BaseSource]:
    def layout() -> BaseSource:
        from builder.transport.layout import LayoutSource

        return LayoutSource(store, context)

    def archive() -> BaseSource:
        from builder.transport.archive import ArchiveSource

        return ArchiveSource(store, context)

    def rootfs() -> BaseSource:
        from builder.transport.rootfs_tar import RootfsSource

        return RootfsSource(store, context)

    def debootstrap() -> BaseSource:
        from builder.transport.debootstrap import DebootstrapSource

        return DebootstrapSource(store, lines_to(emit, "base"))

    return _Lazy(
        {"oci": layout, "docker-archive": archive, "rootfs": rootfs, "debootstrap": debootstrap}
    )


def lines_to(emit: Emit, image: str) -> Callable[[bytes], None]:
    """Raw output of a tool as events of an image's base."""
    return Lines(lambda line: emit(StepOutput(image, -1, line))).feed


def lowers_of(store: Store) -> Callable[[Image, Fetch], tuple[str, ...]]:
    def lowers(image: Image, fetch: Fetch) -> tuple[str, ...]:
        """The unpacked layers of an image, bottom first."""
        from builder.rootfs.unpack import lower_dirs

        for layer in image.layers:
            if fetch and not store.has(layer.blob):
                fetch(layer)
        tables = [open_table(store, layer, fetch) for layer in image.layers]
        return lower_dirs(store, image.layers, tables, privileged=True)

    return lowers


def executor(arguments: argparse.Namespace, store: Store, emit: Emit) -> Executor:
    from builder.executor.choose import choose

    return choose(arguments.executor, store, emit)


def outputs(
    arguments: argparse.Namespace, store: Store, names: tuple[str, ...]
) -> list[Callable[[Built], None]]:
    """What --output asks for, checked before anything is built."""
    return []
