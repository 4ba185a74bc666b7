"""`git`: the files of one commit of a repository."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import BuilderError
from builder.plan.step import FileStep
from builder.spec.model import Place, shown

if TYPE_CHECKING:
    from builder.oci.image import Platform
    from builder.plan.changes import Changes
    from builder.plan.materials import Materials
    from builder.plan.remote import Fetched, Progress, Tell
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node
    from builder.store.store import Store
    from builder.transport.fetcher import Fetcher


class _Git(NamedTuple):
    place: Place
    name: str | None
    url: str
    commit: str  # a whole id
    dest: str
    subdir: str = ""  # no slash at its ends
    exclude: tuple[str, ...] = ()  # .gitignore rules
    owner: str | None = None  # as of Copy


class Commit(NamedTuple):
    """What a step takes of a repository: a plan.remote.Remote."""

    url: str
    commit: str
    subdir: str

    def find(self, store: Store) -> Fetched | None:
        from builder.plan.remote import fetched
        from builder.transport.git import find

        files = find(store, *self)
        return fetched(store, files.tar, files.submodules) if files else None

    def promised(self) -> Fetched | None:
        return None

    def fetch(self, fetcher: Fetcher, tell: Tell, progress: Progress) -> None:
        fetcher.commit(self.url, self.commit, self.subdir, tell)


class Git(_Git, FileStep):
    __slots__ = ()
    verb = "git"
    doc = "Take the files of one commit of a git repository."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fetching import git_address, subfolder
        from builder.spec.fields import Field, list_of, text
        from builder.spec.kinds import NAME_FIELD, OWNER_FIELD, TARGET, filled

        return {
            "git": Field(
                text(git_address, expected="the address of a git server"),
                "The repository: https://, ssh://, git@HOST:PATH, git:// or http://.",
                required=True,
            ),
            "commit": Field(text(), "The whole id of a commit.", required=True),
            "dest": Field(TARGET, "The directory to put its files into.", required=True),
            "name": NAME_FIELD,
            "subdir": Field(text(subfolder), "Only what this folder of the repository holds."),
            "exclude": Field(
                list_of(text(filled), one=True, expected="a pattern or a list of patterns"),
                "Patterns by .gitignore rules, relative to the folder that is taken.",
            ),
            "owner": OWNER_FIELD,
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Git:
        from builder.spec.address import parse_commit
        from builder.spec.fetching import shell_word
        from builder.spec.kinds import no_slash, place

        url, commit = given["git"], given["commit"]
        try:
            parse_commit(commit)
        except BuilderError as error:
            words = [shell_word(shown(each)) for each in (url, commit) if each]
            raise (node.get("commit") or node).fault(
                error.what, f"which commits are there: git ls-remote {' '.join(words)}"
            ) from None
        return cls(
            place(reader, node.get("git") or node),
            given.get("name"),
            url,
            commit,
            no_slash(given["dest"]),
            given.get("subdir", ""),
            given.get("exclude", ()),
            given.get("owner"),
        )

    def title(self) -> str:
        below = f" {shown(self.subdir)}" if self.subdir else ""
        return f"git {shown(self.url)} {shown(self.commit)[:12]}{below}"

    def remote(self, platform: Platform) -> Commit:
        return Commit(self.url, self.commit.lower(), self.subdir)

    def changes(self, given: Materials) -> Changes:
        from builder.plan.ignore import Leaving
        from builder.spec.source import written
        from builder.steps.unpacking import Archive, unpack

        assert given.fetched is not None
        leaving = Leaving(self.exclude)
        archive = Archive(given.fetched.seekable, shown(self.url), left_out=leaving.leaves_out)
        for path, commit in given.fetched.submodules:
            if not leaving.leaves_out(os.fsencode(path), is_dir=True):
                raise BuilderError(
                    f"{path!r} is a submodule of {shown(self.url)}, which is not fetched with it",
                    f"write exclude: [{written(f'/{path}/')}], and take commit {commit} of the"
                    " other repository by a git step of its own",
                )
        return unpack(self, [archive], given.ground)
