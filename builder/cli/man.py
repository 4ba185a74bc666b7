"""`builder man`: pages of man(7) for the builder and each command, from the table of commands."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator

from builder.cli.arguments import Parser, before_parser, parser_of
from builder.cli.commands import COMMANDS, KINDS, Command

_ABOUT = """\
Builds container images from YAML specs: cached layers, no daemon, and a plan that says beforehand
what will be rebuilt and why. IMAGE is a spec's name (site for specs/site.yaml) or a spec file; most
commands also take the reference or the digest of an image in the store."""
_BEFORE = "These may stand before the command, or behind it where it takes them."
_STATUS = (
    ("0", "done"),
    ("1", "the build failed, or a server or the machine did"),
    ("2", "the spec or the usage is wrong"),
    ("3", "plan --exit-code: something would be built; diff: the images differ"),
    ("130", "interrupted"),
    ("143, 129", "terminated"),
)
_STATUS_OF_RUN = (
    ("125", "the builder failed before the command began"),
    ("126", "the command cannot be run"),
    ("127", "there is no such command"),
    ("other", "the command's own"),
)
_ENVIRONMENT = (
    ("BUILDER_CACHE_DIR", "the store, where --cache-dir says none; default: ~/.cache/builder"),
    ("SOURCE_DATE_EPOCH", "seconds since 1970: the last time that what is written has"),
    ("NO_COLOR, FORCE_COLOR", "no colours, or colours though no terminal is there"),
    ("SSH_AUTH_SOCK", "the agent for steps that mount ssh"),
    ("HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "how registries are reached"),
    ("DOCKER_HOST, DOCKER_CONFIG", "the engine, and the folder of what docker login keeps"),
)


def man(arguments: argparse.Namespace) -> int:
    os.makedirs(arguments.folder, exist_ok=True)
    for name, text in pages():
        with open(os.path.join(arguments.folder, f"{name}.1"), "w", encoding="utf-8") as file:
            file.write(text)
    sys.stdout.write(f"{arguments.folder}: builder.1 and one for each command\n")
    return 0


def pages() -> Iterator[tuple[str, str]]:
    """Names without `.1`, and texts. That of a command with actions has these as its sections."""
    yield "builder", _whole()
    for name, command in COMMANDS.items():
        yield f"builder-{name}", "\n".join(_of_command(name, command)) + "\n"


def _whole() -> str:
    lines = _head("builder", "build container images from YAML specs")
    lines += [".SH SYNOPSIS", r"\fBbuilder\fR [\fIOPTION\fR...] \fICOMMAND\fR [\fIARGUMENT\fR...]"]
    lines += [".SH DESCRIPTION", *_text(_ABOUT), ".SH COMMANDS"]
    for kind, title in KINDS.items():
        of_kind = {name: each for name, each in COMMANDS.items() if each.kind == kind}
        lines += [f".SS {_plain(title)}"] if of_kind else []
        for name, each in of_kind.items():
            lines += [".TP", rf"\fBbuilder\-{_plain(name)}\fR(1)", *_text(each.help)]
    lines += [".SH OPTIONS", *_text(_BEFORE), *_options(before_parser())]
    lines += [".SH EXIT STATUS", *_list(_STATUS), ".SH ENVIRONMENT", *_list(_ENVIRONMENT)]
    return "\n".join([*lines, ".SH SEE ALSO", _also(COMMANDS)]) + "\n"


def _of_command(name: str, command: Command) -> Iterator[str]:
    yield from _head(f"builder-{name}", command.help)
    yield ".SH SYNOPSIS"
    every = {f"{name} {action}": each for action, each in command.actions.items()}
    parsers = {
        words: parser_of(f"builder {words}", each)
        for words, each in (every or {name: command}).items()
    }
    for number, (words, parser) in enumerate(parsers.items()):
        yield from ([".br"] if number else [])
        places = " ".join(_place(each) for each in _shown(parser) if not each.option_strings)
        yield rf"\fBbuilder {_plain(words)}\fR [\fIOPTION\fR...] {places}".rstrip()
    if not every:
        yield from (".SH DESCRIPTION", *_text(_sentence(command.help)))
        yield from (".SH OPTIONS", *_options(parsers[name]))
    for words, each in every.items():
        yield from (f".SH {_plain(words.upper())}", *_text(_sentence(each.help)))
        yield from _options(parsers[words])
    yield from (".SH EXIT STATUS", *_list(_STATUS_OF_RUN if command.passes_on else _STATUS))
    yield from (".SH SEE ALSO", _also([""]))


def _head(name: str, about: str) -> list[str]:
    from builder.cli.wiring import epoch
    from builder.version import __version__

    day = time.strftime("%Y-%m-%d", time.gmtime(epoch()))  # of None: today
    title = _plain(name.upper())
    return [f'.TH {title} 1 {day} "builder {__version__}"', ".SH NAME", *_text(f"{name} - {about}")]


def _shown(parser: Parser) -> list[argparse.Action]:
    return [each for each in parser._actions if each.help != argparse.SUPPRESS]


def _options(parser: Parser) -> Iterator[str]:
    """The arguments and options, in their groups."""
    shown = _shown(parser)
    for group in parser._action_groups:
        actions = [each for each in group._group_actions if each in shown]
        if actions and group.title not in ("positional arguments", "options"):
            yield f".SS {_plain((group.title or '').capitalize())}"
        for action in actions:
            yield from (".TP", _term(action), *_text(action.help or ""))


def _term(action: argparse.Action) -> str:
    if not action.option_strings:
        return _place(action)
    value = str(action.metavar or "|".join(map(str, action.choices or ())))
    if action.nargs == "?":
        value = f"[={value}]"
    shown = "" if action.nargs == 0 else f" {_italic(value)}"
    return ", ".join(rf"\fB{_plain(name)}\fR{shown}" for name in action.option_strings)


def _place(action: argparse.Action) -> str:
    name = _italic(str(action.metavar))
    ends = {"?": f"[{name}]", "*": f"[{name}...]", "+": f"{name}...", "...": f"[{name}...]"}
    return ends.get(str(action.nargs), name)


def _list(rows: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, about in rows:
        yield from (".TP", rf"\fB{_plain(term)}\fR", *_text(about))


def _also(names: Iterable[str]) -> str:
    """Pages, by the names of commands; "" is the builder's."""
    return ",\n".join(rf"\fBbuilder{_plain(f'-{name}' if name else '')}\fR(1)" for name in names)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _italic(text: str) -> str:
    return rf"\fI{_plain(text)}\fR"


def _text(text: str) -> list[str]:
    """Lines of roff: what begins one is no request."""
    lines = textwrap.wrap(text, 70, break_long_words=False, break_on_hyphens=False)
    return [rf"\&{_plain(line)}" if line[0] in ".'" else _plain(line) for line in lines]


def _plain(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-").replace("~", r"\(ti").replace("`", r"\(ga")
