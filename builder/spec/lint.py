"""Lint: everything that is wrong in a project's specs, found without building."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from builder.errors import SpecError, SpecErrors
from builder.oci.image import Platform
from builder.spec.advice import advice, cmd_passed_by
from builder.spec.credentials import credentials
from builder.spec.dollars import dollars
from builder.spec.files import error_at, is_dockerfile, read_bytes
from builder.spec.gather import gather
from builder.spec.load import Dockerfiles, inputs
from builder.spec.model import ImageSpec, Verbs
from builder.spec.node import TEXT, Node, parse_yaml, scalar_kind
from builder.spec.source import Fault, Problems, Source, decode, quote

_NAMED = re.compile(r"\{\{[-+]?\s*([A-Za-z_]\w*)")


class Findings(NamedTuple):
    errors: tuple[SpecError, ...]
    warnings: tuple[SpecError, ...]
    """What can be built and is hardly meant."""
    platforms: tuple[Platform, ...] = ()
    """What the specs say that they are built for."""
    files: frozenset[str] = frozenset()
    """The specs, and those that they stand on."""


Look = Callable[[ImageSpec], Iterable[SpecError]]


def lint(
    images: Sequence[str],
    folder: str,
    look: Look,
    advise: Look = lambda spec: (),
    *,
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str] | None = None,
    vars_files: Sequence[str] = (),
    platform: Platform | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    shared: Mapping[str, Any] = {},
    dockerfiles: Callable[[], Dockerfiles] | None = None,
) -> Findings:
    """What is wrong in the named specs (all in `folder` if none is named) and in those they stand
    on: in the files, `image:` bases that are missing or run in a circle, and what `look` finds.
    Warnings are those of `advise` and our own, such as a template in a vars file that names a
    variable: it is never rendered. Raises UsageError for what is not there."""
    given = inputs(
        verbs, environ, sets, vars_files, platform, shared=shared, dockerfiles=dockerfiles
    )
    specs, _, errors, _ = gather(images, folder, given, groups)
    warnings: list[SpecError] = []
    known = {name for spec in specs.values() for name in spec.variables}
    for file in vars_files:
        source, top = _parsed(file)
        warnings += map(source.error, _never_rendered(top, known))
    named: dict[str, set[str | None]] = {}  # by spec, the stages that it names; None: any
    for file, spec in {part: s for s in specs.values() for part in (s.file, *s.parts)}.items():
        if is_dockerfile(file):
            continue
        source, top = _parsed(file)
        named.setdefault(spec.file, set()).update(_stages_in(top))
        warnings += map(source.error, dollars(top, spec.variables))
        warnings += map(source.error, cmd_passed_by(top))
        warnings += map(source.error, credentials(top))
    stages = {each.key: each for spec in specs.values() for each in spec.stages}
    for spec in (stages | specs).values():
        errors += look(spec)
        warnings += advice(spec, specs)
        warnings += advise(spec)
    for each in stages.values():
        meant = {each.stage, None} & named.get(each.file, {None})
        if each.key not in specs and each.left_out is None and not meant:
            warnings.append(error_at(each.place, f"the stage {each.stage!r} is used by nothing"))
    each_once = {str(warning): warning for warning in warnings}  # images of a matrix share lines
    platforms = {each for spec in specs.values() for each in spec.platforms}
    files = frozenset(spec.file for spec in specs.values())
    return Findings(tuple(errors), tuple(each_once.values()), tuple(sorted(platforms)), files)


def render(
    image: str,
    folder: str,
    *,
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str] | None = None,
    vars_files: Sequence[str] = (),
    platform: Platform | None = None,
    shared: Mapping[str, Any] = {},
) -> str:
    """The specs that `image` means after Jinja as YAML, with the variables in force; a document for
    each image. Raises SpecErrors, UsageError."""
    import yaml

    from builder.spec.language import read_variables
    from builder.spec.reading import Given, Reading

    given = inputs(verbs, environ, sets, vars_files, platform, shared=shared)
    found = gather([image], folder, given)
    shared = dict(shared)
    for name, data in given.vars_files:
        shared.update(read_variables(decode(name, data)))
    files = dict.fromkeys(found.specs[key].file for key in found.asked)
    if not files:
        raise SpecErrors(tuple(found.errors))
    documents = []
    for file in files:
        asked = Given(verbs, environ, shared, given.sets, given.platform)
        reading = Reading(decode(file, read_bytes(file, "spec")), asked, rendering=True)
        made = zip(reading.specs(), reading.documents, strict=True)
        for spec, document in made:
            documents += [document] if spec.key in found.asked else []
            stages = [each.stage for each in spec.stages if each.key in found.asked]
            documents += [document["stages"][stage] for stage in stages]

    class Dumper(yaml.SafeDumper):
        """Text of several lines as a literal block; no aliases."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None if scalar_kind(value) == TEXT else "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return str(
        yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)
    )


def _stages_in(top: Node) -> Iterator[str | None]:
    """The names of all `stage:NAME`, whatever `when` says; None for one that a template makes."""
    waiting = [top]
    while waiting:
        node = waiting.pop()
        waiting += [*node.items, *(value for _, value in node.pairs)]
        if node.kind == TEXT and "stage:" in node.text:
            yield None if "{" in node.text else node.text.partition(":")[2]


def _parsed(file: str) -> tuple[Source, Node]:
    """A file that was read before."""
    source = decode(file, read_bytes(file, "file"))
    return source, parse_yaml(source, Problems(source))


def _never_rendered(top: Node, known: Collection[str]) -> Iterator[Fault]:
    """Texts of a vars file that were meant as templates."""
    waiting = [value for _, value in top.pairs][::-1]
    while waiting:
        node = waiting.pop()
        waiting += [*node.items, *(value for _, value in node.pairs)][::-1]
        names = _NAMED.findall(node.text)
        named = next((each for each in names if each in {*known, "spec", "env"}), None)
        if node.kind == TEXT and named:
            message = f"{quote(node.text)} stays as it is: a vars file is data, never rendered"
            hint = f"write the template under the spec's 'vars', where {named!r} means something"
            yield node.fault(message, hint)
