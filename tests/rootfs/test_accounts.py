"""Accounts: owners and users as Docker resolves them."""

from __future__ import annotations

import pytest

from builder.errors import BuilderError
from builder.layer.entry import FILE, Entry
from builder.rootfs.accounts import User, resolve_owner, resolve_user
from builder.rootfs.table import MemoryTable
from builder.rootfs.view import View

PASSWD = b"""root:x:0:0:root:/root:/bin/bash
# comment:x:5:5::/:/bin/sh
+nis::::::
broken line
big:x:99999999999:1:::
sync:x:4:65534:sync:/bin:/bin/sync
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
www-data:x:34:34:second:/:/bin/sh
\xff\xfe:x:77:78::/odd:/bin/sh
app:x:1000:1001::relative:/bin/sh
"""
GROUP = b"root:x:0:\nadm:x:4:app,www-data\nbad\nstaff:x:50:app\nstaff2:x:50:app\nwww-data:x:33:\n"

IMAGE = View(
    (
        MemoryTable(
            [
                Entry(b"etc/passwd", FILE, 0o644, size=len(PASSWD)),
                Entry(b"etc/group", FILE, 0o644, size=len(GROUP)),
            ],
            {b"etc/passwd": PASSWD, b"etc/group": GROUP},
        ),
    )
)
SCRATCH = View()


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("55", (55, 55)),
        ("55:7", (55, 7)),
        ("0", (0, 0)),
        ("4294967294:0", (4294967294, 0)),
        ("www-data", (33, 33)),
        ("sync", (4, 65534)),
        ("app:staff", (1000, 50)),
        ("app:99", (1000, 99)),
        ("12:adm", (12, 4)),
        ("root", (0, 0)),
    ],
)
def test_an_owner_is_resolved_as_copy_chown_does(text: str, owner: tuple[int, int]) -> None:
    assert resolve_owner(text, IMAGE) == owner


@pytest.mark.parametrize("text", ["root", "root:root", "0:0", "0"])
def test_root_needs_no_passwd(text: str) -> None:
    assert resolve_owner(text, SCRATCH) == (0, 0)


@pytest.mark.parametrize("text", ["", ":", "a:", ":b", "a:b:c"])
def test_what_is_no_owner_is_refused(text: str) -> None:
    with pytest.raises(BuilderError, match="expected user"):
        resolve_owner(text, IMAGE)


def test_an_unknown_user_lists_near_names() -> None:
    with pytest.raises(
        BuilderError, match="user 'www-dat' is not in the image's /etc/passwd"
    ) as at:
        resolve_owner("www-dat", IMAGE)
    assert at.value.hint == "did you mean 'www-data'?"


def test_an_unknown_group_tells_the_whole_owner() -> None:
    with pytest.raises(BuilderError, match=r"group 'nope' in 'app:nope' is not in"):
        resolve_owner("app:nope", IMAGE)


def test_an_unknown_user_without_passwd_says_so() -> None:
    with pytest.raises(BuilderError) as at:
        resolve_owner("nginx", SCRATCH)
    assert at.value.hint == (
        "the image has no /etc/passwd with names at this point; a step `account: NAME` before this "
        "one makes a user and its group, or give a number"
    )


def test_an_id_beyond_the_range_is_refused() -> None:
    with pytest.raises(BuilderError, match="'4294967295' is too large"):
        resolve_owner("4294967295", IMAGE)


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User(0, 0, (), "/root")),
        ("root", User(0, 0, (), "/root")),
        ("www-data", User(33, 33, (4,), "/var/www")),
        ("33", User(33, 33, (4,), "/var/www")),
        ("app", User(1000, 1001, (4, 50), "/")),
        ("app:staff", User(1000, 50, (), "/")),
        ("12345", User(12345, 0, (), "/")),
        ("12345:50", User(12345, 50, (), "/")),
    ],
)
def test_a_user_is_resolved_as_runc_does(text: str, user: User) -> None:
    assert resolve_user(text, IMAGE) == user


def test_users_without_passwd() -> None:
    assert resolve_user("7", SCRATCH) == User(7, 0, (), "/")
    assert resolve_user("root", SCRATCH) == User(0, 0, (), "/")
