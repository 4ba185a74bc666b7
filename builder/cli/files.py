"""`builder tree`, `builder cat` and `builder blame`: one image's files."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.cli import screen
from builder.cli.diff import described, made_by
from builder.cli.outside import look
from builder.cli.wanted import Wanted
from builder.errors import UsageError
from builder.layer.entry import DIRECTORY, FILE, SYMLINK
from builder.look.paths import Branch, Written, branch, find, history, missing, resolve
from builder.oci.image import Image
from builder.ui import human
from builder.ui.text import BOLD, DIM, harmless, paint

if TYPE_CHECKING:
    from builder.look.packages import Package
    from builder.plan.last import LastStep
    from builder.plan.plan import ImagePlan
    from builder.plan.planned import Planned

_FEW = 20  # rows of a folder before the rest is summed up
_CHUNK = 1 << 20
_DEEPEST = 200  # levels of folders that are shown; each is a level of JSON


def tree(arguments: argparse.Namespace) -> int:
    depth = _number(arguments.depth)

    def show(found: Wanted) -> None:
        view = found.layers.view(found.one().image.layers)
        path = find(view, arguments.path)
        top = branch(view, path)
        if arguments.json:
            sys.stdout.write(json.dumps(_document(top, depth), indent=2) + "\n")
            return
        color = screen.color(sys.stdout)
        few = None if arguments.all else _FEW
        sys.stdout.write(paint(f"{human.size(top.size):>8}  {_name(top, whole=True)}", BOLD, color))
        sys.stdout.write(f"  {human.count(top.paths - 1, 'path')}\n" if top.below else "\n")
        for line in _rows(top, depth, few, 1):
            sys.stdout.write(line + "\n")

    look(arguments, arguments.image, show)
    return 0


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:6]) <= _DEEPEST:
        raise UsageError(f"--depth {text!r}: expected a number from 1 to {_DEEPEST}")
    return int(text)


def _rows(top: Branch, depth: int, few: int | None, level: int) -> Iterator[str]:
    if level > depth:
        return
    shown = top.below[:few]
    for each in shown:
        yield f"{human.size(each.size):>8}  {'  ' * level}{_name(each)}"
        yield from _rows(each, depth, few, level + 1)
    if rest := top.below[len(shown) :]:
        size = sum(each.size for each in rest)
        yield f"{human.size(size):>8}  {'  ' * level}({len(rest)} more; --all lists them)"


def _name(each: Branch, *, whole: bool = False) -> str:
    entry = each.entry
    path = os.fsdecode(entry.path)
    name = f"/{path}" if whole else path.rpartition("/")[2]
    if entry.type == DIRECTORY:
        name += "/" if name != "/" else ""
    elif entry.type == SYMLINK:
        name += f" -> {os.fsdecode(entry.link)}"
    return harmless(name)


def _document(each: Branch, depth: int) -> dict[str, Any]:
    path = "/" + os.fsdecode(each.entry.path)
    document = {"path": path, **described(each.entry), "size": each.size, "paths": each.paths}
    if depth and each.below:
        document["below"] = [_document(inner, depth - 1) for inner in each.below]
    return document


def cat(arguments: argparse.Namespace) -> int:
    """The bytes as they are."""

    def write(found: Wanted) -> None:
        layers, image = found.layers, found.one().image.layers
        view = layers.view(image)
        path = find(view, arguments.path)
        entry = view.lookup(path)
        shown = "/" + os.fsdecode(path)
        if entry is None or entry.entry.type != FILE:
            kind = described(entry.entry)["type"] if entry else "directory"
            hint = f"builder tree {arguments.image} {shown}" if kind == "directory" else None
            raise UsageError(f"{shown} is a {kind}, expected a file", hint)
        with layers.read(image, path) as file:
            sys.stdout.flush()
            is_text = _text_check() if sys.stdout.isatty() else None
            while data := file.read(_CHUNK):
                if is_text and not is_text(data):
                    raise UsageError(
                        f"{shown} is no text, and stdout is a terminal",
                        f"builder cat {arguments.image} {shown} > FILE",
                    )
                sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    look(arguments, arguments.image, write)
    return 0


def _text_check() -> Callable[[bytes], bool]:
    """Takes the parts of a file; gives whether one does nothing to a terminal, and shows as what it
    is."""
    import codecs

    decode = codecs.getincrementaldecoder("utf-8")().decode

    def is_text(part: bytes) -> bool:
        try:
            text = decode(part)
        except UnicodeDecodeError:
            return False
        return all(char.isprintable() or char in "\n\r\t" for char in text)

    return is_text


# -- blame ----------------------------------------------------------------------------------------


class _Origin(NamedTuple):
    """What a layer was made by. Of an image that no spec here makes: its history's line alone."""

    made_by: str
    plan: ImagePlan | None = None
    planned: Planned | None = None
    last: LastStep | None = None
    created: str = ""  # of a history's entry


