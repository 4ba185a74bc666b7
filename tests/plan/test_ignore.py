"""Patterns: the time they take, what is no pattern, and sources that an ignore file names. Which
paths they mean is held against Docker and buildah in tests/parity, and git in test_exclude."""

from __future__ import annotations

import time
from typing import Any

import pytest

from builder.errors import BuilderError, Place, SpecError, UsageError
from builder.plan.ignore import Exclude, Ignore, Rules, glob_of
from builder.steps.copy import Copy
from builder.steps.template import Template
from builder.steps.unpack import Unpack

HERE = Place("specs/a.yaml", 3, 5)


def copy(*sources: str, **options: Any) -> Copy:
    return Copy(HERE, None, sources, "/to/", **options)


SLOW = (
    "**********b",
    "*a" * 40 + "b",
    "**/" * 40 + "b",
    "a**b**" * 20,
    "[a-b]*" * 40,
    "?*" * 60 + "b",
)


@pytest.mark.parametrize("pattern", SLOW)
def test_no_pattern_is_slow(pattern: str) -> None:
    began = time.monotonic()
    for rules in (Rules(Ignore(pattern), Exclude(())), Rules(Ignore(""), Exclude([pattern]))):
        at = rules.start("", "", is_dir=True)[1]
        for name in (b"a" * 255, b"ab" * 127, b"b" + b"a" * 254):
            rules.enter(at, name, False)
        for _ in range(200):
            at = rules.enter(at, b"a" * 20, True)[1]
    glob_of(pattern.replace("/", ""))("a" * 255)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("!", "nothing is behind the '!'"),
        ("  ! ", "nothing is behind the '!'"),
        ("!/", "nothing is behind the '!'"),
        ("[", "expected ranges"),
        ("a[", "expected ranges"),
        ("[a-]", "expected ranges"),
        ("[]a]", "expected ranges"),
        ("[^]", "expected ranges"),
        ("a\\", "expected ranges"),
        ("*\\", "expected ranges"),
        ("a*[", "'[' without ']'"),
        ("a*[b", "'[' without ']'"),
        ("a*[b-", "'[' without ']'"),
        ("a*[^", "'[' without ']'"),
        ("[z-a]", "the range z-a ends before it begins"),
        ("[[:foo:]]", "there is no class '[:foo:]'"),
        ("src\\build", "'\\b' means nothing, expected a slash or 'b' alone"),
    ],
)
def test_what_is_no_pattern_is_an_error_with_its_line(shop: Any, line: str, message: str) -> None:
    (shop.context / "f").touch()
    (shop.context / ".dockerignore").write_text(f"# one\nok\n{line}\n")
    with pytest.raises(SpecError) as caught:
        shop.planned(copy("f"))
    assert caught.value.place == Place(".dockerignore", 3, 1)
    assert caught.value.what.startswith(f"{line.strip()!r} is no pattern: ")
    assert message in caught.value.what


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [(b"a\nb\xc3\xa9\xff\n", 2, 3), (b"\xff", 1, 1), (b"\xef\xbb\xbfa\xff", 1, 2)],
)
def test_what_is_no_text_is_an_error_with_its_place(
    shop: Any, data: bytes, line: int, column: int
) -> None:
    (shop.context / "f").touch()
    (shop.context / ".dockerignore").write_bytes(data)
    with pytest.raises(UsageError) as caught:
        shop.planned(copy("f"))
    assert caught.value.place == Place(".dockerignore", line, column)
    assert caught.value.what == "byte 0xff is not UTF-8 text"


@pytest.mark.parametrize("line", ["[z-a]", "!", "\\", "[", "[[:foo:]]", "/", "", "#", "!\\", "**["])
def test_any_text_is_a_pattern_of_exclude(shop: Any, line: str) -> None:
    (shop.context / "f").touch()
    assert set(shop.entries(copy(".", exclude=(line,)))) == {"to", "to/f"}


LEAKS = (
    ("**/.git\n", "repo/.git/config"),
    ("**/.git\n", "repo/.git"),
    ("**/.git\n", "repo/.git/*"),
    ("**/.git\n", "*/.git/config"),
    ("**/.git\n", "re*/.g*/c*"),
    ("**/.git\n!x\n", "repo/.git/config"),
    ("**/.git\n!x\n", "repo/.git"),
    ("repo\n!repo/other\n", "repo/.git"),
    ("repo\n!repo/other\n", "repo"),
    ("*\n", "repo/.git/config"),
    ("repo/**\n", "repo/.git/config"),
)


@pytest.mark.parametrize(("text", "source"), LEAKS)
def test_a_source_that_is_named_is_left_out_with_its_folders(
    shop: Any, text: str, source: str
) -> None:
    (shop.context / "repo" / ".git").mkdir(parents=True)
    (shop.context / "repo" / ".git" / "config").write_text("secret")
    (shop.context / ".dockerignore").write_text(text)
    what = r"excluded by \.dockerignore|matches nothing|is left out"
    with pytest.raises(BuilderError, match=what):
        shop.planned(copy(source))
    if source.endswith("config"):
        for step in (Unpack(HERE, None, (source,), "/"), Template(HERE, None, "/x", source)):
            with pytest.raises(BuilderError, match=what):
                shop.planned(step)


def test_exclude_counts_for_what_a_glob_matches(shop: Any) -> None:
    for name in ("src/a.c", "src/node_modules/x", "src/sub/b.c", "src/sub/node_modules/y"):
        (shop.context / name).parent.mkdir(parents=True, exist_ok=True)
        (shop.context / name).touch()
    assert set(shop.entries(copy("src/*", exclude=("node_modules", "/sub/b.c")))) == {
        *("to", "to/a.c", "to/sub")
    }
    with pytest.raises(BuilderError, match="is left out, with all that it holds"):
        shop.planned(copy("src/*.c", exclude=("*.c",)))
