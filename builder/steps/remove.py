"""`remove`: paths of the image, directories with all they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from builder.errors import BuilderError
from builder.plan.step import FileStep
from builder.spec.model import Place, shown

if TYPE_CHECKING:
    from builder.plan.changes import Changes
    from builder.plan.materials import Materials
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node


class _Remove(NamedTuple):
    place: Place
    name: str | None
    paths: tuple[str, ...]


class Remove(_Remove, FileStep):
    __slots__ = ()
    verb = "remove"
    doc = "Remove files."
    in_working_dir = False
    """To remove something nothing is made."""

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, Kind, list_of
        from builder.spec.kinds import NAME_FIELD, TARGET, no_slash

        def read(reader: Reader, node: Node) -> Any:
            path = TARGET.read(reader, node)
            if path == "/":
                raise node.fault("'/' is the whole image, expected a path within it")
            return no_slash(path)

        path = Kind(read, TARGET.schema)
        return {
            "remove": Field(
                list_of(path, one=True, least=1, expected="a path or a list of paths"),
                "Paths to remove, directories with all they hold.",
                required=True,
            ),
            "name": NAME_FIELD,
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Remove:
        from builder.spec.kinds import place

        return cls(place(reader, node.get("remove") or node), given.get("name"), given["remove"])

    def title(self) -> str:
        return f"remove {' '.join(map(shown, self.paths))}"

    def rooted(self, folder: str) -> Self:
        from builder.plan.config import in_image

        return self._replace(paths=tuple(in_image(path, folder) for path in self.paths))

    def changes(self, given: Materials) -> Changes:
        from builder.layer.entry import whiteout
        from builder.plan.changes import Draft
        from builder.steps.target import target

        view, time = given.ground.view, given.ground.time
        draft = Draft(given.ground, None)
        for text in self.paths:
            to = target(view, text, follow_last=False)
            if not to.path:
                raise BuilderError("'/' cannot be removed")
            if to.entry is None:
                draft.notes.append(f"{text!r} is not in the image: there is nothing to remove")
            else:
                draft.remove(to.path)
        removed = set(draft.entries)
        for each in removed:  # below another removed path there is nothing left to remove
            parts = each.split(b"/")
            above = (b"/".join(parts[:end]) for end in range(1, len(parts)))
            if any(whiteout(path, time).path in removed for path in above):
                draft.entries.pop(each, None)
        return draft.done()
