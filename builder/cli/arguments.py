"""Arguments: the command that was named, its options, and the function that runs it."""

from __future__ import annotations

import argparse
import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from builder.cli import options
from builder.cli.commands import COMMANDS, Command
from builder.errors import UsageError


class Parser(argparse.ArgumentParser):
    """One line for a usage error, as for any other error."""

    width = 90
    """Columns of help texts. Given, because argparse would ask the terminal at every argument."""

    _words: Sequence[str] = ()

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        self._words = args
        return super().parse_known_args(args, namespace)

    def __init__(self, **settings: Any) -> None:
        def formatter(prog: str) -> argparse.HelpFormatter:
            return argparse.HelpFormatter(prog, max_help_position=28, width=self.width)

        super().__init__(formatter_class=formatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        if value := re.fullmatch("argument (.*): ignored explicit argument '(.*)'", message):
            from builder.cli.words import no_value

            raise no_value(self, value[1].split("/"), value[2], self._words)
        raise UsageError(message, f"{self.prog} --help tells how it is used")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The namespace of a command; its `run` is the function to call with it."""
    if argv[:1] == ["__complete"]:  # a shell's TAB, with words as they are
        return argparse.Namespace(run=_lazy("complete", "complete"), words=argv[1:])
    before, rest = _before(argv)
    prog, command = "builder", None
    known: Mapping[str, Command] = COMMANDS
    while known:
        if not rest or rest[0] in ("-h", "--help", "--version"):
            told = _version if rest and rest[0] == "--version" else _help
            return argparse.Namespace(run=told, prog=prog, command=command)
        name, rest = rest[0], rest[1:]
        command = _named(prog, name, known)
        prog, known = f"{prog} {name}", command.actions
    assert command  # COMMANDS is not empty
    parser = parser_of(prog, command)
    passed_on: Sequence[str] = ()
    if command.passes_on:
        end = _options(parser, rest)
        rest, passed_on = rest[: end + 1], rest[end + 1 :]
    elif command.passes_on_behind_dashes and "--" in rest:
        end = list(rest).index("--")
        rest, passed_on = rest[:end], rest[end + 1 :]
    found, others = parser.parse_known_args([*before, *_plain(rest)])
    if others:
        _behind(parser, found, others)
    if command.passes_on or command.passes_on_behind_dashes:
        found.argv = list(passed_on)
    found.run = _lazy(command.module, name)
    if getattr(found, "files", None):
        found.images += found.files
    if hasattr(found, "target") and hasattr(found, "specs") and _may_be_docker(found):
        from builder.cli.dockerfile import prepare

        prepare(found)
    return found


def _behind(parser: Parser, found: argparse.Namespace, others: Sequence[str]) -> None:
    """What argparse left over: it takes arguments before the first option alone. Raises UsageError
    where the command does not take them."""
    ended = others.index("--") if "--" in others else len(others)
    more = [*others[:ended], *others[ended + 1 :]]
    unknown = next((each for each in others[:ended] if each.startswith("-")), "")
    places = [] if unknown else parser._get_positional_actions()
    last = places[-1] if places else None
    if last and last.nargs in ("*", "+"):
        getattr(found, last.dest).extend(more)
        return
    if last and last.nargs == "?" and getattr(found, last.dest) == last.default:
        setattr(found, last.dest, more.pop(0))
    if unknown or more:
        from builder.cli.words import not_taken

        raise not_taken(parser, unknown or more[0])


def parser_of(prog: str, command: Command) -> Parser:
    """Of a command that has no actions; `prog` is how it is called."""
    text = command.help[0].upper() + command.help[1:] + "."
    parser = Parser(prog=prog, description=text)
    for add in command.options:
        add(parser)
    return parser


def before_parser() -> Parser:
    """Of the options that may stand before the command."""
    parser = Parser(prog="builder")
    for add in (options.project, options.secrets, options.common, options.running):
        add(parser)
    return parser


def _named(prog: str, name: str, known: Mapping[str, Command]) -> Command:
    if name not in known:
        from builder.cli.words import no_action, no_command

        raise no_command(name, known) if known is COMMANDS else no_action(prog, name)
    return known[name]


def _before(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The options before the command, and the rest. They are the command's, as if they stood behind
    it; only those that most commands take may stand there."""
    if not argv or not argv[0].startswith("-"):
        return (), argv
    parser = before_parser()
    known = {name: action for action in parser._actions for name in action.option_strings}
    number = 0
    while number < len(argv) and argv[number].startswith("-"):
        text = argv[number]
        if text in ("-h", "--help", "--version"):
            return (), argv[number:]
        name, equals, _ = text.partition("=")
        if name not in known:
            from builder.cli.words import not_taken

            raise not_taken(parser, text)
        number += 1 if equals or known[name].nargs in (0, "?") else 2
    before = list(_plain(argv[:number]))
    parser.parse_args(before)  # what is wrong with them is wrong without a command too
    return before, argv[number:]


_PULLS = [[each] for each in options.PULL]


def _options(parser: Parser, argv: Sequence[str]) -> int:
    """How many words the options at the beginning are, with their values."""
    known = {name: action for action in parser._actions for name in action.option_strings}
    number = 0
    while number < len(argv) and argv[number].startswith("-") and argv[number] != "-":
        text = argv[number]
        name, value = text, "=" in text
        if not text.startswith("--"):  # several letters: the last may take a value
            for at, letter in enumerate(text[1:], 1):
                name, value = f"-{letter}", at + 1 < len(text)
                if name in known and known[name].nargs != 0:
                    break
        elif value:
            name = text.partition("=")[0]
        takes = name in known and known[name].nargs is None and not value
        takes = takes or (text == "--pull" and argv[number + 1 : number + 2] in _PULLS)
        number += 2 if takes else 1
        if text == "--":
            break
    return number


def _may_be_docker(found: argparse.Namespace) -> bool:
    """Whether a Dockerfile is meant, or a folder that could have one."""
    names = found.images if hasattr(found, "images") else list(filter(None, [found.image]))
    return (
        bool(found.target)
        or any(
            "dockerfile" in name.lower() or "containerfile" in name.lower() or os.path.isdir(name)
            for name in (*names, *getattr(found, "files", ()))
        )
        or any(not name.endswith((".yaml", ".yml")) for name in getattr(found, "files", ()))
    )


def _plain(argv: Sequence[str]) -> Iterator[str]:
    """`--pull IMAGE` means `--pull=always IMAGE`: argparse would take IMAGE for its value."""
    for number, text in enumerate(argv):
        bare = text == "--pull" and (
            number + 1 == len(argv) or argv[number + 1] not in options.PULL
        )
        yield "--pull=always" if bare else text


def _lazy(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """The function `name` of a module of this room, imported only when it runs."""

    def run(arguments: argparse.Namespace) -> int:
        found = importlib.import_module(f"builder.cli.{module}")
        function = getattr(found, "import_" if name == "import" else name)
        return int(function(arguments) or 0)

    return run


def _help(arguments: argparse.Namespace) -> int:
    from builder.cli.help import help_of

    print(help_of(arguments.prog, arguments.command))
    return 0


def _version(arguments: argparse.Namespace) -> int:
    from builder.version import __version__

    print(f"builder {__version__}")
    return 0
