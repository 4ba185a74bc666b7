"""Loading: the specs of the images that a Dockerfile describes, read from the tree it becomes.

Places in them are the Dockerfile's lines, so whatever is told of a step names its instruction.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from builder.dockerfile.convert import Converted, Servers, Wish, convert
from builder.dockerfile.nodes import put, text
from builder.errors import Place, SpecError, SpecErrors
from builder.spec.files import MAX_BYTES
from builder.spec.load import Inputs
from builder.spec.model import Folder, ImageSpec
from builder.spec.reading import Given, Reading, own_sets
from builder.spec.source import Source

_OWN = ("dockerfile", "containerfile")


def source_of(path: str, data: bytes) -> Source:
    """A Dockerfile's text. Raises SpecErrors: too large, not UTF-8, a NUL."""

    def wrong(message: str, before: str) -> SpecErrors:
        rows = before.split("\n")
        place = Place(path, len(rows), len(rows[-1]) + 1)
        return SpecErrors((SpecError(message).at(place),))

    if len(data) > MAX_BYTES:
        raise wrong(f"the file holds more than {MAX_BYTES} bytes", "")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        raise wrong(f"byte 0x{data[error.start]:02x} is not UTF-8 text", before) from None
    if "\0" in text:
        raise wrong("a NUL is not text", text.partition("\0")[0])
    return Source(path, text)


def name_of(path: str) -> str:
    """What the image is called: api for api.Dockerfile and Dockerfile.api, else as its folder."""
    from builder.spec.first import name_for

    first, _, second = os.path.basename(path).partition(".")
    if second:
        return name_for(first if second.lower() in _OWN else second)
    return name_for(os.path.dirname(os.path.abspath(path)))


def read_dockerfile(
    path: str,
    data: bytes,
    given: Inputs,
    base: Mapping[str, Any] | None,
    stage: str,
    named: str,
    *,
    root: str,
    target: str,
    servers: Servers | None = None,
) -> tuple[tuple[ImageSpec, ...], Converted]:
    """The one image, called as its folder, or, if a spec has `named` it, by that path. `base` is
    what the base of the `stage` says, "" for the image's; `root` the context, `target` the stage
    that is asked for, "" the last. Raises SpecErrors, UsageError."""
    source, name = source_of(path, data), name_of(path)
    folder = None
    if named:
        name, target = f"dockerfile-{name}", ""
        if above := os.path.dirname(named):
            folder = Folder(above, Place(path, 1, 1))
    wish = Wish(
        own_sets(given.sets, name),
        target,
        os.path.join(root, folder.path) if folder else root,
        platform=given.platform,
        onbuild={stage: tuple(base["onbuild"])} if base else {},
        servers=servers,
    )
    converted = convert(source, wish)
    put(converted.top, "name", text(name, (1, 1)), (1, 1))
    asked = Given(given.verbs, {}, {}, {}, given.platform, base, None, stage)
    known = base is not None
    specs = []
    for spec in Reading(source, asked, node=converted.top, stem=named or name).specs():
        stages = [
            _finished(each, converted, folder, known=known and each.stage == stage)
            for each in spec.stages
        ]
        made = _finished(spec, converted, folder, known=known and stage == "")
        specs.append(made._replace(stages=tuple(stages)))
    return tuple(specs), converted


def _finished(
    spec: ImageSpec, converted: Converted, folder: Folder | None, *, known: bool
) -> ImageSpec:
    """With its ARGs. It waits for its base, whose ONBUILD comes first, unless that is `known`."""
    foreign = spec.base.kind not in ("scratch", "stage")
    return spec._replace(
        variables=converted.arguments,
        waits=spec.waits or (foreign and not known),
        context=folder,
    )
