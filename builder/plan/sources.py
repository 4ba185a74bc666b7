"""Sources: what a spec takes from the context, looked at before anything runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping

from builder.errors import SpecError, SpecErrors
from builder.plan.context import Context
from builder.plan.step import Step, own_steps
from builder.spec.files import error_at
from builder.spec.model import BaseRef, ImageSpec

_FILES = ("docker-archive", "rootfs")
"""Kinds of bases that are a file; a layout is a folder."""


def lacks(spec: ImageSpec, context: Context) -> Iterator[SpecError]:
    """What the context lacks of what a spec names, whatever its steps do."""
    yield from _without_images(spec, context)
    for step, own in _steps(spec, context):
        yield from step.lacks(own)


def check_sources(specs: Iterable[ImageSpec], context: Context) -> None:
    """Raises all that the context lacks of what these specs name."""
    found = tuple(fault for spec in specs for fault in lacks(spec, context))
    if len(found) == 1:
        raise found[0]
    if found:
        raise SpecErrors(found)


def _without_images(spec: ImageSpec, context: Context) -> Iterator[SpecError]:
    """Of the images that it is made of, and of its own context."""
    for ref in spec.refs:
        if fault := base_fault(ref, context.root):
            yield fault
    try:
        context.of(spec.context)
    except SpecError as error:
        yield error


def _steps(spec: ImageSpec, context: Context) -> Iterator[tuple[Step, Context]]:
    """Its steps, each with what it takes files from; none where there is no such folder."""
    try:
        own = context.of(spec.context)
    except SpecError:
        return  # an error already
    yield from ((step, own) for step in own_steps(spec))


def image_files(spec: ImageSpec, root: str) -> list[str]:
    """The files that tell whether an image that a spec is made of has changed: an archive, a
    layout's index."""
    found = []
    for ref in spec.refs:
        if path := _path_of(ref):
            inner = ("index.json",) if ref.kind == "oci" else ()
            found.append(os.path.join(root, path, *inner))
    return found


def _path_of(ref: BaseRef) -> str | None:
    """Below the context, of an image that is read from there."""
    if ref.kind not in (*_FILES, "oci"):
        return None
    return ref.value if ref.kind == "rootfs" else ref.value.partition(":")[0]


def base_fault(ref: BaseRef, root: str) -> SpecError | None:
    """What is wrong with the file or folder that a base is read from."""
    path = _path_of(ref)
    if path is None:
        return None
    try:
        mode = os.stat(os.path.join(root, path)).st_mode
    except FileNotFoundError:
        what = f"there is no {path!r}, expected a path from the context folder"
    except OSError as error:
        what = f"{path!r} cannot be read: {error.strerror}"
    else:
        if ref.kind == "oci":
            what = "" if stat.S_ISDIR(mode) else f"{path!r} is not a folder, expected an OCI layout"
        else:
            what = "" if stat.S_ISREG(mode) else f"{path!r} is not a file, expected an archive"
    return error_at(ref.place, what) if what else None


def lint(spec: ImageSpec, context: Context, environ: Mapping[str, str]) -> Iterator[SpecError]:
    """What is wrong with what a spec's bases and steps name, as far as the context tells."""
    yield from _without_images(spec, context)
    for step, own in _steps(spec, context):
        lacking = list(step.lacks(own))
        yield from lacking or step.check(spec, own, environ)


def advice(spec: ImageSpec, context: Context) -> Iterator[SpecError]:
    """Warnings about a spec's steps."""
    for step, own in _steps(spec, context):
        yield from step.advice(spec, own)