def blame(arguments: argparse.Namespace) -> int:
    def tell(found: Wanted) -> None:
        image = found.one().image
        origins = _origins(found, image)
        layers = found.layers
        view = layers.view(image.layers)
        path = resolve(view, arguments.path, follow_last=False)
        events = list(history(layers, image.layers, path))
        if not events:
            if view.lookup(path) is None:
                raise missing(view, arguments.path, path)
            raise UsageError(
                f"/{os.fsdecode(path)}: no layer has it, some have what is below it",
                f"builder tree {arguments.image} {arguments.path}",
            )
        events.reverse()
        package = _package(found, image, path) if events[0].entry else None
        sources = _sources(found, events, origins, path)
        if arguments.json:
            document = {
                "path": "/" + os.fsdecode(path),
                "history": [_event(each, image, origins, sources) for each in events],
                "package": package and {
                    "kind": package.kind, "name": package.name, "version": package.version,
                },
            }  # fmt: skip
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
            return
        _show(path, events, image, origins, package, sources)

    look(arguments, arguments.image, tell)
    return 0


def _show(
    path: bytes,
    events: Sequence[Written],
    image: Image,
    origins: Sequence[_Origin],
    package: Package | None,
    sources: Mapping[int, str],
) -> None:
    color = screen.color(sys.stdout)
    entry = events[0].entry
    said = "removed"
    if entry:
        about = described(entry)
        said = f"{about['type']}, {about['mode']} {entry.uid}:{entry.gid}"
        said += f", {human.size(entry.size)}" if entry.type == FILE else ""
        said += f" -> {os.fsdecode(entry.link)}" if entry.type == SYMLINK else ""
    sys.stdout.write(f"{paint(harmless('/' + os.fsdecode(path)), BOLD, color)}  {harmless(said)}\n")
    if package:
        text = f"{package.kind} {package.name} {package.version}"
        sys.stdout.write(f"  package  {harmless(text)}\n")
    for number, each in enumerate(events):
        origin = origins[each.layer]
        word = "written" if each.entry else "removed"
        if number:
            word = f"before that {word}"
        what = origin.made_by or "(its history does not say)"
        head, detail = f"  {word} by {what}", []
        if origin.plan and origin.planned:
            step, place = origin.planned, origin.planned.step.place
            head = f"  {word} by {origin.plan.spec.label}, step {step.number} ({step.name})"
            detail.append(f"{place}: {origin.made_by}")
            if each.layer in sources:
                detail.append(f"from {sources[each.layer]}")
            if origin.last:
                detail.append(f"{_when(origin.last.built)}: {origin.last.why}")
        else:
            layer = f"layer {each.layer + 1} of {len(image.layers)}"
            created = f", {origin.created[:19].replace('T', ' ')}" if origin.created else ""
            detail.append(f"{layer}{created}, of no spec here")
        sys.stdout.write(harmless(head) + "\n")
        for line in detail:
            sys.stdout.write(paint(f"    {harmless(line)}", DIM, color) + "\n")


def _when(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _event(
    each: Written, image: Image, origins: Sequence[_Origin], sources: Mapping[int, str]
) -> dict[str, Any]:
    origin = origins[each.layer]
    document: dict[str, Any] = {
        "what": "written" if each.entry else "removed",
        "layer": image.layers[each.layer].diff_id,
        "made_by": origin.made_by,
    }
    if each.entry:
        document["entry"] = described(each.entry)
    if origin.created:
        document["created"] = origin.created
    if (planned := origin.planned) and origin.plan:
        document["image"] = origin.plan.spec.label
        document["step"] = {"number": planned.number, "name": planned.name}
        document["place"] = planned.step.place._asdict()
    if each.layer in sources:
        document["source"] = sources[each.layer]
    if last := origin.last:
        built = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last.built))
        document.update(built=built, why=last.why)
    return document


def _origins(found: Wanted, image: Image) -> list[_Origin]:
    """What made each layer, the lowest first."""
    made = made_by(image)
    origins = [_Origin(text, created=created) for text, created in made]
    if found.spec is None or found.project is None:
        return origins
    plans = found.project.plan(found.specs)
    own = _steps(found, plans, plans[found.spec.task or found.spec.key])
    if len(own) > len(origins):
        return origins
    for at, each in enumerate(own, len(origins) - len(own)):
        planned = each.planned
        if planned is None or planned.layer is None:
            continue
        if planned.layer.diff_id == image.layers[at].diff_id:
            origins[at] = each._replace(made_by=origins[at].made_by)
    return origins


def _steps(found: Wanted, plans: Mapping[str, ImagePlan], plan: ImagePlan) -> list[_Origin]:
    """The steps with layers of a spec and of those that it stands on, the lowest first."""
    from builder.plan.last import load_last

    below: list[_Origin] = []
    if plan.spec.base.of_spec and plan.spec.base.task in plans:
        below = _steps(found, plans, plans[plan.spec.base.task])
    last = load_last(found.store, plan.name)
    known = {each.key: each for each in last.steps} if last else {}
    return below + [
        _Origin("", plan, each, known.get(each.key or "")) for each in plan.steps if each.layer
    ]


def _sources(
    found: Wanted, events: Sequence[Written], origins: Sequence[_Origin], path: bytes
) -> dict[int, str]:
    """The files of contexts that it was taken from, by layers."""
    sources: dict[int, str] = {}
    for each in events:
        origin = origins[each.layer]
        if found.project and origin.plan and origin.planned and each.entry:
            source = found.project.taken_from(origin.plan, origin.planned.number, path)
            if source:
                sources[each.layer] = os.path.relpath(source)
    return sources


def _package(found: Wanted, image: Image, path: bytes) -> Package | None:
    from builder.look.packages import find_packages
    from builder.look.tree import Tree

    return find_packages(Tree(found.layers, image.layers)).owners().get(path)
