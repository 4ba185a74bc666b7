"""Accounts: names of users and groups to numbers, with the image's own /etc/passwd and /etc/group.

Numbers never need an entry. Lines that are no accounts (NIS lines, comments, bad ids) do not count;
of two with one name the first does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import BuilderError
from builder.layer.entry import MAX_ID

if TYPE_CHECKING:
    from builder.rootfs.view import View


ACCOUNT_FILE = 1 << 20
"""Bytes of an account file that a path table keeps."""


def is_account_file(path: bytes) -> bool:
    """Whether a path table keeps the file's bytes: any passwd and group, since the ones in /etc may
    be symlinks."""
    return path.endswith((b"/passwd", b"/group")) or path in (b"passwd", b"group")


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


def resolve_owner(text: str, view: View) -> tuple[int, int]:
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


def resolve_user(text: str, view: View) -> User:
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


def _account(name: str, view: View, text: str) -> _Account:
    accounts = list(_accounts(view))
    for account in accounts:
        if account.name == name:
            return account
    if name == "root":
        return _Account("root", 0, 0, "/")
    names = [account.name for account in accounts]
    raise _unknown("user", name, names, "/etc/passwd", text)


def _gid(group: str, view: View, text: str) -> int:
    number = _number(group)
    if number is not None:
        return number
    groups = list(_groups(view))
    for each in groups:
        if each.name == group:
            return each.gid
    if group == "root":
        return 0
    raise _unknown("group", group, [each.name for each in groups], "/etc/group", text)


def _unknown(kind: str, name: str, names: list[str], file: str, text: str) -> BuilderError:
    from difflib import get_close_matches

    near = get_close_matches(name, dict.fromkeys(names), 3)
    if near:
        hint = f"did you mean {' or '.join(repr(each) for each in near)}?"
    elif names:
        hint = f"{file} has {len(names)} names; create {name!r} in an earlier step or give a number"
    else:
        hint = f"the image has no {file} with names at this point; give a number"
    place = "" if name == text else f" in {text!r}"
    return BuilderError(f"{kind} {name!r}{place} is not in the image's {file}", hint)


def _accounts(view: View) -> Iterator[_Account]:
    for fields in _lines(view.read_small(b"etc/passwd"), 4):
        uid, gid = _id(fields[2]), _id(fields[3])
        if fields[0] and uid is not None and gid is not None:
            home = fields[5] if len(fields) > 5 else ""
            yield _Account(fields[0], uid, gid, home if home.startswith("/") else "/")


def _groups(view: View) -> Iterator[_Group]:
    for fields in _lines(view.read_small(b"etc/group"), 3):
        gid = _id(fields[2])
        if fields[0] and gid is not None:
            members = tuple(fields[3].split(",")) if len(fields) > 3 else ()
            yield _Group(fields[0], gid, members)


def _lines(data: bytes | None, least: int) -> Iterator[list[str]]:
    for line in (data or b"").split(b"\n"):
        fields = line.decode("utf-8", "surrogateescape").strip().split(":")
        if len(fields) >= least and not line.startswith(b"#") and b"\0" not in line:
            yield fields


def _id(text: str) -> int | None:
    try:
        return _number(text)
    except BuilderError:
        return None
