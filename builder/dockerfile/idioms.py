"""Idioms: commands that the language has a word for, which `convert --idiomatic` uses."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from builder.steps.apt import PACKAGE

_QUIET = frozenset(("-y", "--yes", "--assume-yes", "-q", "-qq", "--quiet", "--no-install-suggests"))
_LESS = ("--no-install-recommends", "-o=APT::Install-Recommends=false")
_LEFT = re.compile(r"/(var/lib/apt/lists|var/cache/apt|tmp|var/tmp|var/log/apt)(/.*)?")
APT_CACHES = ("/var/cache/apt", "/var/cache/apt/archives", "/var/lib/apt", "/var/lib/apt/lists")
"""Folders that a Dockerfile's cache mounts keep for apt-get."""


class Apt(NamedTuple):
    packages: tuple[str, ...]
    recommends: bool


def apt(command: str) -> Apt | None:
    """What a command that does no more than install Debian packages installs, else None."""
    if any(sign in command for sign in ("$", "`", ";", "|", ">", "<", "\\", "#", "(")):
        return None
    found: list[str] = []
    recommends = False
    for part in command.split("&&"):
        try:
            words = shlex.split(part)
        except ValueError:
            return None
        while words and re.fullmatch("DEBIAN_FRONTEND=.*", words[0]):
            words = words[1:]
        if words[:1] == ["rm"]:
            paths = [word for word in words[1:] if not word.startswith("-")]
            if not all(_LEFT.fullmatch(path) for path in paths):
                return None
            continue
        if words[:1] not in (["apt-get"], ["apt"]):
            return None
        options = {word for word in words[1:] if word.startswith("-")}
        named = [word for word in words[1:] if not word.startswith("-")]
        if options - _QUIET - {*_LESS} or not named:
            return None
        if named in (["update"], ["clean"]):
            continue
        if named[0] != "install" or not all(re.fullmatch(PACKAGE, each) for each in named[1:]):
            return None
        found += named[1:]
        recommends |= not options & {*_LESS}
    return Apt(tuple(dict.fromkeys(found)), recommends) if found else None
