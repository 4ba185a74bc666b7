"""`builder report`."""

from __future__ import annotations

import argparse
import re
import sys
from copy import copy
from typing import Any

from builder.cli import wanted
from builder.cli.wanted import Wanted
from builder.errors import UsageError
from builder.oci.image import host_platform


def report(arguments: argparse.Namespace) -> int:
    """Of an image for several platforms it is about this machine's."""
    from builder.look.report import Subject, document, page

    documents: list[dict[str, Any]] = []
    for name in filter(None, (arguments.image, arguments.other)):
        own = copy(arguments)
        own.image = name

        def told(found: Wanted, name: str = name) -> dict[str, Any]:
            part = found.one()
            return document(found.layers, Subject(name, part.image, part.manifest))

        documents.append(wanted.use(own, told, host_platform))
    text = page(documents)
    if arguments.output == "-":
        sys.stdout.write(text)
        return 0
    path = arguments.output or re.sub(r"[^A-Za-z0-9._-]+", "-", arguments.image) + ".html"
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path!r} cannot be written: {error.strerror}", "-o FILE") from error
    sys.stdout.write(f"{path}\n")
    return 0
