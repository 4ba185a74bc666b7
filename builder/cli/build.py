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
from builder.errors import BuilderError, UsageError
from builder.events import Event, Noted
from builder.make.image import Built
from builder.oci import media
from builder.oci.image import Descriptor, Platform
from builder.plan.step import own_steps
from builder.project import Project
from builder.spec.model import ImageSpec
from builder.store.names import ANY, ImageName
from builder.transport.base import Destination

if TYPE_CHECKING:
    from builder.oci.reference import Reference
    from builder.store.store import Store


def build(arguments: argparse.Namespace) -> int:
    options = wiring.options(arguments)
    if arguments.watch:
        from builder.cli.watch import watch

        return watch(arguments)
    if arguments.depfile and not arguments.iidfile:
        raise UsageError("--depfile needs --iidfile: the file that the rule makes")
    if arguments.shell_on_failure and not all(os.isatty(handle) for handle in (0, 1, 2)):
        raise UsageError(
            "--shell-on-failure needs a terminal",
            "leave it out: `builder shell --failed` stands where a step failed, later too",
        )
    # a user namespace can only be entered before the first thread, and the live view is one
    early: list[Event] = []
    project = Project(options, early.append)
    try:
        return _built(arguments, project, early)
    except BuilderError as error:
        if not (arguments.shell_on_failure and project.failures):
            raise
        from builder.cli.shell import after_failure

        screen.show_error(error, arguments.progress)
        after_failure(arguments, project)
        return error.exit_code


def _built(arguments: argparse.Namespace, project: Project, early: list[Event]) -> int:
    specs, names = project.load(arguments.images)
    project.become_root(specs)
    shown = screen.renderer("quiet" if arguments.quiet else arguments.progress)
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
        made = dict(zip(specs, document["images"], strict=True))
        several = (name for name, parts in project.images.items() if len(parts) > 1)
        made.update(zip(several, document.get("indexes", ()), strict=True))
        for name in names:  # not what they stand on
            parts = project.images[name]
            top = made[name if len(parts) > 1 else parts[0]]
            told = "" if arguments.quiet else f"{top['name']} "
            sys.stdout.write(f"{told}{top['digest']}\n")
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
            images = [built[part].image for part in project.images[name]]
            for layer in (layer for image in images for layer in image.layers):
                if not project.store.has(layer.blob):
                    project.layers.bring(layer)
            delivered = destination.put(images)
            project.emit(Noted(f"{name}: written to {delivered.where}", name))
        for reference in tags:
            parts = [built[part] for part in project.images[names[0]]]
            top, platform = top_of(project.store, parts)
            project.store.tag(ImageName(reference.familiar, platform), top)
        if arguments.push:
            from builder.cli.registry import push_built

            whole = [[built[part] for part in project.images[name]] for name in names]
            push_built(project, whole, tags)

    built = project.build(specs, deliver)
    document: dict[str, Any] = {"images": [_document(each) for each in built.values()]}
    indexes = {name: parts for name, parts in project.images.items() if len(parts) > 1}
    if indexes:
        document["indexes"] = [
            _index_document(project.store, [built[part] for part in parts])
            for parts in indexes.values()
        ]
    _files(arguments, project, built, names, document)
    return document


def top_of(store: Store, parts: Sequence[Built]) -> tuple[Descriptor, Platform]:
    """What stands for an image that was built, and for which platform; ANY for an index."""
    if len(parts) == 1:
        return parts[0].manifest, parts[0].image.platform
    from builder.oci.index import index_of

    return store.put(index_of(each.image for each in parts), media.INDEX), ANY


def _index_document(store: Store, parts: Sequence[Built]) -> dict[str, Any]:
    return {
        "name": parts[0].spec.name,
        "digest": top_of(store, parts)[0].digest,
        "manifests": [
            {"platform": str(each.image.platform), "digest": each.manifest.digest} for each in parts
        ],
    }


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
    found = []
    for text in arguments.output:
        for name in names:
            parts = [specs[part] for part in project.images[name]]
            to = parse_output(text)(project.store, parts[0].name.replace(":", "-"))
            if len(parts) > 1 and not to.takes_index:
                platforms = [each.platform or each.target for each in parts]
                raise UsageError(
                    f"--output {text!r} holds one platform, {name!r} is for"
                    f" {' and '.join(map(str, platforms))}",
                    f"--platform {platforms[0]}, or oci:DIR and oci-archive:FILE, which hold all",
                )
            found.append((name, to))
    return found


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
            seconds = round(step.seconds, 3)
            entry.update(key=f"sha256:{step.key}", why=step.why, seconds=seconds)
        layers.append(entry)
    return {
        "name": built.spec.name,
        "platform": str(built.image.platform),
        "digest": built.manifest.digest,
        "config": built.config.digest,
        "seconds": round(built.seconds, 3),
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
        tops = [
            top_of(project.store, [built[part] for part in project.images[name]])[0]
            for name in names
        ]
        _write(arguments.iidfile, "".join(f"{each.digest}\n" for each in tops))
    if arguments.metadata_file:
        _write(arguments.metadata_file, json.dumps(document, indent=2) + "\n")
    if arguments.depfile:
        asked = [built[part] for name in names for part in project.images[name]]
        files = [file for each in asked for file in each.files]
        trees = [tree for each in asked for tree in each.sources]
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
