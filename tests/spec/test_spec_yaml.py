"""YAML with places: what stays text, what is refused, and where."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.api import load_spec
from builder.errors import SpecErrors
from builder.spec.node import scalar_kind
from builder.spec.source import MAX_ERRORS
from builder.steps.file import File


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0644", "text"),
        ("22:22", "text"),
        ("no", "text"),
        ("on", "text"),
        ("2024-01-01", "text"),
        ("1_000", "text"),
        ("+", "text"),
        (".", "text"),
        ("1.2.3", "text"),
        ("08", "text"),
        ("0", "int"),
        ("-7", "int"),
        ("0o755", "int"),
        ("0x1F", "int"),
        ("1.10", "float"),
        ("1e3", "float"),
        (".5", "float"),
        (".inf", "float"),
        ("true", "bool"),
        ("FALSE", "bool"),
        ("~", "null"),
        ("", "null"),
    ],
)
def test_plain_scalars_have_the_types_of_yaml_1_2(text: str, kind: str) -> None:
    assert scalar_kind(text) == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml:1:1: the file is empty, expected a mapping"),
        ("# only this\n", "s.yaml:1:1: the file is empty, expected a mapping"),
        ("- a\n", "s.yaml:1:1: found a list, expected a mapping"),
        ("hello\n", "s.yaml:1:1: found 'hello', expected a mapping"),
        (
            "from: scratch\nfrom: scratch\n",
            "s.yaml:2:1: duplicate key 'from', first given in line 1",
        ),
        (
            "from: !!str scratch\n",
            "s.yaml:1:7: tag 'tag:yaml.org,2002:str' is not allowed",
        ),
        (
            "from: !!python/object/apply:os.system [id]\n",
            "s.yaml:1:7: tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed",
        ),
        ("from: scratch\ntrue: x\n", "s.yaml:2:1: unknown key 'true' in a spec"),
        ("from: scratch\n? [a]\n: x\n", "s.yaml:2:3: key a list is not text"),
        (
            "from: scratch\nconfig:\n  <<: {user: a}\n",
            "s.yaml:3:3: merge key '<<' is not part of the language",
        ),
        (
            "from: scratch\nvars: {a: &a [*a]}\n",
            "s.yaml:2:15: alias '*a' contains itself",
        ),
        ("from: *base\n", "s.yaml:1:7: alias '*base' has no anchor"),
        (
            "from: scratch\n---\nfrom: scratch\n",
            "s.yaml:2:1: a second document, expected one in each file",
        ),
        ("from: scratch\n\tname: x\n", "s.yaml:2:1: a tab cannot indent YAML, expected spaces"),
        (b"from: scratch\nname: \xff\n", "s.yaml:2:7: byte 0xff is not UTF-8 text"),
        (b"\xff\xfef\x00", "s.yaml:1:1: byte 0xff is not UTF-8 text"),
        ("from: a\x01b\n", "s.yaml:1:8: control character U+0001 is not allowed in YAML"),
        ("a" * (1 << 20) + "b", "s.yaml:1:1: the file holds 1048577 bytes, expected at most"),
        ("a: " + "[" * 100, "s.yaml:1:43: nested deeper than 40 levels"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_place(
    wrong: Callable[..., list[str]], text: str, message: str
) -> None:
    found = wrong(text)
    assert any(each.startswith(message) for each in found), found


def test_the_line_and_a_caret_follow_a_message(read: Callable[..., object]) -> None:
    with pytest.raises(SpecErrors) as caught:
        read("from: scratch\nconfig: {stop_signal: TERM}\n")
    (error,) = caught.value.errors
    assert error.snippet == "config: {stop_signal: TERM}\n                      ^"


def test_the_caret_stands_below_the_value(read: Callable[..., object]) -> None:
    with pytest.raises(SpecErrors) as caught:
        read('from: scratch\nconfig: {labels: {"日本": x}, stop_signal: TERM}\n')
    (error,) = caught.value.errors
    assert error.message.startswith("s.yaml:2:42: 'TERM' is not a signal")
    line, caret = (error.snippet or "").split("\n")
    assert line.endswith("TERM}")
    assert len(caret) == 44  # two characters of the line are two columns wide


def test_a_long_line_is_cut_around_the_caret(read: Callable[..., object]) -> None:
    with pytest.raises(SpecErrors) as caught:
        read("from: scratch\nconfig: {labels: {a: " + "x" * 5000 + "}, stop_signal: TERM}\n")
    line, caret = (caught.value.errors[0].snippet or "").split("\n")
    assert len(line) <= 120
    assert line[len(caret) - 1 :].startswith("TERM")


def test_a_byte_order_mark_is_no_part_of_the_text(read: Callable[..., object]) -> None:
    assert read(b"\xef\xbb\xbffrom: scratch\n")


def test_anchors_for_whole_values_are_fine(read: Callable[..., object]) -> None:
    spec = read(
        "from: scratch\nsteps:\n"
        "- {directory: /a, owner: &who 'www-data'}\n- {directory: /b, owner: *who}\n"
    )
    assert [step.owner for step in spec.steps] == ["www-data", "www-data"]  # type: ignore[attr-defined]


def _bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 30):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines)


HOSTILE = {
    "alias bomb": _bomb(),
    "10,000 unknown keys": "from: scratch\n" + "".join(f"key{i}: 1\n" for i in range(10_000)),
    "deep flow": "a: " + "[" * 100_000,
    "deep flow mapping": "{a: " * 100_000,
    "deep sequence": "- " * 100_000,
    "deep keys": "? " * 100_000,
    "deep block": "".join(" " * i + "a:\n" for i in range(1000)),
    "anchors": "&a " * 100_000,
    "stars": "*" * 100_000,
    "brackets": "a: " + "[]" * 100_000,
    "same keys": "{" + "a," * 100_000 + "}",
    "long scalar": "from: '" + "x" * 500_000 + "'",
    "long key": "from: scratch\n" + "x" * 900 + ": 1\n",
    "tabs": "\t" * 100_000,
    "percent": "%" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_an_error_at_once(name: str, wrong: Callable[..., list[str]]) -> None:
    start = time.process_time()
    messages = wrong(HOSTILE[name])
    assert 1 <= len(messages) <= MAX_ERRORS
    assert all(len(message) < 400 for message in messages)
    assert time.process_time() - start < 2


def test_ten_thousand_entries_are_no_error(read: Callable[..., object]) -> None:
    entries = "".join(f"    K{i}: v{i}\n" for i in range(10_000))
    spec = read("from: scratch\nconfig:\n  env:\n" + entries)
    assert len(spec.config.env) == 10_000  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\ud83d\ude00", "\U0001f600"),
        (r"a\uD83D\uDE00b\\ud83d", "a\U0001f600b\\ud83d"),
        (r"\\ud83d\\ude00", r"\ud83d\ude00"),
        (r"\\\ud83d\ude00", "\\\U0001f600"),
        (r"\u00e9\udbff\udfff", "\u00e9\U0010ffff"),
    ],
)
def test_two_escapes_of_json_are_one_character(text: str, value: str, tmp_path: Path) -> None:
    spec = '{"from": "scratch", "steps": [{"file": "/a", "content": "' + text + '"}]}'
    (tmp_path / "a.yaml").write_text(spec)
    step = load_spec(str(tmp_path / "a.yaml"), environ={}).steps[0]
    assert isinstance(step, File)
    assert step.content == value == json.loads(spec)["steps"][0]["content"]


def test_half_a_pair_is_an_error(tmp_path: Path) -> None:
    for text in (r"\ud83d", r"\ude00\ud83d", r"\ud83d\\ude00"):
        (tmp_path / "a.yaml").write_text('{"from": "scratch", "name": "' + text + '"}')
        with pytest.raises(SpecErrors, match="invalid Unicode character escape"):
            load_spec(str(tmp_path / "a.yaml"), environ={})
