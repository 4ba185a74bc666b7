"""Steps: a table of fields for each verb, and the step that is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from builder.spec import syntax
from builder.spec.fields import (
    BAD,
    Field,
    Kind,
    Reader,
    Table,
    choice,
    data,
    list_of,
    number,
    read_table,
    text,
)
from builder.spec.kinds import (
    ARGV,
    DURATION,
    ENV,
    FILE_TARGET,
    MODE_FIELD,
    NAME_FIELD,
    OWNER,
    OWNER_FIELD,
    SCRIPT,
    SHELL,
    SOURCE,
    TARGET,
    check_variable,
    filled,
    no_slash,
    place,
)
from builder.spec.model import (
    Copy,
    Directory,
    File,
    Remove,
    Run,
    Step,
    Symlink,
    Unpack,
)
from builder.spec.node import MAPPING, Node
from builder.spec.source import did_you_mean, quote, written


def _removable(reader: Reader, node: Node) -> Any:
    path = TARGET.read(reader, node)
    if path == "/":
        raise node.fault("'/' is the whole image, expected a path within it")
    return no_slash(path)


class Verb(NamedTuple):
    """A kind of step. `fields` has the verb's own field under the verb's name."""

    fields: Table
    make: Callable[[Reader, Node, Mapping[str, Any]], Step]
    doc: str


def _make_copy(reader: Reader, node: Node, given: Mapping[str, Any]) -> Step:
    sources, dest = given["copy"], given["dest"]
    if not dest.endswith("/") and dest != "/":
        several = f"{len(sources)} sources need" if len(sources) > 1 else None
        glob = next((f"glob {quote(each)} needs" for each in sources if syntax.is_glob(each)), None)
        if need := several or glob:
            at = node.get("dest") or node
            raise at.fault(
                f"{need} a directory, {quote(dest)} is not one", f"write {written(dest + '/')}"
            )
    preserve = given.get("preserve", ())
    for each in ("mode", "owner"):
        if each in preserve and each in given:
            at = node.get(each) or node
            raise at.fault(f"{each!r} is given and also preserved, expected one of the two")
    if "times" in given and "mtime" in preserve:
        at = node.get("times") or node
        raise at.fault("'times' is given and 'mtime' also preserved, expected one of the two")
    return Copy(
        place(reader, node.get("copy") or node),
        given.get("name"),
        sources,
        dest,
        given.get("exclude", ()),
        given.get("owner"),
        given.get("mode"),
        tuple(sorted(set(preserve))),
        given.get("times"),
    )


def _make_file(reader: Reader, node: Node, given: Mapping[str, Any]) -> Step:
    return File(
        place(reader, node.get("file") or node),
        given.get("name"),
        given["file"],
        given["content"],
        owner=given.get("owner"),
        mode=given.get("mode"),
        times=given.get("times"),
    )


def _make_template(reader: Reader, node: Node, given: Mapping[str, Any]) -> Step:
    source, dest = given["template"], given["dest"]
    if source.endswith("/") or source == ".":
        raise (node.get("template") or node).fault(f"{quote(source)} is a directory")
    if dest.endswith("/"):
        dest += source.rsplit("/", 1)[-1].removesuffix(".j2")
    variables = {k: v for k, v in reader.renderer.variables.items() if k != "spec"}
    return File(
        place(reader, node.get("template") or node),
        given.get("name"),
        dest,
        None,
        source,
        {**variables, **given.get("vars", {})},
        given.get("owner"),
        given.get("mode"),
        given.get("times"),
    )


def _make_directory(reader: Reader, node: Node, given: Mapping[str, Any]) -> Step:
    return Directory(
        place(reader, node.get("directory") or node),
        given.get("name"),
        no_slash(given["directory"]),
        given.get("owner"),
        given.get("mode"),
    )


def _make_symlink(reader: Reader, node: Node, given: Mapping[str, Any]) -> Step:
    return Symlink(
        place(reader, node.get("symlink") or node),
        given.get("name"),
        given["symlink"],
        given["to"],
        given.get("owner"),
    )


def _make_remove(reader: Reader, node: Node, given: Mapping[str, Any]) -> Step:
    return Remove(place(reader, node.get("remove") or node), given.get("name"), given["remove"])


def _make_unpack(reader: Reader, node: Node, given: Mapping[str, Any]) -> Step:
    return Unpack(
        place(reader, node.get("unpack") or node),
        given.get("name"),
        given["unpack"],
        no_slash(given["dest"]),
        given.get("strip_components", 0),
        given.get("owner"),
    )


def _make_run(reader: Reader, node: Node, given: Mapping[str, Any]) -> Step:
    command = given["run"]
    if "shell" in given and not isinstance(command, str):
        raise (node.get("shell") or node).fault("'shell' is given, but a list runs without a shell")
    return Run(
        place(reader, node.get("run") or node),
        given.get("name"),
        command,
        given.get("env", {}),
        given.get("user"),
        given.get("working_dir"),
        given.get("shell"),
        given.get("network", "host"),
        given.get("timeout", 0),
    )


def _read_command(reader: Reader, node: Node) -> Any:
    """Text for the shell, or an argv."""
    if node.items or node.kind == "list":
        return ARGV.read(reader, node)
    return SCRIPT.read(reader, node)


TIMES_FIELD = Field(
    choice("content"), "content: a file's time follows its content, as a web server's ETags want."
)
_COMMAND = Kind(_read_command, {"anyOf": [SCRIPT.schema, ARGV.schema]})


def _working_dir(value: str) -> str:
    syntax.parse_target(value)
    return value


VERBS: Mapping[str, Verb] = {
    "copy": Verb(
        {
            "copy": Field(
                list_of(SOURCE, one=True, least=1, expected="a path or a list of paths"),
                "Files, directories (their contents) or globs, below the context.",
                required=True,
            ),
            "dest": Field(TARGET, "Where to; a slash at its end says directory.", required=True),
            "name": NAME_FIELD,
            "exclude": Field(
                list_of(text(filled), one=True, expected="a pattern or a list of patterns"),
                "Patterns by .gitignore rules, relative to each source.",
            ),
            "owner": OWNER_FIELD,
            "mode": MODE_FIELD,
            "preserve": Field(
                list_of(choice("mode", "owner", "mtime", "xattrs"), one=True),
                "What to take over from the source files.",
            ),
            "times": TIMES_FIELD,
        },
        _make_copy,
        "Copy files of the context.",
    ),
    "file": Verb(
        {
            "file": Field(FILE_TARGET, "The path of the file.", required=True),
            "content": Field(text(nul=True), "The text of the file.", required=True),
            "name": NAME_FIELD,
            "owner": OWNER_FIELD,
            "mode": MODE_FIELD,
            "times": TIMES_FIELD,
        },
        _make_file,
        "Write a file.",
    ),
    "template": Verb(
        {
            "template": Field(SOURCE, "A Jinja template below the context.", required=True),
            "dest": Field(
                TARGET,
                "The path of the file; with a slash at its end the directory for it.",
                required=True,
            ),
            "name": NAME_FIELD,
            "vars": Field(data(check_variable), "Variables for this template, over the spec's."),
            "owner": OWNER_FIELD,
            "mode": MODE_FIELD,
            "times": TIMES_FIELD,
        },
        _make_template,
        "Write a file rendered from a template.",
    ),
    "directory": Verb(
        {
            "directory": Field(TARGET, "The path of the directory.", required=True),
            "name": NAME_FIELD,
            "owner": OWNER_FIELD,
            "mode": MODE_FIELD,
        },
        _make_directory,
        "Make a directory, or change an existing one's owner and mode.",
    ),
    "symlink": Verb(
        {
            "symlink": Field(FILE_TARGET, "The path of the link.", required=True),
            "to": Field(text(filled), "What the link points to, as it stands.", required=True),
            "name": NAME_FIELD,
            "owner": OWNER_FIELD,
        },
        _make_symlink,
        "Make a symbolic link.",
    ),
    "remove": Verb(
        {
            "remove": Field(
                list_of(
                    Kind(_removable, TARGET.schema),
                    one=True,
                    least=1,
                    expected="a path or a list of paths",
                ),
                "Paths to remove, directories with all they hold.",
                required=True,
            ),
            "name": NAME_FIELD,
        },
        _make_remove,
        "Remove files.",
    ),
    "unpack": Verb(
        {
            "unpack": Field(SOURCE, "A tar (gz, xz, bz2, zst) or zip.", required=True),
            "dest": Field(TARGET, "The directory to unpack into.", required=True),
            "name": NAME_FIELD,
            "strip_components": Field(
                number(0, 100), "How many leading folders of each member's path to leave out."
            ),
            "owner": OWNER_FIELD,
        },
        _make_unpack,
        "Unpack an archive of the context.",
    ),
    "run": Verb(
        {
            "run": Field(_COMMAND, "Text for the shell, or a list as argv.", required=True),
            "name": NAME_FIELD,
            "env": Field(ENV, "Environment of this command, over the config's."),
            "user": Field(OWNER, "Who runs it; else the config's user."),
            "working_dir": Field(
                text(_working_dir), "Where it runs; made when missing. Relative: below config's."
            ),
            "shell": Field(SHELL, "The shell for text, else the config's, else [/bin/sh, -e, -c]."),
            "network": Field(choice("host", "none"), "host (default) or none."),
            "timeout": Field(DURATION, "How long it may take, such as 10m; else as it likes."),
        },
        _make_run,
        "Run a command in the image.",
    ),
}

_ONLY_STEPS = f"a step needs one of: {', '.join(VERBS)}"


def _begins(reader: Reader, value: Node, verb: str) -> bool:
    """Whether the verb takes the value."""
    return reader.fits(VERBS[verb].fields[verb].kind, value)


def waiting_step(reader: Reader, node: Node) -> Step:
    """In the place of a step that names the base, until that is known: it tells what it will be,
    and is never made."""
    verb = next(key.text for key, _ in node.pairs if key.text in VERBS)
    at, name = node.get(verb) or node, node.get("name")
    shown = name.text if name else " ".join((verb, *at.text.split()))
    if verb == "run":
        return Run(place(reader, at), shown, shown)
    return Directory(place(reader, at), shown, "/")


def read_step(reader: Reader, node: Node) -> Any:
    if node.kind != MAPPING:
        raise node.fault(f"found {node.show()}, expected a step", _ONLY_STEPS)
    verbs = [key for key, _ in node.pairs if key.text in VERBS]
    if not verbs:
        known = sorted({*VERBS, *(name for verb in VERBS.values() for name in verb.fields)})
        for key, value in node.pairs:
            if key.text in known:
                continue
            if near := did_you_mean(key.text, list(VERBS), partial(_begins, reader, value)):
                raise key.fault(f"unknown step {quote(key.text)}{near}", _ONLY_STEPS)
        raise node.fault("a step without a verb", _ONLY_STEPS)
    if len(verbs) > 1:
        both = " and ".join(repr(key.text) for key in verbs)
        raise verbs[1].fault(f"{both} in one step, expected one verb", "make two steps of it")
    own = verbs[0].text
    verb = VERBS[own]
    foreign: dict[str, str] = {}
    for name, other in VERBS.items():
        for field in other.fields:
            if field not in verb.fields:
                foreign[field] = (
                    f"{foreign[field]} and {name!r}" if field in foreign else f"{name!r}"
                )
    given = read_table(reader, node, verb.fields, f"a {own!r} step", foreign)
    return BAD if given is None else verb.make(reader, node, given)
