"""Diff: in what two images differ. A time is no difference: a file that was only made again is the
same, and so is a layer that was packed on another day, but for its digest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.layer.entry import FILE, SYMLINK, Entry
from builder.look.packages import KINDS, Package, find_packages
from builder.look.tree import Tree

if TYPE_CHECKING:
    from builder.oci.image import Document, Image, Layer
    from builder.rootfs.layers import Layers
    from builder.rootfs.view import Found

FIELDS = ("type", "content", "size", "mode", "owner", "link", "device", "xattrs")
_RECORDS = re.compile(rb"(?:^|/)(?:dpkg|apk|rpm|node_modules|[^/]*\.(?:dist|egg)-info)(?:/|$)")
"""Where packages are written down, and more than that."""


class FileChange(NamedTuple):
    """`before` None: it is added; `after` None: removed; else `what` names the fields that differ,
    of FIELDS, in their order. `content` stands beside `size` where that differs."""

    path: bytes  # b"" is the root
    before: Entry | None
    after: Entry | None
    what: tuple[str, ...] = ()


class PackageChange(NamedTuple):
    """The versions of a package on each side, most often one or none."""

    kind: str
    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


class ConfigChange(NamedTuple):
    """A value of the config; None where there is none."""

    field: str  # as `config.Env.PATH`
    before: Any
    after: Any


class LayerChanges(NamedTuple):
    shared: tuple[Layer, ...]  # the same from the bottom on
    before: tuple[Layer, ...]  # the others
    after: tuple[Layer, ...]


class Pair:
    """Two images whose layers are all in the store, or known to `layers`."""

    def __init__(self, layers: Layers, before: Image, after: Image) -> None:
        self._layers = layers
        self.before, self.after = Tree(layers, before.layers), Tree(layers, after.layers)
        self._shared = _shared(before.layers, after.layers)
        self._images = before, after
        self._digests: dict[str, dict[bytes, bytes]] = {}  # of files, by their layer's diff_id

    # -- layers and config ------------------------------------------------------------------------

    def layers(self) -> LayerChanges:
        before, after = (image.layers for image in self._images)
        return LayerChanges(before[: self._shared], before[self._shared :], after[self._shared :])

    def config(self) -> list[ConfigChange]:
        before, after = (dict(_leaves(_plain(image.config))) for image in self._images)
        return [
            ConfigChange(field, before.get(field), after.get(field))
            for field in sorted({*before, *after})
            if before.get(field) != after.get(field)
        ]

    # -- files ------------------------------------------------------------------------------------

    def files(self) -> list[FileChange]:
        """Sorted, folders before what is in them."""
        before, after = self.before.files, self.after.files
        found = []
        root = [tree.view.lookup(b"") for tree in (self.before, self.after)]
        if change := self._change(b"", *root):
            found.append(change)
        for path, old in before.items():
            new = after.get(path)
            if new is None:
                found.append(FileChange(path, old.entry, None))
            elif not (0 <= old.table == new.table < self._shared) and (
                change := self._change(path, old, new)
            ):
                found.append(change)
        found += [
            FileChange(path, None, new.entry) for path, new in after.items() if path not in before
        ]
        return sorted(found, key=lambda each: each.path.replace(b"/", b"\0"))

    def _change(self, path: bytes, old: Found | None, new: Found | None) -> FileChange | None:
        if old is None or new is None:
            return None  # only the root, which is always there
        what = tuple(self._what(path, old, new))
        return FileChange(path, old.entry, new.entry, what) if what else None

    def _what(self, path: bytes, old: Found, new: Found) -> Iterator[str]:
        before, after = old.entry, new.entry
        if before.type != after.type:
            yield "type"
        elif before.type == FILE:
            if before.size != after.size:
                yield "content"
                yield "size"
            elif self._digest(self.before, path, old) != self._digest(self.after, path, new):
                yield "content"
        if SYMLINK not in (before.type, after.type) and before.mode != after.mode:
            yield "mode"
        if (before.uid, before.gid) != (after.uid, after.gid):
            yield "owner"
        if before.type == after.type == SYMLINK and before.link != after.link:
            yield "link"
        if before.type == after.type and before.device != after.device:
            yield "device"
        if before.xattrs != after.xattrs:
            yield "xattrs"

    def _digest(self, tree: Tree, path: bytes, found: Found) -> bytes | None:
        if not found.entry.size:
            return None
        layer = tree.image[found.table]
        digests = self._digests.get(layer.diff_id)
        if digests is None:
            digests = self._digests[layer.diff_id] = self._layers.contents(layer).all()
        return digests.get(path) or self._layers.contents(layer).get(path)

    # -- packages ---------------------------------------------------------------------------------

    def packages(self, files: Sequence[FileChange]) -> tuple[list[PackageChange], list[str]]:
        """In the order of kinds and names, and lines about what was not read. `files` are those of
        `files()`: where nothing is written of packages, none is looked for."""
        if not any(_may_tell(each) for each in files):
            return [], []
        before, after = (find_packages(tree, files=False) for tree in (self.before, self.after))
        old, new = _versions(before.found), _versions(after.found)
        found = [
            PackageChange(*key, old.get(key, ()), new.get(key, ()))
            for key in dict.fromkeys((*old, *new))
            if old.get(key) != new.get(key)
        ]
        unread = [said for each in (before, after) for said in each.unread]
        return sorted(found, key=_order), list(dict.fromkeys(unread))


def _shared(before: Sequence[Layer], after: Sequence[Layer]) -> int:
    same = 0
    for old, new in zip(before, after, strict=False):
        if old.diff_id != new.diff_id:
            break
        same += 1
    return same


def _may_tell(change: FileChange) -> bool:
    entries = [each for each in (change.before, change.after) if each]
    return bool(_RECORDS.search(change.path)) or any(each.type == SYMLINK for each in entries)


def _versions(found: Sequence[Package]) -> dict[tuple[str, str], tuple[str, ...]]:
    """By kind and name: a package may be there several times, for other CPUs or in other places."""
    versions: dict[tuple[str, str], tuple[str, ...]] = {}
    for each in found:
        key = (each.kind, each.name)
        if each.version not in versions.get(key, ()):
            versions[key] = (*versions.get(key, ()), each.version)
    return versions


def _order(change: PackageChange) -> tuple[int, str]:
    return KINDS.index(change.kind), change.name


def _plain(document: Document) -> dict[str, Any]:
    """A config without what says only of which layers it is, and lists of NAME=VALUE by names."""
    found = {key: value for key, value in document.items() if key not in ("rootfs", "history")}
    config = found.get("config")
    if isinstance(config, Mapping):
        env = config.get("Env")
        if isinstance(env, list):
            pairs = dict(str(each).partition("=")[::2] for each in env)
            found["config"] = {**config, "Env": pairs}
    return found


def _leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Fields that are no mappings, by their path; an empty mapping, as a port has it, is one, and
    what says nothing (null, "", false, []) is none."""
    waiting = [(above + key, each) for key, each in value.items()]
    while waiting:
        name, each = waiting.pop()
        if isinstance(each, Mapping) and each:
            waiting += [(f"{name}.{key}", inner) for key, inner in each.items()]
        elif each is not None and each != "" and each is not False and each != []:
            yield name, each


def written(value: Any) -> str:
    """A value of a config as text of one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def gathered(changes: Sequence[FileChange]) -> Iterator[tuple[FileChange, int, int]]:
    """The changes, but a folder that is added or removed whole stands for all that is in it: with
    how many others that is, and the bytes of it all."""
    top: FileChange | None = None
    others = size = 0
    for each in changes:
        if top is not None:
            if each.path.startswith(top.path + b"/"):
                others, size = others + 1, size + size_of(each)
                continue
            yield top, others, size
            top = None
        if each.before and each.after:
            yield each, 0, size_of(each)
        else:
            top, others, size = each, 0, size_of(each)
    if top is not None:
        yield top, others, size


def size_of(change: FileChange) -> int:
    entry = change.after or change.before
    return entry.size if entry and entry.type == FILE else 0
