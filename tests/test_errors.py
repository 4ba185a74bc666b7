"""What a message says of addresses: never a user or a password."""

from __future__ import annotations

import pytest

from builder.errors import BuilderError, masked, without_passwords

S = "s3cr3t"
ADDRESSES = [
    *(f"http://user:{S}@h:80/x", f"http:/user:{S}@h:1", f"htp:user:{S}@h", f"user:{S}@h:3128"),
    *(f"http://{S}@h", f"http://us/er:{S}@h", f"http://u:p@{S}@h:1", f"http://user:{S} x@h"),
    *(f"http://user:p {S}@h", f"http://user:p'{S}@h", f'http://user:p"{S}@h', f"//u:{S}@h"),
    *(f"tcp://user:{S}@h:23:7", f"http://user:{S}#@h", f"http://user:{S}?x@[::1]:2", f":{S}@h"),
    *(f"u:{S}@h/x@sha256:{'a' * 64}", f"http://:{S}@h:1", f"docker://u:{S}@h/x", f"u:{S}@h/x:1"),
    *(f"ssh://{S}@h", f"deb http://u:{S}@h/debian a main", f"deb [a=/x] http://u:{S}@h/ x"),
    *(
        f"socks5h://u:{S}@h",
        f"http:\\\\u:{S}@h",
        f"unix://u:{S}@/run/x",
        f"u:{S}@",
        f"http://u:{S}@",
    ),
]
HARMLESS = [
    *("nginx:1.25", "h:5000/a/b:tag", f"h:5000/n:1@sha256:{'a' * 64}", "git@github.com:a/b", "a@b"),
    *("http://h:80/x", "[REGISTRY/]REPOSITORY[:TAG][@DIGEST]", "mail me@x.org", "deb http://h/ a"),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_user_and_no_password_is_said(address: str) -> None:
    assert S not in masked(address) and masked(address).count("@") >= 1
    for text in (
        address,
        repr(address),
        f"x.yaml:1:7: {address!r} is wrong",
        f"at <{address}>: no",
    ):
        assert S not in without_passwords(text), text
        error = BuilderError(text, hint=text).at
        assert S not in f"{error.__self__} {error.__self__.message} {error.__self__.hint}"
    for length in range(address.index(S) + len(S), len(address)):
        if "://u" in address and " " not in address:
            assert S not in without_passwords(f"'{address[:length]}...' is")


@pytest.mark.parametrize("address", HARMLESS)
def test_what_holds_no_user_stays(address: str) -> None:
    assert without_passwords(f"x {address!r} y") == f"x {address!r} y"


def test_masking_takes_linear_time() -> None:
    for text in (
        "=a:" * 10_000,
        "//a:" * 10_000,
        "://a:" * 10_000,
        "'" * 10_000,
        "a@" * 10_000,
    ):
        without_passwords(f"@ {text} ...")
