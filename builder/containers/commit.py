"""Commit: what a container changed, as the layer that a spec applies (the verb `layer`)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.containers.container import Container, changes
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, WHITEOUT, Change, Content, HostFile
from builder.layer.write import write_layer
from builder.plan.ignore import Exclude, Leaving

if TYPE_CHECKING:
    from builder.layer.entry import Entry
    from builder.oci.image import Descriptor
    from builder.rootfs.layers import Layers
    from builder.rootfs.view import View

MOST = 10_000
"""Changes that are told one by one; all are counted."""
_FIRST = 3  # paths of a doubt
_HEAD = 4096  # bytes of a file that are looked at for a key
_KEY = re.compile(rb"^-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----\r?$", re.MULTILINE)
_HISTORY = "a history of what was typed"
_CREDENTIALS = "credentials"
_CACHE = "a cache"
_SSH = "keys or hosts of ssh"
_MACHINE = "what tells one machine from others"

_DOUBTS = (
    ("/run/**", "what a running system keeps"),
    ("/tmp/**", "a temporary file"),
    ("/var/tmp/**", "a temporary file"),
    ("/var/log/**", "a log"),
    ("/var/cache/**", _CACHE),
    ("**/.cache/**", _CACHE),
    ("**/.npm/**", _CACHE),
    ("**/.cargo/registry/**", _CACHE),
    ("**/.gradle/caches/**", _CACHE),
    ("/var/lib/apt/lists/**", "package lists"),
    (".*_history", _HISTORY),
    ("**/fish/fish_history", _HISTORY),
    (".lesshst", _HISTORY),
    (".viminfo", _HISTORY),
    (".wget-hsts", _HISTORY),
    ("/etc/machine-id", _MACHINE),
    ("/var/lib/dbus/machine-id", _MACHINE),
    ("/var/lib/systemd/random-seed", _MACHINE),
    ("**/.ssh/**", _SSH),
    ("/etc/ssh/ssh_host_*", _SSH),
    *(
        (name, _CREDENTIALS)
        for name in (
            *(".netrc", ".npmrc", ".pypirc", ".git-credentials", ".pgpass", ".vault-token", ".env"),
            *("**/.docker/config.json", "**/.aws/**", "**/.azure/**", "**/.config/gcloud/**"),
            *("**/.config/gh/**", "**/.kube/**", "**/.cargo/credentials*", "**/.gnupg/**"),
            *("**/.composer/auth.json", "**/.gem/credentials"),
        )
    ),
)
"""Patterns as `.gitignore` has them, and what they are of; the last that matches counts."""
_RULES = Exclude([glob for glob, _ in _DOUBTS])


class Changed(NamedTuple):
    kind: str  # A: added, C: changed, D: removed
    path: bytes  # below the root
    size: int  # bytes of a file


class Doubt(NamedTuple):
    """Files that were hardly meant."""

    what: str
    exclude: tuple[str, ...]  # patterns that leave them out
    paths: tuple[bytes, ...]  # the first of them
    number: int
    size: int  # bytes of all


class Committed(NamedTuple):
    blob: Descriptor  # in the store, zstd
    counts: dict[str, int]  # by Changed.kind
    changed: list[Changed]  # the first MOST
    doubts: list[Doubt]


def commit(
    layers: Layers, container: Container, epoch: int, exclude: Sequence[str]
) -> Committed | None:
    """Write a layer of what the container changed, but for what `exclude` leaves out (patterns as
    `.gitignore` has them); no time is later than `epoch`. None: nothing is changed. Raises
    LayerError for what no layer holds."""
    view = layers.view(container.layers)
    look = _Look(view)
    kept = without(changes(layers, container, epoch), view, Leaving(exclude))
    written = write_layer(map(look.at, kept), layers.store, "zstd")
    if written is None:
        return None
    return Committed(written.layer.blob, look.counts, look.changed, look.doubts())


def without(found: Iterable[Change], view: View, leaving: Leaving) -> Iterator[Change]:
    """Changes without what is left out, and without folders that are there for that alone."""
    waiting: list[Change] = []  # folders as they are below, until something follows in them
    gone: dict[bytes, Change] = {}  # of files that are left out: what their other paths are
    for entry, content in found:
        path, is_folder = entry.path, entry.type == DIRECTORY
        removal = _removed(path)
        while waiting and not path.startswith(waiting[-1][0].path + b"/"):
            waiting.pop()
        if leaving.leaves_out(removal or path, is_dir=is_folder):
            if entry.type == FILE:
                gone[path] = (entry, content)
            continue
        if entry.type == HARDLINK and entry.link in gone:
            first, content = gone[entry.link]
            if first.type == FILE:
                gone[entry.link] = (entry._replace(link=path), None)
                entry = first._replace(path=path)
            else:
                entry, content = entry._replace(link=first.link), None
        if is_folder and (below := view.lookup(path)) and _same(below.entry, entry):
            waiting.append((entry, content))
            continue
        yield from waiting
        waiting.clear()
        yield (entry._replace(mtime=0) if removal else entry), content


def _removed(path: bytes) -> bytes:
    """What the whiteout at a path removes; b"": it is none."""
    folder, slash, name = path.rpartition(b"/")
    return folder + slash + name.removeprefix(WHITEOUT) if name.startswith(WHITEOUT) else b""


def _same(below: Entry, entry: Entry) -> bool:
    return (below.type, *below[2:5], below.xattrs) == (entry.type, *entry[2:5], entry.xattrs)


class _Look:
    """Looks at the changes as they pass."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.counts = dict.fromkeys("ACD", 0)
        self.changed: list[Changed] = []
        self._doubts: dict[tuple[str, str], Doubt] = {}

    def at(self, change: Change) -> Change:
        entry, content = change
        if removed := _removed(entry.path):
            self._count("D", removed, 0)
            return change
        below = self._view.lookup(entry.path)
        if below is None or entry.type != DIRECTORY or not _same(below.entry, entry):
            self._count("A" if below is None else "C", entry.path, entry.size)
        if entry.type == FILE and entry.size:
            self._doubt(entry, content)
        return change

    def _count(self, kind: str, path: bytes, size: int) -> None:
        self.counts[kind] += 1
        if len(self.changed) < MOST:
            self.changed.append(Changed(kind, path, size))

    def _doubt(self, entry: Entry, content: Content) -> None:
        state = _RULES.start
        for char in entry.path.decode("latin-1"):
            state = state[char]
        number = state.accepts.bit_length()
        if number:
            glob, what = _DOUBTS[number - 1]
        elif _KEY.search(_head(content)):
            glob, what = "", "a private key"
        else:
            return
        found = self._doubts.get((what, glob)) or Doubt(what, (glob,) if glob else (), (), 0, 0)
        if len(found.paths) < _FIRST:
            found = found._replace(paths=(*found.paths, entry.path))
            if not glob:
                found = found._replace(exclude=(*found.exclude, _pattern_of(entry.path)))
        self._doubts[what, glob] = found._replace(
            number=found.number + 1, size=found.size + entry.size
        )

    def doubts(self) -> list[Doubt]:
        """By what they are."""
        joined: dict[str, Doubt] = {}
        for each in self._doubts.values():
            before = joined.get(each.what)
            joined[each.what] = each if before is None else _joined(before, each)
        return list(joined.values())


def _joined(one: Doubt, other: Doubt) -> Doubt:
    return Doubt(
        one.what,
        one.exclude + other.exclude,
        (one.paths + other.paths)[:_FIRST],
        one.number + other.number,
        one.size + other.size,
    )


def _pattern_of(path: bytes) -> str:
    """The pattern of one path."""
    return "/" + re.sub(r"([\\*?\[!# ])", r"\\\1", os.fsdecode(path))


def _head(content: Content) -> bytes:
    if isinstance(content, bytes):
        return content[:_HEAD]
    if isinstance(content, HostFile):
        handle = content.open()
        try:
            return os.pread(handle, _HEAD, 0)
        finally:
            os.close(handle)
    if content is None:
        return b""
    with content() as stream:
        return stream.read(_HEAD)
