"""`builder init`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from builder.errors import UsageError


def init(arguments: argparse.Namespace) -> int:
    """Write a first spec and a project file; what is there stays as it is."""
    from builder.spec.files import SUFFIXES
    from builder.spec.first import first_spec, name_for, project_file
    from builder.spec.project import PROJECT_FILE
    from builder.steps import VERBS

    specs = os.path.normpath(os.path.join(arguments.folder, arguments.specs))
    root = os.path.dirname(specs) or "."
    if found := [name for name in _names(specs) if name.endswith(SUFFIXES)]:
        raise UsageError(
            f"there are specs in {specs!r} already: {', '.join(found[:20])}",
            f"{_next(arguments)} says what they would build",
        )
    name = name_for(root)
    text = first_spec(name, root, os.path.basename(specs), arguments.base, VERBS)
    _write(os.path.join(specs, f"{name}.yaml"), text)
    project = os.path.join(root, PROJECT_FILE)
    if os.path.lexists(project):
        sys.stdout.write(f"left as it is: {os.path.normpath(project)}\n")
    else:
        _write(project, project_file(name))
    sys.stdout.write(f"next: {_next(arguments)}\n")
    return 0


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot read the folder {folder!r}: {error.strerror}") from None


def _next(arguments: argparse.Namespace) -> str:
    folder = arguments.folder
    named = f"./{folder}" if folder.startswith("-") else folder  # `cd -` is where one came from
    there = "" if folder == "." else f"cd {shlex.quote(named)} && "
    option = "" if arguments.specs == "specs" else f" --specs {shlex.quote(arguments.specs)}"
    return f"{there}builder plan{option}"


def _write(path: str, text: str) -> None:
    """A new file, whole or not at all, with the folders above it; nothing is followed or replaced
    at its place."""
    made = False
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            made = True
            file.write(text)
    except OSError as error:
        if made:  # half a spec would be in the way of the next init
            os.unlink(path)
        raise UsageError(f"{path!r} cannot be written: {error.strerror}") from None
    sys.stdout.write(f"wrote {os.path.normpath(path)}\n")
