"""Lint: everything that is wrong in a project's specs, found without building."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from builder.errors import SpecError
from builder.spec.advice import advice, cmd_passed_by
from builder.spec.dollars import dollars
from builder.spec.language import render_spec
from builder.spec.load import asked_specs, gather, read_bytes, read_vars_files
from builder.spec.model import ImageSpec, Verbs
from builder.spec.node import TEXT, Node, parse_yaml, scalar_kind
from builder.spec.source import Fault, Problems, decode, quote

_NAMED = re.compile(r"\{\{[-+]?\s*([A-Za-z_]\w*)")


class Findings(NamedTuple):
    errors: tuple[SpecError, ...]
    warnings: tuple[SpecError, ...]
    """What can be built and is hardly meant."""


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
) -> Findings:
    """What is wrong in the named specs (all in `folder` if none is named) and in those they stand
    on: in the files, `image:` bases that are missing or run in a circle, what `look` finds, and
    templates in `vars`, which are never rendered, if they name a variable: that was meant
    otherwise. Warnings are those of `advise` and our own. Raises UsageError for what is not
    there."""
    paths = asked_specs(images, folder)
    specs, errors = gather(paths, folder, verbs, environ, sets or {}, read_vars_files(vars_files))
    warnings: list[SpecError] = []
    for spec in specs.values():
        source = decode(spec.file, read_bytes(spec.file, "spec"))
        top = parse_yaml(source, Problems(source))
        errors += map(source.error, _never_rendered(spec, top))
        warnings += map(source.error, dollars(top, spec.variables))
        warnings += map(source.error, cmd_passed_by(top))
        errors += look(spec)
        warnings += advice(spec, specs)
        warnings += advise(spec)
    return Findings(tuple(errors), tuple(warnings))


def render(
    path: str,
    *,
    verbs: Verbs,
    environ: Mapping[str, str],
    sets: Mapping[str, str] | None = None,
    vars_files: Sequence[str] = (),
) -> str:
    """The spec after Jinja as YAML, with the variables in force. Raises SpecErrors."""
    import yaml

    from builder.spec.language import read_variables

    shared = {}
    for name, data in read_vars_files(vars_files):
        shared.update(read_variables(decode(name, data)))
    document = render_spec(
        decode(path, read_bytes(path, "spec")), environ, shared, sets or {}, verbs
    )

    class Dumper(yaml.SafeDumper):
        """Text of several lines as a literal block; no aliases."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None if scalar_kind(value) == TEXT else "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return str(yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100))


def _never_rendered(spec: ImageSpec, top: Node) -> Iterator[Fault]:
    steps = top.get("steps") or top
    tables = [each.get("vars") for each in (top, *steps.items)]
    waiting = [each for each in tables if each is not None][::-1]
    known = {name for table in waiting for name in (key.text for key, _ in table.pairs)}
    known |= {*spec.variables, "spec", "env"}
    while waiting:
        node = waiting.pop()
        waiting += [*node.items, *(value for _, value in node.pairs)][::-1]
        names = _NAMED.findall(node.text)
        if node.kind == TEXT and (found := next((each for each in names if each in known), None)):
            message = f"{quote(node.text)} stays as it is: values of vars are not rendered"
            hint = f"write the template where the value is used, where {found!r} means something"
            yield node.fault(message, hint)
