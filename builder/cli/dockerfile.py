"""Dockerfiles on the command line: `build Dockerfile`, `build -f Dockerfile DIR`, `build DIR`, and
`builder convert`."""

from __future__ import annotations

import argparse
import os
import sys

from builder.cli import screen
from builder.errors import SpecError, SpecErrors, UsageError
from builder.spec.files import SUFFIXES, is_dockerfile, is_spec

NAMES = ("Dockerfile", "Containerfile", "dockerfile")


def prepare(arguments: argparse.Namespace) -> None:
    """Where a Dockerfile is named, or a folder that has one: name it, and its context. Raises
    UsageError."""
    images = list(arguments.images if hasattr(arguments, "images") else [arguments.image])
    files = list(getattr(arguments, "files", None) or ())
    others = images[: len(images) - len(files)] if files else images
    specs = arguments.specs  # what is a spec's name is that, also where a folder is called so
    for each in files:
        if not each.endswith(SUFFIXES) and not os.path.isfile(each) and not is_spec(each, specs):
            raise UsageError(f"-f {each}: there is no such file", _near(each))
    named = [each for each in files if not each.endswith(SUFFIXES) and os.path.isfile(each)]
    folders = [each for each in others if _is_folder(each) and not is_spec(each, specs)]
    if not hasattr(arguments, "images"):  # where a word may be the name of a stored image, too
        folders = [each for each in folders if "/" in each or each in (".", "..")]
    if named and files == named:
        if len(named) > 1:
            raise UsageError("-f names two Dockerfiles, expected one", "build each by itself")
        if len(others) > 1 or others != folders:
            raise UsageError(
                f"-f {named[0]}: {' '.join(others)} is no context, expected one folder",
                f"builder build -f {named[0]} .",
            )
        _take(arguments, named[0], others[0] if others else "")
    elif len(images) == 1 and folders and (found := dockerfile_in(images[0])):
        _take(arguments, found, images[0])
    elif len(images) == 1 and is_dockerfile(images[0]) and os.path.isfile(images[0]):
        _take(arguments, images[0], "")
    elif getattr(arguments, "target", ""):
        raise UsageError(
            f"--target {arguments.target!r}: no Dockerfile is named",
            "builder build IMAGE:STAGE builds a stage of a spec",
        )


def _near(path: str) -> str:
    """For a file that is not there: the Dockerfiles beside where it would be."""
    folder = os.path.dirname(path)
    try:
        there = [name for name in sorted(os.listdir(folder or ".")) if is_dockerfile(name)]
    except OSError:
        return "the path is from the folder that builder runs in, not from the context"
    if not there:
        return "a Dockerfile's path is from the folder that builder runs in"
    return f"there is {', '.join(os.path.join(folder, name) for name in there[:5])}"


def _is_folder(text: str) -> bool:
    return os.path.isdir(text) and ("/" in text or text in (".", "..") or bool(dockerfile_in(text)))


def dockerfile_in(folder: str) -> str:
    """The Dockerfile of a folder; "": it has none."""
    paths = [os.path.join(folder, name) for name in NAMES]
    return next((os.path.normpath(path) for path in paths if os.path.isfile(path)), "")


def _take(arguments: argparse.Namespace, path: str, folder: str) -> None:
    if not is_dockerfile(path):
        raise UsageError(
            f"{path!r} is not called as a Dockerfile is",
            f"rename it to {os.path.basename(path)}.Dockerfile",
        )
    context = arguments.context or folder or os.path.dirname(path) or "."
    # as in Docker a name alone takes what the environment says, if that says anything
    arguments.sets = [
        each if "=" in each else f"{each}={os.environ[each]}"
        for each in arguments.sets
        if "=" in each or each in os.environ
    ]
    arguments.images = [path]
    arguments.image = path
    arguments.context = context
    if arguments.specs == "specs":
        arguments.specs = os.path.join(context, "specs")
    ignore = os.path.relpath(f"{path}.dockerignore", context)
    if os.path.lexists(f"{path}.dockerignore") and not ignore.startswith("../"):
        arguments.ignore_file = ignore


def convert(arguments: argparse.Namespace) -> int:
    """Write the spec that a Dockerfile becomes."""
    from builder.dockerfile.convert import Wish
    from builder.dockerfile.convert import convert as converted
    from builder.dockerfile.loading import source_of
    from builder.dockerfile.nodes import text as node_text
    from builder.dockerfile.yaml import text_of
    from builder.errors import Place
    from builder.spec.files import read_bytes

    paths = arguments.sources or ["."]
    if paths[0].lower().endswith((".hcl", ".json", *SUFFIXES)):
        from builder.cli import bake

        return bake.convert(arguments, paths)
    if len(paths) > 1:
        raise UsageError(f"{' '.join(paths)}: several files, expected one Dockerfile")
    path = paths[0]
    if os.path.isdir(path) and not (path := dockerfile_in(path)):
        raise UsageError(f"{paths[0]!r} has no Dockerfile", "name the file")
    output = arguments.output
    context = arguments.context or os.path.dirname(path) or "."
    excludes: tuple[str, ...] = ()
    if output:
        relative = os.path.relpath(os.path.realpath(output), os.path.realpath(context))
        excludes = () if relative.startswith("../") else (relative,)
    source = source_of(path, read_bytes(path, "Dockerfile"))
    found = converted(
        source,
        Wish(
            target=arguments.target,
            context=context,
            excludes=excludes,
            idiomatic=arguments.idiomatic,
        ),
    )
    if output and (below := _below_project(context, output)):
        found.top.pairs.insert(0, (node_text("context", (1, 1)), node_text(below, (1, 1))))
    text = text_of(found, [])
    check(text, output or "converted.yaml")
    for remark in found.remarks:
        place = Place(path, *remark.place)
        screen.show_warning(SpecError(remark.message).at(place))
    if not output:
        sys.stdout.write(text)
        return 0
    if os.path.lexists(output) and not arguments.force:
        raise UsageError(f"{output!r} is there already", "--force writes over it")
    write(output, text)
    return 0


def _below_project(context: str, output: str) -> str:
    """The context as a spec at `output` says it, below the folder that holds the specs' folder; "":
    it is that folder, or is given to each call with --context."""
    root = os.path.dirname(os.path.dirname(os.path.realpath(output)))
    below = os.path.relpath(os.path.realpath(context), root)
    return "" if below == "." or below.startswith("../") or below == ".." else below + "/"


def write(path: str, text: str) -> None:
    """A whole file or none, with the folders above it, and a line that says so."""
    from builder.transport.target import writing

    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with writing(path, sync=False) as file:
            file.write(text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise UsageError(f"{path!r} cannot be written: {error.strerror}") from None
    sys.stdout.write(f"wrote {os.path.normpath(path)}\n")


def check(text: str, name: str) -> None:
    """That it is a spec: what the language does not take is told beside the text it stands in."""
    from builder.oci.image import host_platform
    from builder.spec.reading import Given, Reading
    from builder.spec.source import Source
    from builder.steps import VERBS

    given = Given(VERBS, os.environ, {}, {}, host_platform())
    try:
        Reading(Source(name, text), given, stem="converted").specs()
    except SpecErrors as error:
        for each in error.errors:
            screen.show_warning(each)
