"""Kinds that several mappings of the language share: paths, owners, modes, words, environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builder.errors import BuilderError
from builder.oci.reference import parse_reference
from builder.spec import syntax
from builder.spec.dollars import check_path
from builder.spec.fields import (
    BAD,
    Field,
    Kind,
    Reader,
    choice,
    list_of,
    mapping_of,
    text,
)
from builder.spec.model import (
    Place,
)
from builder.spec.node import Node
from builder.spec.render import RESERVED
from builder.spec.source import quote
from builder.spec.syntax import Malformed


def place(reader: Reader, node: Node) -> Place:
    return Place((node.source or reader.problems.source).file, node.line, node.column)


def check_variable(name: str) -> None:
    """Raise Malformed unless a template can name it."""
    if not (name.isascii() and name.isidentifier()):
        raise Malformed("is not a variable name, expected letters, digits and _")
    if name in RESERVED:
        raise Malformed("is a name that templates already have, expected another one")


def check_env(name: str) -> None:
    if not name or "=" in name or "\0" in name:
        raise Malformed("is not a name of an environment variable")


def check_label(name: str) -> None:
    if not name or "\0" in name:
        raise Malformed("is not a label")


def filled(value: str) -> str:
    if not value.strip():
        raise Malformed("is empty, expected text")
    return value


def one_line(value: str) -> str:
    if not value.strip() or "\n" in value or "\r" in value:
        raise Malformed("is not a name, expected text on one line")
    return value


def reference(value: str) -> str:
    try:
        parse_reference(value)
    except BuilderError as error:
        _, what, why = error.message.partition("is not an image reference")
        raise Malformed(what + why, error.hint) from None
    return value


def absolute(value: str) -> str:
    if not value.startswith("/"):
        raise Malformed("is relative, expected an absolute path in the image")
    return no_slash(syntax.parse_target(value))


def no_slash(path: str) -> str:
    return path.rstrip("/") or "/"


def words(command: str) -> list[str]:
    """A command as its words; as a shell's, where only a shell understands it; none where its
    quotes do not match."""
    import re
    import shlex

    if re.search(r"[|&;<>()$`\n*?~]", re.sub(r"'[^']*'|\"[^\"$`]*\"", "", command)):
        return ["/bin/sh", "-c", command]
    try:
        return shlex.split(command)
    except ValueError:
        return []


def shell(command: str) -> list[str]:
    """A shell's words, with -c if they are only its name."""
    found = words(command)
    return [*found, "-c"] if len(found) == 1 else found


def matching(pattern: str, what: str) -> Callable[[str], str]:
    import re

    compiled = re.compile(pattern)

    def parse(value: str) -> str:
        if len(value) > 500 or not compiled.fullmatch(value):
            raise Malformed(f"is not {what}")
        return value

    return parse


def _target(*, directory: bool) -> Kind:
    """A path in the image. Without `directory` it names one file: no slash at its end."""

    def read(reader: Reader, node: Node) -> Any:
        def parse(value: str) -> str:
            path = syntax.parse_target(value)
            if not directory and path.endswith("/"):
                raise Malformed("ends in '/', expected the path of a file")
            return path

        return text(parse, expected="a path in the image").read(reader, node)

    return Kind(read, text().schema)


TEXT = text()
WORDS = list_of(TEXT, expected="a list of words such as [nginx, -g]")
_NAMED = mapping_of(TEXT, check_env, "a mapping of names to text")


def _environment(reader: Reader, node: Node) -> Any:
    found = _NAMED.read(reader, node)
    path = node.get("PATH")
    if found is not BAD and path is not None:
        try:
            check_path(found["PATH"], reader.renderer.variables)
        except Malformed as error:
            raise path.fault(f"{quote(found['PATH'])} {error.what}", error.hint) from None
    return found


ENV = Kind(_environment, _NAMED.schema)
OWNER = text(syntax.parse_owner, expected="user[:group]", pattern=syntax.OWNER)
MODE = text(
    syntax.parse_mode,
    expected="octal text such as '0644'",
    pattern=f"({syntax.OCTAL})|({syntax.SYMBOLIC})",
    numbers=False,
)
SCRIPT = text(filled, expected="a command")
ARGV = list_of(TEXT, least=1, expected="a command")
SOURCE = text(syntax.parse_source, expected="a path below the context")
SHELL = list_of(TEXT, least=1, expected="a list of words such as [/bin/sh, -c]", split=shell)
DURATION = text(syntax.parse_duration, expected="a duration such as '30s'", pattern=syntax.DURATION)
TARGET = _target(directory=True)
FILE_TARGET = _target(directory=False)

NAME_FIELD = Field(text(one_line), "Shown in progress and in the image's history.")
OWNER_FIELD = Field(OWNER, "user[:group], by number or by a name of the image's own passwd.")
MODE_FIELD = Field(MODE, "Octal text ('0644') or symbolic (u=rwX,go=rX).")
TIMES_FIELD = Field(
    choice("content"), "content: a file's time follows its content, as a web server's ETags want."
)
