"""`builder build`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from builder.cli import screen, wiring
from builder.errors import UsageError
from builder.events import Event, Noted
from builder.make.image import Built
from builder.plan.step import own_steps
from builder.project import Project
from builder.spec.model import ImageSpec
from builder.store.names import ImageName
from builder.transport.base import Destination

if TYPE_CHECKING:
    from builder.oci.reference import Reference


def build(arguments: argparse.Namespace) -> int:
    options = wiring.options(arguments)
    if arguments.depfile and not arguments.iidfile:
        raise UsageError("--depfile needs --iidfile: the file that the rule makes")
    # a user namespace can only be entered before the first thread, and the live view is one
    early: list[Event] = []
    project = Project(options, early.append)
    specs, names = project.load(arguments.images)
    project.become_root(specs)
    shown = screen.renderer(arguments.progress)
    with screen.telling(shown) as emit:
        project.tell(emit)
        for event in early:
            emit(event)
        for spec in project.left_out:
            emit(Noted(f"{spec.name}: not built, {spec.left_out}", spec.name))
        document = _build(arguments, project, specs, names)
    if arguments.json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        for image in document["images"]:
            sys.stdout.write(f"{image['name']} {image['digest']}\n")
    return 0


def _build(
    arguments: argparse.Namespace,
    project: Project,
    specs: Mapping[str, ImageSpec],
    names: tuple[str, ...],
) -> dict[str, Any]:
    destinations = _destinations(arguments, project, specs, names)
    tags = _tags(arguments, names)
    _check_targets(arguments, [destination for _, destination in destinations])

    def deliver(built: dict[str, Built]) -> None:
        for name, destination in destinations:
            image = built[name].image
            for layer in image.layers:
                if not project.store.has(layer.blob):
                    project.layers.bring(layer)
            delivered = destination.put(image)
            project.emit(Noted(f"{name}: written to {delivered.where}", name))
        for reference in tags:
            each = built[names[0]]
            project.store.tag(ImageName(reference.familiar, each.image.platform), each.manifest)
        if arguments.push:
            from builder.cli.registry import push_built

            push_built(project, [built[name] for name in names], tags)

    built = project.build(specs, deliver)
    document = {"images": [_document(each) for each in built.values()]}
    _files(arguments, project, built, names, document)
    return document


def _tags(arguments: argparse.Namespace, names: tuple[str, ...]) -> tuple[Reference, ...]:
    """What --tag calls the one image; known before anything is built."""
    if not arguments.tags:
        return ()
    from builder.oci.reference import parse_reference

    if len(names) > 1:
        raise UsageError(
            f"--tag {arguments.tags[0]!r}: {len(names)} images would have one name:"
            f" {', '.join(names)}",
            f"name one: builder build {names[-1]} --tag {arguments.tags[0]}",
        )
    found = tuple(map(parse_reference, arguments.tags))
    for reference in found:
        if reference.digest:
            raise UsageError(f"--tag {str(reference)!r} holds a digest, expected NAME[:TAG]")
    return found


def _destinations(
    arguments: argparse.Namespace,
    project: Project,
    specs: Mapping[str, ImageSpec],
    names: tuple[str, ...],
) -> list[tuple[str, Destination]]:
    """Where --output wants which image; known before anything is built."""
    if not arguments.output:
        return []
    from builder.transport.outputs import parse_output

    if len(names) > 1:
        raise UsageError(
            f"--output {arguments.output[0]!r}: {len(names)} images would be written to one place:"
            f" {', '.join(names)}",
            f"name one: builder build {names[-1]} --output {arguments.output[0]}",
        )
    return [
        (name, make(project.store, specs[name].name.replace(":", "-")))
        for make in [parse_output(text) for text in arguments.output]
        for name in names
    ]


def _check_targets(arguments: argparse.Namespace, destinations: Sequence[Destination]) -> None:
    """What is written at the end: that it can be is known before a build."""
    files = [*filter(None, (arguments.iidfile, arguments.metadata_file, arguments.depfile))]
    if not files and not destinations:
        return
    from builder.errors import TransportError
    from builder.transport.target import check_target

    for path in files:
        with _naming(path):
            check_target(path)
    for destination in destinations:
        try:
            destination.check()
        except TransportError as error:
            raise UsageError(error.what, error.hint) from error
    seen: set[str] = set()
    for path in [*files, *(each.path for each in destinations)]:
        place = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if any(os.path.commonpath((place, each)) in (place, each) for each in seen):
            raise UsageError(f"{path!r} cannot be written: another output is written there")
        seen.add(place)


def _document(built: Built) -> dict[str, Any]:
    layers = []
    for step in built.steps:
        status = step.status if step.layer or step.status == "config" else "empty"
        entry: dict[str, Any] = {"step": step.number, "name": step.name, "status": status}
        if step.layer:
            entry["diff_id"] = step.layer.diff_id
            blob = step.layer.blob
            entry.update(digest=blob.digest, size=blob.size, media_type=blob.media_type)
        if step.number is not None:
            entry.update(key=f"sha256:{step.key}", why=step.why)
        layers.append(entry)
    return {
        "name": built.spec.name,
        "platform": str(built.image.platform),
        "digest": built.manifest.digest,
        "config": built.config.digest,
        "layers": layers,
    }


def _files(
    arguments: argparse.Namespace,
    project: Project,
    built: dict[str, Built],
    names: tuple[str, ...],
    document: dict[str, Any],
) -> None:
    if arguments.iidfile:
        digests = "".join(f"{built[name].manifest.digest}\n" for name in names)
        _write(arguments.iidfile, digests)
    if arguments.metadata_file:
        _write(arguments.metadata_file, json.dumps(document, indent=2) + "\n")
    if arguments.depfile:
        files = [file for name in names for file in built[name].files]
        trees = [tree for name in names for tree in built[name].sources]
        sources = dict.fromkeys((*files, *(path for tree in trees for path in tree.paths())))
        paths = [_escape(os.path.relpath(source)) for source in sources]
        texts = [
            os.path.join(project.context, each.spec.context.path if each.spec.context else "", text)
            for each in built.values()
            for step in own_steps(each.spec)
            for text in step.may_come
        ]
        # make looks each time whether they are there; twice, as a name with a space comes as two
        found = [f"$(wildcard $(wildcard {_escape(os.path.relpath(text))}))" for text in texts]
        # an empty rule for each, so that make does not stop when one of them is deleted
        text = f"{_escape(arguments.iidfile)}: " + " \\\n  ".join(paths + found) + "\n"
        _write(arguments.depfile, text + "".join(f"\n{path}:\n" for path in paths))


def _escape(path: str) -> str:
    """A path as make reads it; one with a line break cannot be said and is left out by make."""
    for char in ("\\", " ", "#", ":", "%"):
        path = path.replace(char, "\\" + char)
    return path.replace("$", "$$").replace("\n", "?")


def _write(path: str, text: str) -> None:
    """Write a file whole or not at all."""
    from builder.transport.target import writing

    with _naming(path), writing(path, sync=False) as file:
        file.write(text.encode("utf-8", "surrogateescape"))


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path!r} cannot be written: {error.strerror}") from error
