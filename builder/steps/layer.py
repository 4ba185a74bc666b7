"""`layer`: a changeset as images hold it, with its removals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from builder.plan.step import FileStep
from builder.spec.model import Place, shown

if TYPE_CHECKING:
    from builder.plan.changes import Changes
    from builder.plan.context import Context, Scanned
    from builder.plan.materials import Materials
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node


class _Layer(NamedTuple):
    place: Place
    name: str | None
    source: str  # a layer's tar below the context


class Layer(_Layer, FileStep):
    __slots__ = ()
    verb = "layer"
    doc = "Apply a layer's tar, removals and all."
    in_working_dir = False

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field
        from builder.spec.kinds import NAME_FIELD, SOURCE

        return {
            "layer": Field(
                SOURCE, "A layer's tar (plain, gz, zst), as images hold them.", required=True
            ),
            "name": NAME_FIELD,
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Layer:
        from builder.spec.kinds import place
        from builder.spec.source import quote

        at, source = node.get("layer") or node, given["layer"]
        if source.endswith("/") or source == ".":
            raise at.fault(f"{quote(source)} is a directory, expected a layer's tar")
        return cls(place(reader, at), given.get("name"), source)

    def title(self) -> str:
        return f"layer {shown(self.source)}"

    def rooted(self, folder: str) -> Self:
        return self

    def without_sources(self) -> Layer:
        return self._replace(source="")

    def scan(self, context: Context) -> Scanned:
        return [context.one_file(self.source, "layer")]

    def changes(self, given: Materials) -> Changes:
        from builder.steps.applying import apply

        ((_, tree),) = given.scanned
        return apply(tree, given.ground)
