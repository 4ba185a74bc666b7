"""The project file: `builder.yaml` beside the folder of specs, as strict as a spec."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from builder.oci.digest import hex_of
from builder.oci.image import encode
from builder.spec.compiled import SPEC_VERSION, Cache
from builder.spec.load import read_bytes
from builder.version import __version__

PROJECT_FILE = "builder.yaml"


class ProjectFile(NamedTuple):
    """What holds for all specs of a project; without a file, all of it as it is here."""

    name: str | None = None  # whose the names of images are; None: the folder's
    groups: Mapping[str, Sequence[str]] = {}  # names and globs of images


def load_project_file(folder: str, cache: Cache | None = None) -> ProjectFile:
    """The project file of `folder`. Raises SpecErrors with everything wrong in it, UsageError for
    one that cannot be read."""
    path = os.path.join(folder, PROJECT_FILE)
    if not os.path.lexists(path):
        return ProjectFile()
    shown = os.path.relpath(path)
    data = read_bytes(shown, "project file")
    key = hex_of(encode(["project file", SPEC_VERSION, __version__, hex_of(data)]))
    if cache and (known := _decode(cache.load(key))) is not None:
        return known
    from builder.spec.language import read_project_file
    from builder.spec.source import decode

    file = ProjectFile(**read_project_file(decode(shown, data)))
    if cache:
        cache.save(key, encode(file._asdict()))
    return file


def _decode(data: bytes | None) -> ProjectFile | None:
    try:
        document: Any = json.loads(data) if data else None
        found = None if document is None else ProjectFile(**document)
    except (ValueError, TypeError):
        return None
    return found if found and isinstance(found.groups, dict) else None
