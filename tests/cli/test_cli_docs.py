"""What README and docs/docker.md tell a newcomer to type."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.api import load_spec
from builder.errors import SpecErrors

PROJECT = Path(__file__).parents[2]


def test_the_commands_for_a_first_image(project: Any) -> None:
    text = (PROJECT / "README.md").read_text()
    block = text.split("## A first image of your own\n```\n")[1].split("```")[0]
    commands = [line.partition("#")[0].strip() for line in block.splitlines()]
    assert "builder build" in commands
    began = project.root
    for command in (part.strip() for each in commands for part in each.split("&&")):
        words = command.split()
        if words[0] == "cd":
            project.root = project.root / words[1]
        elif words[0] == "builder" and words[1] not in ("doctor", "load"):  # load needs an engine
            project.run(*words[1:])
    assert (project.root / "out/srv/hello.txt").read_text() == "Hello from hello\n"
    assert project.root == began / "hello"
    debian = re.search(r"`builder (init \S+ --from \S+)`", text)
    assert debian
    project.run(*debian[1].split())


def rows() -> list[str]:
    text = (PROJECT / "docs/docker.md").read_text()
    table = text.split("## From a Dockerfile\n")[1].split("\n\n")[0].replace("\\|", "|")
    found = re.findall(r"`((?:- |from: |config: |stages: |vars: |tags: )[^`]+)`", table)
    return [each for each in found if not each.endswith("|")]


@pytest.mark.parametrize("row", rows())
def test_what_becomes_of_an_instruction_is_a_spec(row: str, tmp_path: Path) -> None:
    row = row.replace("[...]", "[{run: x}]") if row.startswith("stages") else row
    row = row.replace("[...]", "[/bin/sh]").replace("NAME", "name")
    said = yaml.safe_load(row)
    made: dict[str, Any] = {"from": "scratch", "stages": {"build": {"from": "scratch"}}}
    made |= {"steps": said} if isinstance(said, list) else said
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(made))
    try:
        load_spec(str(path), environ={})
    except SpecErrors as error:
        pytest.fail(f"{row}: {error}")


def test_the_table_is_read() -> None:
    assert len(rows()) >= 15


def test_what_is_counted_is_what_was_told(project: Any) -> None:
    spec = """
from: scratch
steps:
  - {file: /a, content: a}
  - {file: /b, content: "{{ b }}"}
  - set: {env: {A: b}}
vars: {b: one}
config: {working_dir: /srv/app}
"""
    (project.root / "specs/counted.yaml").write_text(spec)
    for text, built in (("one", 3), ("two", 1), ("two", 0)):
        said = project.run("build", "counted", "--set", f"b={text}", "--progress", "plain").stderr
        steps = [line.split("  ")[1] for line in said.splitlines() if line.startswith("counted [")]
        assert steps.count("built") == built, said
        (whole,) = re.findall(r"^counted  (.*?)  [\d.]+ s", said, re.M)
        reused = f", {steps.count('hit')} reused" if steps.count("hit") else ""
        assert whole == (f"{built} built{reused}" if built else "nothing to build")
