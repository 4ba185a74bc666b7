"""`builder push`, `pull`, and `build --push`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.cli import screen, wiring
from builder.errors import UsageError
from builder.events import Emit, Noted
from builder.oci.image import host_platform, parse_platform
from builder.oci.reference import Reference, parse_reference
from builder.store.store import Store
from builder.transport.registry.push import Push, PushResult, push_all
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import settings_from

if TYPE_CHECKING:
    from builder.make.image import Built
    from builder.project import Project


def push(arguments: argparse.Namespace) -> int:
    from builder.transport.stored import load_image

    with screen.renderer(arguments.progress) as emit:
        store = wiring.open_store(arguments, emit)
        name, texts = arguments.image, tuple(arguments.references)
        if not texts:
            name, texts = _tags_of_spec(arguments, store, emit)
        manifest, image = load_image(store, name)
        document = (manifest.media_type, store.read(manifest))
        references = tuple(parse_reference(text) for text in texts)
        made = Push(image, references, document)
        results = _push(arguments, store, [made], emit)
    if arguments.json:
        document_ = {"pushed": [result.document() for result in results]}
        sys.stdout.write(json.dumps(document_, indent=2) + "\n")
    else:
        for result in results:
            for reference in result.references:
                sys.stdout.write(f"{reference.familiar} {result.digest}\n")
    return 0


def push_built(project: Project, built: Sequence[Built]) -> None:
    """Push what was just built to the specs' tags, all of it before any tag."""
    pushes = []
    for each in built:
        if not each.spec.tags:
            raise UsageError(
                f"{each.spec.file}: --push needs `tags`, there are none",
                "add `tags: [registry.example/name:tag]`, or use `builder push IMAGE REF`",
            )
        references = tuple(parse_reference(text) for text in each.spec.tags)
        pushes.append(Push(each.image, references))
    options = project.options
    insecure = options.insecure_registries
    _run(project.store, pushes, project.emit, options.environ, insecure)


def _push(
    arguments: argparse.Namespace, store: Store, pushes: Sequence[Push], emit: Emit
) -> list[PushResult]:
    return _run(store, pushes, emit, os.environ, tuple(arguments.insecure_registry))


def _run(
    store: Store,
    pushes: Sequence[Push],
    emit: Emit,
    environ: Mapping[str, str],
    insecure: tuple[str, ...],
) -> list[PushResult]:
    from builder.ui import human

    settings = settings_from(environ, insecure=frozenset(insecure))
    with store.live(), Registry(settings, emit) as registry:
        results = push_all(registry, store, pushes)
    for result in results:
        parts = [
            f"{human.size(tally.bytes)} {what}"
            for what, tally in (
                ("sent", result.sent),
                ("mounted", result.mounted),
                ("there already", result.skipped),
            )
            if tally.blobs
        ]
        names = ", ".join(reference.familiar for reference in result.references)
        emit(Noted(f"{names}: {', '.join(parts) or 'up to date'}"))
    return results


def _tags_of_spec(
    arguments: argparse.Namespace, store: Store, emit: Emit
) -> tuple[str, tuple[str, ...]]:
    from builder.project import Project

    project = Project(wiring.options(arguments), emit)
    specs, names = project.load([arguments.image])
    spec = specs[names[0]]
    if not spec.tags:
        raise UsageError(
            f"{spec.file} has no `tags`, so where to push is not known",
            f"builder push {arguments.image} REF",
        )
    return spec.name, spec.tags


def pull(arguments: argparse.Namespace) -> int:
    """Pull an image and name it as Docker would."""
    reference: Reference = parse_reference(arguments.reference)
    wanted = arguments.platform
    platform = parse_platform(wanted) if wanted else host_platform()
    settings = settings_from(os.environ, insecure=frozenset(arguments.insecure_registry))
    with screen.renderer(arguments.progress) as emit:
        store = wiring.open_store(arguments, emit)
        with store.live(), Registry(settings, emit) as registry:
            pulled = registry.pull(reference, platform, store)
        store.tag(reference.familiar, pulled.manifest)
    sys.stdout.write(f"{reference.familiar} {pulled.manifest.digest}\n")
    return 0
