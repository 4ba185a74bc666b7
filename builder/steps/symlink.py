"""`symlink`: a symbolic link, its text as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import BuilderError
from builder.plan.step import FileStep
from builder.spec.model import Place

if TYPE_CHECKING:
    from builder.plan.changes import Changes
    from builder.plan.materials import Materials
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node


class _Symlink(NamedTuple):
    place: Place
    name: str | None
    dest: str
    to: str
    owner: str | None = None


class Symlink(_Symlink, FileStep):
    __slots__ = ()
    verb = "symlink"
    doc = "Make a symbolic link."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, text
        from builder.spec.kinds import FILE_TARGET, NAME_FIELD, OWNER_FIELD, filled

        return {
            "symlink": Field(FILE_TARGET, "The path of the link.", required=True),
            "to": Field(text(filled), "What the link points to, as it stands.", required=True),
            "name": NAME_FIELD,
            "owner": OWNER_FIELD,
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Symlink:
        from builder.spec.kinds import place

        return cls(
            place(reader, node.get("symlink") or node),
            given.get("name"),
            given["symlink"],
            given["to"],
            given.get("owner"),
        )

    def changes(self, given: Materials) -> Changes:
        from builder.layer.entry import DIRECTORY, SYMLINK, Entry
        from builder.plan.changes import Draft
        from builder.rootfs.accounts import resolve_owner
        from builder.steps.target import target

        view, time = given.ground.view, given.ground.time
        owner = resolve_owner(self.owner, view) if self.owner else None
        draft = Draft(given.ground, owner)
        to = target(view, self.dest, follow_last=False)
        if to.slash or (to.entry is not None and to.entry.type == DIRECTORY):
            raise BuilderError(
                f"{self.dest!r} is a directory in the image, a symlink cannot take its place",
                "remove it in a step before, or name the link within it",
            )
        uid, gid = draft.owner
        link = self.to.encode("utf-8", "surrogateescape")
        draft.add(Entry(to.path, SYMLINK, 0o777, uid, gid, time, link=link))
        return draft.done()
