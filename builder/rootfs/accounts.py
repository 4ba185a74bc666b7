"""Accounts: names of users and groups to numbers, with the image's own /etc/passwd and /etc/group.

Numbers never need an entry. Lines that are no accounts (NIS lines, comments, bad ids) do not count;
of two with one name the first does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from builder.errors import BuilderError
from builder.layer.entry import MAX_ID


class AccountFiles(Protocol):
    """An image's, such as a View."""

    def read_small(self, path: bytes) -> bytes | None:
        """The bytes of an account file, symlinks followed; None where there is none."""


ACCOUNT_FILE = 1 << 20
"""Bytes of an account file that a path table keeps."""


_NAMES = (b"passwd", b"group", b"shadow", b"gshadow", b"login.defs")


def is_account_file(path: bytes) -> bool:
    """Whether a path table keeps the file's bytes: any of these names, since the ones in /etc may
    be symlinks."""
    return path.rpartition(b"/")[2] in _NAMES


class User(NamedTuple):
    """Who a command runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()  # supplementary, in the order of /etc/group
    home: str = "/"


class _Account(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_owner(text: str, view: AccountFiles) -> tuple[int, int]:
    """(uid, gid) of `user[:group]`, names or numbers, as BuildKit's `COPY --chown` does it, except
    that an unknown name is an error: a name alone has its account's primary group, a number alone
    stands for both."""
    user, group = _split(text)
    uid = _number(user)
    if uid is not None:
        gid = uid
    else:
        account = _account(user, view, text)
        uid, gid = account.uid, account.gid
    return uid, gid if group is None else _gid(group, view, text)


def resolve_user(text: str, view: AccountFiles) -> User:
    """Who `USER text` means for a command, as Docker and runc do it: a number without an account
    has group 0 and home `/`; supplementary groups count only when no group was named. "" is root.
    """
    user, group = _split(text or "0")
    uid = _number(user)
    if uid is None:
        account = _account(user, view, text)
    else:
        found = (each for each in _accounts(view) if each.uid == uid)
        account = next(found, _Account("", uid, 0, "/"))
    if group is not None:
        return User(account.uid, _gid(group, view, text), (), account.home)
    groups = (each.gid for each in _groups(view) if account.name and account.name in each.members)
    return User(account.uid, account.gid, tuple(dict.fromkeys(groups)), account.home)


def _split(text: str) -> tuple[str, str | None]:
    user, colon, group = text.partition(":")
    if not user or (colon and not group) or ":" in group:
        raise BuilderError(f"{text!r} is no owner, expected user[:group], names or numbers")
    return user, group if colon else None


def _number(text: str) -> int | None:
    """The id that `text` writes, None when it is a name."""
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > 10 or int(text) > MAX_ID:
        raise BuilderError(f"id {text[:40]!r} is too large, expected at most {MAX_ID}")
    return int(text)


def _account(name: str, view: AccountFiles, text: str) -> _Account:
    accounts = list(_accounts(view))
    for account in accounts:
        if account.name == name:
            return account
    if name == "root":
        return _Account("root", 0, 0, "/")
    names = [account.name for account in accounts]
    raise unknown("user", name, names, "/etc/passwd", text)


def _gid(group: str, view: AccountFiles, text: str) -> int:
    number = _number(group)
    if number is not None:
        return number
    groups = list(_groups(view))
    for each in groups:
        if each.name == group:
            return each.gid
    if group == "root":
        return 0
    raise unknown("group", group, [each.name for each in groups], "/etc/group", text)


def unknown(kind: str, name: str, names: Iterable[str], file: str, text: str) -> BuilderError:
    """The error of a name that is not among `names`, of an owner's text."""
    from difflib import get_close_matches

    known = dict.fromkeys(names)
    near = get_close_matches(name, known, 3)
    makes = "a step `account: NAME` before this one makes a user and its group"
    if near:
        hint = f"did you mean {' or '.join(repr(each) for each in near)}?"
    elif known:
        hint = f"{file} has {len(known)} names, none is near; {makes}, or give a number"
    else:
        hint = f"the image has no {file} with names at this point; {makes}, or give a number"
    place = "" if name == text else f" in {text!r}"
    return BuilderError(f"{kind} {name!r}{place} is not in the image's {file}", hint).about("owner")


def _accounts(view: AccountFiles) -> Iterator[_Account]:
    for fields in _lines(view.read_small(b"etc/passwd"), 4):
        uid, gid = id_of(fields[2]), id_of(fields[3])
        if fields[0] and uid is not None and gid is not None:
            home = fields[5] if len(fields) > 5 else ""
            yield _Account(fields[0], uid, gid, home if home.startswith("/") else "/")


def _groups(view: AccountFiles) -> Iterator[_Group]:
    for fields in _lines(view.read_small(b"etc/group"), 3):
        gid = id_of(fields[2])
        if fields[0] and gid is not None:
            members = tuple(fields[3].split(",")) if len(fields) > 3 else ()
            yield _Group(fields[0], gid, members)


def _lines(data: bytes | None, least: int) -> Iterator[list[str]]:
    for line in (data or b"").split(b"\n"):
        fields = fields_of(line)
        if len(fields) >= least:
            yield fields


def fields_of(line: bytes) -> list[str]:
    """The fields of a line of an account file; none of a comment, and of what is no text."""
    if line.startswith(b"#") or b"\0" in line:
        return []
    return line.decode("utf-8", "surrogateescape").strip().split(":")


def id_of(text: str) -> int | None:
    """The number of an id field, None where it is none."""
    try:
        return _number(text)
    except BuilderError:
        return None
