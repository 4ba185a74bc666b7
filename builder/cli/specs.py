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
    from builder.plan.context import Context
    from builder.plan.sources import advice
    from builder.plan.sources import lint as look
    from builder.spec.lint import lint as check
    from builder.steps import VERBS

    root = arguments.context or os.path.dirname(os.path.abspath(arguments.specs))
    if not os.path.isdir(root):
        raise UsageError(f"--context {root!r} is not a folder")
    context = Context(root, None)
    found = check(
        arguments.images,
        arguments.specs,
        partial(look, context=context, environ=os.environ),
        partial(advice, context=context),
        verbs=VERBS,
        environ=os.environ,
        sets=wiring.pairs(arguments.sets),
        vars_files=arguments.vars_file,
    )
    for warning in found.warnings:
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
    from builder.spec.load import find_spec
    from builder.steps import VERBS

    sys.stdout.write(
        rendered(
            find_spec(arguments.image, arguments.specs),
            verbs=VERBS,
            environ=os.environ,
            sets=wiring.pairs(arguments.sets),
            vars_files=arguments.vars_file,
        )
    )
    return 0
