"""Addresses of what steps fetch. They are checked where they are read: nobody is asked for them."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from builder.errors import BuilderError, masked

LENGTHS = {"sha256": 64, "sha512": 128}
"""Algorithms of checksums, and how many hex digits they have."""
_GIT = ("https", "http", "ssh", "git")
_SCP = re.compile(r"[A-Za-z0-9_][\w.+-]*@[A-Za-z0-9][\w.-]*:(?!//)[^\s\\]+")
_WORD = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9_]([\w.-]*[A-Za-z0-9_])?|[0-9A-Fa-f:.]+")


class Checksum(NamedTuple):
    algorithm: str  # sha256 | sha512
    digest: str  # lower-case hex


def parse_checksum(algorithm: str, text: str) -> Checksum:
    """Raises BuilderError, without a place."""
    digest = text.strip().removeprefix(f"{algorithm}:").lower()
    length = LENGTHS[algorithm]
    if len(digest) != length or not re.fullmatch("[0-9a-f]*", digest):
        other = next((name for name, size in LENGTHS.items() if size == len(digest)), None)
        hex_digits = re.fullmatch("[0-9a-f]*", digest)
        hint = f"write {other}: {digest}" if other and hex_digits else None
        raise BuilderError(
            f"{text[:140]!r} is not a {algorithm}, expected {length} hex digits", hint
        )
    return Checksum(algorithm, digest)


def check_download(url: str) -> None:
    """An address that a `download` may have. Raises BuilderError, without a place."""
    scheme = _scheme(url)
    if scheme not in ("http", "https"):
        raise BuilderError(
            f"{masked(url)[:200]!r} is not an http(s) address",
            "a file of the project is a `copy`, an archive of it an `unpack`"
            if scheme == "file" or not scheme
            else "write https://HOST/PATH",
        )
    user, _ = _user(url)
    if user:
        raise BuilderError(
            f"{masked(url)!r} holds a user, which images and logs would show",
            "leave it out, and write it into ~/.netrc: machine HOST login NAME password SECRET",
        )
    _check_host(url)


def check_git(url: str) -> None:
    """An address that a `git` step may have. Raises BuilderError, without a place."""
    if _SCP.fullmatch(url):
        return
    scheme = _scheme(url)
    if scheme not in _GIT:
        local = scheme == "file" or url.startswith(("/", "."))
        raise BuilderError(
            f"{masked(url)[:200]!r} is not the address of a git server,"
            " expected https://, ssh://, git@HOST:PATH, git:// or http://",
            "files of the project are a `copy`" if local else None,
        )
    user, secret = _user(url)
    if secret or (user and scheme != "ssh"):
        raise BuilderError(
            f"{masked(url)!r} holds a user, which images and logs would show",
            "leave it out, and write it into ~/.netrc: machine HOST login NAME password SECRET"
            if scheme != "ssh"
            else "leave the password out: ssh takes keys, also from an agent",
        )
    if user and not re.fullmatch(r"[A-Za-z0-9_][\w.+-]*", user):
        raise BuilderError(f"{url[:200]!r}: {user!r} is not the name of a user")
    _check_host(url)


def parse_commit(text: str) -> str:
    """The id of a commit, whole. Raises BuilderError, without a place."""
    commit = text.strip().lower()
    if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", commit):
        return commit
    raise BuilderError(
        f"{text[:100]!r} is not the whole id of a commit, expected 40 hex digits (64 with SHA-256)"
    )


def _scheme(url: str) -> str:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return found[1].lower() if found else ""


def _user(url: str) -> tuple[str, bool]:
    """The user of an address, and whether a password stands beside it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", False
    user, at, _ = parts.netloc.rpartition("@")
    return (user.partition(":")[0] or "?" if at else ""), ":" in user


def _check_host(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not _WORD.fullmatch(url):
        raise BuilderError(
            f"{url[:200]!r}: an address holds no spaces and is ASCII", "write others as %XX"
        )
    if not _HOST.fullmatch(host) or port == 0 or not parts.path:
        raise BuilderError(f"{url[:200]!r} is not an address, expected https://HOST/PATH")
