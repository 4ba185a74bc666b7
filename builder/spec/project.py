"""The project file: `builder.yaml` beside the folder of specs, as strict as a spec."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from builder.oci.digest import hex_of
from builder.oci.image import Platform, encode, parse_platform
from builder.spec.compiled import SPEC_VERSION, Cache
from builder.spec.files import read_bytes
from builder.version import __version__

PROJECT_FILE = "builder.yaml"


class ProjectFile(NamedTuple):
    """What holds for all specs of a project; without a file, all of it as it is here."""

    name: str | None = None  # whose the names of images are; None: the folder's
    groups: Mapping[str, Sequence[str]] = {}  # names and globs of images
    vars: Mapping[str, Any] = {}  # over the defaults of specs, below vars files
    platforms: Sequence[str] = ()  # to build for, where neither the command line nor a spec says it
    executor: str | None = None
    epoch: int | None = None  # seconds since 1970
    registry: str | None = None  # put before tags without one
    secrets: Mapping[str, Mapping[str, str]] = {}  # by name: {"file": PATH} or {"env": VARIABLE}

    @property
    def built_for(self) -> tuple[Platform, ...]:
        return tuple(map(parse_platform, self.platforms))

    def tagged(self, tags: tuple[str, ...]) -> tuple[str, ...]:
        """Tags with the project's registry where they name none."""
        if self.registry is None:
            return tags
        return tuple(each if _has_registry(each) else f"{self.registry}/{each}" for each in tags)


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


def _has_registry(tag: str) -> bool:
    first, slash, _ = tag.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def _decode(data: bytes | None) -> ProjectFile | None:
    try:
        document: Any = json.loads(data) if data else None
        found = None if document is None else ProjectFile(**document)
        if found is not None:
            found = found._replace(platforms=tuple(found.platforms))
    except (ValueError, TypeError):
        return None
    mappings = found is not None and all(
        isinstance(each, dict) for each in (found.groups, found.vars, found.secrets)
    )
    return found if mappings else None
