"""Gather: the specs that a command line means, and those that these are made of, bases first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from builder.errors import SpecError, SpecErrors, UsageError
from builder.oci.image import Platform
from builder.spec.compiled import Cache
from builder.spec.files import (
    SUFFIXES,
    error_at,
    find_spec,
    init_command,
    is_dockerfile,
    no_dockers,
    no_spec,
    spec_at,
    spec_files,
    stem_of,
)
from builder.spec.load import (
    Dockerfiles,
    Inputs,
    check_image,
    check_sets,
    inputs,
    load_file,
    names_of,
)
from builder.spec.model import BaseRef, ImageSpec, Place, Verbs

MAX_BASES = 100  # an image has at most 127 layers
_GLOB = frozenset("*?[")


class Loaded(NamedTuple):
    """Specs that were asked for and the specs they stand on."""

    specs: Mapping[str, ImageSpec]
    """By what `image:` calls them: the file's stem, or a matrix image's name; a base stands before
    what uses it."""
    asked: tuple[str, ...]
    """Those that were asked for, in that order."""
    left_out: tuple[ImageSpec, ...] = ()
    """Those that were asked for and that their own `when` leaves out."""


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
    dockerfiles: Callable[[], Dockerfiles] | None = None,
) -> Loaded:
    """Read the named specs (all of `folder` if none is named) and those that they stand on.
    `images` are names, globs over names, paths and `groups`. Each of `sets` has to name a variable
    of at least one of them. Raises as load_spec does, and SpecErrors for `image:` bases that do
    not exist or that lead back to themselves."""
    given = inputs(verbs, environ, sets, vars_files, platform, cache, shared, dockerfiles)
    found = gather(images, folder, given, groups)
    if found.errors:
        for text in given.sets if found.specs or found.faulty else ():
            check_image(text, [*map(names_of, found.specs.values()), found.faulty])
        raise SpecErrors(tuple(found.errors))
    specs = {key: spec for key, spec in found.specs.items() if spec.left_out is None}
    every = [each for spec in found.specs.values() for each in (spec, *spec.stages)]
    check_sets(given.sets, every)
    left_out = tuple(spec for spec in found.specs.values() if spec.left_out is not None)
    return Loaded(specs, tuple(key for key in found.asked if key in specs), left_out)


def is_plain(found: Loaded, default: Sequence[Platform]) -> bool:
    """Whether everything is built for the one platform that it was read for."""
    return len(default) == 1 and all(
        each.platforms in ((), tuple(default)) and each.platform in (None, *default)
        for each in (*found.specs.values(), *found.left_out)
    )


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
            raise UsageError(text, f"{init_command(self._folder)} writes a first one")
        for path in paths:
            self._read(path)
        parts = {part for specs in self._files.values() for spec in specs for part in spec.parts}
        return [path for path in paths if self._files[path] or os.path.normpath(path) not in parts]

    def _names(self) -> list[str]:
        if self._listed is None:
            self._listed = spec_files(self._folder)
        return self._listed

    def _read(self, path: str, named: str = "") -> tuple[ImageSpec, ...]:
        """The images of a file; what is wrong in it is told once they are asked for."""
        if path not in self._files:
            try:
                self._files[path] = load_file(path, self._given, named=named)
            except SpecErrors as found:
                self._files[path], self._faults[path] = (), found.errors
                self._below_faulty[path] = found.stands_on
        return self._files[path]

    def _told(self, path: str, named: str = "") -> tuple[ImageSpec, ...]:
        """The images of a file that is asked for; `named`: by a spec, of a Dockerfile."""
        specs = self._read(path, named)
        if not specs and path not in self._faults:  # without a base, as the cache knows
            try:
                load_file(path, self._given._replace(cache=None))
            except SpecErrors as found:
                self._faults[path] = found.errors
        for error in self._faults.get(path, ()):
            self._errors.setdefault(error.message, error)
        if below := self._below_faulty.pop(path, ""):  # what is wrong there is told as well
            self._told(spec_at(self._folder, below) or path)
        return specs

    def _meant(self, image: str, *, grouped: bool = False) -> list[ImageSpec]:
        """What an IMAGE means: a group, a path, a glob, a file's stem, a matrix image's name."""
        if is_dockerfile(image) and os.path.isfile(image):
            return list(self._told(image))
        no_dockers(image)
        if grouped and image in self._groups:
            if spec_at(self._folder, image):
                raise UsageError(f"{image!r} is a group of builder.yaml, and a spec, too")
            return [spec for each in self._groups[image] for spec in self._meant(each)]
        if "/" in image or image.endswith(SUFFIXES):
            return list(self._told(find_spec(image, self._folder)))
        if path := spec_at(self._folder, image):
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
        path = spec_at(self._folder, name)
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

        names = list(dict.fromkeys(each.stage for each in stages))
        if wanted in names:
            raise UsageError(
                f"{name!r} is a matrix of {len(found)} images, expected one of them",
                f"write {found[0].key}:{wanted}",
            )
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
            line = (*above, spec.key)
            for each in self._own_stages(spec):
                if each.left_out is None and not self._leads_to(each, line):
                    self._visit(each, line)
        self._done[spec.key] = spec

    def _leads_to(self, spec: ImageSpec, line: tuple[str, ...]) -> bool:
        """Whether it, or a stage below it, is one of those: it stands on what waits."""
        seen, waiting = set[str](), [spec.key]
        while waiting:
            key = waiting.pop()
            if key in line:
                return True
            if key not in seen and key in self._stages:
                seen.add(key)
                waiting += [ref.value for ref in self._stages[key].refs if ref.kind == "stage"]
        return False

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
        path = spec_at(self._folder, name) if base.kind == "image" else None
        below: tuple[ImageSpec, ...]
        if base.kind == "dockerfile":
            below = self._dockerfile(base)
        elif path is None and (found := self.of_matrix(name)):
            below = (found,)
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

    def _dockerfile(self, ref: BaseRef) -> tuple[ImageSpec, ...]:
        """The image of a Dockerfile of the context, whose folder is its own."""
        reader = self._given.dockerfiles
        root = os.path.realpath(reader().root if reader else ".")
        path = os.path.join(root, ref.value)
        if os.path.commonpath((root, os.path.realpath(path))) != root:
            self._wrong(ref.place, f"base {str(ref)!r} leads out of the context through a symlink")
            return ()
        path = os.path.join(reader().root if reader else "", ref.value)
        if not os.path.isfile(path):
            self._wrong(ref.place, f"base {str(ref)!r} is not there, expected a file")
            return ()
        return self._told(path, ref.value)

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
