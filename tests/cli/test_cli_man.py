"""The man pages, as mandoc and the page reader see them."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.cli.arguments import parser_of
from builder.cli.commands import COMMANDS
from builder.cli.man import pages


@pytest.mark.needs("mandoc")
def test_every_page_is_right_and_holds_every_option(project: Any, tmp_path: Path) -> None:
    folder = tmp_path / "man/man1"
    project.run("man", str(folder))
    assert {each.name for each in folder.iterdir()} == {
        "builder.1",
        *(f"builder-{name}.1" for name in COMMANDS),
    }
    files = sorted(map(str, folder.iterdir()))
    found = subprocess.run(["mandoc", "-T", "lint", *files], capture_output=True, text=True)
    lines = [
        each for each in found.stdout.splitlines() if "referenced manual not found" not in each
    ]
    assert not lines
    for name, command in COMMANDS.items():
        shown = subprocess.run(
            ["mandoc", "-T", "utf8", "-O", "width=500", str(folder / f"builder-{name}.1")],
            capture_output=True,
            check=True,
        ).stdout.decode()
        text = _plain(shown)
        for each in command.actions.values() or [command]:
            for action in parser_of("builder", each)._actions:
                if action.help != argparse.SUPPRESS:
                    for option in action.option_strings or [str(action.metavar)]:
                        assert option in text, (name, option)
                    assert " ".join((action.help or "").split()) in text, (name, action.help)


def _plain(shown: str) -> str:
    """Without what overstrikes, and each run of blanks as one."""
    letters: list[str] = []
    for letter in shown:
        if letter == "\b":
            letters.pop()
        else:
            letters.append(letter)
    return " ".join("".join(letters).split())


def test_the_pages_of_one_day_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert dict(pages()) == dict(pages())
    assert all(" 1 1970-01-02 " in text.splitlines()[0] for _, text in pages())
