"""Tests that look at an image's files and run nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from builder.errors import BuilderError
from builder.layer.entry import DIRECTORY, FILE, SYMLINK
from builder.look.packages import Package, Packages, shown
from builder.oci.digest import hasher
from builder.rootfs.accounts import resolve_owner
from builder.spec.source import did_you_mean
from builder.spec.tests import DirectoryTest, Expected, FileTest, PackageTest
from builder.testing.expect import quoted, unmet

if TYPE_CHECKING:
    from builder.layer.entry import Entry
    from builder.oci.image import Layer
    from builder.rootfs.layers import Layers
    from builder.rootfs.view import View

_SEARCHED = 64 << 20  # bytes of a file whose content is searched
_CHUNK = 1 << 20
_WORDS = {FILE: "a file", DIRECTORY: "a directory", SYMLINK: "a symlink"}


def look(
    layers: Layers,
    image: Sequence[Layer],
    installed: Callable[[], Packages],
    test: FileTest | DirectoryTest | PackageTest,
) -> Iterator[str]:
    """What of a test does not hold; `installed` reads what packages the image has. Raises
    BuilderError."""
    if isinstance(test, PackageTest):
        return _package(installed(), test)
    return _path(layers, image, test)


def _path(layers: Layers, image: Sequence[Layer], test: FileTest | DirectoryTest) -> Iterator[str]:
    view, path = layers.view(image), os.fsencode(test.path)
    here = view.find(path, follow_last=False)
    if not test.exists:
        if here is not None:
            yield f"it is there, {_word(here.entry)}, expected nothing"
        return
    if here is None:
        yield f"it is not there{_near(view, path)}"
        return
    if isinstance(test, FileTest) and test.link is not None:
        said = os.fsdecode(here.entry.link) if here.entry.type == SYMLINK else None
        if said is None:
            yield f"it is {_word(here.entry)}, expected a symlink to {quoted(test.link)}"
        elif said != test.link:
            yield f"it is a symlink to {quoted(said)}, expected {quoted(test.link)}"
    else:
        found = view.find(path, follow_last=True)
        if found is None:
            said = os.fsdecode(here.entry.link)
            yield f"it is a symlink to {quoted(said)}, where nothing is"
            return
        here = found
        wanted = FILE if isinstance(test, FileTest) else DIRECTORY
        if here.entry.type != wanted:
            yield f"it is {_word(here.entry)}, expected {_WORDS[wanted]}"
            return
    yield from _about(view, here.entry, test)
    if isinstance(test, FileTest) and test.link is None:
        yield from _content(layers, image, here.entry, test)


def _word(entry: Entry) -> str:
    return _WORDS.get(entry.type, "a device or a pipe")


def _near(view: View, path: bytes) -> str:
    """A name beside it that may have been meant."""
    folder, _, name = path.rpartition(b"/")
    here = view.find(folder, follow_last=True)
    names = (
        [
            os.fsdecode(each.entry.path.rpartition(b"/")[2])
            for each in view.children(here.entry.path)
        ]
        if here
        else []
    )
    return did_you_mean(os.fsdecode(name), names)


def _about(view: View, entry: Entry, test: FileTest | DirectoryTest) -> Iterator[str]:
    if test.mode is not None and entry.mode & 0o7777 != int(test.mode, 8):
        yield f"its mode is '{entry.mode & 0o7777:04o}', expected '{int(test.mode, 8):04o}'"
    if test.owner is not None:
        try:
            uid, gid = resolve_owner(test.owner, view)
        except BuilderError as error:
            yield error.what
            return
        same = entry.uid == uid and (":" not in test.owner or entry.gid == gid)
        if not same:
            yield f"its owner is {entry.uid}:{entry.gid}, expected {test.owner} ({uid}:{gid})"


def _content(layers: Layers, image: Sequence[Layer], entry: Entry, test: FileTest) -> Iterator[str]:
    if test.sha256 is None and test.content == Expected():
        return
    searched = test.content != Expected()
    if searched and entry.size > _SEARCHED:
        yield f"it has {entry.size} bytes, at most {_SEARCHED} are searched"
        return
    digest, kept = hasher(), bytearray()
    with layers.read(image, entry.path) as file:
        while data := file.read(_CHUNK):
            digest.update(data)
            if searched:
                kept += data
    if test.sha256 not in (None, digest.hexdigest()):
        yield f"its SHA-256 is {digest.hexdigest()}, expected {test.sha256}"
    if searched:
        yield from unmet("it", kept.decode("utf-8", "backslashreplace"), test.content)


def _package(known: Packages, test: PackageTest) -> Iterator[str]:
    every = [each for each in known.found if test.manager in (None, each.kind)]
    found = [each for each in every if _is(each, test.package)]
    if not test.installed:
        if found:
            yield f"it is installed, expected that it is not: {_listed(found)}"
    elif not found:
        said = f"{test.manager} does not have it" if test.manager else "it is not installed"
        near = did_you_mean(test.package, sorted({each.name for each in every}))
        unread = f"; not read: {'; '.join(known.unread[:3])}" if known.unread else ""
        yield f"{said}{near}{unread}"
    elif test.version and not any(fnmatchcase(each.version, test.version) for each in found):
        yield f"its version is {_listed(found)}, expected {test.version}"


def _is(package: Package, name: str) -> bool:
    """PEP 503 says which names are one for pip."""
    if package.kind != "pip":
        return package.name == name
    return _plain(package.name) == _plain(name)


def _plain(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def _listed(found: Sequence[Package]) -> str:
    return ", ".join(f"{each.version} ({each.kind}, {shown(each.source)})" for each in found[:5])
