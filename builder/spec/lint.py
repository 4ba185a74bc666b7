"""Lint: everything that is wrong in a project's specs, found without building."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence

from builder.errors import BuilderError, SpecError
from builder.spec.language import render_spec
from builder.spec.load import asked_specs, error_at, gather, read_bytes, read_vars_files
from builder.spec.model import Copy, File, ImageSpec, Place, Unpack
from builder.spec.node import TEXT, parse_yaml, scalar_kind
from builder.spec.render import render_template
from builder.spec.source import Problems, decode, quote
from builder.spec.syntax import is_glob

_NAMED = re.compile(r"\{\{[-+]?\s*([A-Za-z_]\w*)")


def lint(
    images: Sequence[str],
    folder: str,
    context: str,
    *,
    environ: Mapping[str, str],
    sets: Mapping[str, str] | None = None,
    vars_files: Sequence[str] = (),
) -> tuple[SpecError, ...]:
    """All errors of the named specs (of all in `folder` if none is named) and of those they stand
    on: in the files, `image:` bases that are missing or run in a circle, sources that are not in
    the folder `context`, templates that do not render, and those in `vars`, which are never
    rendered, if they name a variable: that was meant otherwise. Raises UsageError for what is not
    there."""
    paths = asked_specs(images, folder)
    specs, errors = gather(paths, folder, environ, sets or {}, read_vars_files(vars_files))
    for spec in specs.values():
        errors += _never_rendered(spec)
        errors += _sources(spec, context, environ)
    return tuple(errors)


def render(
    path: str,
    *,
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
    document = render_spec(decode(path, read_bytes(path, "spec")), environ, shared, sets or {})

    class Dumper(yaml.SafeDumper):
        """Text of several lines as a literal block; no aliases."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None if scalar_kind(value) == TEXT else "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return str(yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100))


def _never_rendered(spec: ImageSpec) -> Iterator[SpecError]:
    source = decode(spec.file, read_bytes(spec.file, "spec"))
    top = parse_yaml(source, Problems(source))
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
            yield source.error(node.fault(message, hint))


def _sources(spec: ImageSpec, context: str, environ: Mapping[str, str]) -> Iterator[SpecError]:
    if spec.base.kind == "rootfs":
        yield from _missing(spec.base.value, spec.base.place, context, folders=False, inside=False)
    for step in spec.steps:
        if isinstance(step, Copy):
            for source in step.sources:
                yield from _missing(source, step.place, context, folders=True)
        elif isinstance(step, Unpack):
            yield from _missing(step.source, step.place, context, folders=False)
        elif isinstance(step, File) and step.template is not None:
            missing = list(_missing(step.template, step.place, context, folders=False))
            yield from missing
            if not missing:
                path = os.path.normpath(os.path.join(context, step.template))
                try:
                    render_template(path, step.variables, {"name": spec.name}, environ)
                except SpecError as error:
                    yield error
                except BuilderError as error:
                    yield error_at(step.place, error.message, error.hint)


def _missing(
    source: str, place: Place, context: str, *, folders: bool, inside: bool = True
) -> Iterator[SpecError]:
    """An error if `source` is not below `context`, or, unless `folders`, is not a file."""
    if is_glob(source) and folders:
        found = glob.iglob(source, root_dir=context, recursive=True, include_hidden=True)
        if next(found, None) is None and not os.path.lexists(os.path.join(context, source)):
            yield error_at(place, f"{quote(source)} matches nothing in {context!r}")
        return
    path = os.path.join(context, source)
    root = os.path.realpath(context)
    if not os.path.lexists(path):
        yield error_at(place, f"{quote(source)} is not in {context!r}, expected a file of it")
    elif inside and os.path.commonpath([root, os.path.realpath(os.path.dirname(path))]) != root:
        yield error_at(place, f"{quote(source)} leaves the context through a symlink")
    elif not folders and not os.path.isfile(path):
        yield error_at(place, f"{quote(source)} is not a file")
