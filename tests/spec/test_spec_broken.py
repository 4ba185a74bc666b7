"""Texts that are no YAML: every line of real specs is moved to every other column, brackets and
quotes are left open, and what is said of it leads to a text that reads further."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.api import load_spec
from builder.errors import SpecErrors

FULL = os.environ.get("RELIABILITY") == "full"  # else every seventh
PROJECT = Path(__file__).parents[2]
SPECS = [
    *("specs/base.yaml", "specs/nginx.yaml", "specs/site.yaml"),
    *(f"docs/examples/specs/{name}.yaml" for name in ("app", "shell", "trim")),
]
_WHERE = re.compile(r"expected (?:at|deeper: at column) (\d+)")


def test_a_line_at_a_wrong_column_is_told_where_it_belongs(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    said = Counter[str]()
    tried = 0
    for spec in SPECS:
        lines = (PROJECT / spec).read_text().splitlines()
        for at, line in enumerate(lines):
            if not line.strip():
                continue
            for column in range(1, 12):
                moved = [*lines[:at], " " * (column - 1) + line.lstrip(), *lines[at + 1 :]]
                tried += 1
                if moved == lines or (tried % 7 and not FULL):
                    continue
                error = _error(path, moved)
                what = _kind(error)
                said[what] += 1
                if what == "told":
                    _followed(path, moved, error)
    assert said["told"] > 20 * said["not told"], said


def _kind(error: SpecErrors | None) -> str:
    if error is None:
        return "loads"
    message = error.errors[0].message
    if _WHERE.search(message):
        return "told"
    return "not told" if "expected ':'" in message or "did not find" in message else "other"


def _followed(path: Path, lines: list[str], error: SpecErrors) -> None:
    first = error.errors[0]
    place, where = first.place, _WHERE.search(first.message)
    assert place is not None
    assert where is not None
    begins = place.line - 1
    assert len(lines[begins]) - len(lines[begins].lstrip()) + 1 == place.column, first.message
    ends = begins + 1
    if "deeper" in first.message:
        while ends < len(lines) and _indent(lines[ends]) == _indent(lines[begins]):
            ends += 1
    block = [" " * (int(where[1]) - 1) + each.lstrip() for each in lines[begins:ends]]
    again = _error(path, [*lines[:begins], *block, *lines[ends:]])
    if again is not None and _kind(again) in ("told", "not told"):
        now = again.errors[0].place
        assert now is not None
        assert now.line > place.line, (first.message, again.errors[0].message)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _error(path: Path, lines: list[str]) -> SpecErrors | None:
    path.write_text("\n".join(lines) + "\n")
    try:
        load_spec(str(path), environ={})
    except SpecErrors as error:
        return error
    return None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{{ version }}", "s.yaml:4:14: a template that is not quoted"),
        ("{{ a }} {{ b }}", "s.yaml:4:14: a template that is not quoted"),
        ("%d", "s.yaml:4:14: a text cannot begin with '%' unless it is quoted"),
        ("@a", "s.yaml:4:14: a text cannot begin with '@' unless it is quoted"),
        ("`a`", "s.yaml:4:14: a text cannot begin with '`' unless it is quoted"),
        ("[a\n  - file: /y", "s.yaml:4:14: this [ is not closed"),
        ("{a: b\n  - file: /y", "s.yaml:4:14: this { is not closed"),
        ('"a\n  - file: /y', 's.yaml:4:14: this " is not closed'),
        ("'a\n  - file: /y", "s.yaml:4:14: this ' is not closed"),
        ("'it's'", "s.yaml:4:18: the text ended at the ' before"),
        ('"say "hi""', 's.yaml:4:20: the text ended at the " before'),
        ("x\n  {% if a %}\n  - file: /y", "s.yaml:5:4: a template outside of a text"),
        ("\n\tmode: x", "s.yaml:5:1: a tab cannot indent YAML, expected spaces"),
    ],
)
def test_what_is_broken_is_named(wrong: Callable[..., list[str]], value: str, message: str) -> None:
    found = wrong(f"from: scratch\nsteps:\n  - file: /x\n    content: {value}\n")
    assert found[0].startswith(message), found


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("step: [{copi: x}]", "unknown key 'step' in a spec, did you mean 'steps'?", None),
        ("confg: {envv: {}}", "unknown key 'confg' in a spec, did you mean 'config'?", None),
        ("steps: [{optional: x, from: y, dest: /x}]", "a 'copy' step without 'copy'", "write copy"),
        ("steps: [{to: /a, owner: b}]", "a 'symlink' step without 'symlink'", "write symlink"),
        ("steps: [{from: y}]", "key 'from' belongs to the spec itself", "at the top: from: y"),
        ("steps: [{set: A=b}]", "found 'A=b', expected a mapping of 'set'", None),
        ("steps: [{when: a = 1, run: x}]", "template error: one expression", "`==` compares"),
        ("steps: [{when: b, run: x}]", "template error: 'b' is undefined", "declare it under"),
    ],
)
def test_what_was_meant_is_said(
    read: Callable[..., object], spec: str, message: str, hint: str | None
) -> None:
    with pytest.raises(SpecErrors) as caught:
        read(f"from: scratch\nvars: {{a: 1}}\n{spec}\n")
    found = {str(each.message).split(": ", 1)[1]: each.hint for each in caught.value.errors}
    said = next((each for each in found if each.startswith(message)), None)
    assert said is not None, found
    assert (found[said] or "").startswith(hint or "")
    assert "{{" not in (found[said] or "")
