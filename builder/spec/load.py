"""Load specs: from a path or a name to ImageSpecs, bases first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from builder.errors import SpecError, SpecErrors, UsageError
from builder.spec.compiled import Cache, decode_spec, encode_spec, entry_name
from builder.spec.model import ImageSpec, Place, Verbs, holds_env
from builder.spec.named import open_named

SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 1 << 20  # of a spec or a vars file; source.decode names it in its error
MAX_BASES = 100  # an image has at most 127 layers


class Project(NamedTuple):
    """Specs that were asked for and the specs they stand on."""

    specs: Mapping[str, ImageSpec]
    """By the file's stem, which is what `image:NAME` names; a base stands before what uses it."""
    asked: tuple[str, ...]
    """The stems of those that were asked for, in that order."""


def load_spec(
    path: str,
    *,
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str] | None = None,
    vars_files: Sequence[str] = (),
    cache: Cache | None = None,
) -> ImageSpec:
    """Read one spec. `sets` are texts for variables that the spec or a vars file declares; they
    win over `vars_files`, later ones of these over earlier ones, all over the spec's own `vars`.
    Raises SpecErrors with everything wrong in the file, UsageError for what cannot be read."""
    sets = sets or {}
    spec = _load(path, verbs, environ, sets, read_vars_files(vars_files), cache)
    _check_sets(sets, spec.variables)
    return spec


def load_project(
    images: Sequence[str],
    folder: str,
    *,
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str] | None = None,
    vars_files: Sequence[str] = (),
    cache: Cache | None = None,
) -> Project:
    """Read the named specs (all of `folder` if none is named) and those that they stand on.
    Each of `sets` has to name a variable of at least one of them. Raises as load_spec does, and
    SpecErrors for `image:` bases that do not exist or that lead back to themselves."""
    sets = sets or {}
    paths = asked_specs(images, folder)
    texts = read_vars_files(vars_files)
    specs, errors = gather(paths, folder, verbs, environ, sets, texts, cache)
    if errors:
        raise SpecErrors(tuple(errors))
    _check_sets(sets, {name: None for spec in specs.values() for name in spec.variables})
    return Project(specs, tuple(dict.fromkeys(map(stem_of, paths))))


def gather(
    paths: Sequence[str],
    folder: str,
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str],
    vars_files: Sequence[tuple[str, bytes]],
    cache: Cache | None = None,
) -> tuple[dict[str, ImageSpec], list[SpecError]]:
    """The specs at `paths` and those below them by stem, bases first; and what is wrong in them.
    A spec that cannot be read as one is among the errors only."""
    specs: dict[str, ImageSpec] = {}
    errors: dict[str, SpecError] = {}  # by message: a vars file's are met once for each spec
    done: dict[str, str] = {}  # stem to path

    def wrong(place: Place, message: str) -> None:
        error = error_at(place, message)
        errors[error.message] = error

    def visit(path: str, above: tuple[str, ...]) -> None:
        stem = stem_of(path)
        if stem in done:
            if not os.path.samefile(done[stem], path):
                raise UsageError(f"two specs for {stem!r}: {done[stem]} and {path}")
            return
        done[stem] = path
        try:
            spec = _load(path, verbs, environ, sets, vars_files, cache)
        except SpecErrors as found:
            errors.update({error.message: error for error in found.errors})
            return
        if spec.base.kind == "image":
            line = (*above, stem)
            if spec.base.value in line:
                circle = " -> ".join([*line[line.index(spec.base.value) :], spec.base.value])
                wrong(spec.base.place, f"bases in a circle: {circle}")
            elif len(line) > MAX_BASES:
                wrong(spec.base.place, f"more than {MAX_BASES} bases below each other")
            elif below := _at(folder, spec.base.value):
                visit(below, line)
            else:
                error = missing_base(spec, folder)
                errors[error.message] = error
        specs[stem] = spec

    for path in paths:
        visit(path, ())
    for error in same_names(specs.values()):
        errors[error.message] = error
    return specs, list(errors.values())


def asked_specs(images: Sequence[str], folder: str) -> list[str]:
    """The paths of the IMAGEs of a command line; of all specs in `folder` when there are none."""
    paths = [find_spec(each, folder) for each in images] if images else spec_files(folder)
    if not paths:
        raise UsageError(f"no spec in {folder!r}", f"{_init(folder)} writes a first one")
    return paths


def is_spec(image: str, folder: str) -> bool:
    """Whether IMAGE on a command line means a spec, and not an image by its reference."""
    if "/" in image or image.endswith(SUFFIXES):
        return image.endswith(SUFFIXES) or os.path.isfile(image)
    return _at(folder, image) is not None


def find_spec(image: str, folder: str) -> str:
    """The path of IMAGE on a command line: a path to a file, or a name in `folder`."""
    _no_dockers(image)
    if "/" in image or image.endswith(SUFFIXES):
        if os.path.isfile(image):
            return image
        raise UsageError(f"no spec file {image!r}")
    if found := _at(folder, image):
        return found
    from builder.spec.source import did_you_mean

    names = [stem_of(path) for path in spec_files(folder)]
    hint = f"there are: {', '.join(names[:20])}" if names else f"{folder!r} holds no spec"
    raise UsageError(f"no spec {image!r} in {folder!r}{did_you_mean(image, names)}", hint)


