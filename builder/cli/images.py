"""`builder images`, `inspect`, `history`, `tag`, `rmi`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from builder.cli import screen, wanted, wiring
from builder.cli.wanted import Wanted
from builder.errors import BuilderError, UsageError
from builder.oci.digest import CacheKey
from builder.oci.image import Descriptor, Image, Layer, host_platform, parse_platforms
from builder.oci.reference import parse_reference
from builder.plan.clock import timestamp
from builder.plan.last import load_last
from builder.store.names import ANY, ImageName
from builder.store.records import Record, load_record
from builder.store.store import Store
from builder.transport.stored import by_digest, no_image, read_images, spellings
from builder.ui import human
from builder.ui.tables import table


def _store(arguments: argparse.Namespace) -> Store:
    return wiring.open_store(arguments, screen.renderer("plain"))


def images(arguments: argparse.Namespace) -> int:
    store = _store(arguments)
    rows, documents = [], []
    names = store.names()
    lasts = [last for name in names if name.project and (last := load_last(store, name))]
    built = {last.manifest: last.created for last in lasts}
    now = time.time()
    for name, manifest in names.items():
        platform, project = str(name.platform) or "-", name.project or "-"
        try:
            found = read_images(store, manifest, f"image {name.name!r}")
        except BuilderError as error:
            rows.append((name.name, "-", platform, "-", error.message, project))
            continue
        # each layer once: those that platforms share are stored once
        layers = {layer.blob for _, image in found for layer in image.layers}
        size = sum(blob.size for blob in layers)
        index = name.platform == ANY
        if index:
            platform = ", ".join(str(image.platform) for _, image in found)
        times = [built[each.digest] for each, _ in found if each.digest in built]
        age = human.ago(now - max(times)) if times else "-"
        rows.append((name.name, manifest.digest[:19], platform, age, human.size(size), project))
        documents.append(
            {
                "name": name.name,
                "project": name.project or None,
                "digest": manifest.digest,
                "platform": None if index else platform,
                "layers": len(layers) if index else len(found[0][1].layers),
                "size": size,
                "built": timestamp(max(times)) if times else None,
                **({"manifests": [_brief(*each) for each in found]} if index else {}),
            }
        )
    if arguments.json:
        sys.stdout.write(json.dumps({"images": documents}, indent=2) + "\n")
    else:
        header = ("NAME", "DIGEST", "PLATFORM", "BUILT", "SIZE", "PROJECT")
        sys.stdout.write(table(header, rows, right=("SIZE",), width=screen.width()))
    return 0


def _brief(manifest: Descriptor, image: Image) -> dict[str, Any]:
    """What an index holds for one platform."""
    return {
        "platform": str(image.platform),
        "digest": manifest.digest,
        "layers": len(image.layers),
        "size": sum(layer.blob.size for layer in image.layers),
    }


def inspect(arguments: argparse.Namespace) -> int:
    document = wanted.use(arguments, _document)
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return 0


def _document(found: Wanted) -> dict[str, Any]:
    if found.platform != ANY:
        return _inspected(*found.parts[0])
    index = json.loads(found.store.read(found.manifest))
    return {
        "digest": found.manifest.digest,
        "annotations": index.get("annotations") or {},
        "manifests": [_inspected(*each) for each in found.parts],
    }


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
    image, made = wanted.use(arguments, _image_and_times, host_platform)
    layers = iter(image.layers)
    lines = []
    for entry in image.config.get("history") or ():
        layer = None if entry.get("empty_layer") else next(layers, None)
        lines.append((entry, layer))
    lines += [({"created_by": "(no history)"}, layer) for layer in layers]
    lines.reverse()
    if arguments.json:
        documents = [
            {**entry, **(_layer_document(layer, made) if layer else {})} for entry, layer in lines
        ]
        sys.stdout.write(json.dumps({"history": documents}, indent=2) + "\n")
        return 0
    now = time.time()
    rows = []
    for entry, layer in lines:
        name = str(entry.get("comment") or entry.get("created_by", ""))
        step, record = made.get(layer.diff_id if layer else name, ("", None))
        said = str(entry.get("created", ""))[:10]
        rows.append(
            (
                layer.diff_id[7:19] if layer else "empty",
                # without a record of ours what the image says, if that is no time made up
                human.ago(now - record.created) if record else said if said > "1981" else "-",
                human.seconds(record.seconds) if record else "",
                human.size(layer.blob.size) if layer else "0 B",
                step or str(entry.get("comment", "")),
                " ".join(str(entry.get("created_by", "")).split()),
            )
        )
    header = ("DIFF_ID", "BUILT", "TOOK", "SIZE", "STEP", "CREATED BY")
    sys.stdout.write(table(header, rows, right=("TOOK", "SIZE"), width=screen.width()))
    return 0


_Times = Mapping[str, tuple[str, Record]]
"""Of steps that ran here, by the layer's diff_id or, where that is empty, the step's name: the
name, and when and how long it ran."""


def _image_and_times(found: Wanted) -> tuple[Image, _Times]:
    image, store = found.one().image, found.store
    layers = {layer.diff_id for layer in image.layers}
    made: dict[str, tuple[str, Record]] = {}
    for name in store.names():
        last = load_last(store, name) if name.project else None
        steps = last.steps if last else ()
        if not any(step.diff_id in layers for step in steps):
            continue
        for step in steps:
            if record := load_record(store, CacheKey(step.key)):
                made[step.diff_id or step.name] = (step.name, record)
    return image, made


def _layer_document(layer: Layer, made: _Times) -> dict[str, Any]:
    document: dict[str, Any] = {"diff_id": layer.diff_id, "size": layer.blob.size}
    if layer.diff_id in made:
        step, record = made[layer.diff_id]
        built = timestamp(record.created)
        document.update(step=step, built=built, seconds=record.seconds)
    return document


def tag(arguments: argparse.Namespace) -> int:
    reference = parse_reference(arguments.name)
    if reference.digest:
        raise UsageError(f"{arguments.name!r} holds a digest, expected NAME[:TAG]")

    def give(found: Wanted) -> None:
        name = ImageName(reference.familiar, found.platform)
        found.store.tag(name, found.manifest)

    wanted.use(arguments, give, tested=True)
    return 0


def rmi(arguments: argparse.Namespace) -> int:
    """Names of this project, references, and whatever means a digest."""
    from builder.store.reach import let_go

    wiring.become_root()  # to look into folders of steps' users
    store = _store(arguments)
    dry_run = arguments.dry_run
    with store.live():
        names, chosen = store.names(), dict[ImageName, None]()
        for text in arguments.names:
            found = _meant(arguments, names, text)
            if platforms := parse_platforms(arguments.platform):
                found = [name for name in found if name.platform in platforms]
            if not found:
                raise no_image(text, names)
            chosen.update(dict.fromkeys(found))
        freed = let_go(store, chosen, dry_run=dry_run)
    for name in chosen:
        sys.stdout.write(f"{name} {'would be ' if dry_run else ''}removed\n")
    said = human.size(freed) if freed else "nothing: others hold all of it"
    sys.stdout.write(f"`builder cache gc` {'would free' if dry_run else 'frees'} {said}\n")
    return 0


def _meant(
    arguments: argparse.Namespace, names: Mapping[ImageName, Descriptor], text: str
) -> list[ImageName]:
    project = wiring.project_name(arguments)
    own = [name for name in names if (name.name, name.project) == (text, project)]
    known = spellings(text)
    return (
        own
        or [name for name in names if name.name in known and not name.project]
        or by_digest(names, text)
    )
