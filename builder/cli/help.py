"""What `builder` says without a command, and a command without its action."""

from __future__ import annotations

from collections.abc import Mapping

from builder.cli.commands import COMMANDS, KINDS, Command

_TOP = """\
Usage: builder [OPTION...] COMMAND [ARGUMENT...]

Build container images from YAML specs: cached layers, no daemon, and a plan that says beforehand
what will be rebuilt and why.
"""
_END = """\
IMAGE is a spec's name (`site` for specs/site.yaml) or a spec file; most commands also take the
reference or the digest of an image in the store. Options that most commands take may stand before
the command too: --cache-dir, --progress, --specs, --context, --set, --platform and their like.

builder COMMAND --help lists the options of a command, builder --version says which builder it is.\
"""


def help_of(prog: str, command: Command | None) -> str:
    """Of the builder, or of a command that has actions."""
    if command:
        text = command.help[0].upper() + command.help[1:] + "."
        parts = [f"Usage: {prog} ACTION [ARGUMENT...]\n", f"{text}\n", _rows(command.actions)]
        return "\n".join((*parts, "", f"{prog} ACTION --help lists its options."))
    groups = []
    for kind, title in KINDS.items():
        if of_kind := {name: each for name, each in COMMANDS.items() if each.kind == kind}:
            groups.append(f"{title}:\n{_rows(of_kind)}\n")
    return "\n".join((_TOP, *groups, _END))


def _rows(commands: Mapping[str, Command]) -> str:
    return "\n".join(f"  {name:<11}{command.help}" for name, command in commands.items())
