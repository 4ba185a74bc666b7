"""RUN: a command step."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from builder.dockerfile.idioms import APT_CACHES, apt
from builder.dockerfile.nodes import mapping, put, text, texts
from builder.dockerfile.words import heredoc
from builder.spec.node import BOOL, MAPPING, Node
from builder.spec.source import quote

if TYPE_CHECKING:
    from builder.dockerfile.convert import Part, _Converter
    from builder.dockerfile.instructions import Instruction

_SHELLS = ("sh", "bash", "dash", "ash", "ksh", "zsh")
# what -e could stop at; a chain of && and || it cannot
_MANY = re.compile(r"[;\n&]|\bset\b|\$-")
_CHAIN = re.compile(r"&&|2>&1|>&2|&>")


def run(by: _Converter, part: Part, found: Instruction) -> None:
    at = found.place
    step = Node(MAPPING, *at)
    if found.is_json:
        if not found.args:
            raise found.fault("RUN says no command, expected words in the array")
        put(step, "run", texts([each.text for each in found.args], at), at)
    else:
        command = script(found, part, by.escape)
        if not command.strip():
            raise found.fault("RUN says no command")
        put(step, "run", text(command, at), at)
        plain = command if found.heredocs else found.text
        if part.shell is None and _MANY.search(_CHAIN.sub("", plain)):
            put(step, "errexit", Node(BOOL, *at, "false"), at)
    env = {name: text(value, at) for name, value in part.scope.environment().items()}
    if env:
        put(step, "env", mapping(env, at), at)
    for flag in found.flags:
        where = found.line.at(flag.at)
        if flag.name == "network":
            if flag.value not in ("default", "none", "host"):
                hint = "known are default, none and host"
                raise found.fault(f"--network={quote(flag.value)}", hint, flag.at)
            if flag.value == "none":
                put(step, "network", text("none", where), where)
        elif flag.name == "mount":
            from builder.dockerfile.mounts import mount

            mount(by, part, found, flag, step)
        elif flag.name == "security" and flag.value != "sandbox":
            by.remark(
                where, f"--security={flag.value} is not given: a step has no more rights", step
            )
        elif flag.name == "device":
            by.remark(where, f"--device={flag.value}: a step has no devices here", step)
    if by.wish.idiomatic and _of_apt(found, step) and (packages := apt(found.text)):
        step = Node(MAPPING, *at)
        put(step, "apt", texts(packages.packages, at), at)
        if packages.recommends:
            put(step, "recommends", Node(BOOL, *at, "true"), at)
    part.wanted = None
    part.ran = True
    by.add(part, step, found)


def _of_apt(found: Instruction, step: Node) -> bool:
    """Whether the flags, if any, are caches of what an `apt` step keeps in one of its own."""
    mounts = getattr(step.get("mounts"), "items", ())
    targets = [each.get("target") for each in mounts if each.get("cache")]
    return len(targets) == len(found.flags) and all(
        target and target.text.rstrip("/") in APT_CACHES for target in targets
    )


def script(found: Instruction, part: Part, escape: str) -> str:
    """The text that the shell gets, with its lines as they were written where that is the same."""
    if not found.heredocs:
        return _lines(found, part, escape)
    command = found.text
    announced = heredoc(command)
    document = found.heredocs[0]
    if not announced:
        bodies = "".join(f"\n{each.content}{each.name}" for each in found.heredocs)
        return command + bodies
    if not document.content.startswith("#!"):
        return document.content
    first = document.content.partition("\n")[0][2:].split(None, 1)
    if not first:
        return document.content
    # run as a file by its interpreter: it comes through a handle that is read as one
    name = "EOF"
    while f"\n{name}\n" in document.content:
        name += "_"
    words = " ".join(map(shlex.quote, [first[0], *(each.strip() for each in first[1:])]))
    return f"{words} /dev/fd/3 3<<'{name}'\n{document.content}{name}\n"


def _lines(found: Instruction, part: Part, escape: str) -> str:
    joined = found.text
    spots = [spot for spot, _, _ in found.line.spots[1:]]
    shell = part.shell[0].rpartition("/")[2] if part.shell else "sh"
    at = found.args[0].at
    cuts = [spot - at for spot in spots if at < spot < at + len(joined)]
    if not cuts or escape != "\\" or shell not in _SHELLS or not _apart(joined, cuts):
        return joined
    parts = [joined[a:b] for a, b in zip([0, *cuts], [*cuts, len(joined)], strict=True)]
    indent = min((len(each) - len(each.lstrip()) for each in parts[1:] if each.strip()), default=0)
    # what follows the first line is indented by two columns, where all of it was
    rest = ["  " + each[indent:] if indent else each for each in parts[1:]]
    return "\\\n".join([parts[0], *rest])


def _apart(joined: str, cuts: list[int]) -> bool:
    """Whether the shell joins the lines as Docker does: none of them ends within quotes, behind a
    backslash, or in a comment; and the white space there means nothing."""
    mark, here, wanted = "", 0, iter([*cuts, -1])
    cut = next(wanted)
    while here < len(joined):
        if here == cut:
            if mark:
                return False
            before, after = joined[here - 1], joined[here]
            if before == "\\" or not (before.isspace() or after.isspace()):
                return False
            cut = next(wanted)
        char = joined[here]
        if mark:
            if char == "\\" and mark == '"':
                here += 1
            elif char == mark:
                mark = ""
        elif char in "'\"":
            mark = char
        elif char == "\\":
            if here + 1 == cut:
                return False
            here += 1
        elif (char == "#" and (here == 0 or joined[here - 1].isspace())) or (
            char == "<" and joined.startswith("<<", here)
        ):
            return False
        here += 1
    return True
