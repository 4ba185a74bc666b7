"""`builder load` and `builder search`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from builder.cli import screen, wiring
from builder.errors import TransportError, UsageError
from builder.events import Emit, Noted
from builder.oci.reference import parse_reference
from builder.ui import human
from builder.ui.tables import table

if TYPE_CHECKING:
    from builder.oci.image import Layer
    from builder.store.store import Store


def load(arguments: argparse.Namespace) -> int:
    """Let the engine have an image of the store."""
    from builder.transport.documents import parse_manifest
    from builder.transport.engine import connect
    from builder.transport.engine_send import send_image
    from builder.transport.stored import load_image

    with screen.renderer(arguments.progress) as emit:
        store = wiring.open_store(arguments, emit)
        name, texts = _name_and_tags(arguments, store)
        tags = [_tag(text) for text in texts]
        manifest, image = load_image(store, name)
        document = parse_manifest(store.read(manifest), name, manifest.media_type)
        with store.live(), connect(os.environ) as engine:
            sent = send_image(
                engine,
                store,
                image,
                store.read(document.config),
                tags,
                fetch=lambda layer: _fetch(arguments, store, layer, emit),
                emit=emit,
            )
        layers = human.count(len(image.layers) - sent.layers, "layer")
        emit(Noted(f"{name}: {human.size(sent.bytes)} sent, {layers} there already"))
    if arguments.json:
        sys.stdout.write(json.dumps(sent.document(), indent=2) + "\n")
    else:
        for tag in sent.tags:
            sys.stdout.write(f"{tag} {sent.image}\n")
    return 0


def _name_and_tags(arguments: argparse.Namespace, store: Store) -> tuple[str, list[str]]:
    """The image's name in the store, and what the engine shall call it: --tag, else the spec's
    tags, else the name."""
    from builder.spec.load import find_spec

    name, tags = arguments.image, list(arguments.tag)
    try:
        find_spec(name, arguments.specs)
    except UsageError:
        return name, tags or [name]  # not of this project: pulled, or tagged
    from builder.project import Project

    specs, names = Project(wiring.options(arguments)).load([name])
    spec = specs[names[0]]
    if spec.name not in store.names():
        raise UsageError(f"image {spec.name!r} is not built yet", f"builder build {spec.name}")
    return spec.name, tags or list(spec.tags) or [spec.name.lower()]


def _tag(text: str) -> str:
    reference = parse_reference(text)
    if reference.digest:
        raise UsageError(f"{text!r}: an engine names images by tags, a digest cannot be given")
    return reference.familiar


def _fetch(arguments: argparse.Namespace, store: Store, layer: Layer, emit: Emit) -> None:
    """A layer of a registry's image that nothing here needed until now."""
    from builder.transport.registry.seen import seen_at
    from builder.transport.registry.session import Registry
    from builder.transport.registry.settings import settings_from

    fault: TransportError | None = None
    settings = settings_from(os.environ, insecure=frozenset(arguments.insecure_registry))
    for name in seen_at(store, layer.blob.digest):
        try:
            with Registry(settings, emit) as registry:
                registry.fetch(store, parse_reference(name), layer, name)
            return
        except TransportError as error:
            fault = error
    raise fault or TransportError(
        f"layer {layer.blob.digest} is neither in the store nor at a registry known to have it",
        "build or pull the image again",
    )


def search(arguments: argparse.Namespace) -> int:
    return _search_registry(arguments) if arguments.registry else _search_engine(arguments)


def _search_engine(arguments: argparse.Namespace) -> int:
    from builder.transport.engine import connect
    from builder.transport.engine_search import search_engine

    with connect(os.environ) as engine:
        hits = search_engine(engine, arguments.term)
    if arguments.json:
        sys.stdout.write(json.dumps({"images": [hit._asdict() for hit in hits]}, indent=2) + "\n")
        return 0
    rows = [
        (hit.name, str(hit.stars), "yes" if hit.official else "", hit.description) for hit in hits
    ]
    header = ("NAME", "STARS", "OFFICIAL", "DESCRIPTION")
    sys.stdout.write(table(header, rows, right=("STARS",), width=screen.width()))
    return 0


def _search_registry(arguments: argparse.Namespace) -> int:
    from builder.transport.engine_search import search_registry
    from builder.transport.registry.session import Registry
    from builder.transport.registry.settings import settings_from

    settings = settings_from(os.environ, insecure=frozenset(arguments.insecure_registry))
    with Registry(settings, screen.renderer("plain")) as registry:
        found = search_registry(registry, arguments.registry, arguments.term)
    if arguments.json:
        document = {"repositories": [each._asdict() for each in found]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0
    rows = [(each.name, ", ".join(each.tags)) for each in found]
    sys.stdout.write(table(("REPOSITORY", "TAGS"), rows, width=screen.width()))
    return 0
