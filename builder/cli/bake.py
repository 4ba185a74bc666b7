"""`builder convert` of bake and compose files: a spec for each of their targets."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from builder.cli import screen
from builder.cli.dockerfile import check, write
from builder.errors import UsageError


def convert(arguments: argparse.Namespace, paths: Sequence[str]) -> int:
    from builder.bake.files import specs_of, with_overrides
    from builder.spec.project import PROJECT_FILE

    if arguments.target:
        raise UsageError("--target is a Dockerfile's stage", "each target becomes a spec")
    folder = os.path.normpath(arguments.output) if arguments.output else ""
    if folder.endswith((".yaml", ".yml")):
        raise UsageError(f"-o {folder} is one file, expected a folder for the specs", "-o specs")
    root = arguments.context or (os.path.dirname(folder) if folder else os.path.dirname(paths[0]))
    root = root or "."
    excludes = (os.path.relpath(folder, root), PROJECT_FILE) if folder else ()
    made = specs_of(with_overrides(paths), root, excludes, idiomatic=arguments.idiomatic)
    for remark in made.remarks:
        screen.show_warning(remark)
    for name, text in made.specs.items():
        check(text, os.path.join(folder, f"{name}.yaml"))
    files = {os.path.join(folder, f"{name}.yaml"): text for name, text in made.specs.items()}
    project = os.path.join(root, PROJECT_FILE)
    if made.project:
        files[project] = made.project
    if not folder:
        for path, text in files.items():
            sys.stdout.write(f"# -- {os.path.normpath(path)}\n{text}")
        return 0
    there = [path for path in files if os.path.lexists(path) and not arguments.force]
    if project in there:
        there.remove(project)
        del files[project]
        screen.show_warning(
            UsageError(f"{project} is left as it is", f"it may want {_flat(made.project)}")
        )
    if there:
        raise UsageError(f"{', '.join(there[:5])} is there already", "--force writes over it")
    for path, text in files.items():
        write(path, text)
    return 0


def _flat(text: str) -> str:
    return " ".join(text.split())[:300]
