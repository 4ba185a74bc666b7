"""`file`: a file with the text that the spec gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import SpecError
from builder.plan.step import FileStep
from builder.spec.model import ImageSpec, Place

if TYPE_CHECKING:
    from builder.plan.changes import Changes
    from builder.plan.context import Context
    from builder.plan.materials import Materials
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node


class _File(NamedTuple):
    place: Place
    name: str | None
    dest: str
    content: str
    owner: str | None = None  # as of Copy
    mode: str | None = None  # as of Copy; None: 0644
    times: str | None = None  # as of Copy


class File(_File, FileStep):
    __slots__ = ()
    verb = "file"
    doc = "Write a file."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, text
        from builder.spec.kinds import (
            FILE_TARGET,
            MODE_FIELD,
            NAME_FIELD,
            OWNER_FIELD,
            TIMES_FIELD,
        )

        return {
            "file": Field(FILE_TARGET, "The path of the file.", required=True),
            "content": Field(text(nul=True), "The text of the file.", required=True),
            "name": NAME_FIELD,
            "owner": OWNER_FIELD,
            "mode": MODE_FIELD,
            "times": TIMES_FIELD,
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> File:
        from builder.spec.kinds import place

        return cls(
            place(reader, node.get("file") or node),
            given.get("name"),
            given["file"],
            given["content"],
            given.get("owner"),
            given.get("mode"),
            given.get("times"),
        )

    def advice(self, spec: ImageSpec, context: Context) -> Iterator[SpecError]:
        from builder.spec.advice import served

        return iter(()) if self.times else served(self.place, self.dest)

    def changes(self, given: Materials) -> Changes:
        from builder.steps.target import write_file

        return write_file(self, self.content.encode("utf-8", "surrogateescape"), given.ground)
