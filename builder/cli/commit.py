"""`builder commit`."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from typing import TYPE_CHECKING, NamedTuple

from builder.cli import screen, wiring
from builder.errors import BuilderError, UsageError
from builder.spec.files import SUFFIXES, is_dockerfile, spec_at, stem_of

if TYPE_CHECKING:
    from builder.containers.commit import Changed, Committed, Doubt
    from builder.containers.container import Container
    from builder.project import Project
    from builder.store.store import Store

_SHOWN = 40  # changes
_FOLDER = "layers"


class _Place(NamedTuple):
    """What is written where."""

    name: str  # the new spec's
    spec: str  # its path; of a failed state "": there is none
    root: str  # the context, which has the layer's file
    layer: str  # below it

    @property
    def file(self) -> str:
        return os.path.normpath(os.path.join(self.root, self.layer))


def commit(arguments: argparse.Namespace) -> int:
    """Write what a container changed as a layer's file, and a spec that applies it."""
    from builder.containers import commit as committing
    from builder.containers.container import find, held
    from builder.oci.image import LAST_SECOND
    from builder.project import Project

    message = arguments.message
    if message is not None and (not message.strip() or len(message.splitlines()) > 1):
        raise UsageError(f"--message {message!r}: expected text on one line")
    fault = wiring.become_root()  # before the first thread
    if fault:
        raise fault
    project = Project(wiring.options(arguments), screen.renderer("plain"))
    with project.store.live():
        container = find(project.store, arguments.container)
        place = _place(arguments, container)
        step = _step(message or f"as in the container {container.name}", place.layer)
        text = _spec(arguments, project, container, place, step) if place.spec else ""
        for path in filter(None, (place.spec, place.file)):
            if os.path.lexists(path) and not arguments.force:
                raise UsageError(
                    f"{path!r} is there already", "--force writes over it; -o names another spec"
                )
        epoch = LAST_SECOND if project.given_epoch is None else project.given_epoch
        with held(container):
            found = committing.commit(project.layers, container, epoch, arguments.exclude)
        if found is None:
            what = " but what is left out" if arguments.exclude else ""
            raise UsageError(f"the container {container.name!r} changed nothing{what}")
        _write_layer(project.store, found, place.file)
    if text:
        _write(place.spec, text)
    if arguments.json:
        _print_json(found, place)
    else:
        _print(found, place, container, step)
    for doubt in found.doubts:
        screen.show_warning(_warning(doubt))
    _check_taken(place)
    return 0


def _place(arguments: argparse.Namespace, container: Container) -> _Place:
    """Raises UsageError for a spec that no image could be called by."""
    from builder.spec.syntax import Malformed, parse_name

    output = arguments.output
    if output and container.failed:
        raise UsageError(
            f"-o names a spec, and {container.name!r} is a failed state: its layer is for a step of"
            f" {container.image!r}"
        )
    if output and not output.endswith(SUFFIXES):
        raise UsageError(f"-o {output!r}: expected the path of a spec", f"-o {output}.yaml")
    if output and not _same_folder(os.path.dirname(output), arguments.specs):
        raise UsageError(
            f"-o {output!r} is not in the folder of specs, {arguments.specs!r}",
            f"-o {os.path.join(arguments.specs, os.path.basename(output))}; --specs names another",
        )
    slug = "-".join(re.findall("[a-z0-9]+", container.name.lower()))
    spec = output or os.path.join(arguments.specs, f"{slug}.yaml")
    name = stem_of(spec)
    try:
        parse_name(name)
    except Malformed as error:
        raise UsageError(f"-o {spec!r}: {name!r} {error.what}") from None
    root = arguments.context or os.path.join(os.path.dirname(spec), os.pardir)
    made = "" if container.failed else os.path.normpath(spec)
    return _Place(name, made, os.path.normpath(root), f"{_FOLDER}/{name}.tar.zst")


