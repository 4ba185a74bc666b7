"""Sources: what a spec takes from the context, looked at before anything runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from builder.errors import BuilderError, SpecError, SpecErrors, UsageError
from builder.plan.context import Context, Source
from builder.spec.load import error_at
from builder.spec.model import BaseRef, Copy, ImageSpec, Step, without_values

_FILES = ("docker-archive", "rootfs")
"""Kinds of bases that are a file; a layout is a folder."""


def faults(what: BaseRef | Step, context: Context) -> Iterator[SpecError]:
    """What the context lacks of what a base or a step names, whatever the steps before it do."""
    if isinstance(what, BaseRef):
        if fault := base_fault(what, context.root):
            yield fault
        return
    for text in what.sources if isinstance(what, Copy) else ("",):
        try:
            if text:
                context.find(text)
            else:
                context.scan(what)
        except (SpecError, UsageError):
            raise  # of the ignore file
        except BuilderError as error:
            yield error_at(what.place, without_values(error.what, what), error.hint)


def check_sources(specs: Iterable[ImageSpec], context: Context) -> None:
    """Raises all that the context lacks of what these specs name."""
    found = tuple(
        fault
        for spec in specs
        for what in (spec.base, *spec.steps)
        for fault in faults(what, context)
    )
    if len(found) == 1:
        raise found[0]
    if found:
        raise SpecErrors(found)


def base_fault(ref: BaseRef, root: str) -> SpecError | None:
    """What is wrong with the file or folder that a base is read from."""
    if ref.kind not in (*_FILES, "oci"):
        return None
    path = ref.value if ref.kind == "rootfs" else ref.value.partition(":")[0]
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


def takes_specs(spec: ImageSpec, context: Context) -> Iterator[SpecError]:
    """Warnings for copies that bring the spec itself: each change of it would change the layer."""
    file = os.path.realpath(spec.file)
    for step in spec.steps:
        if not isinstance(step, Copy):
            continue
        try:
            found = [source for text in step.sources for source in context.find(text)]
            above = [each for each in found if _below(file, context, each)]
            taken = bool(above) and any(file in tree.paths() for _, tree in context.scan(step))
        except BuilderError:
            continue  # an error already
        if taken:
            from builder.spec.source import written

            folder = os.path.relpath(
                os.path.dirname(file), os.path.join(context.root, above[0].path)
            )
            yield error_at(
                step.place,
                f"the copy takes {spec.file!r} along: each change of the spec changes the layer",
                f"write exclude: [{written(folder + '/')}], or a line in .dockerignore",
            )


def _below(file: str, context: Context, source: Source) -> bool:
    return file.startswith(os.path.join(context.root, source.path).rstrip("/") + "/")
