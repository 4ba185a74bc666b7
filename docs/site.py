"""What mkdocs calls for the pages of the reference that are made of the code."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Iterator
from typing import Any, get_args

from mkdocs.structure.files import File, Files

import builder
from builder import events
from builder.cli.arguments import Parser, before_parser, parser_of
from builder.cli.commands import COMMANDS, KINDS
from builder.make.image import Built
from builder.plan.plan import ImagePlan
from builder.project import Options

_DOCS = os.path.dirname(os.path.abspath(__file__))


def on_config(config: Any) -> Any:
    """Guides that nav does not name stand behind those that it does."""
    named = str(config["nav"])
    guides = next(each["Guides"] for each in config["nav"] if "Guides" in each)
    pages = (name for name in sorted(os.listdir(_DOCS)) if name.endswith(".md"))
    guides += [name for name in pages if f"'{name}'" not in named]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    for name, lines in (("command-line", _command_line()), ("python", _python())):
        path = f"reference/{name}.md"
        files.append(File.generated(config, path, content="\n".join(lines) + "\n"))
    return files


def _command_line() -> Iterator[str]:
    yield from ("# Command line", "", "Made of the same table as `builder COMMAND --help`.", "")
    for kind, title in KINDS.items():
        of_kind = [f"[`{name}`](#{name})" for name, each in COMMANDS.items() if each.kind == kind]
        yield f"- {title}: {', '.join(of_kind)}"
    yield from ("", "## Before the command", "", "Or behind it, where it takes them.", "")
    yield from _table(before_parser())
    for name, command in COMMANDS.items():
        yield from (f"\n## {name}", "", _sentence(command.help), "")
        for action, each in command.actions.items():
            yield from (f"\n### {name} {action}", "", _sentence(each.help), "")
            yield from _table(parser_of(f"builder {name} {action}", each))
        if not command.actions:
            yield from _table(parser_of(f"builder {name}", command))


def _table(parser: Parser) -> Iterator[str]:
    usage = " ".join(parser.format_usage().split()[1:3])
    places = [_metavar(each) for each in parser._get_positional_actions()]
    if parser.prog != "builder":
        yield f"```text\n{parser.prog} {' '.join(['[OPTION...]', *places])}\n```\n"
    assert usage.startswith("builder")
    for group in parser._action_groups:
        rows = [each for each in group._group_actions if each.help != argparse.SUPPRESS]
        rows = [each for each in rows if "--help" not in each.option_strings]
        if not rows:
            continue
        title = "" if group.title in ("positional arguments", "options") else group.title or ""
        yield from (f"| {title} | |", "|---|---|")
        yield from (f"| {_names(each)} | {_cell(each.help or '')} |" for each in rows)
        yield ""


def _names(action: argparse.Action) -> str:
    value = str(action.metavar or "|".join(map(str, action.choices or ())))
    value = "" if action.nargs == 0 else f"[={value}]" if action.nargs == "?" else f" {value}"
    if not action.option_strings:
        return f"`{_metavar(action)}`"
    return ", ".join(f"`{name}{value}`" for name in action.option_strings)


def _metavar(action: argparse.Action) -> str:
    name = str(action.metavar)
    ends = {"?": f"[{name}]", "*": f"[{name}...]", "+": f"{name}...", "...": f"[{name}...]"}
    return ends.get(str(action.nargs), name)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _cell(text: str) -> str:
    """Of a table; no HTML, no link."""
    for char in "\\|<[*_":
        text = text.replace(char, f"\\{char}")
    return text


def _python() -> Iterator[str]:
    yield from ("# Python", "", "```python\nfrom builder import build, load_spec, make_plan\n```")
    for name in builder.__all__:
        found = getattr(builder, name)
        if inspect.isfunction(found):
            head = inspect.getsource(found).partition(":\n")[0].removeprefix("def ")
            yield from (f"\n## {name}", "", f"```python\n{head}\n```", "")
            yield inspect.getdoc(found) or ""
    yield from _fields(Options)
    for each in (ImagePlan, Built):
        yield from _fields(each)
    yield "\n## Events\n\nWhat `emit` is called with, from `builder.events`."
    for each in get_args(events.Event):
        yield from _fields(each, "###")


def _fields(type_: type, level: str = "##") -> Iterator[str]:
    """Of a named tuple, with the comments behind its fields, and the properties."""
    yield f"\n{level} {type_.__name__}\n"
    lines = inspect.getsource(type_).splitlines()
    about = inspect.getdoc(type_) or ""
    yield from ("" if about.startswith(f"{type_.__name__}(") else about, "", "```python")
    for line in lines:
        if line.startswith("    ") and line[4:5].isalpha() and ":" in line.partition("#")[0]:
            if line.split()[0] in ("def", "return"):
                break
            yield line.strip()
    yield "```"
