"""`config:`, what the image's config document says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from builder.spec import syntax
from builder.spec.fields import (
    BAD,
    Field,
    Kind,
    Reader,
    Table,
    list_of,
    mapping_of,
    number,
    read_table,
    table_schema,
    text,
)
from builder.spec.kinds import (
    ARGV,
    DURATION,
    ENV,
    OWNER,
    SCRIPT,
    SHELL,
    WORDS,
    absolute,
    check_label,
    filled,
)
from builder.spec.model import (
    ConfigChange,
    Healthcheck,
)
from builder.spec.node import LIST, MAPPING, NULL, TEXT, Node
from builder.spec.source import quote, written
from builder.spec.syntax import Malformed


def _read_test(reader: Reader, node: Node) -> Any:
    if node.kind != LIST:
        return _test_text(reader, node)
    expected = "does not say how to run the test, expected CMD, CMD-SHELL or NONE"
    first = node.items[0] if node.items else node
    if node.items and first.kind != TEXT:
        raise node.fault(f"{first.show()} {expected}")
    words = ARGV.read(reader, node)
    if words is BAD:
        return BAD
    if words[0] not in ("CMD", "CMD-SHELL", "NONE"):
        hint = f"write [{', '.join(map(written, ('CMD', *words)))}]"
        raise node.fault(f"{quote(words[0])} {expected}", hint if len(hint) < 200 else None)
    wanted = {"NONE": 1, "CMD-SHELL": 2}.get(words[0])
    if (wanted and len(words) != wanted) or (not wanted and len(words) < 2):
        raise first.fault(f"{words[0]} with {len(words) - 1} words, expected a whole test")
    return words


def _test_text(reader: Reader, node: Node) -> Any:
    """Text for the shell; NONE, and a Dockerfile's CMD in front of it, are no commands."""
    test = SCRIPT.read(reader, node)
    if test == "NONE":
        return ("NONE",)
    first, _, rest = test.partition(" ")
    if first in ("CMD", "CMD-SHELL"):
        hint = f"write {written(rest.strip())}" if rest.strip() and len(rest) < 200 else None
        raise node.fault(f"{quote(test)} begins with {first}, expected the command alone", hint)
    return ("CMD-SHELL", test)


def folder(value: str) -> str:
    if ":" in value:
        raise Malformed("holds ':', expected one folder; several are a list")
    return absolute(value)


_HEALTHCHECK: Table = {
    "test": Field(
        Kind(_read_test, {"anyOf": [SCRIPT.schema, ARGV.schema]}),
        "[CMD, word, ...], [CMD-SHELL, text], NONE, or text for the shell.",
        required=True,
    ),
    "interval": Field(DURATION, "Time between two checks, such as 30s."),
    "timeout": Field(DURATION, "How long a check may take."),
    "start_period": Field(DURATION, "How long failures do not count after the start."),
    "start_interval": Field(DURATION, "Time between two checks until start_period is over."),
    "retries": Field(number(0, 1000), "How many failures in a row make it unhealthy."),
}


def _read_healthcheck(reader: Reader, node: Node) -> Any:
    given = read_table(reader, node, _HEALTHCHECK, "a healthcheck")
    if given is None:
        return BAD
    if given["test"] == ("NONE",) and len(given) > 1:
        other = next(key for key, _ in node.pairs if key.text != "test")
        raise other.fault(f"{quote(other.text)} is given, but NONE says that there is no test")
    return Healthcheck(**given)


def _read_command(reader: Reader, node: Node) -> Any:
    if node.kind in (MAPPING, NULL) or reader.is_list(node):
        return WORDS.read(reader, node)
    return SCRIPT.read(reader, node)


_COMMAND = Kind(_read_command, {"anyOf": [SCRIPT.schema, WORDS.schema]})


def _read_ports(reader: Reader, node: Node) -> Any:
    found = _PORTS.read(reader, node)
    return BAD if found is BAD else tuple(_one_by_one(found))


def _one_by_one(ranges: Iterable[tuple[int, int, str]]) -> Iterator[str]:
    """`80/tcp` and so on, each once however many ranges have it."""
    told: dict[str, int] = {}  # the last one, by protocol
    for first, last, protocol in sorted(ranges):
        start = max(first, told.get(protocol, 0) + 1)
        yield from (f"{number}/{protocol}" for number in range(start, last + 1))
        told[protocol] = max(last, start - 1)


_PORTS = list_of(
    text(syntax.parse_ports, expected="a port such as 80/tcp", pattern=syntax.PORT),
    expected="a list of ports",
)


CONFIG: Table = {
    "env": Field(ENV, "Environment, added to the base's; also for the steps."),
    "path": Field(
        list_of(text(folder, pattern="^/[^:]*$"), one=True),
        "Folders in front of the PATH there is; also for the steps.",
    ),
    "user": Field(OWNER, "Who runs the image's and the steps' commands."),
    "working_dir": Field(
        text(absolute, pattern="^/"), "Where commands run, and what relative targets start from."
    ),
    "entrypoint": Field(
        _COMMAND,
        "The command's first words, or text for the shell, to which no cmd comes; setting it clears"
        " an inherited cmd.",
    ),
    "cmd": Field(
        _COMMAND,
        "The command, or the entrypoint's arguments: words, or text for the shell.",
    ),
    "shell": Field(SHELL, "The shell for commands given as text."),
    "exposed_ports": Field(
        Kind(_read_ports, _PORTS.schema), "Ports that the image serves: 80, 53/udp, 8000-8010/tcp."
    ),
    "volumes": Field(list_of(text(absolute, pattern="^/")), "Paths that hold data."),
    "labels": Field(
        mapping_of(text(), check_label, "a mapping of labels to text"), "Labels of the image."
    ),
    "stop_signal": Field(
        text(syntax.parse_signal, expected="a signal such as SIGTERM", pattern=syntax.SIGNAL),
        "What stops a container of the image.",
    ),
    "author": Field(text(), "Who made the image, as a Dockerfile's MAINTAINER says."),
    "onbuild": Field(
        list_of(text(filled)), "Instructions that a Dockerfile on this image runs first: ONBUILD."
    ),
    "healthcheck": Field(
        Kind(_read_healthcheck, table_schema(_HEALTHCHECK)), "How to see whether it is well."
    ),
}


def read_config(reader: Reader, node: Node) -> Any:
    given = read_table(reader, node, CONFIG, "'config'")
    return BAD if given is None else ConfigChange(**given)
