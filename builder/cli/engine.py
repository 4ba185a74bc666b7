"""`builder load` and `builder search`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from builder.cli import screen, wanted
from builder.cli.wanted import Wanted
from builder.errors import UsageError
from builder.events import Noted
from builder.oci.image import Platform
from builder.oci.reference import parse_reference
from builder.store.names import ANY
from builder.ui import human
from builder.ui.tables import table

if TYPE_CHECKING:
    from builder.transport.engine_send import Sent


def load(arguments: argparse.Namespace) -> int:
    """Let the engine have an image."""
    sent = wanted.use(arguments, partial(_load, arguments), _engine_platform, tested=True)
    if arguments.json:
        sys.stdout.write(json.dumps(sent.document(), indent=2) + "\n")
    else:
        for tag in sent.tags:
            sys.stdout.write(f"{tag} {sent.image}\n")
    return 0


def _engine_platform() -> Platform:
    from builder.transport.engine import connect

    with connect(os.environ) as engine:
        return engine.platform()


def _load(arguments: argparse.Namespace, image: Wanted) -> Sent:
    from builder.transport.documents import parse_manifest
    from builder.transport.engine import connect
    from builder.transport.engine_send import send_image
    from builder.transport.registry.seen import Repositories
    from builder.transport.registry.settings import settings_from

    store, emit, name = image.store, image.emit, arguments.image
    tags = [_tag(text) for text in arguments.tag or _tags(name, image)]
    settings = settings_from(os.environ, insecure=frozenset(arguments.insecure_registry))
    with connect(os.environ) as engine:
        top, found = image.one(engine.platform() if image.platform == ANY else None)
        manifest = parse_manifest(store.read(top), name, top.media_type)
        image.layers.offer("", found.layers, Repositories(store, settings, emit))
        config = store.read(manifest.config)
        sent = send_image(engine, image.layers, found, config, tags, emit)
    there = len(found.layers) - sent.layers
    emit(Noted(f"{name}: {human.size(sent.bytes)} sent, {there} layers were there already"))
    return sent


def _tags(name: str, image: Wanted) -> tuple[str, ...]:
    """What the engine shall call an image without --tag: the spec's tags, else its name."""
    if image.spec is None:
        return (name,)
    return image.spec.tags or (image.spec.name.lower(),)


def _tag(text: str) -> str:
    reference = parse_reference(text)
    if reference.digest:
        raise UsageError(f"{text!r}: an engine names images by tags, a digest cannot be given")
    return reference.familiar


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
