"""What a shell may complete: asked at each TAB by the scripts of `builder completion`.

It only reads, never fails and says nothing on stderr: a command line is half written most of the
time. The first line is what the shell completes itself where nothing else is found (`:files`,
`:folders`, `:nothing`); each other one is a value, a tab and what it is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.cli.arguments import before_parser, parser_of
from builder.cli.commands import COMMANDS, Command
from builder.errors import BuilderError

if TYPE_CHECKING:
    from builder.project import Project
    from builder.store.store import Store

FILES, FOLDERS, NOTHING = ":files", ":folders", ":nothing"
Values = Iterable[tuple[str, str]]  # each with what it is, "": nothing to say


class Line(NamedTuple):
    """What the words before the one at hand say."""

    known: Mapping[str, Command]  # what may come as a command or an action
    options: Mapping[str, argparse.Action]
    action: argparse.Action | None  # what the next word that is no option is
    value: bool  # that action is an option's value: no option can stand here
    given: Mapping[str, str]  # values by their names in the namespace; the last of each


def complete(arguments: argparse.Namespace) -> int:
    """`shell` and, of zsh and fish, the words up to the cursor; of bash its COMP_WORDBREAKS, the
    command's name and the line up to the cursor."""
    shell, *words = arguments.words
    breaks = ""
    if shell == "bash":
        breaks, name, line = words
        words = split(line, name)
    try:
        otherwise, values = candidates(words[1:])
        found = [each for each in values if each[0].startswith(words[-1])]
    except Exception:  # a TAB is no place to tell it
        otherwise, found = FILES, []
    lines = [otherwise]
    for value, about in found:
        text = value if shell != "bash" else in_bash(value, words[-1], breaks)
        if value.isprintable():
            lines.append(f"{text}\t{' '.join(about.split())}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def split(line: str, name: str) -> list[str]:
    """The words of a line from the command `name` on, the last one as far as it was typed."""
    for end in ("", "'", '"', "\\"):  # a quote that is open; a backslash before the cursor
        try:
            words = shlex.split(line + "\u241f" + end)  # in the last word, though that be empty
        except ValueError:
            continue
        words[-1] = words[-1].removesuffix("\\").removesuffix("\u241f")
        while len(words) > 1 and words[0] != name:
            del words[0]  # NAME=VALUE before it, or another command whose argument it is
        return words
    return [name, ""]


def in_bash(value: str, typed: str, breaks: str) -> str:
    """As bash has it in place of what stands behind the last of its word breaks."""
    begin = max(typed.rfind(each) for each in ":=" if each in breaks) + 1 if breaks else 0
    return "".join(f"\\{char}" if char in " \t'\"\\$`&|;<>()*?[]#~!{}" else char
                   for char in value[begin:])  # fmt: skip


def read(before: Sequence[str]) -> Line | None:
    """None: no command is called so."""
    known: Mapping[str, Command] = COMMANDS
    parser = before_parser()
    options = _options(parser)
    given: dict[str, str] = {}
    prog, awaited, places, ended = "builder", None, 0, False
    for word in before:
        if awaited:
            given[awaited.dest], awaited = word, None
        elif word == "--" and not ended:
            ended = True
        elif word.startswith("-") and word != "-" and not ended:
            name, equals, value = word.partition("=")
            option = options.get(name)
            if option and equals:
                given[option.dest] = value
            elif option and option.nargs is None:
                awaited = option
        elif known:
            if word not in known:
                return None
            prog, command = f"{prog} {word}", known[word]
            known = command.actions
            if not known:
                parser = parser_of(prog, command)
                options = _options(parser)
        else:
            if action := _place(parser, places):
                given[action.dest] = word
                ended = action.nargs == argparse.REMAINDER
            places += 1
    action = awaited or (None if known else _place(parser, places))
    return Line(known, {} if ended else options, action, bool(awaited), given)


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {name: action for action in parser._actions for name in action.option_strings}


def _place(parser: argparse.ArgumentParser, number: int) -> argparse.Action | None:
    """What the argument behind `number` others is."""
    places = [action for action in parser._actions if not action.option_strings]
    if number >= len(places):
        last = places[-1] if places else None
        return last if last and last.nargs in ("*", "+", argparse.REMAINDER) else None
    return places[number]


def candidates(words: Sequence[str]) -> tuple[str, Values]:
    """For the last of the words behind `builder`; also what the shell completes otherwise."""
    *before, word = words
    line = read(before)
    if line is None:
        return NOTHING, ()
    if word.startswith("-") and not line.value:
        name, equals, _ = word.partition("=")
        if not equals:
            return NOTHING, [
                (each, action.help or "")
                for each, action in line.options.items()
                if action.help != argparse.SUPPRESS
            ]
        option = line.options.get(name)
        if not option:
            return NOTHING, ()
        otherwise, values = _values(line, option, word.partition("=")[2])
        return otherwise, [(f"{name}={value}", about) for value, about in values]
    if line.known and not line.value:
        return NOTHING, [(name, each.help) for name, each in line.known.items()]
    return _values(line, line.action, word) if line.action else (NOTHING, ())


def _values(line: Line, action: argparse.Action, word: str) -> tuple[str, Values]:
    if action.choices:
        return NOTHING, [(str(each), "") for each in action.choices]
    match action.metavar:
        case "IMAGE" | "A" | "B" | "OTHER":
            return FILES, _images(line, word)
        case "PATH" if not action.option_strings:
            return NOTHING, _inside(line, word)
        case "REF" | "NAME":
            return FILES, _stored(line)
        case "STEP":
            return NOTHING, _steps(line)
        case "STAGE":
            return NOTHING, [(stage, "") for stage in _stages(line, line.given.get("images", ""))]
        case "CONTAINER":
            return NOTHING, _containers(line)
        case "CACHE":
            return NOTHING, _caches(line)
        case "OS/ARCH" | "OS/ARCH[,...]":
            return NOTHING, _platforms()
        case "CODEC[:LEVEL]":
            return NOTHING, [(each, "") for each in ("gzip", "zstd", "none")]
        case "WHERE":
            kinds = ("oci:", "oci-archive:", "docker-archive:", "dir:", "tar:")
            return FILES, [] if ":" in word else [(each, "") for each in kinds]
        case "DIR" | "FOLDER":
            return FOLDERS, ()
        case "FILE" | "PATH" | "NAME=WHERE" | "BASE":
            return FILES, ()
        case _:
            return NOTHING, ()


def _images(line: Line, word: str) -> Iterator[tuple[str, str]]:
    """Specs by their files' names, read only where none of these is meant; then the store's."""
    from builder.spec.files import SUFFIXES

    folder = _path(line.given.get("specs", "specs"))
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    stems = [name.rpartition(".")[0] for name in names if name.endswith(SUFFIXES)]
    found = {stem: f"{folder}/{stem}" for stem in stems}
    if word and not any(stem.startswith(word) for stem in stems):
        image, colon, _ = word.partition(":")
        with contextlib.suppress(BuilderError):  # a reference, or a spec with a fault
            if colon:
                found |= {f"{image}:{stage}": f"stage of {image}" for stage in _stages(line, image)}
            elif stems:
                found |= _rows(line)
    yield from found.items()
    yield from ((name, about) for name, about in _stored(line) if name not in found)


def _rows(line: Line) -> dict[str, str]:
    """Images of matrices, and groups."""
    project = _project(line)
    groups = project.file.groups if project.file else {}
    specs, _ = project.load([])
    rows = {spec.key: f"of {spec.file}" for spec in specs.values() if spec.row is not None}
    return {**rows, **dict.fromkeys(groups, "group of builder.yaml")}


def _stages(line: Line, image: str) -> list[str]:
    project = _project(line)
    specs, names = project.load([image or "."])
    stages = [each.stage for name in names for each in specs[name].stages]
    return list(dict.fromkeys(stages))


def _steps(line: Line) -> Iterator[tuple[str, str]]:
    from builder.plan.step import step_name, steps_of

    specs, names = _project(line).load([line.given.get("image") or line.given.get("images", "")])
    for number, step in enumerate(steps_of(specs[names[0]]), 1):
        yield step_name(step), f"step {number}"


def _inside(line: Line, word: str) -> Iterator[tuple[str, str]]:
    """What a folder of an image in the store has."""
    from builder.layer.entry import DIRECTORY
    from builder.rootfs.layers import Layers
    from builder.transport.stored import read_images

    store, image = _store(line), line.given.get("image", "")
    own = ("", _project(line).name)
    names = store.names() if store else {}
    for name in [each for each in names if each.name == image and each.project in own][:1]:
        assert store
        _, found = read_images(store, names[name], image)[0]
        view = Layers(store).view(found.layers)
        typed = word.rpartition("/")[0] + "/" if "/" in word else ""
        folder = view.resolve(os.fsencode(typed.strip("/")), follow_last=True)
        for each in view.children(folder):
            inner = os.fsdecode(each.entry.path.rpartition(b"/")[2])
            yield f"{typed}{inner}" + "/" * (each.entry.type == DIRECTORY), ""


def _stored(line: Line) -> Iterator[tuple[str, str]]:
    """Names that mean the same from everywhere; what a project calls its own are its specs."""
    store = _store(line)
    found = {name.name for name in store.names() if not name.project} if store else ()
    for name in sorted(found):
        yield name, "in the store"


def _containers(line: Line) -> Iterator[tuple[str, str]]:
    from builder.containers.container import listed

    store = _store(line)
    for each in listed(store) if store else ():
        yield each.container.name, each.container.image


def _caches(line: Line) -> Iterator[tuple[str, str]]:
    from builder.store.caches import names

    store = _store(line)
    for name in names(store) if store else ():
        yield name, ""


def _platforms() -> list[tuple[str, str]]:
    from builder.executor.emulator import EMULATED
    from builder.oci.image import host_platform

    own = str(host_platform())
    return [(own, "this machine's"), *((f"linux/{name}", "") for name in EMULATED)]


def _project(line: Line) -> Project:
    from builder.project import Options, Project

    specs, context = line.given.get("specs", "specs"), line.given.get("context")
    cache_dir = _cache_dir(line)
    return Project(Options(cache_dir, _path(specs), context and _path(context), environ=os.environ))


def _store(line: Line) -> Store | None:
    """None: there is none, and none is made."""
    from builder.store.store import Store

    folder = _cache_dir(line)
    return Store(folder, lambda event: None) if os.path.isdir(folder) else None


def _cache_dir(line: Line) -> str:
    from builder.cli.wiring import cache_dir

    return cache_dir(argparse.Namespace(cache_dir=_path(line.given.get("cache_dir", ""))))


def _path(text: str) -> str:
    """A path as the shell will give it."""
    return os.path.expanduser(text)
