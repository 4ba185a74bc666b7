"""Blocks of a page, in order, done in a folder as a reader would do them.

`sh` is run; `console` has commands behind `$ ` and what each prints: `...` stands for anything in a
line, on a line of its own for any lines. A block with a `title` is a file of that name. Others are
only shown, as `text`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(
    r'^```(?P<kind>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.M | re.S
)


class Block(NamedTuple):
    kind: str
    title: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(found["kind"], found["title"] or "", found["text"], line)


class Reader:
    """Does what a page says, in `folder`; `cd` and variables last from block to block."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder, self.environ = folder, environ
        self._state = folder.parent / f"{folder.name}.state"
        self._state.write_text(f"cd '{folder}'\n")

    def follow(self, page: Path) -> int:
        """How many blocks it did."""
        done = 0
        for block in blocks(page):
            where = f"{page.name}:{block.line}"
            if block.title:
                status, said = self._run(f"mkdir -p '{Path(block.title).parent}'; pwd")
                assert status == 0, said
                (Path(said.splitlines()[-1]) / block.title).write_text(block.text)
            elif block.kind == "sh":
                self.run(block.text, where)
            elif block.kind == "console":
                for command, expected in commands(block.text):
                    status, said = self._run(command)
                    assert matches(expected, said), f"{where}: $ {command}\n{said}"
                    fails = "error:" in expected
                    assert (status != 0) == fails, f"{where}: $ {command}: {status}\n{said}"
            else:
                continue
            done += 1
        return done

    def run(self, text: str, where: str = "") -> None:
        status, said = self._run(text)
        assert status == 0, f"{where}: status {status}\n{said}"

    def _run(self, text: str) -> tuple[int, str]:
        script = f". '{self._state}'\nset -e\n{text}\n"
        keep = f"{{ export -p; printf 'cd %q\\n' \"$PWD\"; }} > '{self._state}'"
        made = subprocess.run(
            ["bash", "-c", f"{script}{keep}"],
            env=dict(self.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        return made.returncode, made.stdout


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command with what it is to print."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def matches(expected: str, said: str) -> bool:
    pattern = ""
    for line in expected.splitlines():
        if line == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += "[^\n]*".join(map(re.escape, line.split("..."))) + r"[ ]*\n"
    said = "".join(f"{line}\n" for line in said.splitlines())
    return re.fullmatch(pattern, said) is not None
