"""Copied: what a `copy` takes from another image, as that image's view shows it.

Paths are that image's: absolute or from its root, symlinks followed within it. No byte of a file is
read here; what the entries hold is opened when a layer is made.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from builder.errors import BuilderError, LayerError
from builder.layer.entry import DIRECTORY, FILE, SYMLINK, WHITEOUT, Entry
from builder.plan.changes import Changes, Draft, Ground, reserved
from builder.plan.clock import content_time
from builder.plan.context import MAY_BE_MISSING, Absent
from builder.plan.globs import matches_below
from builder.plan.ignore import MAGIC, At, Exclude, Ignore, Rules, tests_of
from builder.plan.modes import apply_mode
from builder.plan.origin import SourceImage, Stored
from builder.plan.spilled import Row
from builder.rootfs.accounts import resolve_owner
from builder.rootfs.view import Found, View
from builder.steps.copy import Copy
from builder.steps.placing import Landing, check_other, check_replace, readdress


class Picked(NamedTuple):
    """What one source text matched: its path in the image, symlinks resolved, and where it lands
    below a directory, as context.Source has it."""

    path: bytes
    below: bytes
    is_dir: bool
    globbed: bool


def copy_from(step: Copy, image: SourceImage, ground: Ground) -> Changes:
    """The changes of a step that copies from `image`. Raises BuilderError."""
    owner = resolve_owner(step.owner, ground.view) if step.owner else None
    draft = Draft(ground, owner)
    found = list(_sources(step, image))
    if step.rules and not found:
        return draft.done()
    place = Landing(step, draft, globbed=any(picked.globbed for picked, _ in found))
    placer = _Placer(step, image, draft, owner)
    for picked, at in found:
        base, whole = place.of(picked.below, is_dir=picked.is_dir, globbed=picked.globbed)
        placer.place(picked, at, base, contents=whole)
    return draft.done()


def taken(step: Copy, origin: SourceImage) -> Iterator[Found]:
    """The regular files that a step takes."""
    for picked, at in _sources(step, origin):
        for found, _ in _below(origin, picked, at):
            if found.entry.type == FILE:
                yield found


def _sources(step: Copy, image: SourceImage) -> Iterator[tuple[Picked, tuple[Rules, At]]]:
    """All that the source texts name, and what is there of the optional ones."""
    for text in step.sources:
        if step.rules and any(MAGIC.search(part) for part in text.split("/")):
            with contextlib.suppress(Absent):
                for picked, at in _kept(step, image, text):
                    name = picked.below.rpartition(b"/")[2]
                    yield picked._replace(below=name, globbed=False), at
            continue
        yield from _kept(step, image, text)
    for text in step.optional:
        with contextlib.suppress(Absent):
            yield from _kept(step, image, text)


def _kept(step: Copy, image: SourceImage, text: str) -> list[tuple[Picked, tuple[Rules, At]]]:
    """What a source text names, without what `exclude` leaves out."""
    rules = Rules(Ignore(""), Exclude(step.exclude))
    kept = []
    for picked in find(image, text):
        below = os.fsdecode(picked.below) if picked.globbed else ""
        verdict, at = rules.start("", below, is_dir=picked.is_dir)
        if not verdict:
            kept.append((picked, (rules, at)))
    if not kept:
        raise Absent(f"{text!r} is left out, with all that it holds")
    return kept


def find(image: SourceImage, text: str) -> list[Picked]:
    """What `text` names in the image, sorted. Raises BuilderError for what is not there."""
    try:
        return _find(image, text)
    except LayerError:
        raise BuilderError(f"{text!r} leads through symlinks in a circle in {image.name}") from None


def _find(image: SourceImage, text: str) -> list[Picked]:
    view = image.view
    parts = [os.fsencode(part) for part in text.split("/") if part not in ("", ".")]
    fixed = next((i for i, part in enumerate(parts) if MAGIC.search(os.fsdecode(part))), None)
    if fixed is None:
        path = view.resolve(b"/".join(parts), follow_last=True)
        found = view.lookup(path)
        if found is None and path:
            near = _near(view, path)
            raise Absent(
                f"{text!r} does not exist in {image.name}",
                f"did you mean {near!r}?" if near else None,
            )
        is_dir = found is None or found.entry.type == DIRECTORY
        if text.endswith("/") and not is_dir:
            raise BuilderError(f"{text!r} is not a directory in {image.name}")
        return [Picked(path, parts[-1] if parts else b"", is_dir, False)]
    prefix = view.resolve(b"/".join(parts[:fixed]), follow_last=True)
    expanded = set(_expand(view, prefix, parts[fixed:]))
    picked: list[Picked] = []
    last: bytes | None = None
    for path in sorted(expanded, key=lambda each: each.split(b"/")):
        if last is not None and path.startswith(last + b"/"):
            continue  # its directory was matched already
        inside = view.resolve(path, follow_last=True)
        there = view.lookup(inside)
        if there is None:
            raise BuilderError(f"'/{os.fsdecode(path)}' is a link that leads nowhere")
        is_dir = there.entry.type == DIRECTORY
        below = path[len(prefix) + 1 if prefix else 0 :]
        picked.append(Picked(inside, below, is_dir, True))
        last = path if is_dir else None
    if not picked:
        raise Absent(f"{text!r} matches nothing in {image.name}", MAY_BE_MISSING)
    return picked


def _expand(view: View, folder: bytes, parts: list[bytes]) -> Iterator[bytes]:
    """What matches below a folder, some of it more than once; links on the way are followed, where
    they lead somewhere."""

    def listed(here: Entry) -> Iterator[tuple[str, bool, Entry]]:
        path = here.path
        if here.type == SYMLINK:
            try:
                path = view.resolve(path, follow_last=True)
            except LayerError:
                return
        for found in view.children(path):
            entry = found.entry
            yield os.fsdecode(entry.path.rpartition(b"/")[2]), entry.type == DIRECTORY, entry

    tests = tests_of([os.fsdecode(part) for part in parts])
    top = Entry(view.resolve(folder, follow_last=True), DIRECTORY, 0o755)
    for path, _ in matches_below(tests, os.fsdecode(folder), top, listed):
        yield os.fsencode(path)


def _near(view: View, path: bytes) -> str | None:
    """The path that may have been meant, by the last name that is there."""
    import difflib

    folder, _, name = path.rpartition(b"/")
    while folder and view.lookup(folder) is None:
        folder, _, name = folder.rpartition(b"/")
    names = [os.fsdecode(each.entry.path.rpartition(b"/")[2]) for each in view.children(folder)]
    close = difflib.get_close_matches(os.fsdecode(name), names, 1)
    return "/" + os.path.join(os.fsdecode(folder), close[0]) if close else None


class _Placer:
    """Puts what is found at and below its place."""

    def __init__(
        self, step: Copy, image: SourceImage, draft: Draft, owner: tuple[int, int] | None
    ) -> None:
        self._step, self._image, self._draft, self._owner = step, image, draft, owner
        self._rows: dict[Stored, Row] = {}  # of a file with several paths, the first

    def place(self, picked: Picked, at: tuple[Rules, At], base: bytes, *, contents: bool) -> None:
        """`contents`: the directory itself is not copied, what it holds is."""
        view, draft = self._draft.view, self._draft
        # folder in the source image -> where it lands, exists there
        landed: dict[bytes, tuple[bytes, bool]] = {}
        for found, path in _below(self._image, picked, at):
            entry = found.entry
            if path == picked.path:
                place, exists = base, True
            else:
                parent, _, name = path.rpartition(b"/")
                folder, exists = landed[parent]
                place = folder + b"/" + name if folder else name
            there: Entry | None = None
            if exists:
                if entry.type == DIRECTORY:
                    place = view.resolve(place, follow_last=True)
                seen = view.lookup(place)
                there = seen.entry if seen else None
                if not place:
                    there = Entry(b"", DIRECTORY, 0o755)
                check_replace(entry.type, there, place)
            check_other(entry.type, draft, place)
            uid, gid = self._owner or (entry.uid, entry.gid)
            mtime = entry.mtime if "mtime" in self._step.preserve else draft.time
            if entry.type == DIRECTORY:
                landed[path] = (place, there is not None)
                mode = self._mode(entry)
                if contents and path == picked.path:
                    if there is None and not draft.holds(place):
                        draft.add(Entry(place, DIRECTORY, 0o755, *draft.owner, draft.time))
                elif there is None:
                    new = Entry(place, DIRECTORY, mode, uid, gid, mtime, xattrs=entry.xattrs)
                    draft.add(new)
                elif place:
                    readdress(draft, there, place, (mode, uid, gid))
            elif entry.type == FILE:
                self._file(found, place, (uid, gid), mtime)
            else:
                mode = 0o777 if entry.type == SYMLINK else self._mode(entry)
                draft.add(entry._replace(path=place, mode=mode, uid=uid, gid=gid, mtime=mtime))

    def _file(self, found: Found, place: bytes, owner: tuple[int, int], mtime: int) -> None:
        entry, draft = found.entry, self._draft
        if place.rpartition(b"/")[2].startswith(WHITEOUT):
            raise reserved(place)
        stored = self._image.stored(found)
        first = self._rows.get(stored)
        if first is not None:
            draft.link(first, place)
            return
        digest = self._image.digest(stored)
        if self._step.times == "content":
            mtime = content_time(draft.ground.epoch, digest)
        new = Entry(place, FILE, self._mode(entry), *owner, mtime, entry.size, xattrs=entry.xattrs)
        draft.add(new, self._image.content(stored), digest)
        self._rows[stored] = draft.linked[place] = draft.entries[place]

    def _mode(self, entry: Entry) -> int:
        if not self._step.mode:
            return entry.mode
        return apply_mode(self._step.mode, entry.mode, directory=entry.type == DIRECTORY)


def _below(
    origin: SourceImage, picked: Picked, at: tuple[Rules, At]
) -> Iterator[tuple[Found, bytes]]:
    """The source, and what is below it without what is left out, parents first."""
    view, rules = origin.view, at[0]
    top = view.lookup(picked.path)
    if top is None:  # the root, which no layer names
        top = Found(Entry(b"", DIRECTORY, 0o755), -1)
    yield top, picked.path
    if not picked.is_dir:
        return
    waiting = [(each, at[1]) for each in view.children(picked.path)[::-1]]
    while waiting:  # a stack: images may be deeper than Python's
        found, here = waiting.pop()
        path = found.entry.path
        is_dir = found.entry.type == DIRECTORY
        verdict, below = rules.enter(here, path.rpartition(b"/")[2], is_dir)
        if verdict:
            continue
        yield found, path
        if is_dir:
            waiting.extend((each, below) for each in view.children(path)[::-1])