def _same_folder(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


# -- the spec -------------------------------------------------------------------------------------


def _spec(
    arguments: argparse.Namespace,
    project: Project,
    container: Container,
    place: _Place,
    step: list[str],
) -> str:
    """Raises UsageError where nothing names what the container stands on."""
    from builder.oci.image import host_platform
    from builder.spec.source import written

    base = arguments.base or _base(arguments, project, container)
    if base == f"image:{place.name}":
        raise UsageError(
            f"{place.spec!r} would stand on itself", f"-o {arguments.specs}/{place.name}-more.yaml"
        )
    lines = [f"from: {written(base)}"]
    platform = container.stands_on().platform
    if platform != host_platform():
        lines.append(f"platforms: [{platform}]")
    lines += ["steps:", *step]
    return "".join(f"{line}\n" for line in lines)


def _step(name: str, layer: str) -> list[str]:
    from builder.spec.source import written

    if re.search(r"\{[{%#]", name):
        name = "{% raw %}" + name.replace("endraw", "end raw") + "{% endraw %}"
    return [f"  - name: {written(name)}", f"    layer: {layer}"]


def _base(arguments: argparse.Namespace, project: Project, container: Container) -> str:
    """What a spec that stands on the container's image says."""
    from builder.oci.digest import Digest
    from builder.oci.reference import parse_reference

    text, specs = container.image, arguments.specs
    if is_dockerfile(text) and os.path.isfile(text):
        return f"dockerfile:{os.path.relpath(text, project.context)}"
    name = stem_of(text) if text.endswith(SUFFIXES) else text
    of_spec = "/" not in name and spec_at(specs, name)
    if of_spec or (":" not in text and "/" not in text and project.has_row(text)):
        _check_same(project, container, name)
        return f"image:{name}"
    digest = container.digest
    named = [each for each, blob in project.store.names().items() if blob.digest == digest]
    for each in named:
        if each.project == project.name and spec_at(specs, each.name):
            return f"image:{each.name}"
    for word in (text, *(each.name for each in named if not each.project)):
        try:
            reference = parse_reference(word)
        except BuilderError:
            continue
        if not re.fullmatch("(sha256:)?[0-9a-f]{6,64}", word):
            if any(each.project for each in named):
                _warn_built_here(project, container, word)
            return reference._replace(digest=Digest(digest)).familiar
    raise UsageError(
        f"nothing names the image that {container.name!r} stands on, {digest[:19]}",
        "--from BASE says what the spec is to stand on",
    )


def _warn_built_here(project: Project, container: Container, reference: str) -> None:
    """Of an image without a spec, such as a Dockerfile's that was named with `-t`."""
    from_file = "dockerfile:Dockerfile" if _has_dockerfile(project) else "BASE"
    screen.show_warning(
        UsageError(
            f"{reference!r} was built here, and the spec has it from its registry",
            f"push it there, or builder commit {container.name} --force --from {from_file}",
        )
    )


def _has_dockerfile(project: Project) -> bool:
    return os.path.isfile(os.path.join(project.context, "Dockerfile"))


def _check_same(project: Project, container: Container, name: str) -> None:
    """Warn where the spec's image is another by now."""
    from builder.store.names import index_entries

    there = []
    for each, blob in project.store.names().items():
        if (each.name, each.project) == (name, project.name):
            there += [blob, *(inner for _, inner in index_entries(project.store, blob))]
    if there and container.digest not in [blob.digest for blob in there]:
        screen.show_warning(
            UsageError(
                f"the image {name!r} was built anew since {container.name!r} was made on it:"
                " its layer may not fit",
                "do it again in a new container, or look at the image that comes of it",
            )
        )


# -- what is written ------------------------------------------------------------------------------


def _write_layer(store: Store, found: Committed, path: str) -> None:
    import shutil

    from builder.transport.target import writing

    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with store.reading(found.blob) as blob, writing(path) as file:
            shutil.copyfileobj(blob, file, 1 << 20)
    except OSError as error:
        raise UsageError(f"{path!r} cannot be written: {error.strerror}") from None


def _write(path: str, text: str) -> None:
    from builder.transport.target import writing

    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with writing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise UsageError(f"{path!r} cannot be written: {error.strerror}") from None


def _check_taken(place: _Place) -> None:
    """Warn where the spec cannot take the layer's file."""
    from builder.plan.context import Context

    try:
        Context(place.root, None).find(place.layer)
    except BuilderError as error:
        screen.show_warning(BuilderError(error.what, f"write !{place.layer} in .dockerignore"))


def _print(found: Committed, place: _Place, container: Container, step: list[str]) -> None:
    from builder.ui import human
    from builder.ui.text import harmless

    counts = found.counts
    lines = [_line(each) for each in found.changed[:_SHOWN]]
    if (rest := sum(counts.values()) - _SHOWN) > 0:
        lines.append(f"... and {rest} more; `builder diff {container.name}` lists all")
    lines.append(f"{counts['A']} added, {counts['C']} changed, {counts['D']} removed")
    lines.append(f"wrote {place.file}, {human.size(found.blob.size)}")
    if place.spec:
        lines.append(f"wrote {place.spec}")
        lines.append(f"next: builder build {_named(place)}")
    else:
        lines.append(
            f"next: put this in the place of the step {container.failed!r} of {container.image}:"
        )
    sys.stdout.write("".join(f"{harmless(line)}\n" for line in lines))
    if not place.spec:
        sys.stdout.write("".join(f"{line}\n" for line in step))


def _named(place: _Place) -> str:
    default = os.path.join("specs", f"{place.name}.yaml")
    return place.name if place.spec == default else shlex.quote(place.spec)


def _line(change: Changed) -> str:
    from builder.ui import human

    size = f"  {human.size(change.size)}" if change.size else ""
    return f"{change.kind} /{os.fsdecode(change.path)}{size}"


def _warning(doubt: Doubt) -> BuilderError:
    from builder.ui import human

    paths = ", ".join(f"/{os.fsdecode(each)}" for each in doubt.paths)
    more = f" and {doubt.number - len(doubt.paths)} more" if doubt.number > len(doubt.paths) else ""
    options = " ".join(f"--exclude {shlex.quote(each)}" for each in doubt.exclude)
    return BuilderError(
        f"the layer holds {doubt.what}: {paths}{more}, {human.size(doubt.size)}",
        f"leave it out: --force {options}",
    )


def _print_json(found: Committed, place: _Place) -> None:
    import json

    document = {
        "spec": place.spec or None,
        "layer": {"path": place.file, "digest": found.blob.digest, "size": found.blob.size},
        "added": found.counts["A"],
        "changed": found.counts["C"],
        "removed": found.counts["D"],
        "changes": [
            {"kind": each.kind, "path": f"/{os.fsdecode(each.path)}", "size": each.size}
            for each in found.changed
        ],
        "warnings": [
            {
                "what": each.what,
                "paths": [f"/{os.fsdecode(path)}" for path in each.paths],
                "count": each.number,
                "size": each.size,
                "exclude": list(each.exclude),
            }
            for each in found.doubts
        ],
    }
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
