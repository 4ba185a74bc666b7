"""Load specs: from a path or a name to ImageSpecs, bases first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from builder.errors import SpecError, SpecErrors, UsageError
from builder.oci.digest import hex_of
from builder.oci.image import Platform, host_platform
from builder.spec.compiled import Cache, decode_specs, encode_specs, entry_name
from builder.spec.model import BaseRef, ImageSpec, Place, Verbs, holds_env
from builder.spec.named import open_named

SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 1 << 20  # of a spec or a vars file; source.decode names it in its error
MAX_BASES = 100  # an image has at most 127 layers
_GLOB = frozenset("*?[")


class Project(NamedTuple):
    """Specs that were asked for and the specs they stand on."""

    specs: Mapping[str, ImageSpec]
    """By what `image:` calls them: the file's stem, or a matrix image's name; a base stands before
    what uses it."""
    asked: tuple[str, ...]
    """Those that were asked for, in that order."""
    left_out: tuple[ImageSpec, ...] = ()
    """Those that were asked for and that their own `when` leaves out."""


class Inputs(NamedTuple):
    """What specs are read with beside their files."""

    verbs: Verbs
    environ: Mapping[str, str]
    sets: Mapping[str, str]
    vars_files: tuple[tuple[str, bytes], ...]
    platform: Platform
    cache: Cache | None = None
    shared: Mapping[str, Any] = {}  # the project file's variables


def inputs(
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str] | None = None,
    vars_files: Sequence[str] = (),
    platform: Platform | None = None,
    cache: Cache | None = None,
    shared: Mapping[str, Any] = {},
) -> Inputs:
    """Raises UsageError for a vars file that cannot be read."""
    texts = tuple((path, read_bytes(path, "vars file")) for path in vars_files)
    return Inputs(verbs, environ, sets or {}, texts, platform or host_platform(), cache, shared)


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
    _check_sets(given.sets, specs)
    if len(specs) != 1:
        raise UsageError(f"{path!r} has a matrix of {len(specs)} images, expected one image")
    return specs[0]


def load_project(
    images: Sequence[str],
    folder: str,
    *,
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str] | None = None,
    vars_files: Sequence[str] = (),
    platform: Platform | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    shared: Mapping[str, Any] = {},
    cache: Cache | None = None,
) -> Project:
    """Read the named specs (all of `folder` if none is named) and those that they stand on.
    `images` are names, globs over names, paths and `groups`. Each of `sets` has to name a variable
    of at least one of them. Raises as load_spec does, and SpecErrors for `image:` bases that do
    not exist or that lead back to themselves."""
    given = inputs(verbs, environ, sets, vars_files, platform, cache, shared)
    found = gather(images, folder, given, groups)
    if found.errors:
        for text in given.sets if found.specs or found.faulty else ():
            _check_image(text, [*map(_names_of, found.specs.values()), found.faulty])
        raise SpecErrors(tuple(found.errors))
    specs = {key: spec for key, spec in found.specs.items() if spec.left_out is None}
    every = [each for spec in found.specs.values() for each in (spec, *spec.stages)]
    _check_sets(given.sets, every)
    left_out = tuple(spec for spec in found.specs.values() if spec.left_out is not None)
    return Project(specs, tuple(key for key in found.asked if key in specs), left_out)


class Gathered(NamedTuple):
    specs: dict[str, ImageSpec]
    """Those that were asked for and those below them, bases first."""
    asked: tuple[str, ...]
    errors: list[SpecError]
    """What is wrong in them. A spec that cannot be read as one is among the errors only."""
    faulty: frozenset[str]
    """The stems of such files."""


def gather(
    images: Sequence[str],
    folder: str,
    given: Inputs,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Gathered:
    """Read what the IMAGEs of a command line mean, and what that stands on. Raises UsageError for
    what is not there."""
    return _Gathering(folder, given, groups or {}).gather(images)


class _Gathering:
    def __init__(self, folder: str, given: Inputs, groups: Mapping[str, Sequence[str]]) -> None:
        self._folder = folder
        self._given = given
        self._groups = groups
        self._files: dict[str, tuple[ImageSpec, ...]] = {}  # what was read, by path
        self._faults: dict[str, tuple[SpecError, ...]] = {}
        self._below_faulty: dict[str, str] = {}  # the `image:` base of a faulty file
        self._done: dict[str, ImageSpec] = {}  # by key; its bases, too
        self._errors: dict[str, SpecError] = {}  # by message: a vars file's are met for each spec
        self._listed: list[str] | None = None
        self._matrices: dict[str, ImageSpec] | None = None
        self._stages: dict[str, ImageSpec] = {}  # of what was visited, by key

    def gather(self, images: Sequence[str]) -> Gathered:
        asked: list[ImageSpec] = []
        for path in () if images else self._all_files():
            asked += self._told(path)
        for image in images:
            asked += self._meant(image, grouped=True)
        for spec in asked:
            self._visit(spec, ())
        for error in same_names(self._done.values()):
            self._errors[error.message] = error
        keys = dict.fromkeys(spec.key for spec in asked)
        faulty = frozenset(map(stem_of, self._faults))
        return Gathered(self._done, tuple(keys), list(self._errors.values()), faulty)

    def _all_files(self) -> list[str]:
        """The files of the folder that are images; not those without a base that others extend."""
        paths = self._names()
        if not paths:
            text = f"no spec in {self._folder!r}"
            raise UsageError(text, f"{_init(self._folder)} writes a first one")
        for path in paths:
            self._read(path)
        parts = {part for specs in self._files.values() for spec in specs for part in spec.parts}
        return [path for path in paths if self._files[path] or os.path.normpath(path) not in parts]

    def _names(self) -> list[str]:
        if self._listed is None:
            self._listed = spec_files(self._folder)
        return self._listed

    def _read(self, path: str) -> tuple[ImageSpec, ...]:
        """The images of a file; what is wrong in it is told once they are asked for."""
        if path not in self._files:
            try:
                self._files[path] = load_file(path, self._given)
            except SpecErrors as found:
                self._files[path], self._faults[path] = (), found.errors
                self._below_faulty[path] = found.stands_on
        return self._files[path]

    def _told(self, path: str) -> tuple[ImageSpec, ...]:
        """The images of a file that is asked for."""
        specs = self._read(path)
        if not specs and path not in self._faults:  # without a base, as the cache knows
            try:
                load_file(path, self._given._replace(cache=None))
            except SpecErrors as found:
                self._faults[path] = found.errors
        for error in self._faults.get(path, ()):
            self._errors.setdefault(error.message, error)
        if below := self._below_faulty.pop(path, ""):  # what is wrong there is told as well
            self._told(_at(self._folder, below) or path)
        return specs

    def _meant(self, image: str, *, grouped: bool = False) -> list[ImageSpec]:
        """What an IMAGE means: a group, a path, a glob, a file's stem, a matrix image's name."""
        _no_dockers(image)
        if grouped and image in self._groups:
            if _at(self._folder, image):
                raise UsageError(f"{image!r} is a group of builder.yaml, and a spec, too")
            return [spec for each in self._groups[image] for spec in self._meant(each)]
        if "/" in image or image.endswith(SUFFIXES):
            return list(self._told(find_spec(image, self._folder)))
        if path := _at(self._folder, image):
            return list(self._told(path))
        if stage := self.stage_of(image):
            return [stage]
        if _GLOB & set(image):
            from fnmatch import fnmatchcase

            for path in self._all_files():
                if not self._read(path) and fnmatchcase(stem_of(path), image):
                    self._told(path)
            every = [spec for path in self._all_files() for spec in self._read(path)]
            if found := [spec for spec in every if fnmatchcase(spec.key, image)]:
                return found
            if self._errors:
                return []
        elif spec := self.of_matrix(image):
            return [spec]
        raise no_spec(image, self._folder, self._known())

    def stage_of(self, image: str) -> ImageSpec | None:
        """The stage that IMAGE:STAGE means. Raises UsageError for one that the image has not."""
        name, colon, wanted = image.partition(":")
        if not colon:
            return None
        path = _at(self._folder, name)
        found = (
            list(self._told(path)) if path else [each for each in [self.of_matrix(name)] if each]
        )
        if not found:
            return None
        stages = [each for spec in found for each in spec.stages]
        self._stages.update({each.key: each for each in stages})
        for each in stages:
            if each.key == image:
                return each
        from builder.spec.source import did_you_mean

        names = [each.stage for each in stages]
        hint = f"its stages: {', '.join(names)}" if names else "the spec has no 'stages'"
        raise UsageError(f"{name!r} has no stage {wanted!r}{did_you_mean(wanted, names)}", hint)

    def of_matrix(self, name: str) -> ImageSpec | None:
        """The image of a matrix that has this name."""
        if self._matrices is None:
            every = [spec for path in self._names() for spec in self._read(path)]
            self._matrices = {spec.key: spec for spec in every if spec.row is not None}
        return self._matrices.get(name)

    def _known(self) -> list[str]:
        """What an IMAGE may be."""
        stems = [stem_of(path) for path in self._names()]
        return [*stems, *(self._matrices or ()), *self._groups]

    def _visit(self, spec: ImageSpec, above: tuple[str, ...]) -> None:
        other = self._done.get(spec.key)
        if other is not None and other is not spec:
            raise UsageError(f"two specs for {spec.key!r}: {other.file} and {spec.file}")
        if other is not None:
            return
        self._stages.update({each.key: each for each in spec.stages})
        for ref in spec.refs:
            if ref.of_spec:
                self._below(spec, ref, (*above, spec.key))
            else:
                self._check_word(spec, ref)
        if spec.waits:  # which of its stages it uses may be decided by what the base says
            for each in self._own_stages(spec):
                if each.left_out is None and each.key not in (*above, spec.key):
                    self._visit(each, (*above, spec.key))
        self._done[spec.key] = spec

    def _own_stages(self, spec: ImageSpec) -> list[ImageSpec]:
        image = spec.key.partition(":")[0]
        return [each for key, each in self._stages.items() if key.partition(":")[0] == image]

    def _check_word(self, spec: ImageSpec, ref: BaseRef) -> None:
        """The name of a stage alone, as a Dockerfile has it, would be an image of a registry."""
        if ref.kind != "registry" or ref.value == spec.stage:
            return
        if any(each.stage == ref.value for each in self._own_stages(spec)):
            self._wrong(
                ref.place,
                f"{str(ref)!r} is an image of a registry, and a stage has this name",
                f"write stage:{ref.value}, or docker.io/library/{ref.value}",
            )

    def _below(self, spec: ImageSpec, base: BaseRef, line: tuple[str, ...]) -> None:
        name = base.value
        if name in line:
            circle = " -> ".join([*line[line.index(name) :], name])
            what = "images" if ":" in circle or base is not spec.base else "bases"
            self._wrong(base.place, f"{what} in a circle: {circle}")
            return
        if len(line) > MAX_BASES:
            self._wrong(base.place, f"more than {MAX_BASES} bases below each other")
            return
        if base.kind == "stage":
            self._stage(spec, base, line)
            return
        path = _at(self._folder, name)
        if path is None and (found := self.of_matrix(name)):
            below: tuple[ImageSpec, ...] = (found,)
        elif path is not None:
            below = self._told(path)
        else:
            error = missing_base(base, self._folder, self._known())
            self._errors[error.message] = error
            return
        if len(below) > 1 or (below and below[0].key != name):
            text = f"base {str(base)!r} is a matrix of {len(below)} images, expected one of them"
            self._wrong(base.place, text, f"write image:{below[0].key}")
        for each in below[:1]:
            if each.left_out is not None:
                text = f"base {str(base)!r} is left out by its own {each.left_out}"
                self._wrong(base.place, text)
            self._visit(each, line)

    def _stage(self, spec: ImageSpec, ref: BaseRef, line: tuple[str, ...]) -> None:
        stage = self._stages.get(ref.value)
        if stage is None:
            if spec.file in self._faults:
                return
            from builder.spec.source import did_you_mean

            names = [each.stage for each in self._own_stages(spec)]
            near = did_you_mean(ref.value.rpartition(":")[2], names)
            hint = f"its stages: {', '.join(names)}" if names else "the spec has no 'stages'"
            self._wrong(ref.place, f"{str(ref)!r} is no stage of {spec.file!r}{near}", hint)
        elif stage.left_out is not None:
            self._wrong(ref.place, f"{str(ref)!r} is left out by its own {stage.left_out}")
        else:
            self._visit(stage, line)

    def _wrong(self, place: Place, message: str, hint: str | None = None) -> None:
        error = error_at(place, message, hint)
        self._errors[error.message] = error


def is_of_matrix(image: str, folder: str, given: Inputs) -> bool:
    """Whether IMAGE on a command line is the name of an image of a matrix, or IMAGE:STAGE."""
    import re

    if not re.fullmatch("[a-z0-9][a-z0-9._-]*(:[a-z0-9][a-z0-9._-]*)?", image):
        return False
    if not os.path.isdir(folder):
        return False
    gathering = _Gathering(folder, given, {})
    if ":" in image:
        try:
            return gathering.stage_of(image) is not None
        except UsageError:
            return False
    return gathering.of_matrix(image) is not None


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
    raise no_spec(image, folder, [stem_of(path) for path in spec_files(folder)])


def no_spec(image: str, folder: str, names: Sequence[str]) -> UsageError:
    from builder.spec.source import did_you_mean

    hint = f"there are: {', '.join(names[:20])}" if names else f"{folder!r} holds no spec"
    return UsageError(f"no spec {image!r} in {folder!r}{did_you_mean(image, names)}", hint)


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


def missing_base(base: BaseRef, folder: str, names: Sequence[str]) -> SpecError:
    from builder.spec.source import did_you_mean

    near = did_you_mean(base.value, names)
    return error_at(
        base.place,
        f"base {str(base)!r} is not there, expected a spec of {folder!r}{near}",
        f"write {os.path.join(folder, base.value + '.yaml')}",
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


def load_on_base(spec: ImageSpec, base: Mapping[str, Any], given: Inputs) -> ImageSpec:
    """A spec that waits for its base, read once more with what that says: env, user, working_dir,
    labels."""
    if holds_env(base):
        given = given._replace(cache=None)
    (found,) = load_file(spec.file, given, base, spec.row, spec.stage)
    if spec.stage:
        found = next((each for each in found.stages if each.stage == spec.stage), found)
    if (found.name, found.base) != (spec.name, spec.base):
        raise SpecError(f"{spec.file}: it changed while it was read", "build again")
    return found


def load_file(
    path: str,
    given: Inputs,
    base: Mapping[str, Any] | None = None,
    row: int | None = None,
    stage: str = "",
) -> tuple[ImageSpec, ...]:
    """The specs of the images that a file describes: of its matrix, or `row` of that alone, else
    one; none, if it is known to name no base. `base` is that of the image, or of its `stage`.
    Raises SpecErrors, UsageError."""
    data = read_bytes(path, "spec")
    verbs, environ, sets, vars_files, platform, cache, project = given
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


def _digest(path: str) -> str | None:
    try:
        return hex_of(read_bytes(path, "file"))
    except UsageError:
        return None


def read_bytes(path: str, what: str) -> bytes:
    try:
        with open_named(path) as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read the {what} {path!r}: {error.strerror}") from None


def _check_sets(sets: Mapping[str, str], specs: Iterable[ImageSpec]) -> None:
    """A misspelt --set would silently build something else."""
    if not sets:
        return
    from builder.spec.source import did_you_mean

    images: dict[str, list[ImageSpec]] = {}
    for spec in specs:
        for key in _names_of(spec):
            images.setdefault(key, []).append(spec)
    for text in sets:
        _check_image(text, [images])
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


def _names_of(spec: ImageSpec) -> set[str]:
    """What may stand before the name of a variable of this image."""
    return {spec.key, stem_of(spec.file)}


def _check_image(text: str, known: Iterable[Iterable[str]]) -> None:
    """Of `--set IMAGE.NAME=...` the image. Raises UsageError."""
    image, dot, _ = text.rpartition(".")
    names = sorted({name for each in known for name in each})
    if dot and image not in names:
        from builder.spec.source import did_you_mean

        near = did_you_mean(image, names)
        hint = f"images here: {', '.join(names[:20])}"
        raise UsageError(f"--set {text!r}: no such image {image!r}{near}", hint)