def _no_dockers(image: str) -> None:
    """`build .` and `-f Dockerfile`, as one is used to from Docker. Raises UsageError."""
    name = os.path.basename(image).lower()
    if name.startswith(("dockerfile", "containerfile")) or name.endswith(".dockerfile"):
        if not name.endswith(SUFFIXES) and os.path.isfile(image):
            raise UsageError(
                f"{image!r} is a Dockerfile, expected a spec",
                "builder init writes a first spec beside it",
            )
    elif (
        os.path.isdir(image)
        and not name.endswith(SUFFIXES)
        and ("/" in image or name in (".", ".."))
    ):
        raise UsageError(
            f"{image!r} is a folder, expected a spec's name or file",
            "builder build builds every spec; --context DIR names the folder of what they copy",
        )


def spec_files(folder: str) -> list[str]:
    """All specs of a folder, by name."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UsageError(
            f"cannot read the folder {folder!r}: {error.strerror}",
            "call it where the folder `specs` is, or name another with --specs; "
            f"{_init(folder)} writes a first spec",
        ) from None
    return [os.path.join(folder, name) for name in names if name.endswith(SUFFIXES)]


def _init(folder: str) -> str:
    import shlex

    return "builder init" + ("" if folder == "specs" else f" --specs {shlex.quote(folder)}")


def stem_of(path: str) -> str:
    return os.path.basename(path).rpartition(".")[0]


def missing_base(spec: ImageSpec, folder: str) -> SpecError:
    from builder.spec.source import did_you_mean

    names = [stem_of(path) for path in spec_files(folder)]
    near = did_you_mean(spec.base.value, names)
    return error_at(
        spec.base.place,
        f"base {str(spec.base)!r} is not there, expected a spec of {folder!r}{near}",
        f"write {os.path.join(folder, spec.base.value + '.yaml')}",
    )


def same_names(specs: Iterable[ImageSpec]) -> list[SpecError]:
    """Errors for images that would take each other's name."""
    first: dict[str, ImageSpec] = {}
    errors = []
    for spec in specs:
        other = first.setdefault(spec.name, spec)
        if other is not spec:
            place = Place(spec.file, 1, 1)
            errors.append(error_at(place, f"the name {spec.name!r} is {other.file}'s already"))
    return errors


def error_at(place: Place, message: str, hint: str | None = None) -> SpecError:
    """An error in a spec that was loaded, perhaps from the cache: its line is read again."""
    return SpecError(message, hint, snippet_at(place)).at(place)


def snippet_at(place: Place) -> str | None:
    """The line of a place and a caret, if the file can still be read."""
    from builder.spec.source import Source

    try:
        text = read_bytes(place.file, "file").decode("utf-8", "replace").removeprefix("\ufeff")
    except UsageError:
        return None  # the message stands without the line
    return Source(place.file, text).snippet(place.line, place.column)


def _at(folder: str, name: str) -> str | None:
    found = [path for suffix in SUFFIXES if os.path.lexists(path := f"{folder}/{name}{suffix}")]
    if len(found) > 1:
        raise UsageError(f"two specs for {name!r}: {' and '.join(found)}", "rename one of them")
    return os.path.normpath(found[0]) if found else None


def load_on_base(
    spec: ImageSpec,
    base: Mapping[str, Any],
    *,
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str] | None = None,
    vars_files: Sequence[str] = (),
    cache: Cache | None = None,
) -> ImageSpec:
    """A spec that waits for its base, read once more with what that says: env, user, working_dir,
    labels."""
    cache = None if holds_env(base) else cache
    found = _load(spec.file, verbs, environ, sets or {}, read_vars_files(vars_files), cache, base)
    if (found.name, found.base, len(found.steps)) != (spec.name, spec.base, len(spec.steps)):
        raise SpecError(f"{spec.file}: it changed while it was read", "build again")
    return found


def _load(
    path: str,
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str],
    vars_files: Sequence[tuple[str, bytes]],
    cache: Cache | None,
    base: Mapping[str, Any] | None = None,
) -> ImageSpec:
    data = read_bytes(path, "spec")
    name = entry_name(path, data, sets, vars_files, base) if cache else ""
    if cache and (known := decode_spec(cache.load(name), environ, verbs)) is not None:
        return known
    from builder.spec.language import read_spec, read_variables
    from builder.spec.source import decode

    shared = {}
    for file, text in vars_files:
        shared.update(read_variables(decode(file, text)))
    spec = read_spec(decode(path, data), environ, shared, sets, verbs, base)
    if cache and not any(value is not None for value in spec.environment.values()):
        cache.save(name, encode_spec(spec))
    return spec


def read_bytes(path: str, what: str) -> bytes:
    try:
        with open_named(path) as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read the {what} {path!r}: {error.strerror}") from None


def read_vars_files(vars_files: Sequence[str]) -> list[tuple[str, bytes]]:
    return [(path, read_bytes(path, "vars file")) for path in vars_files]


def _check_sets(sets: Mapping[str, str], declared: Mapping[str, object]) -> None:
    """A misspelt --set would silently build something else."""
    for name in sets:
        if name not in declared:
            from builder.spec.source import did_you_mean

            known = f"declared are: {', '.join(sorted(declared))}" if declared else None
            near = did_you_mean(name, list(declared))
            raise UsageError(
                f"--set {name!r}: no such variable{near}", known or "declare it under 'vars'"
            )
