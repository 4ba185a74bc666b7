"""The context: the folder that sources come from, what is ignored in it, and what its files hold.

Nothing outside the context is read: every path is resolved first and must stay inside, and from
then on it is reached by handles, without following a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import BuilderError, Place, UsageError
from builder.events import Emit, Warned, ignore
from builder.layer.beneath import Beneath, LeadsOut
from builder.oci.digest import hasher
from builder.plan.globs import matches_below
from builder.plan.ignore import KEPT, LEFT_OUT, MAGIC, At, Exclude, Ignore, Rules, tests_of
from builder.plan.nodes import Tree, look
from builder.store.layout import TAG
from builder.store.store import Store

if TYPE_CHECKING:
    # a build in which nothing changed asks for no digest
    from builder.plan.known import DigestCache, Pieces
    from builder.spec.model import Folder

_CHUNK = 1 << 20
_TURNS = tuple(threading.Lock() for _ in range(16))
_MANY = 64  # unread files from which on leaving them is worth it


class Absent(BuilderError):
    """What a source names is not there, in the context or in an image, or is all left out."""


MAY_BE_MISSING = "what may be missing goes under `optional`"
"""The hint of a `copy` in which it may."""


class Matched(NamedTuple):
    """What one source text matched. `path` is relative to the context, symlinks resolved; `below`
    is where it lands below a destination directory: its base name, or with a glob the path below
    the glob's fixed prefix."""

    path: str
    below: str
    is_dir: bool
    globbed: bool


Scanned = list[tuple[Matched, Tree]]
"""The sources of a step, each with what lstat saw of it."""


