"""Completion, typed into the real shells; and every place of every command answers."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.cli import complete
from builder.cli.arguments import parser_of
from builder.cli.commands import COMMANDS, SHELLS, Command
from builder.errors import BuilderError

SPEC = """
from: scratch
stages:
  compile: {from: scratch, steps: [{file: /a, content: x}]}
steps:
- {file: /etc/motd, content: hello}
- {name: "it's a: step", file: /b, content: x}
- {copy: a, from: stage:compile, dest: /}
"""
TYPED = [
    ("bui\t --no-c\t sit\t", ["build", "--no-cache", "site"]),
    ("build --progress=pl\t", ["build", "--progress=plain"]),
    ("--progress pl\t pla\t", ["--progress", "plain", "plan"]),
    ("cache exp\t", ["cache", "export"]),
    ("index cr\t", ["index", "create"]),
    ("build site:com\t", ["build", "site:compile"]),
    ("why site fil\t", ["why", "site", "file /etc/motd"]),
    ("why site it\t", ["why", "site", "it's a: step"]),
    ("build --specs el\t", ["build", "--specs", "else/"]),
    ("build --specs=el\t", ["build", "--specs=else/"]),
    ("--specs else lint shelv\t", ["--specs", "else", "lint", "shelved"]),
    ("build -o oci-a\tx.tar", ["build", "-o", "oci-archive:x.tar"]),
    ("build -o dir:els\t", ["build", "-o", "dir:else/"]),
    ("inspect localhost:5000/te\t", ["inspect", "localhost:5000/team/app:1"]),
    ("build -f specs/si\t", ["build", "-f", "specs/site.yaml"]),
    ("build my\\ f\t", ["build", "my file.yaml"]),
    ("cat site /et\tmo\t", ["cat", "site", "/etc/motd"]),
    ("diff sit\t sit\t", ["diff", "site", "site"]),
    ("nonsense si\t", ["nonsense", "si"]),
    ("schema el\t", ["schema", "el"]),
    ("completion zs\t --help", ["completion", "zsh", "--help"]),
    ("build -- sit\t", ["build", "--", "site"]),
]
START = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--private", "-i"),
}
LOAD = {
    "bash": 'eval "$(builder completion bash)"',
    "zsh": "source <(builder completion zsh)",
    "fish": "builder completion fish | source",
}


class Shell:
    """A shell at a terminal; what it calls as `builder` is kept, not run."""

    def __init__(self, name: str, project: Any) -> None:
        self.called = project.root.parent / "called"
        programs = project.root.parent / "bin"
        programs.mkdir()
        (programs / "builder").write_text(
            "#!/bin/sh\n"
            f'case "$1 $2" in __complete*) exec {sys.executable} -m builder "$@";; esac\n'
            f'[ "$*" != "completion {name}" ] || exec {sys.executable} -m builder "$@"\n'
            f"printf '%s\\0' \"$@\" > {self.called}.new && mv {self.called}.new {self.called}\n"
        )
        (programs / "builder").chmod(0o755)
        env = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(project.root.parent),
            "TERM": "dumb" if name == "zsh" else "xterm",
            "LC_ALL": "C.UTF-8",
            "BUILDER_CACHE_DIR": str(project.store),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        self.handle, other = pty.openpty()
        self.process = subprocess.Popen(
            START[name], stdin=other, stdout=other, stderr=other, cwd=project.root, env=env,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(other)
        self.said = b""
        self.type(LOAD[name] + "; builder ready\n")
        assert self.words() == ["ready"], self.said

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    def words(self) -> list[str]:
        """What `builder` was called with."""
        end = time.monotonic() + 60
        while not self.called.exists():
            assert time.monotonic() < end, self.said.decode(errors="replace")
            self.read()
        found = self.called.read_text().split("\0")[:-1]
        self.called.unlink()
        return found

    def read(self) -> None:
        if select.select([self.handle], [], [], 0.02)[0]:
            with contextlib.suppress(OSError):
                self.said += os.read(self.handle, 65536)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.handle)


@pytest.fixture
def site(project: Any) -> Iterator[Any]:
    project.spec("site", SPEC)
    project.file("else/shelved.yaml", SPEC)
    project.file("my file.yaml", SPEC)
    project.run("build", "site", "-t", "localhost:5000/team/app:1")
    return project


@pytest.mark.parametrize("name", SHELLS)
def test_what_is_typed_is_completed(site: Any, name: str) -> None:
    if not any(os.access(f"{each}/{name}", os.X_OK) for each in ("/bin", "/usr/bin")):
        pytest.skip(f"{name} is not installed")
    shell = Shell(name, site)
    try:
        wrong = {}
        for typed, expected in TYPED:
            shell.type(f"builder {typed}\n")
            words = shell.words()
            if name == "zsh":  # which takes the slash of a folder away at the end of a line
                expected = [each.removesuffix("/") for each in expected]
            if words != expected:
                wrong[typed] = words
        assert not wrong, shell.said.decode(errors="replace")
    finally:
        shell.close()


def commands() -> Iterator[tuple[list[str], Command]]:
    for name, command in COMMANDS.items():
        for action, each in command.actions.items() or [("", command)]:
            yield [name, *([action] if action else [])], each


def test_every_place_of_every_command_answers(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.root)
    monkeypatch.setenv("BUILDER_CACHE_DIR", str(site.store))
    for words, command in commands():
        parser = parser_of(" ".join(words), command)
        shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
        known = {name for action in shown for name in action.option_strings}
        assert {value for value, _ in complete.candidates([*words, "-"])[1]} == known
        for action in parser._actions:
            for name in action.option_strings:
                for typed in ([*words, name, ""], [*words, f"{name}="]):
                    found = values_of(typed)
                    if action.nargs is None and action.choices:
                        ends = [each.removeprefix(f"{name}=") for each in found]
                        assert ends == list(map(str, action.choices))
        for number in range(4):
            for word in ("", "s", "site:", "zzz"):
                values_of([*words, *["site"] * number, word])


def values_of(words: list[str]) -> list[str]:
    try:
        otherwise, values = complete.candidates(words)
        assert otherwise in (complete.FILES, complete.FOLDERS, complete.NOTHING)
        return [value for value, _ in values]
    except BuilderError:  # half a line may mean what is not there
        return []


@pytest.mark.parametrize(
    "line",
    [
        "builder 'a",
        'builder "a b',
        "builder a\\",
        "X=1 builder a ",
        "sudo builder 'a'\"b",
        "builder",
    ],
)
def test_half_a_line_has_words(line: str) -> None:
    words = complete.split(line, "builder")
    assert words[0] == "builder"
    assert words[1:] in (["a"], ["a b"], ["a", ""], ["ab"], [])
