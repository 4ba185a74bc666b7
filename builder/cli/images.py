"""`builder images`, `inspect`, `history`, `tag`, `rmi`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from builder.cli import screen, wiring
from builder.errors import BuilderError, UsageError
from builder.oci.image import Descriptor, Image
from builder.store.store import Store
from builder.transport.stored import find_manifest, load_image
from builder.ui import human
from builder.ui.tables import table


def _store(arguments: argparse.Namespace) -> Store:
    return wiring.open_store(arguments, screen.renderer("plain"))


def images(arguments: argparse.Namespace) -> int:
    store = _store(arguments)
    rows, documents = [], []
    for name in sorted(store.names()):
        try:
            manifest, image = load_image(store, name)
        except BuilderError as error:
            rows.append((name, "-", "-", error.message))
            continue
        size = sum(layer.blob.size for layer in image.layers)
        rows.append((name, manifest.digest[:19], str(image.platform), human.size(size)))
        documents.append(
            {
                "name": name,
                "digest": manifest.digest,
                "platform": str(image.platform),
                "layers": len(image.layers),
                "size": size,
            }
        )
    if arguments.json:
        sys.stdout.write(json.dumps({"images": documents}, indent=2) + "\n")
    else:
        header = ("NAME", "DIGEST", "PLATFORM", "SIZE")
        sys.stdout.write(table(header, rows, right=("SIZE",), width=screen.width()))
    return 0


def inspect(arguments: argparse.Namespace) -> int:
    manifest, image = load_image(_store(arguments), arguments.image)
    sys.stdout.write(json.dumps(_inspected(manifest, image), indent=2, ensure_ascii=False) + "\n")
    return 0


def _inspected(manifest: Descriptor, image: Image) -> dict[str, Any]:
    return {
        "digest": manifest.digest,
        "platform": str(image.platform),
        "annotations": dict(image.annotations),
        "layers": [{"diff_id": layer.diff_id, **layer.blob.document()} for layer in image.layers],
        "config": image.config,
    }


def history(arguments: argparse.Namespace) -> int:
    """Newest first, as Docker lists it."""
    _, image = load_image(_store(arguments), arguments.image)
    layers = iter(image.layers)
    lines = []
    for entry in image.config.get("history") or ():
        layer = None if entry.get("empty_layer") else next(layers, None)
        lines.append((entry, layer))
    lines += [({"created_by": "(no history)"}, layer) for layer in layers]
    lines.reverse()
    if arguments.json:
        documents = [
            {**entry, "diff_id": layer.diff_id, "size": layer.blob.size} if layer else dict(entry)
            for entry, layer in lines
        ]
        sys.stdout.write(json.dumps({"history": documents}, indent=2) + "\n")
        return 0
    rows = [
        (
            layer.diff_id[7:19] if layer else "empty",
            str(entry.get("created", ""))[:19],
            human.size(layer.blob.size) if layer else "0 B",
            " ".join(str(entry.get("created_by", "")).split()),
        )
        for entry, layer in lines
    ]
    header = ("DIFF_ID", "CREATED", "SIZE", "CREATED BY")
    sys.stdout.write(table(header, rows, right=("SIZE",), width=screen.width()))
    return 0


def tag(arguments: argparse.Namespace) -> int:
    store = _store(arguments)
    name = arguments.name
    if not name or not name.isprintable() or " " in name:
        raise UsageError(f"{name!r} cannot be an image's name")
    store.tag(name, find_manifest(store, arguments.image))
    return 0


def rmi(arguments: argparse.Namespace) -> int:
    store = _store(arguments)
    for name in arguments.names:
        if not store.untag(name):
            find_manifest(store, name)
            raise UsageError(f"{name!r} is a digest; name the image by its name")
        sys.stdout.write(f"{name} removed; `builder cache gc` frees its layers\n")
    return 0
