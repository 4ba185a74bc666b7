"""`builder lint`, `schema`, `render`."""

from __future__ import annotations

import argparse
import json
import os
import sys

from builder.cli import wiring
from builder.errors import SpecErrors


def lint(arguments: argparse.Namespace) -> int:
    from builder.spec.lint import lint as check

    context = arguments.context or os.path.dirname(os.path.abspath(arguments.specs))
    errors = check(
        arguments.images,
        arguments.specs,
        context,
        environ=os.environ,
        sets=wiring.pairs(arguments.sets),
        vars_files=arguments.vars_file,
    )
    if errors:
        raise SpecErrors(errors)
    return 0


def schema(arguments: argparse.Namespace) -> int:
    from builder.spec.language import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
    return 0


def render(arguments: argparse.Namespace) -> int:
    from builder.spec.lint import render as rendered
    from builder.spec.load import find_spec

    sys.stdout.write(
        rendered(
            find_spec(arguments.image, arguments.specs),
            environ=os.environ,
            sets=wiring.pairs(arguments.sets),
            vars_files=arguments.vars_file,
        )
    )
    return 0
