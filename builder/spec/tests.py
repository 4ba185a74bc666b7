"""Tests: what a spec says of the image that it makes, as frozen values.

Imported for a spec that has some: a build of others needs none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from builder.spec.model import Place


class Expected(NamedTuple):
    """What a text has to be. All of it holds, or the test fails."""

    contains: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()  # regular expressions that are found in it; ^ and $ of each line
    equals: str | None = None  # but for one newline at its end


class RunTest(NamedTuple):
    """A command in a throw-away container."""

    place: Place
    name: str
    command: str | tuple[str, ...]  # text runs under the shell, a tuple is an argv
    entrypoint: bool = False  # the words are arguments of the image's entrypoint
    status: int = 0
    stdout: Expected = Expected()
    stderr: Expected = Expected()
    user: str | None = None  # None, here and below: as the image's config says
    env: Mapping[str, str] = {}
    working_dir: str | None = None
    network: str = "none"  # none | private | host
    timeout: int = 60_000_000_000  # nanoseconds
    stdin: str = ""


class FileTest(NamedTuple):
    """A regular file or a symlink; nothing runs."""

    place: Place
    name: str
    path: str  # absolute
    exists: bool = True
    mode: str | None = None  # octal text
    owner: str | None = None  # user[:group]
    sha256: str | None = None  # hex digits
    link: str | None = None  # what the symlink of this path says
    content: Expected = Expected()


class DirectoryTest(NamedTuple):
    place: Place
    name: str
    path: str  # absolute
    exists: bool = True
    mode: str | None = None
    owner: str | None = None


class PackageTest(NamedTuple):
    """A package in the databases of the image; nothing runs."""

    place: Place
    name: str
    package: str
    manager: str | None = None  # dpkg | apk | rpm | pip | npm; None: any
    version: str | None = None  # a glob
    installed: bool = True


class Http(NamedTuple):
    """What is asked of a port, and what it has to answer."""

    path: str = "/"
    status: int = 200
    body: Expected = Expected()


class PortTest(NamedTuple):
    """The image's own command, in a throw-away container with a network of its own."""

    place: Place
    name: str
    port: int
    protocol: str = "tcp"  # tcp | udp
    within: int = 10_000_000_000  # nanoseconds
    env: Mapping[str, str] = {}
    http: Http | None = None


Test = RunTest | FileTest | DirectoryTest | PackageTest | PortTest
KINDS: dict[str, type[Any]] = {
    each.__name__: each
    for each in (Expected, RunTest, FileTest, DirectoryTest, PackageTest, Http, PortTest)
}
