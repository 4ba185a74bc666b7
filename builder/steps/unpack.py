"""`unpack`: what archives of the context hold."""

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
    from builder.plan.nodes import Tree
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node


class _Unpack(NamedTuple):
    place: Place
    name: str | None
    sources: tuple[str, ...]  # archives below the context, in order; globs allowed
    dest: str
    strip_components: int = 0
    owner: str | None = None  # None: the archive's numbers
    preserve: tuple[str, ...] = ()  # of mtime; else times are the clock's


class Unpack(_Unpack, FileStep):
    __slots__ = ()
    verb = "unpack"
    doc = "Unpack archives of the context."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, choice, list_of, number
        from builder.spec.kinds import NAME_FIELD, OWNER_FIELD, SOURCE, TARGET

        return {
            "unpack": Field(
                list_of(SOURCE, one=True, least=1, expected="a path or a list of paths"),
                "A tar (gz, xz, bz2, zst) or zip, or several in order; globs too.",
                required=True,
            ),
            "dest": Field(TARGET, "The directory to unpack into.", required=True),
            "name": NAME_FIELD,
            "strip_components": Field(
                number(0, 100), "How many leading folders of each member's path to leave out."
            ),
            "owner": OWNER_FIELD,
            "preserve": Field(
                list_of(choice("mtime"), one=True), "mtime: the archive's times, else ours."
            ),
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
            tuple(sorted(set(given.get("preserve", ())))),
        )

    def title(self) -> str:
        return f"unpack {' '.join(map(shown, self.sources))}"

    def without_sources(self) -> Unpack:
        return self._replace(sources=())

    def scan(self, context: Context) -> Scanned:
        return context.files(self.sources, "archive")

    def changes(self, given: Materials) -> Changes:
        from builder.steps.unpacking import Archive, unpack

        def archive(tree: Tree) -> Archive:
            def open_it() -> BinaryIO:
                return open(tree.beneath.open(tree.at), "rb")

            return Archive(open_it, os.fsdecode(tree.root), self.strip_components)

        archives = [archive(tree) for _, tree in given.scanned]
        return unpack(self, archives, given.ground, keep_times="mtime" in self.preserve)
