"""`builder push`, `pull`, and `build --push`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from builder.cli import screen, wanted, wiring
from builder.cli.wanted import Wanted
from builder.errors import UsageError
from builder.events import Emit, Noted
from builder.oci import media
from builder.oci.image import Descriptor, Image, host_platform, parse_platform
from builder.oci.index import index_of
from builder.oci.reference import DOCKER_HUB, Reference, parse_reference
from builder.store.names import ImageName
from builder.store.store import Store
from builder.transport.registry.push import Push, PushIndex, PushResult, push_all
from builder.transport.registry.seen import seen_at
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import settings_from
from builder.ui import human

if TYPE_CHECKING:
    from builder.make.image import Built
    from builder.project import Project
    from builder.rootfs.layers import Layers


def push(arguments: argparse.Namespace) -> int:
    results = wanted.use(arguments, partial(_push, arguments), tested=True)
    if arguments.json:
        document = {"pushed": [result.document() for result in results]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        for result in results:
            for reference in result.references:
                sys.stdout.write(f"{reference.familiar} {result.digest}\n")
    return 0


def _push(arguments: argparse.Namespace, image: Wanted) -> list[PushResult]:
    itself = () if image.spec else _at_registry(arguments.image)
    texts = tuple(arguments.references) or (image.spec.tags if image.spec else itself)
    if not texts:
        where = f"{arguments.image!r} names no registry"
        if image.spec:
            where = f"{image.spec.file} has no `tags`"
        if image.spec and image.spec.stage:
            where = "a stage has no `tags`"
        raise UsageError(
            f"{where}, so where to push is not known", f"builder push {arguments.image} REF"
        )
    store = image.store
    references = tuple(parse_reference(text) for text in texts)
    for part in image.parts:
        _bring(image.layers, part.image)
    pushes = [pushed(store, image.manifest, image.parts, references)]
    insecure = tuple(arguments.insecure_registry)
    return _run(store, pushes, image.emit, os.environ, insecure)


def _at_registry(text: str) -> tuple[str, ...]:
    """What is called by its place at a registry is pushed there."""
    try:
        return (text,) if parse_reference(text).registry != DOCKER_HUB else ()
    except UsageError:
        return ()


def pushed(
    store: Store,
    top: Descriptor,
    parts: Sequence[tuple[Descriptor, Image]],
    references: tuple[Reference, ...],
) -> Push | PushIndex:
    """An image of the store, to be pushed to the byte as it is."""
    images = [(image, (blob.media_type, store.read(blob))) for blob, image in parts]
    if top.media_type not in media.INDEXES:
        ((image, document),) = images
        return Push(image, references, document)
    inner = tuple(Push(image, (), document) for image, document in images)
    return PushIndex(inner, references, (top.media_type, store.read(top)))


def _bring(layers: Layers, image: Image) -> None:
    """Layers of a base that no registry is known to have."""
    for layer in image.layers:
        if not layers.store.has(layer.blob) and not seen_at(layers.store, layer.blob.digest):
            layers.bring(layer)


def push_built(
    project: Project, built: Sequence[Sequence[Built]], tags: tuple[Reference, ...] = ()
) -> None:
    """Push what was just built, each image as it is for its platforms, to the specs' tags and to
    `tags`, all of it before any tag."""
    pushes: list[Push | PushIndex] = []
    for parts in built:
        spec = parts[0].spec
        if not spec.tags and not tags:
            raise UsageError(
                f"{spec.file}: --push needs `tags`, there are none",
                "add `tags: [registry.example/name:tag]`, or give --tag NAME",
            )
        references = (*map(parse_reference, spec.tags), *tags)
        for each in parts:
            _bring(project.layers, each.image)
        images = [each.image for each in parts]
        if len(images) == 1:
            pushes.append(Push(images[0], references))
        else:
            inner = tuple(Push(image, ()) for image in images)
            pushes.append(PushIndex(inner, references, (media.INDEX, index_of(images))))
    options = project.options
    insecure = options.insecure_registries
    _run(project.store, pushes, project.emit, options.environ, insecure)


def push_parts(
    store: Store,
    registry: Registry,
    top: Descriptor,
    parts: Sequence[tuple[Descriptor, Image]],
    references: tuple[Reference, ...],
) -> None:
    """Push an index whose layers may be at registries only."""
    _told(push_all(registry, store, [pushed(store, top, parts, references)]), registry.emit)


def _run(
    store: Store,
    pushes: Sequence[Push | PushIndex],
    emit: Emit,
    environ: Mapping[str, str],
    insecure: tuple[str, ...],
) -> list[PushResult]:
    settings = settings_from(environ, insecure=frozenset(insecure))
    with Registry(settings, emit) as registry:
        results = push_all(registry, store, pushes)
    _told(results, emit)
    return results


def _told(results: Sequence[PushResult], emit: Emit) -> None:
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


def pull(arguments: argparse.Namespace) -> int:
    """Pull an image and name it as Docker would."""
    reference: Reference = parse_reference(arguments.reference)
    platform = parse_platform(arguments.platform) if arguments.platform else host_platform()
    settings = settings_from(os.environ, insecure=frozenset(arguments.insecure_registry))
    with screen.renderer(arguments.progress) as emit:
        store = wiring.open_store(arguments, emit)
        with store.live(), Registry(settings, emit) as registry:
            pulled = registry.pull(reference, platform, store)
        store.tag(ImageName(reference.familiar, platform), pulled.manifest)
        size = human.size(sum(layer.blob.size for layer in pulled.image.layers))
        layers = human.count(len(pulled.image.layers), "layer")
        emit(Noted(f"{reference.familiar}: {layers} here, {size}"))
    sys.stdout.write(f"{reference.familiar} {pulled.manifest.digest}\n")
    return 0
