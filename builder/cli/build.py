"""`builder build`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from builder.build.build import Built, Workshop, build_image
from builder.cli import screen, wiring
from builder.errors import BuilderError, UsageError

if TYPE_CHECKING:
    from builder.executor.base import Executor
    from builder.ui import Renderer


def build(arguments: argparse.Namespace) -> int:
    shown = screen.renderer(arguments.progress)
    try:
        with shown as emit:
            document = _build(arguments, emit)
    except BuilderError as error:
        error.output_shown = shown.shows_output  # type: ignore[attr-defined]  # for screen.show_error
        raise
    if arguments.json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        for image in document["images"]:
            sys.stdout.write(f"{image['name']} {image['digest']}\n")
    return 0


def _build(arguments: argparse.Namespace, emit: Renderer) -> dict[str, Any]:
    store = wiring.open_store(arguments, emit)
    project = wiring.Project(arguments, store)
    specs, names = project.load(arguments.images)
    outputs = wiring.outputs(arguments, store, names)
    planner = wiring.planner(arguments, store, project, emit)
    made: list[Executor] = []

    def executor() -> Executor:
        if not made:
            made.append(wiring.executor(arguments, store, emit))
        return made[0]

    shop = Workshop(store, planner, executor, wiring.lowers_of(store), emit)
    built: dict[str, Built] = {}
    with store.live():
        for name, spec in specs.items():
            below = built[spec.base.value] if spec.base.kind == "image" else None
            built[name] = build_image(shop, spec, below)
        for name in names:
            for put in outputs:
                put(built[name])
        if arguments.push:
            from builder.cli.registry import push_built

            push_built(arguments, store, [built[name] for name in names], emit)
    document = {"images": [_document(each) for each in built.values()]}
    _files(arguments, built, names, document)
    return document


def _document(built: Built) -> dict[str, Any]:
    layers = []
    for step in built.steps:
        entry: dict[str, Any] = {"step": step.number, "name": step.name, "status": step.status}
        if step.layer:
            entry["diff_id"] = step.layer.diff_id
            blob = step.layer.blob
            entry.update(digest=blob.digest, size=blob.size, media_type=blob.media_type)
        if step.number is not None:
            entry.update(key=step.key, why=step.why)
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
        if not arguments.iidfile:
            raise UsageError("--depfile needs --iidfile: the file that the rule makes")
        sources = dict.fromkeys(source for name in names for source in built[name].sources)
        paths = [_escape(os.path.relpath(source)) for source in sources]
        # an empty rule for each, so that make does not stop when one of them is deleted
        text = f"{_escape(arguments.iidfile)}: " + " \\\n  ".join(paths) + "\n"
        _write(arguments.depfile, text + "".join(f"\n{path}:\n" for path in paths))


def _escape(path: str) -> str:
    """A path as make reads it; one with a line break cannot be said and is left out by make."""
    for char in ("\\", " ", "#", ":", "%"):
        path = path.replace(char, "\\" + char)
    return path.replace("$", "$$").replace("\n", "?")


def _write(path: str, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"{path!r} cannot be written: {error.strerror}") from error
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
