"""Hints that are followed: every mistake of a large table is made, what its hint proposes is done,
and the spec then loads, or is wrong in another way."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from builder.api import load_spec
from builder.errors import SpecError, SpecErrors
from builder.spec.base import _DEBOOTSTRAP
from builder.spec.conditions import COMMON
from builder.spec.config import _HEALTHCHECK, CONFIG
from builder.spec.language import SPEC
from builder.spec.testing import EXPECTED, HTTP, TABLES
from builder.spec.words import _NONE
from builder.steps import VERBS
from tests.spec.test_spec_errors import TABLE
from tests.spec.test_spec_words import MOVES

FULL = os.environ.get("RELIABILITY") == "full"  # else every twelfth
GIVEN = {
    "copy": "copy: a\n    dest: /b/",
    "file": "file: /a\n    content: x",
    "template": "template: a.j2\n    dest: /b",
    "directory": "directory: /a",
    "symlink": "symlink: /a\n    to: b",
    "remove": "remove: /a",
    "unpack": "unpack: a.tar\n    dest: /b",
    "run": "run: a",
}
TESTS = {"run": "a", "file": "/a", "directory": "/a", "package": "a", "port": "80"}
VALUES = """\
999 | 8 | 7 | 755 | 0644 | 0o755 | 0o99 | 0o77777 | '0o755' | '0o77777' | 0x1ff | -1 | 1.5 | 1e3 | .inf
true | no | null | ~ | "" | '' | ' ' | 99999999999999999999 | 123456789012345678901.5
x y | x, y | 80 443 | "80, 443" | 80/tcp 53/udp | 0 | 70000 | nginx -g "daemon off;" | bash | bash -c
'/bin/sh -e -c' | echo $HOME | a && b | "a\\nb" | "a\\tb" | "it's" | "'open" | "a: b" | "- a" | "#a" | '[x'
"\\e[31m" | "é…ü" | "٣" | "²" | [] | [x y] | [1.5] | [true] | {} | {a: b} | {5: x} | {true: x} | {a: 1.5}
/a/../b | ../x | /x | / | // | . | a/ | /a/ | a/b | https://h/x.tar | git@h:a/b | docker://nginx | '*.x'
Nginx/Foo:1 | docker.io/Nginx | a@b | a:- | image:A | image:web.yaml | "image: web" | image:specs/web.yml | 'image:'
{image: web} | {image: A} | {oci: dir} | {rootfs: r.tar} | {docker-archive: ' '} | imge:web | debootstrap:--x
TERM | term | sigterm | SIGFOO | 30 | 30m30 | 1us | hots | nnoe | mod | minbas | linux/amd64 | amd64 | linux/amd64 x
u+y | u=rwx, g=rx | root:root:root | root group | Site | My Site | site.yaml | A=b | CMD | [curl, x] | [CMD] | NONE
'{{ 1.5 }}' | '{{ [1] }}' | '{{ 755 }}' | '{{ titel }}' | 'echo ${#x}' | '{{.Dir}}' | '%{x' | '{%Y}' | '{{ x'
"""  # noqa: E501
TEXTS = [value.strip() for line in VALUES.splitlines() for value in line.split(" | ")]
KEYS = re.findall(
    r"\S+",
    """\
