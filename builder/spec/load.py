"""Load specs: a file to the ImageSpecs of its images, from the cache where that knows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from builder.errors import SpecError, SpecErrors, UsageError
from builder.oci.digest import hex_of
from builder.oci.image import Platform, host_platform
from builder.spec.compiled import Cache, decode_specs, encode_specs, entry_name
from builder.spec.files import is_dockerfile, read_bytes, stem_of
from builder.spec.model import ImageSpec, Verbs, holds_env


class Dockerfiles(Protocol):
    """What reads a Dockerfile as a spec (builder.dockerfile.reader)."""

    key: str
    """What it goes by beside the file, its build arguments and the platform."""
    root: str
    """The context, which `dockerfile:PATH` is relative to."""

    def read(
        self,
        path: str,
        data: bytes,
        given: Inputs,
        base: Mapping[str, Any] | None,
        stage: str,
        named: str,
    ) -> tuple[tuple[ImageSpec, ...], bool]:
        """The images, and whether they may be kept for the same bytes. `named`: how a spec names
        it, "" for one of the command line."""


class Inputs(NamedTuple):
    """What specs are read with beside their files."""

    verbs: Verbs
    environ: Mapping[str, str]
    sets: Mapping[str, str]
    vars_files: tuple[tuple[str, bytes], ...]
    platform: Platform
    cache: Cache | None = None
    shared: Mapping[str, Any] = {}  # the project file's variables
    dockerfiles: Callable[[], Dockerfiles] | None = None  # None: they are none


def inputs(
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str] | None = None,
    vars_files: Sequence[str] = (),
    platform: Platform | None = None,
    cache: Cache | None = None,
    shared: Mapping[str, Any] = {},
    dockerfiles: Callable[[], Dockerfiles] | None = None,
) -> Inputs:
    """Raises UsageError for a vars file that cannot be read."""
    texts = tuple((path, read_bytes(path, "vars file")) for path in vars_files)
    machine = platform or host_platform()
    return Inputs(verbs, environ, sets or {}, texts, machine, cache, shared, dockerfiles)


def load_spec(
    path: str,
    *,
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str] | None = None,
    vars_files: Sequence[str] = (),
    platform: Platform | None = None,
    cache: Cache | None = None,
) -> ImageSpec:
    """Read one spec. `sets` are texts for variables that the spec or a vars file declares; they
    win over `vars_files`, later ones of these over earlier ones, all over the spec's own `vars`.
    Raises SpecErrors with everything wrong in the file, UsageError for what cannot be read and for
    a file with a matrix, which makes several images."""
    given = inputs(verbs, environ, sets, vars_files, platform, cache)
    specs = load_file(path, given)
    check_sets(given.sets, specs)
    if len(specs) != 1:
        raise UsageError(f"{path!r} has a matrix of {len(specs)} images, expected one image")
    return specs[0]


def load_on_base(spec: ImageSpec, base: Mapping[str, Any], given: Inputs) -> ImageSpec:
    """A spec that waits for its base, read once more with what that says: env, user, working_dir,
    labels."""
    if holds_env(base):
        given = given._replace(cache=None)
    key = spec.key.partition(":")[0]
    named = key if is_dockerfile(key) else ""
    (found,) = load_file(spec.file, given, base, spec.row, spec.stage, named)
    if spec.stage:
        found = next((each for each in found.stages if each.stage == spec.stage), found)
    if (found.name, found.base) != (spec.name, spec.base._replace(of_task="")):
        raise SpecError(f"{spec.file}: it changed while it was read", "build again")
    return found


def load_file(
    path: str,
    given: Inputs,
    base: Mapping[str, Any] | None = None,
    row: int | None = None,
    stage: str = "",
    named: str = "",
) -> tuple[ImageSpec, ...]:
    """The specs of the images that a file describes: of its matrix, or `row` of that alone, else
    one; none, if it is known to name no base. `base` is that of the image, or of its `stage`.
    `named`: what a spec calls a Dockerfile. Raises SpecErrors, UsageError."""
    if is_dockerfile(path):
        return _of_dockerfile(path, given, base, stage, named)
    data = read_bytes(path, "spec")
    verbs, environ, sets, vars_files, platform, cache, project, _ = given
    name = (
        entry_name(path, data, sets, vars_files, project, platform, base, row, stage)
        if cache
        else ""
    )
    if cache and (known := decode_specs(cache.load(name), environ, verbs, _digest)) is not None:
        return known
    from builder.spec.language import read_variables
    from builder.spec.reading import Given, Reading
    from builder.spec.source import decode

    shared = dict(project)
    for file, text in vars_files:
        shared.update(read_variables(decode(file, text)))
    asked = Given(verbs, environ, shared, sets, platform, base, row, stage)
    reading = Reading(decode(path, data), asked)
    try:
        specs = reading.specs()
    except SpecErrors as found:
        found.stands_on = reading.stands_on
        if cache and reading.has_no_base:
            cache.save(name, encode_specs((), reading.files.read))
        raise
    environments = [each.environment for spec in specs for each in (spec, *spec.stages)]
    if cache and not any(v is not None for each in environments for v in each.values()):
        cache.save(name, encode_specs(specs, reading.files.read))
    return specs


def _of_dockerfile(
    path: str, given: Inputs, base: Mapping[str, Any] | None, stage: str, named: str
) -> tuple[ImageSpec, ...]:
    """As load_file has it."""
    cache = given.cache
    if given.dockerfiles is None:
        raise UsageError(f"{path!r} is a Dockerfile, expected a spec", "builder convert writes one")
    reader, data = given.dockerfiles(), read_bytes(path, "Dockerfile")
    if not cache:
        return reader.read(path, data, given, base, stage, named)[0]
    platform, sets = given.platform, given.sets
    how = "\0".join((stage, reader.key, named))
    name = entry_name(path, data, sets, (), {}, platform, base, None, how)
    known = decode_specs(cache.load(name), given.environ, given.verbs, _digest)
    if known is not None:
        return known
    specs, kept = reader.read(path, data, given, base, stage, named)
    if kept:
        cache.save(name, encode_specs(specs, {}))
    return specs


def _digest(path: str) -> str | None:
    try:
        return hex_of(read_bytes(path, "file"))
    except UsageError:
        return None


def check_sets(sets: Mapping[str, str], specs: Iterable[ImageSpec]) -> None:
    """A misspelt --set would silently build something else."""
    if not sets:
        return
    from builder.spec.source import did_you_mean

    images: dict[str, list[ImageSpec]] = {}
    for spec in specs:
        for key in names_of(spec):
            images.setdefault(key, []).append(spec)
    for text in sets:
        check_image(text, [images])
        image, dot, name = text.rpartition(".")
        among = images[image] if dot else [each for found in images.values() for each in found]
        declared = {each for spec in among for each in spec.variables if each not in spec.axes}
        if name in declared:
            continue
        if axis := next((spec for spec in among if name in spec.axes), None):
            raise UsageError(
                f"--set {text!r}: the matrix of {axis.file} gives {name!r} its values",
                f"name the images that are wanted: builder build {axis.key}",
            )
        known = f"declared are: {', '.join(sorted(declared))}" if declared else None
        near = did_you_mean(name, list(declared))
        raise UsageError(
            f"--set {text!r}: no such variable{near}", known or "declare it under 'vars'"
        )


def names_of(spec: ImageSpec) -> set[str]:
    """What may stand before the name of a variable of this image."""
    return {spec.key, stem_of(spec.file)}


def check_image(text: str, known: Iterable[Iterable[str]]) -> None:
    """Of `--set IMAGE.NAME=...` the image. Raises UsageError."""
    image, dot, _ = text.rpartition(".")
    names = sorted({name for each in known for name in each})
    if dot and image not in names:
        from builder.spec.source import did_you_mean

        near = did_you_mean(image, names)
        hint = f"images here: {', '.join(names[:20])}"
        raise UsageError(f"--set {text!r}: no such image {image!r}{near}", hint)
