"""`builder lint`, `schema`, `render`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial

from builder.cli import screen, wiring
from builder.errors import SpecErrors, UsageError


def lint(arguments: argparse.Namespace) -> int:
    from builder.dockerfile.loading import Dockerfiles
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
    reader = Dockerfiles(root, options.target)
    file = load_project_file(above)
    found = check(
        arguments.images,
        arguments.specs,
        partial(look, context=context, environ=os.environ),
        partial(advice, context=context),
        verbs=VERBS,
        environ=options.environ,
        sets=options.variables,
        vars_files=options.vars_files,
        platform=next(iter(options.platforms or file.built_for), None),
        groups=file.groups,
        shared=file.vars,
        dockerfiles=lambda: reader,
    )
    for warning in (*found.warnings, *reader.remarks.values()):
        screen.show_warning(warning)
    if found.errors:
        raise SpecErrors(found.errors)
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
