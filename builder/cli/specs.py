"""`builder lint`, `schema`, `render`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial

from builder.cli import screen, wiring
from builder.errors import SpecError, SpecErrors, UsageError
from builder.oci.image import Platform, host_platform
from builder.ui.human import count


def lint(arguments: argparse.Namespace) -> int:
    from builder.dockerfile.reader import Dockerfiles, Unasked
    from builder.plan.context import Context
    from builder.plan.sources import advice
    from builder.plan.sources import lint as look
    from builder.spec.lint import lint as check
    from builder.spec.project import load_project_file
    from builder.steps import VERBS

    options = wiring.options(arguments)
    above = os.path.dirname(os.path.abspath(options.specs))
    root = options.context or above
    if not os.path.isdir(root):
        raise UsageError(f"--context {root!r} is not a folder")
    context = Context(root, None)
    reader = Dockerfiles(root, options.target, Unasked)
    file = load_project_file(above)
    waiting = list(options.platforms or file.built_for or (host_platform(),))
    done: set[Platform] = set()
    errors: dict[str, SpecError] = {}  # templates may say the same for all platforms
    warnings: dict[str, SpecError] = {}
    files: set[str] = set()
    while waiting:
        platform = waiting.pop(0)
        done.add(platform)
        found = check(
            arguments.images,
            arguments.specs,
            partial(look, context=context, environ=os.environ),
            partial(advice, context=context),
            verbs=VERBS,
            environ=options.environ,
            sets=options.variables,
            vars_files=options.vars_files,
            platform=platform,
            groups=file.groups,
            shared=file.vars,
            dockerfiles=lambda: reader,
        )
        errors = {**{str(each): each for each in found.errors}, **errors}
        warnings = {**{str(each): each for each in found.warnings}, **warnings}
        files |= found.files
        if not options.platforms:
            waiting += [each for each in found.platforms if each not in (*done, *waiting)]
    remarks = [*warnings.values(), *reader.remarks.values()]
    for warning in remarks:
        screen.show_warning(warning)
    if errors:
        raise SpecErrors(tuple(errors.values()))
    said = f"no errors, {count(len(remarks), 'warning')}" if remarks else "no faults"
    sys.stdout.write(f"{count(len(files), 'spec')}, {said}\n")
    return 0


def schema(arguments: argparse.Namespace) -> int:
    from builder.spec.language import json_schema
    from builder.steps import VERBS

    sys.stdout.write(json.dumps(json_schema(VERBS), indent=2) + "\n")
    return 0


def render(arguments: argparse.Namespace) -> int:
    from builder.spec.lint import render as rendered
    from builder.spec.project import load_project_file
    from builder.steps import VERBS

    options = wiring.options(arguments)
    file = load_project_file(os.path.dirname(os.path.abspath(options.specs)))
    sys.stdout.write(
        rendered(
            arguments.image,
            options.specs,
            verbs=VERBS,
            environ=options.environ,
            sets=options.variables,
            vars_files=options.vars_files,
            platform=next(iter(options.platforms or file.built_for), None),
            shared=file.vars,
        )
    )
    return 0
