"""The spec as a whole: its top-level fields, and how they become an ImageSpec."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from builder.errors import BuilderError
from builder.oci.image import Platform, parse_platform
from builder.spec import syntax
from builder.spec.base import BASE
from builder.spec.config import CONFIG, read_config
from builder.spec.fields import (
    BAD,
    Field,
    Kind,
    Reader,
    Table,
    list_of,
    read_data,
    read_table,
    table_schema,
    text,
)
from builder.spec.given import typed
from builder.spec.kinds import (
    VARS_FIELD,
    check_variable,
    reference,
)
from builder.spec.model import ConfigChange, ImageSpec, Verbs, shown
from builder.spec.node import INT, LIST, MAPPING, Node, data_of, parse_yaml
from builder.spec.render import NeedsBase, Renderer, is_template
from builder.spec.source import Fault, Problems, Source, quote
from builder.spec.steps import read_step, verb_schemas, waiting_step
from builder.spec.syntax import Malformed


def _tag(value: str) -> str:
    if "@" in value:
        raise Malformed("holds a digest, expected NAME[:TAG]: what is built decides the digest")
    return reference(value)


def _platform(value: str) -> Platform:
    try:
        return parse_platform(value)
    except BuilderError:
        raise Malformed("is not a platform, expected os/arch[/variant]") from None


def _read_platforms(reader: Reader, node: Node) -> Any:
    platforms = _PLATFORMS.read(reader, node)
    if platforms is not BAD and len(platforms) > 1:
        raise node.items[1].fault(
            f"{len(platforms)} platforms, expected one", "build the others with --platform"
        )
    return BAD if platforms is BAD else platforms[0]


def _read_config(reader: Reader, node: Node) -> Any:
    return reader.waiting(Kind(read_config, {}), node, ConfigChange)


def _read_step(reader: Reader, node: Node) -> Any:
    return reader.waiting(Kind(read_step, {}), node, partial(waiting_step, reader, node))


_PLATFORMS = list_of(
    text(_platform, expected="os/arch[/variant]"), least=1, expected="a list of one platform"
)

SPEC: Table = {
    "from": Field(
        BASE,
        "The base: scratch, image:NAME, oci:DIR[:TAG], docker-archive:FILE, rootfs:FILE, "
        "debootstrap:SUITE, docker-daemon:REF, else a registry reference.",
        required=True,
    ),
    "name": Field(
        text(syntax.parse_name, pattern=syntax.IMAGE_NAME), "The image's name, else the file's."
    ),
    "vars": VARS_FIELD,
    "config": Field(Kind(_read_config, table_schema(CONFIG)), "What the image's config says."),
    "steps": Field(
        list_of(
            Kind(_read_step, {"$ref": "#/$defs/step"}),
            expected="a list of steps",
        ),
        "What is done to the base, in order; each step is a layer.",
    ),
    "tags": Field(list_of(text(_tag), one=True), "References to tag the image with."),
    "platforms": Field(
        Kind(_read_platforms, {**_PLATFORMS.schema, "maxItems": 1}),
        "The platform to build for, one for now.",
    ),
}


def _project_name(reader: Reader, node: Node) -> Any:
    if is_template(node.text):
        raise node.fault(f"{quote(node.text)} is a template, there are none in the project file")
    return _NAME.read(reader, node)


_NAME = text(syntax.parse_name, pattern=syntax.IMAGE_NAME)

PROJECT: Table = {
    "name": Field(
        Kind(_project_name, {"type": "string", "pattern": syntax.IMAGE_NAME}),
        "The project's name: images of all its checkouts go by the same names.",
    ),
}

SCHEMA_ID = "urn:builder:spec:1"


def read_spec(
    source: Source,
    environ: Mapping[str, str],
    shared: Mapping[str, Any],
    sets: Mapping[str, str],
    verbs: Verbs,
    base: Mapping[str, Any] | None = None,
) -> ImageSpec:
    """The spec that `source` holds. Variables are the spec's own, `shared` over them (from vars
    files), `sets` (--set) over those of both that they name. `base` is what the base says, if that
    is known. Raises SpecErrors with all that is wrong."""
    return _Reading(source, environ, shared, sets, verbs, base).spec()


def read_variables(source: Source) -> dict[str, Any]:
    """A vars file: a mapping of names to data. Raises SpecErrors."""
    problems = Problems(source)
    values: dict[str, Any] = {}
    with problems.collected():
        values, _ = read_data(problems, parse_yaml(source, problems), check_variable)
    return values


def read_project_file(source: Source) -> dict[str, Any]:
    """The fields of `builder.yaml` that are given. Raises SpecErrors."""
    problems = Problems(source)
    fields = None
    with problems.collected():
        reader = Reader(problems, Renderer({}, {}), {})
        fields = read_table(reader, parse_yaml(source, problems), PROJECT, "a project file")
    return fields or {}


def render_spec(
    source: Source,
    environ: Mapping[str, str],
    shared: Mapping[str, Any],
    sets: Mapping[str, str],
    verbs: Verbs,
) -> dict[str, Any]:
    """The spec as plain data after Jinja, `vars` as they are in force. Raises SpecErrors."""
    reading = _Reading(source, environ, shared, sets, verbs)
    reading.spec()
    return reading.rendered()


class _Reading:
    """One reading of one spec."""

    def __init__(
        self,
        source: Source,
        environ: Mapping[str, str],
        shared: Mapping[str, Any],
        sets: Mapping[str, str],
        verbs: Verbs,
        base: Mapping[str, Any] | None = None,
    ) -> None:
        self.problems = Problems(source)
        self.node = Node(MAPPING, 1, 1)
        self.renderer = Renderer({}, environ)
        self.renderer.base = base
        self.reader = Reader(self.problems, self.renderer, verbs)
        self.shared = shared
        self.sets = sets

    def spec(self) -> ImageSpec:
        made = None
        with self.problems.collected():
            self.node = parse_yaml(self.problems.source, self.problems)
            made = self._spec()
        assert made is not None, "a spec is made, or there are problems"
        return made

    def _spec(self) -> ImageSpec | None:
        node, reader = self.node, self.reader
        if node.kind != MAPPING:
            raise node.fault(f"found {node.show()}, expected a mapping", "begin with from: BASE")
        variables: dict[str, Any] = {}
        if (own := node.get("vars")) is not None:
            variables, _ = read_data(self.problems, own, check_variable)
        variables.update(self.shared)
        given = {name: text for name, text in self.sets.items() if name in variables}
        variables.update({name: typed(name, text, variables[name]) for name, text in given.items()})
        self.renderer.variables = dict(variables)
        name = self._name()
        self.renderer.variables["spec"] = {"name": name}
        fields = read_table(reader, node, SPEC, "a spec")
        if fields is None or name is None:
            return None
        return ImageSpec(
            name,
            self.problems.source.file,
            fields["from"],
            fields.get("steps", ()),
            fields.get("config", ConfigChange()),
            fields.get("tags", ()),
            fields.get("platforms"),
            variables,
            dict(sorted(self.renderer.asked.items())),
            reader.waits,
        )

    def _name(self) -> str | None:
        """`name:`, else the file's stem; None, with the fault noted, if it is no name."""
        if (node := self.node.get("name")) is not None:
            name = self.reader.take(SPEC["name"].kind, node)
            return None if name is BAD else str(name)
        stem = os.path.basename(self.problems.source.file).rpartition(".")[0]
        try:
            return syntax.parse_name(stem)
        except Malformed as error:
            fault = Fault(1, 1, f"{quote(stem)} {error.what}", "rename the file, or give 'name:'")
            self.problems.add(fault)
            return None

    def rendered(self) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for key, value in self.node.pairs:
            if key.text == "vars":
                continue
            self.renderer.may_ask = key.text in ("steps", "config")
            document[key.text] = self._plain(value, key.text == "steps")
        variables = {k: v for k, v in self.renderer.variables.items() if k != "spec"}
        return {**document, "vars": variables} if variables else document

    def _plain(self, node: Node, steps: bool = False) -> Any:
        if node.kind == LIST:
            return [self._plain(item, steps) for item in node.items]
        if node.kind == MAPPING:
            return {
                key.text: data_of(value) if steps and key.text == "vars" else self._plain(value)
                for key, value in node.pairs
            }
        try:
            return int(node.text, 0) if node.kind == INT else shown(self.reader.text(node))
        except NeedsBase:
            return node.text


def json_schema(verbs: Verbs) -> dict[str, Any]:
    """What an editor needs to complete and check a spec: JSON Schema 2020-12. A text with a
    template in it is accepted wherever a text is."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "An image spec of builder",
        **table_schema(SPEC),
        "$defs": {
            **verb_schemas(verbs),
            "step": {"oneOf": [{"$ref": f"#/$defs/{verb}"} for verb in verbs]},
            "project": table_schema(PROJECT),
        },
    }
