"""Which files are meant, and what their project is: from paths to specs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from builder.bake.convert import Made, convert
from builder.bake.whole import Project
from builder.dockerfile.loading import source_of
from builder.errors import UsageError
from builder.spec.files import read_bytes
from builder.spec.source import Problems, Source

COMPOSE = ("compose", "docker-compose")
_SUFFIXES = (".yaml", ".yml")
_OVERRIDES = {  # what is read with a file where that is named alone
    "docker-bake.hcl": ("docker-bake.override.json", "docker-bake.override.hcl"),
    "docker-bake.json": ("docker-bake.override.json", "docker-bake.override.hcl"),
    **{
        f"{name}{suffix}": tuple(f"{name}.override{other}" for other in _SUFFIXES)
        for name in COMPOSE
        for suffix in _SUFFIXES
    },
}


def is_bake(path: str) -> bool:
    """Whether a path is that of a bake or compose file, by its name."""
    name = os.path.basename(path).lower()
    return name.endswith((".hcl", ".json", *_SUFFIXES))


def with_overrides(paths: Sequence[str]) -> list[str]:
    """The files, with the override beside one that is named alone, as docker reads them."""
    if len(paths) != 1:
        return list(paths)
    folder, name = os.path.split(paths[0])
    others = (os.path.join(folder, each) for each in _OVERRIDES.get(name, ()))
    return [paths[0], *(each for each in others if os.path.isfile(each))]


def specs_of(
    paths: Sequence[str], root: str, excludes: tuple[str, ...] = (), *, idiomatic: bool = False
) -> Made:
    """What bake or compose files become in the project of the folder `root`, which the paths in
    bake files are relative to. Raises UsageError, SpecErrors."""
    composed = [path for path in paths if path.lower().endswith(_SUFFIXES)]
    if composed and len(composed) < len(paths):
        raise UsageError(
            "bake files and compose files together, expected one kind", "convert each by itself"
        )
    sources = [load(path) for path in paths]
    base = root
    with Problems(sources[0]).collected():
        if composed:
            from builder.bake import compose

            base = os.path.dirname(paths[0]) or "."
            bake = compose.read(sources, base, _env(os.path.join(base, ".env")), load)
        else:
            from builder.bake import read

            bake = read.read(sources)
        return convert(bake, Project(root, base, dockerfile, excludes, idiomatic))
    raise AssertionError  # collected() has raised


def load(path: str) -> Source:
    return source_of(path, read_bytes(path, "file"))


def dockerfile(path: str) -> Source | None:
    return source_of(path, read_bytes(path, "Dockerfile")) if os.path.isfile(path) else None


def _env(path: str) -> dict[str, str]:
    from builder.bake.interpolate import env_file

    if not os.path.isfile(path):
        return {}
    return env_file(load(path).text)
