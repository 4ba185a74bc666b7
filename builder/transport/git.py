"""Git: the files of one commit into the store, as a tar.

The `git` program fetches and reads objects; nothing is checked out, so no hook, filter or attribute
of the repository, and no configuration but ours, has a say in what the files are. See
docs/decisions/0017-git.md.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, NamedTuple

from builder.errors import TransportError
from builder.layer.entry import DIRECTORY, FILE, SYMLINK, WHITEOUT, Entry
from builder.layer.header import Headers, end_of_archive, padding
from builder.oci.digest import hex_of
from builder.oci.image import Descriptor, encode
from builder.spec.address import check_git, parse_commit
from builder.store.names import parse_descriptor
from builder.store.records import parse_object
from builder.transport.base import Tell, quiet
from builder.transport.git_program import Git
from builder.work.cancel import Cancel

if TYPE_CHECKING:
    from builder.store.store import Store

_VERSION = 1
"""Raised when the same commit would give another tar."""
TAR = "application/x-tar"

_CHUNK = 1 << 20
_UNASKED = "unadvertised object|shallow capabilities|not support shallow|want .* not valid"
"""What a fetch of one commit says where the server gives its branches and tags only."""


class Submodule(NamedTuple):
    path: str  # from the folder that was asked for
    commit: str


class Files(NamedTuple):
    """The files of a commit. A submodule is an empty folder in the tar."""

    tar: Descriptor
    submodules: tuple[Submodule, ...]


def find(store: Store, url: str, commit: str, subdir: str) -> Files | None:
    """What was fetched before, if it is in the store."""
    known = parse_object(store.load("memos", _name(url, commit, subdir))) or {}
    blob, listed = parse_descriptor(known.get("tar")), known.get("submodules")
    if blob is None or not isinstance(listed, list):
        return None
    pairs = [each for each in listed if isinstance(each, list) and len(each) == 2]
    submodules = tuple(Submodule(str(path), str(id_)) for path, id_ in pairs)
    return Files(blob, submodules) if store.claim(blob) else None


def fetch(
    store: Store,
    url: str,
    commit: str,
    subdir: str = "",
    *,
    environment: Mapping[str, str],
    tell: Tell = quiet,
    cancel: Cancel | None = None,
) -> Files:
    """The files below `subdir` (no slash at its ends; "": all) as `commit`, a whole id, has them.
    They come if they are not here yet. Raises TransportError, StoreError."""
    check_git(url)
    commit = parse_commit(commit)
    name = _name(url, commit, subdir)
    with store.lock(name, f"{url} {commit[:12]}"):
        if found := find(store, url, commit, subdir):
            return found
        folder = store.temporary()
        try:
            git = _Repository(Git(folder, url, environment, tell, cancel or Cancel()))
            git.bring(commit)
            files = git.write(store, git.tree(commit, subdir))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        known = {"tar": files.tar.document(), "submodules": [list(each) for each in files[1]]}
        store.save("memos", name, encode(known))
        return files


def commit_of(
    store: Store,
    url: str,
    ref: str,
    *,
    environment: Mapping[str, str],
    cancel: Cancel | None = None,
) -> str:
    """The id of the commit that `ref` is at the server now: a branch, else a tag, or a whole name
    below refs/; HEAD for "". Raises TransportError, also when there is no such."""
    check_git(url)
    folder = store.temporary()
    try:
        git = Git(folder, url, environment, quiet, cancel or Cancel())
        git.run(["init", "--bare", "--quiet", "--template="])
        asked = [ref, f"{ref}^{{}}"] if ref else ["HEAD"]
        status, said = git.ask(["ls-remote", "--quiet", "--", url, *asked])
        if status:
            raise git.failure(ref, status, said)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = {name: id_ for id_, _, name in (line.partition("\t") for line in said.splitlines())}
    names = (f"{ref}^{{}}", ref, f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}")
    ids = [found[name] for name in (names if ref else ("HEAD",)) if name in found]
    if not ids:
        what = f"no branch or tag {ref!r}" if ref else "no commit yet"
        raise TransportError(f"{git.shown}: there is {what}")
    return parse_commit(ids[0])


def _name(url: str, commit: str, subdir: str) -> str:
    return "git-" + hex_of(encode([_VERSION, url, commit, subdir]))


class _Repository:
    """A repository of our own, empty at first, and what is fetched into it."""

    def __init__(self, git: Git) -> None:
        self._git = git

    # -- what comes -------------------------------------------------------------------------------

    def bring(self, commit: str) -> None:
        """The commit, its tree and its files, and no more where the server can do that."""
        kind = "sha256" if len(commit) == 64 else "sha1"
        self._git.run(["init", "--bare", "--quiet", "--template=", f"--object-format={kind}"])
        options = ("--progress", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        status, said = self._git.ask(["fetch", "--depth=1", *options, "--", self._git.url, commit])
        if status and re.search(_UNASKED, said):
            refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            status, said = self._git.ask(["fetch", *options, "--", self._git.url, *refs])
        if status:
            raise self._git.failure(commit, status, said)
        status, said = self._git.ask(["cat-file", "-t", commit])
        if status:
            raise self._git.missing(commit)
        if said.strip() != "commit":
            hint = None
            if said.strip() == "tag":
                meant = self._git.run(["rev-parse", f"{commit}^{{commit}}"]).strip()
                hint = f"write commit: {meant}"
            raise TransportError(
                f"{self._git.shown}: {commit} is a {said.strip()[:20]}, expected a commit", hint
            )

    def tree(self, commit: str, subdir: str) -> str:
        """The id of a folder."""
        what = f"{commit}:{subdir}"
        status, said = self._git.ask(["rev-parse", "--verify", "--quiet", what])
        if not status and self._git.run(["cat-file", "-t", said.strip()]).strip() == "tree":
            return said.strip()
        import difflib

        listed = self._git.run(["ls-tree", "-r", "-d", "-z", "--name-only", commit]).split("\0")
        near = difflib.get_close_matches(subdir, listed, n=3, cutoff=0.5)
        raise TransportError(
            f"{self._git.shown}: commit {commit[:12]} has no folder {subdir!r}",
            f"did you mean {' or '.join(map(repr, near))}?" if near else None,
        )

    # -- what is read -----------------------------------------------------------------------------

    def write(self, store: Store, tree: str) -> Files:
        """The files below a folder as a tar: objects as they are, modes as git has them."""
        submodules = []
        headers = Headers()
        with (
            self._git.piped(["ls-tree", "-r", "-t", "-z", tree]) as (_, listed),
            self._git.piped(["cat-file", "--batch"]) as (asked, objects),
            store.incoming() as incoming,
        ):
            for mode, object_id, path in _entries(listed):
                _check_path(path, self._git.shown)
                if mode == b"160000":
                    submodules.append(Submodule(os.fsdecode(path), object_id.decode()))
                if mode in (b"040000", b"160000"):
                    incoming.write(headers.of(Entry(path, DIRECTORY, 0o755)))
                    continue
                asked.write(object_id + b"\n")
                asked.flush()
                kind, size = self._header(objects, object_id)
                if kind != b"blob" or mode not in _MODES:
                    shown = f"{os.fsdecode(path)!r} is a {mode.decode()} {kind.decode()}"
                    raise TransportError(f"{self._git.shown}: {shown}, which git has not")
                if incoming.size + size > self._git.free:
                    raise self._git.no_room(incoming.size + size)
                if mode == b"120000":
                    if size > 4095:
                        shown = f"{os.fsdecode(path)!r} is a link of {size} bytes"
                        raise TransportError(f"{self._git.shown}: {shown}, expected at most 4095")
                    link = b"".join(self._pieces(objects, size))
                    incoming.write(headers.of(Entry(path, SYMLINK, 0o777, link=link)))
                else:
                    incoming.write(headers.of(Entry(path, FILE, _MODES[mode], size=size)))
                    for piece in self._pieces(objects, size):
                        incoming.write(piece)
                    incoming.write(bytes(padding(size)))
                objects.read(1)  # a newline
            incoming.write(end_of_archive())
            return Files(incoming.publish(TAR), tuple(submodules))

    def _header(self, objects: IO[bytes], object_id: bytes) -> tuple[bytes, int]:
        parts = objects.readline(300).split()
        if len(parts) != 3 or parts[0] != object_id:
            raise self._git.lost()
        return parts[1], int(parts[2])

    def _pieces(self, objects: IO[bytes], size: int) -> Iterator[bytes]:
        while size:
            piece = objects.read(min(size, _CHUNK))
            if not piece:
                raise self._git.lost()
            size -= len(piece)
            yield piece


_MODES = {b"100644": 0o644, b"100755": 0o755, b"100664": 0o644, b"120000": 0o777}
"""100664 is what very old versions wrote."""


def _entries(listed: IO[bytes]) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Mode, id and path of what `ls-tree -z` lists."""
    rest = b""
    while chunk := listed.read(1 << 16):
        *lines, rest = (rest + chunk).split(b"\0")
        for line in lines:
            told, _, path = line.partition(b"\t")
            mode, _, object_id = told.split(b" ")
            yield mode, object_id, path


def _check_path(path: bytes, where: str) -> None:
    for part in path.split(b"/"):
        if part.lower() in (b"", b".", b"..", b".git") or part.startswith(WHITEOUT):
            raise TransportError(f"{where}: {os.fsdecode(path)!r} cannot be a file of an image")
