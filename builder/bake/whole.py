"""What all specs of one conversion share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from builder.bake.model import Bake
from builder.bake.target import Place
from builder.errors import SpecError
from builder.spec.source import Fault, Source


class Project(NamedTuple):
    """`root` is the project's folder, `base` what the paths of the files are relative to; `read`
    gives a Dockerfile's text, None: there is none. `excludes`: what a copy of all leaves out;
    `idiomatic`: in words of the language, as `Wish` has it."""

    root: str
    base: str
    read: Callable[[str], Source | None]
    excludes: tuple[str, ...] = ()
    idiomatic: bool = False

    def within(self, path: str) -> str:
        """A path that is relative to `base`, from the project's folder; `..` in front: outside."""
        whole = os.path.realpath(os.path.join(self.base, path))
        return os.path.relpath(whole, os.path.realpath(self.root))


class Whole:
    """`names` are those of the specs, by target; `secrets` as the project file has them."""

    def __init__(self, bake: Bake, project: Project) -> None:
        self.bake = bake
        self.project = project
        self.remarks: list[SpecError] = []
        self._told: set[tuple[str, int, int, str]] = set()
        self.secrets: dict[str, dict[str, str]] = {}
        self.names: dict[str, str] = {}

    def remark(self, place: Place, message: str) -> None:
        source, line, column = place
        if (source.file, line, column, message) not in self._told:
            self._told.add((source.file, line, column, message))
            self.remarks.append(source.error(Fault(line, column, message)))
