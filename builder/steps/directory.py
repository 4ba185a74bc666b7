"""`directory`: make one, or change what `owner` and `mode` say of the one that is there."""

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


class _Directory(NamedTuple):
    place: Place
    name: str | None
    dest: str
    owner: str | None = None  # None: kept where the directory exists
    mode: str | None = None


class Directory(_Directory, FileStep):
    __slots__ = ()
    verb = "directory"
    doc = "Make a directory, or change an existing one's owner and mode."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field
        from builder.spec.kinds import MODE_FIELD, NAME_FIELD, OWNER_FIELD, TARGET

        return {
            "directory": Field(TARGET, "The path of the directory.", required=True),
            "name": NAME_FIELD,
            "owner": OWNER_FIELD,
            "mode": MODE_FIELD,
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Directory:
        from builder.spec.kinds import no_slash, place

        return cls(
            place(reader, node.get("directory") or node),
            given.get("name"),
            no_slash(given["directory"]),
            given.get("owner"),
            given.get("mode"),
        )

    def changes(self, given: Materials) -> Changes:
        from builder.layer.entry import DIRECTORY, Entry
        from builder.plan.changes import Draft
        from builder.plan.modes import apply_mode
        from builder.rootfs.accounts import resolve_owner
        from builder.steps.target import target

        view, time = given.ground.view, given.ground.time
        owner = resolve_owner(self.owner, view) if self.owner else None
        draft = Draft(given.ground, owner)
        to = target(view, self.dest)
        there = to.entry
        if there is not None and there.type != DIRECTORY:
            raise BuilderError(f"{self.dest!r} is a file in the image, not a directory")
        base = there.mode if there else 0o755
        mode = apply_mode(self.mode, base, directory=True) if self.mode else base
        uid, gid = owner or ((there.uid, there.gid) if there else (0, 0))
        if not to.path:
            if (mode, uid, gid) != (base, 0, 0):
                raise BuilderError("a layer cannot carry the mode and owner of '/'")
        elif there is None:
            draft.add(Entry(to.path, DIRECTORY, mode, uid, gid, time))
        elif (mode, uid, gid) != (there.mode, there.uid, there.gid):
            draft.add(there._replace(path=to.path, mode=mode, uid=uid, gid=gid, mtime=time))
        return draft.done()
