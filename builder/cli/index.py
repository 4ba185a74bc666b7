"""`builder index create`."""

from __future__ import annotations

import argparse
import json
import os
import sys

from builder.cli import screen, wiring
from builder.errors import UsageError
from builder.oci.reference import Reference, parse_reference
from builder.store.names import ANY, ImageName
from builder.store.store import Store
from builder.transport.joining import Joined, from_layout, from_registry, from_store, join
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import settings_from
from builder.transport.stored import find_stored


def create(arguments: argparse.Namespace) -> int:
    """Join images: into the store, or with --push at the registries of its names."""
    names = [parse_reference(text) for text in arguments.tag]
    for name in names:
        if name.digest:
            raise UsageError(f"--tag {str(name)!r} holds a digest, expected NAME[:TAG]")
    if arguments.push and not names:
        raise UsageError("--push needs a --tag: where to is not said", "--tag REGISTRY/NAME:TAG")
    settings = settings_from(os.environ, insecure=frozenset(arguments.insecure_registry))
    with screen.renderer(arguments.progress) as emit:
        store = wiring.open_store(arguments, emit)
        with store.live(), Registry(settings, emit) as registry:
            parts = [
                part
                for text in arguments.references
                for part in _images(store, registry, text, whole=not arguments.push)
            ]
            index, images = join(store, parts)
            if arguments.push:
                from builder.cli.registry import push_parts

                inner = [(each.manifest, each.image) for each in images]
                push_parts(store, registry, index, inner, tuple(names))
            else:
                for name in names:
                    store.tag(ImageName(name.familiar, ANY), index)
    if arguments.json:
        document = {
            "digest": index.digest,
            "names": [name.familiar for name in names],
            "manifests": [
                {
                    "platform": str(each.image.platform),
                    "digest": each.manifest.digest,
                    "from": each.source,
                }
                for each in images
            ],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0
    for label in [name.familiar for name in names] or ["index"]:
        sys.stdout.write(f"{label} {index.digest}\n")
    return 0


def _images(store: Store, registry: Registry, text: str, *, whole: bool) -> list[Joined]:
    """What a REF means: a layout's, the store's, else a registry's."""
    kind, _, rest = text.partition(":")
    if kind == "oci":
        path, _, tag = rest.partition(":")
        return from_layout(store, path, tag, text)
    if found := find_stored(store, text):
        return [each for top in found for each in from_store(store, top, text)]
    reference: Reference = parse_reference(text)
    return from_registry(store, registry, reference, layers=whole)
