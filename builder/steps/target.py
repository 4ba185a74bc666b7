"""Where a step lands in the image, and a file with given bytes there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from builder.errors import BuilderError
from builder.layer.entry import DIRECTORY, FILE, Content, Entry
from builder.oci.digest import hasher
from builder.plan.changes import Changes, Draft, Ground
from builder.plan.clock import content_time
from builder.plan.modes import apply_mode
from builder.rootfs.accounts import resolve_owner
from builder.rootfs.view import View

if TYPE_CHECKING:
    from builder.steps.download import Download
    from builder.steps.file import File
    from builder.steps.template import Template


class Target(NamedTuple):
    """Where a step lands: the resolved path, and what is there now."""

    path: bytes
    entry: Entry | None
    slash: bool  # written with a trailing slash: a directory


def target(view: View, dest: str, *, follow_last: bool = True) -> Target:
    path = view.resolve(dest.strip("/").encode("utf-8", "surrogateescape"), follow_last=follow_last)
    found = view.lookup(path)
    entry = found.entry if found else None
    if not path:
        entry = Entry(b"", DIRECTORY, 0o755)
    return Target(path, entry, dest.endswith("/"))


def write_file(step: File | Template, data: bytes, ground: Ground) -> Changes:
    """The changes of a step that writes one file."""
    return write_content(step, data, len(data), hasher(data).digest(), ground)


def write_content(
    step: File | Template | Download, content: Content, size: int, digest: bytes, ground: Ground
) -> Changes:
    """The same for a file of which the SHA-256 is known."""
    view, time = ground.view, ground.time
    owner = resolve_owner(step.owner, view) if step.owner else None
    draft = Draft(ground, owner)
    to = target(view, step.dest)
    if to.slash or (to.entry is not None and to.entry.type == DIRECTORY):
        raise BuilderError(
            f"{step.dest!r} is a directory in the image", "name the file that is to be written"
        )
    mode = apply_mode(step.mode, 0o644, directory=False) if step.mode else 0o644
    uid, gid = draft.owner
    if step.times == "content":
        time = content_time(ground.epoch, digest)
    draft.add(Entry(to.path, FILE, mode, uid, gid, time, size), content, digest)
    return draft.done()
