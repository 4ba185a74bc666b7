"""`unpack`: what an archive of the context holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from builder.plan.step import FileStep
from builder.spec.model import Place, shown

if TYPE_CHECKING:
    from builder.plan.changes import Changes
    from builder.plan.context import Context, Scanned
    from builder.plan.materials import Materials
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node


class _Unpack(NamedTuple):
    place: Place
    name: str | None
    source: str  # archive below the context
    dest: str
    strip_components: int = 0
    owner: str | None = None  # None: the archive's numbers


class Unpack(_Unpack, FileStep):
    __slots__ = ()
    verb = "unpack"
    doc = "Unpack an archive of the context."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, number
        from builder.spec.kinds import NAME_FIELD, OWNER_FIELD, SOURCE, TARGET

        return {
            "unpack": Field(SOURCE, "A tar (gz, xz, bz2, zst) or zip.", required=True),
            "dest": Field(TARGET, "The directory to unpack into.", required=True),
            "name": NAME_FIELD,
            "strip_components": Field(
                number(0, 100), "How many leading folders of each member's path to leave out."
            ),
            "owner": OWNER_FIELD,
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Unpack:
        from builder.spec.kinds import no_slash, place

        return cls(
            place(reader, node.get("unpack") or node),
            given.get("name"),
            given["unpack"],
            no_slash(given["dest"]),
            given.get("strip_components", 0),
            given.get("owner"),
        )

    def title(self) -> str:
        return f"unpack {shown(self.source)}"

    def scan(self, context: Context) -> Scanned:
        return [context.one_file(self.source, "archive")]

    def changes(self, given: Materials) -> Changes:
        from builder.steps.unpacking import Archive, unpack

        tree = given.scanned[0][1]

        def open_it() -> BinaryIO:
            return open(tree.beneath.open(tree.at), "rb")

        archive = Archive(open_it, os.fsdecode(tree.root), self.strip_components)
        return unpack(self, archive, given.ground)