stages imge image frm form nmae vras var confg stpes tag platfrm 5 1.5 true null cpoy coyp fiel
tmplate dirctory symlnk rm unpck rnu dets dst destination mdoe modes onwer user_ wokring_dir
shel netwrok evn entrypiont command labls expose ports volume healthchek test_ intervl retires
inculde mirorr xattr
""",
)


def _at(field: str) -> Iterator[Callable[[str], str]]:
    """Where a field may stand: functions from its text to a spec."""
    if field in SPEC and field != "from":
        yield lambda text: f"from: scratch\nvars: {{title: x}}\n{text}\n"
    if field in CONFIG:
        yield lambda text: f"from: scratch\nvars: {{title: x}}\nconfig:\n  {text}\n"
    if field in _HEALTHCHECK:
        test = "" if field == "test" else "    test: a\n"
        yield lambda text: f"from: scratch\nconfig:\n  healthcheck:\n{test}    {text}\n"
    if field in _DEBOOTSTRAP:
        suite = "" if field == "debootstrap" else "  debootstrap: a\n"
        yield lambda text: f"from:\n{suite}  {text}\n"
    for verb, given in GIVEN.items():
        if field in VERBS[verb].fields() or field in COMMON:
            lines = [line for line in given.split("\n    ") if not line.startswith(f"{field}:")]
            yield lambda text, lines=lines: (  # type: ignore[misc]
                "from: scratch\nvars: {title: x}\nsteps:\n  - "
                + "\n    ".join([*lines, text])
                + "\n"
            )
    for kind, table in TABLES.items():
        if field in table:
            own = "" if field == kind else f"{kind}: {TESTS[kind]}\n    "
            yield lambda text, own=own: f"from: scratch\ntests:\n  - {own}{text}\n"  # type: ignore[misc]
    for table, given in ((EXPECTED, "run: a\n    stdout"), (HTTP, "port: 80\n    http")):
        if field in table:
            yield lambda text, given=given: (  # type: ignore[misc]
                f"from: scratch\ntests:\n  - {given}:\n      {text}\n"
            )


def _mistakes() -> Iterator[str]:
    yield from (text for text, _ in TABLE)
    yield from (f"from: {text}\n" for text in TEXTS)
    tables = [
        SPEC,
        COMMON,
        CONFIG,
        _HEALTHCHECK,
        _DEBOOTSTRAP,
        *(EXPECTED, HTTP, *TABLES.values()),
        *(verb.fields() for verb in VERBS.values()),
    ]
    for field in dict.fromkeys(name for table in tables for name in table):
        for spec in _at(field):
            yield from (spec(f"{field}: {text}") for text in TEXTS)
    for key in KEYS:
        for value in ("x", "[x]", "{a: b}", "[{run: x}]", "'0644'", "30s"):
            yield f"from: scratch\n{key}: {value}\n"
            yield f"{key}: {value}\n"
            yield f"from: scratch\nconfig:\n  {key}: {value}\n"
            yield f"from: scratch\nconfig:\n  env:\n    {key}: {value}\n"
            yield f"from: scratch\nvars:\n  {key}: {value}\n  deep: {{{key}: x}}\n"
            yield f"from: scratch\nsteps:\n  - {key}: {value}\n"
            yield from (
                f"from: scratch\nsteps:\n  - {given}\n    {key}: {value}\n"
                for given in GIVEN.values()
            )
            yield f"from: scratch\ntests:\n  - {key}: {value}\n"
            yield from (
                f"from: scratch\ntests:\n  - {kind}: {given}\n    {key}: {value}\n"
                for kind, given in TESTS.items()
            )


# What a hint may say without a value to write.
EXPLAINS = re.compile(
    r"(empty text: )?(?=write )|quote it: |known here: |a step needs one of: |make two steps of it$"
    r"|a test needs one of: |make two tests of it$|make a test of each$"
    r"|build the others with --platform$|a step `download` fetches a file, a step `git` "
    r"|as a mapping only debootstrap is known$|paths are relative to the context folder"
    r"|a spec goes by its file name without .yaml|a tag begins with a letter, a digit or _$"
    r"|leave it out; quotes make text$|write the keys out, or use an alias|begin with from: BASE$"
    r"|quote a text that holds ': ' or ends in ':'$|leave the scheme out"
    r"|declare it under 'vars', or give a default: |text that is no template goes between "
    r"|'\w+' is the word for it( there)?$|a step says it: - "
    r"|--context DIR names the folder that all contexts lie in$"
    r"|`==` compares, `and`, `or` and `not` join$|quote the whole text, as in |a \S within the text"
    r"|write \w+: \.\.\.$|`when` leaves a step out, `foreach` repeats one$"
    r"|a step `run` that does the same may have them$|a mount is ssh or "
    r"|only the first 50 errors are shown$|set it, or give a default"
)
FIELDS = {
    field.doc
    for table in (SPEC, CONFIG, _HEALTHCHECK, _DEBOOTSTRAP, EXPECTED, HTTP, *TABLES.values())
    for field in table.values()
}
FIELDS |= {*_NONE.values()}
FIELDS |= {field.doc for verb in VERBS.values() for field in verb.fields().values()}


def _proposed(error: SpecError) -> str | None:
    """What to write at the error's place, as YAML."""
    if found := re.search(r", did you mean ('.*'|\".*\")\?$", error.message):
        return str(ast.literal_eval(found[1]))
    if found := re.search(
        r"(?:^quote it: |(?:^|: )write )(?!the keys out)(.*)$", error.hint or "", re.S
    ):
        return found[1]
    return None


def _place(error: SpecError) -> tuple[int, int]:
    _, line, column, _ = error.message.split(":", 3)
    return int(line), int(column)


def _followed(text: str, error: SpecError, proposed: str) -> str:
    """The spec with the value or key at the error's place replaced."""
    lines = text.split("\n")

    def offset(line: int, column: int) -> int:
        return sum(len(each) + 1 for each in lines[:line]) + column

    line, column = _place(error)
    start = offset(line - 1, column - 1)
    if "template error" in error.message:
        word = re.match(r"\w+", text[start:])
        assert word
        end = start + word.end()
    else:
        ends = [
            offset(node.end_mark.line, node.end_mark.column)
            for node in _nodes(yaml.compose(text, yaml.CSafeLoader))
            if (node.start_mark.line + 1, node.start_mark.column + 1) == (line, column)
        ]
        end = (min if re.search("unknown|key .* is not", error.message) else max)(
            ends
        )  # a mapping begins with its key
    return text[:start] + proposed + text[end:]


def _nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    for child in node.value if not isinstance(node, yaml.ScalarNode) else ():
        for each in child if isinstance(child, tuple) else (child,):
            yield from _nodes(each)


def _errors(path: Path, text: str) -> tuple[SpecError, ...]:
    path.write_text(text)
    try:
        load_spec(str(path), environ={})
    except SpecErrors as found:
        return found.errors
    return ()


def test_every_hint_that_is_followed_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("s.yaml")
    mistakes = list(dict.fromkeys(_mistakes()))[:: 1 if FULL else 12]
    followed = 0
    wrong = []
    for text in mistakes:
        for error in _errors(path, text):
            hint = error.hint or ""
            assert hint.isprintable() and len(hint) < 300, (text, hint)
            if hint and not EXPLAINS.match(hint) and not MOVES.match(hint) and hint not in FIELDS:
                wrong.append(("a hint of a new kind", text, hint))
            proposed = _proposed(error)
            if proposed is None:
                continue
            followed += 1
            corrected = _followed(text, error, proposed)
            for after in _errors(path, corrected):
                another = "missing key" in after.message or (
                    "template error" in error.message and "expected true or false" in after.message
                )
                if _place(after) == _place(error) and not another:
                    wrong.append((text, error.message, hint, corrected, after.message))
    print(len(mistakes), "mistakes,", followed, "hints followed,", len(wrong), "wrong")
    for each in wrong[:40]:
        print(*map(repr, each), sep="\n    ")
    assert not wrong
    assert len(mistakes) > 1000 and followed > 60
