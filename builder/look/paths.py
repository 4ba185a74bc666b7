"""Paths of an image: what one means that a user gives, what lies below it, and who wrote it."""

from __future__ import annotations

import difflib
import os
import posixpath
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import LayerError, UsageError
from builder.layer.entry import DIRECTORY, FILE, Entry
from builder.rootfs.view import View

if TYPE_CHECKING:
    from builder.oci.image import Layer
    from builder.rootfs.layers import Layers


def resolve(view: View, text: str, *, follow_last: bool) -> bytes:
    """A path of the command line, absolute or from the root, as the image has it, whether it is
    there or not. Raises UsageError for symlinks in a circle."""
    try:
        return view.resolve(os.fsencode(text), follow_last=follow_last)
    except LayerError as error:
        raise UsageError(error.what) from None


def find(view: View, text: str) -> bytes:
    """The path that `text` means, symlinks followed. Raises UsageError for what is not there, with
    names like it."""
    found = resolve(view, text, follow_last=True)
    if view.lookup(found) is None:
        last = view.lookup(resolve(view, text, follow_last=False))
        if last is not None:
            link = os.fsdecode(last.entry.link)
            raise UsageError(f"{text!r} is a symlink to {link!r}, which the image does not have")
        raise missing(view, text, found)
    return found


def missing(view: View, text: str, path: bytes) -> UsageError:
    folder, _, name = path.rpartition(b"/")
    while folder and view.lookup(folder) is None:
        folder, _, name = folder.rpartition(b"/")
    where = "/" + os.fsdecode(folder)
    here = view.lookup(folder)
    if here is not None and here.entry.type != DIRECTORY:
        return UsageError(f"no {text!r} in the image", f"{where} is no directory there")
    names = [os.fsdecode(each.entry.path.rpartition(b"/")[2]) for each in view.children(folder)]
    near = difflib.get_close_matches(os.fsdecode(name), names, 3)
    if near:
        paths = " or ".join(repr(posixpath.join(where, each)) for each in near)
        return UsageError(f"no {text!r} in the image", f"did you mean {paths}?")
    some = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return UsageError(f"no {text!r} in the image", f"{where} has {some or 'nothing in it'}")


class Branch(NamedTuple):
    """What stands at a path, with the bytes of the files at and below it and how many paths those
    are; `below` are the largest first."""

    entry: Entry
    size: int
    paths: int
    below: tuple[Branch, ...] = ()


def branch(view: View, path: bytes) -> Branch:
    """A path, which is there, and all below it."""
    here = view.lookup(path)
    assert here is not None
    inner: dict[bytes, list[Branch]] = {}
    # children come after their folders: from the last on, each folder's are known when it comes
    for found in reversed([here, *view.subtree(path)]):
        entry = found.entry
        below = inner.pop(entry.path, [])
        below.sort(key=lambda each: (-each.size, each.entry.path))
        own = entry.size if entry.type == FILE else 0
        size = own + sum(each.size for each in below)
        made = Branch(entry, size, 1 + sum(each.paths for each in below), tuple(below))
        if entry.path == path:
            break
        inner.setdefault(entry.path.rpartition(b"/")[0], []).append(made)
    return made


class Written(NamedTuple):
    """What one layer did to a path."""

    layer: int  # which one, bottom 0
    entry: Entry | None  # what it left there; None: nothing


def history(layers: Layers, image: Sequence[Layer], path: bytes) -> Iterator[Written]:
    """What the layers did to a path (no symlinks are followed), the lowest first."""
    view = View()
    before = False
    for index, layer in enumerate(image):
        table = layers.table(layer)
        view = view.push(table)
        found = view.lookup(path)
        if table.get(path) is not None and found is not None:
            yield Written(index, found.entry)
        elif before and found is None:
            yield Written(index, None)
        before = found is not None