class Context:
    """A context folder. `store` keeps what was hashed; without it files are only looked at."""

    def __init__(
        self,
        root: str,
        store: Store | None,
        emit: Emit = ignore,
        named: str = "",
        ignore_file: str = ".dockerignore",
    ) -> None:
        """`named` stands before the names of its own files in errors; `ignore_file` is a path in
        it."""
        self._ignore_file = ignore_file
        self.root = os.path.realpath(root)
        self._store = store
        self._emit = emit
        self._named = named
        self._beneath: Beneath | None = None
        self._ignore: Ignore | None = None
        self._globs: dict[str, list[Matched]] = {}  # which a run expands once
        self._folders: dict[str, Context] = {}
        self._stores: set[bytes] = set()  # folders that were left out

    def of(self, folder: Folder | None) -> Context:
        """The context of a spec: a folder of this one, with an ignore file of its own. Raises
        SpecError."""
        if folder is None:
            return self
        found = self._folders.get(folder.path)
        if found is None:
            try:
                found = self._below(folder.path)
            except BuilderError as error:
                from builder.spec.files import error_at
                from builder.spec.model import shown

                message = error.what.replace(folder.path, shown(folder.path))
                raise error_at(folder.place, message, error.hint) from None
            self._folders[folder.path] = found
        return found

    def _below(self, path: str) -> Context:
        resolved = self._resolve(path, path)
        if resolved is None:
            near = self._near(path, path)
            hint = f"did you mean {near!r}?" if near else None
            raise BuilderError(f"there is no {path!r}, expected a folder of the context", hint)
        if not resolved[1]:
            raise BuilderError(f"{path!r} is not a folder")
        found = Context(os.path.join(self.root, resolved[0]), self._store, self._emit, path + "/")
        if os.path.commonpath((self.root, found.root)) != self.root:  # it became a link since
            raise BuilderError(f"{path!r} leads out of the context through a symlink")
        return found

    # -- finding sources -----------------------------------------------------------------

    def find(self, text: str) -> list[Matched]:
        """What `text` names, sorted. Raises BuilderError: missing, ignored, out of the context."""
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if ".." in parts:
            parts = self._without_dots(parts, text)
        fixed = next((i for i, part in enumerate(parts) if MAGIC.search(part)), None)
        if fixed is None:
            path, is_dir = self._inside("/".join(parts), text)
            if text.endswith("/") and not is_dir:
                raise BuilderError(f"{text!r} is not a directory")
            return [Matched(path, parts[-1] if parts else "", is_dir, False)]
        known = self._globs.get("/".join(parts))
        if known is None:
            known = self._globs["/".join(parts)] = self._glob(parts, fixed, text)
        return known

    def _glob(self, parts: list[str], fixed: int, text: str) -> list[Matched]:
        """What `find` gives for a glob, whose first `fixed` parts are none."""
        prefix = "/".join(parts[:fixed])
        found = []
        last = None
        expanded = set(self._expand(prefix, parts[fixed:], text))
        for path, is_dir in sorted(expanded, key=lambda each: each[0].split("/")):
            if last is not None and path.startswith(last + "/"):
                continue  # its directory was matched already
            if self._left_out(path, is_dir) or self._in_store(path):
                continue
            below = path[len(prefix) + 1 if prefix else 0 :]
            inside, is_dir = self._inside(path, path)
            found.append(Matched(inside, below, is_dir, True))
            last = path if is_dir else None
        if not found:
            raise Absent(f"{text!r} matches nothing in the context")
        return found

    def _without_dots(self, parts: list[str], text: str) -> list[str]:
        kept: list[str] = []
        for part in parts:
            if part != "..":
                kept.append(part)
            elif kept:
                kept.pop()
            else:
                raise BuilderError(
                    f"{text!r} leads out of the context",
                    "copy what is needed into the context, or set --context",
                )
        return kept

    def _inside(self, path: str, text: str) -> tuple[str, bool]:
        """`path` with its symlinks followed, relative to the context and within it, and whether it
        is a directory."""
        found = self._resolve(path, text)
        if found is None:
            near = self._near(path, text)
            raise Absent(
                f"{text!r} does not exist in the context",
                f"did you mean {near!r}?" if near else None,
            )
        inside, is_dir = found
        if self._left_out(path, is_dir) or self._left_out(inside, is_dir):
            raise Absent(f"{text!r} is excluded by .dockerignore")
        if self._in_store(inside):
            raise BuilderError(f"{text!r} is, or lies in, a store of the builder's")
        return found

    def _resolve(self, path: str, text: str, *, glob: bool = False) -> tuple[str, bool] | None:
        """As `_inside`, whatever is left out; None for what does not exist, and in a `glob` for
        links in a circle."""
        try:
            inside, mode = self.beneath.resolve(os.fsencode(path))
        except LeadsOut:
            raise BuilderError(
                f"{text!r} leads out of the context through a symlink",
                "copy what is needed into the context, or set --context",
            ) from None
        except OSError as error:
            if error.errno == errno.ELOOP and not glob:
                raise BuilderError(f"{text!r} leads through symlinks in a circle") from error
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise _unreadable(error) from error
        return os.fsdecode(inside), stat.S_ISDIR(mode)

    def _near(self, path: str, text: str) -> str | None:
        import difflib

        folder, name = os.path.split(path)
        names = [os.fsdecode(each) for each, _ in self._listed(folder, text)]
        found = difflib.get_close_matches(name, names, 1)
        return os.path.join(folder, found[0]) if found else None

    def _listed(self, folder: str, text: str) -> list[tuple[bytes, bool]]:
        """As Beneath.listed, links followed on the way; nothing for what is no folder."""
        found = self._resolve(folder, text)
        return self._holds(found[0]) if found and found[1] else []

    def _holds(self, folder: str) -> list[tuple[bytes, bool]]:
        try:
            return self.beneath.listed(os.fsencode(folder))
        except OSError:
            return []

    def _expand(self, folder: str, parts: list[str], text: str) -> Iterator[tuple[str, bool]]:
        """What matches below a folder, some of it more than once, and whether it is one itself,
        links not followed."""

        def listed(here: tuple[str, bool]) -> Iterator[tuple[str, bool, tuple[str, bool]]]:
            """Of a path, and whether that is known to be a folder by itself."""
            path, known = here
            if not known:
                path, known = self._resolve(path, text, glob=True) or ("", False)
            for each, is_dir in self._holds(path) if known else ():
                name = os.fsdecode(each)
                yield name, is_dir, (os.path.join(path, name), is_dir)

        return matches_below(tests_of(parts), folder, (folder, False), listed)

    def one_file(self, text: str, what: str) -> tuple[Matched, Tree]:
        """The one file that a source text names; `what` it is, for errors. Raises BuilderError."""
        found = self.find(text)
        if len(found) != 1:
            raise BuilderError(f"{text!r} matches {len(found)} files, expected one {what}")
        return self._file(found[0], text, what)

    def _file(self, source: Matched, text: str, what: str) -> tuple[Matched, Tree]:
        tree = self.tree(source)
        if not stat.S_ISREG(tree.part(0)[0][1]):
            shown = source.path if source.globbed else text
            raise BuilderError(f"{shown!r} is not a file, expected a file: the {what}")
        return source, tree

    def files(self, texts: Iterable[str], what: str) -> Scanned:
        """The files that source texts name; `what` each is, for errors. Raises BuilderError."""
        return [self._file(source, text, what) for text in texts for source in self.find(text)]

    def copied(
        self,
        texts: Iterable[str],
        exclude: Sequence[str],
        *,
        full: bool,
        optional: Iterable[str] = (),
        docker: bool = False,
    ) -> Scanned:
        """What source texts name, without what `exclude` and the ignore file leave out, and what is
        there of `optional`; no file is read. `full` looks at times and owners of directories too.
        `docker`: a glob may match nothing, and what it matches is as if it were named.
        Raises BuilderError."""
        patterns = Exclude(exclude)
        if docker:
            return self._as_docker(texts, patterns)
        scanned = [each for text in texts for each in self._copied(text, patterns, full)]
        for text in optional:
            with contextlib.suppress(Absent):
                scanned += self._copied(text, patterns, full)
        return scanned

    def _as_docker(self, texts: Iterable[str], patterns: Exclude) -> Scanned:
        scanned: Scanned = []
        for text in texts:
            try:
                found = self._copied(text, patterns, True)
            except Absent:
                if not any(MAGIC.search(part) for part in text.split("/")):
                    raise
                continue
            for source, tree in found:
                name = os.path.basename(source.below)
                scanned.append((source._replace(below=name, globbed=False), tree))
        return scanned

    def _copied(self, text: str, exclude: Exclude, full: bool) -> Scanned:
        """What one source text of a `copy` names, without what is left out."""
        kept = []
        for source in self.find(text):
            below = source.below if source.globbed else ""
            verdict, at = KEPT, None
            rules = Rules(self.ignore, exclude)
            if rules:
                verdict, at = rules.start(source.path, below, is_dir=source.is_dir)
                if verdict == LEFT_OUT:
                    continue
            tree = self._look(source, (rules, at) if at else None, full=full)
            if verdict == KEPT or not tree.bare:
                kept.append((source, tree))
        if not kept:
            raise Absent(f"{text!r} is left out, with all that it holds")
        return kept

    # -- reading trees -------------------------------------------------------------------

    @property
    def beneath(self) -> Beneath:
        """The context's folder, open."""
        if self._beneath is None:
            self._beneath = Beneath(self.root)
        return self._beneath

    def tree(self, source: Matched) -> Tree:
        """Everything at and below a source, in layer order. Raises BuilderError for what cannot be
        read."""
        return self._look(source, None, full=False)

    def _look(self, source: Matched, rules: tuple[Rules, At] | None, *, full: bool) -> Tree:
        """`full` looks at times and owners of directories too (`preserve:`)."""
        try:
            return look(self.beneath, os.fsencode(source.path), self._is_store, rules, full=full)
        except OSError as error:
            raise _unreadable(error) from error

    def open(self, source: Matched) -> int:
        """A handle to read a file that was found. Raises BuilderError."""
        return _regular(self.beneath, os.fsencode(source.path))

    @property
    def _known(self) -> DigestCache:
        from builder.plan.known import DigestCache

        assert self._store is not None, "a context that is only looked at"
        return DigestCache(self._store)

    def digests(self, tree: Tree, *, read_later: bool = False) -> Pieces:
        """Raw sha256 of every regular file of a tree. What lstat shows unchanged since it was
        hashed is not read again. `read_later`: many that are not known stay so, to be read when the
        layer is made, and given to `save` then."""
        pieces, numbers = self._known.find(tree)
        if read_later and self._known.lacks(tree, pieces, numbers, _MANY):
            return pieces
        turn = _TURNS[int(tree.fingerprint()[0], 16)]
        waits = turn.locked()
        with turn:  # of two threads that come to the same files one reads them
            if waits:
                pieces, _ = self._known.find(tree)
            self._known.fill(tree, pieces, self._hash)
        return pieces

    def read_meanwhile(self, tree: Tree, pieces: Pieces) -> dict[bytes, bytes] | None:
        """The digests of a tree's files by path below the context, if those that `pieces` lacks
        were found since, all of them."""
        found = self._known.meanwhile(tree, pieces)
        if found is None:
            return None
        return {tree.below(node[0]): digest for node, digest in self._known.files(tree, found)}

    def save(self, tree: Tree, pieces: Pieces, digest_of: Callable[[bytes], bytes | None]) -> None:
        """Keep the digests of a tree's files for the next time: `pieces`, and what `digest_of` says
        of a path below the context; it is asked in the tree's order for those that lack."""
        self._known.fill(tree, list(pieces), lambda path, _: digest_of(path))

    def forget(self, trees: Iterable[Tree]) -> None:
        """Take nothing of what was read of these files for known the next time."""
        for tree in trees:
            self._known.forget(tree)

    def _hash(self, path: bytes, size: int) -> bytes:
        """Raw sha256 of a file of `size` bytes. When it is written to after lstat looked at it,
        this may be the digest of what it was or of what it is: the layer gets the bytes of this
        digest or none, and lstat will tell it from the file that was looked at."""
        try:
            handle = self.beneath.open(path)
            try:
                data = os.read(handle, min(size + 1, _CHUNK))
                length = len(data)
                running = hasher(data)
                while length < size and (data := os.read(handle, _CHUNK)):
                    running.update(data)
                    length += len(data)
            finally:
                os.close(handle)
        except OSError as error:
            error.filename = error.filename or self.beneath.whole(path)
            raise _unreadable(error) from error
        if length != size:
            raise BuilderError(
                f"{os.fsdecode(self.beneath.whole(path))!r} changed while it was read",
                "build again when it is at rest",
            )
        return running.digest()

    # -- what is left out ----------------------------------------------------------------

    @property
    def ignore(self) -> Ignore:
        """The context's .dockerignore."""
        if self._ignore is None:
            try:
                found = self._resolve(self._ignore_file, self._ignore_file)
                handle = _regular(self.beneath, os.fsencode(found[0])) if found else None
            except BuilderError as error:  # no fault of the step that asked first
                raise UsageError(error.message, error.hint) from error
            text = ""
            if handle is not None:
                with open(handle, "rb") as file:
                    data = file.read()
                try:
                    text = data.decode("utf-8").removeprefix("\ufeff")
                except UnicodeDecodeError as error:
                    *above, here = data[: error.start].split(b"\n")
                    column = len(here.decode("utf-8").removeprefix("\ufeff")) + 1
                    place = Place(f"{self._named}{self._ignore_file}", len(above) + 1, column)
                    message = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
                    raise UsageError(message).at(place) from error
            self._ignore = Ignore(text, f"{self._named}{self._ignore_file}")
        return self._ignore

    def _left_out(self, path: str, is_dir: bool) -> bool:
        """Whether .dockerignore leaves out `path` with all below."""
        rules = Rules(self.ignore, Exclude(()))
        return bool(rules) and rules.start(path, "", is_dir=is_dir)[0] == LEFT_OUT

    def _in_store(self, path: str) -> bool:
        """Whether `path` is a store of the builder's, or lies in one."""
        parts = [part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")]
        return any(self._has_tag(b"/".join(parts[:end])) for end in range(len(parts) + 1))

    def _is_store(self, path: bytes, listed: list[tuple[bytes, bool]]) -> bool:
        """As `nodes.IsStore`; each is told once."""
        if (b"CACHEDIR.TAG", False) not in listed or not self._has_tag(path):
            return False
        if path not in self._stores:
            self._stores.add(path)
            self._emit(Warned(f"{os.fsdecode(path)!r} is left out: a store of the builder's"))
        return True

    def _has_tag(self, folder: bytes) -> bool:
        try:
            handle = self.beneath.open(folder + b"/CACHEDIR.TAG" if folder else b"CACHEDIR.TAG")
        except OSError:
            return False
        try:
            return stat.S_ISREG(os.fstat(handle).st_mode) and os.read(handle, len(TAG) + 1) == TAG
        finally:
            os.close(handle)


def _unreadable(error: OSError) -> BuilderError:
    return BuilderError(f"{os.fsdecode(error.filename)!r} cannot be read: {error.strerror}")


def _regular(beneath: Beneath, path: bytes) -> int:
    """A handle to read a regular file; what else takes its place is an error and does not block.
    Raises BuilderError."""
    try:
        handle = beneath.open(path)
    except OSError as error:
        raise _unreadable(error) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BuilderError(f"{os.fsdecode(beneath.whole(path))!r} is not a regular file")
    return handle
