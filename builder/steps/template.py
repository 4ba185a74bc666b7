"""`template`: a file rendered from a template of the context, when its step is planned."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from builder.errors import BuilderError, SpecError
from builder.plan.step import FileStep
from builder.spec.model import ImageSpec, Place

if TYPE_CHECKING:
    from builder.plan.changes import Changes
    from builder.plan.context import Context, Scanned
    from builder.plan.materials import Materials
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node


class _Template(NamedTuple):
    place: Place
    name: str | None
    dest: str
    template: str  # below the context
    variables: Mapping[str, Any] = {}  # all that its file may name, but `base`
    owner: str | None = None  # as of Copy
    mode: str | None = None  # as of Copy; None: 0644
    times: str | None = None  # as of Copy


class Template(_Template, FileStep):
    __slots__ = ()
    verb = "template"
    doc = "Write a file rendered from a template."
    reads_base = True

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, data
        from builder.spec.kinds import (
            MODE_FIELD,
            NAME_FIELD,
            OWNER_FIELD,
            SOURCE,
            TARGET,
            TIMES_FIELD,
            check_variable,
        )

        return {
            "template": Field(SOURCE, "A Jinja template below the context.", required=True),
            "dest": Field(
                TARGET,
                "The path of the file; with a slash at its end the directory for it.",
                required=True,
            ),
            "name": NAME_FIELD,
            "vars": Field(data(check_variable), "Variables for this template, over the spec's."),
            "owner": OWNER_FIELD,
            "mode": MODE_FIELD,
            "times": TIMES_FIELD,
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Template:
        from builder.spec.kinds import place
        from builder.spec.source import quote

        source, dest = given["template"], given["dest"]
        if source.endswith("/") or source == ".":
            raise (node.get("template") or node).fault(f"{quote(source)} is a directory")
        if dest.endswith("/"):
            dest += source.rsplit("/", 1)[-1].removesuffix(".j2")
        return cls(
            place(reader, node.get("template") or node),
            given.get("name"),
            dest,
            source,
            {**reader.renderer.variables, **given.get("vars", {})},
            given.get("owner"),
            given.get("mode"),
            given.get("times"),
        )

    def scan(self, context: Context) -> Scanned:
        return [context.one_file(self.template, "template")]

    def check(
        self, spec: ImageSpec, context: Context, environ: Mapping[str, str]
    ) -> Iterator[SpecError]:
        from builder.spec.files import error_at
        from builder.spec.render import NeedsBase, render_template

        path = os.path.normpath(os.path.join(context.root, self.template))
        try:
            render_template(path, self.variables, environ, name=self.template)
        except NeedsBase:
            pass
        except SpecError as error:
            yield error
        except BuilderError as error:
            yield error_at(self.place, error.what, error.hint)

    def advice(self, spec: ImageSpec, context: Context) -> Iterator[SpecError]:
        from builder.spec.advice import served

        return iter(()) if self.times else served(self.place, self.dest)

    def on_base(self, base: Mapping[str, Any]) -> Self:
        from builder.spec.render import plain

        return self._replace(variables={"base": plain(base), **self.variables})

    def changes(self, given: Materials) -> Changes:
        from builder.spec.render import render_template
        from builder.steps.target import write_file

        ((source, _),) = given.scanned
        file = given.context.open(source)
        data = render_template(file, self.variables, given.environ, given.asked, name=self.template)
        return write_file(self, data, given.ground)
