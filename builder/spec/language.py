"""The spec as a whole: its top-level fields, and how they become an ImageSpec."""

from __future__ import annotations

import re
from typing import Any

from builder.errors import BuilderError
from builder.oci.image import LAST_SECOND, PLATFORM, Platform, parse_platform
from builder.spec import syntax
from builder.spec.base import BASE
from builder.spec.conditions import COMMON, WHEN_FIELD
from builder.spec.config import CONFIG, read_config
from builder.spec.expand import INCLUDE
from builder.spec.fields import (
    BAD,
    TEMPLATE_SCHEMA,
    Field,
    Kind,
    Reader,
    Table,
    choice,
    list_of,
    mapping_of,
    number,
    read_data,
    read_table,
    table_schema,
    text,
)
from builder.spec.kinds import check_env, check_variable, filled, place, reference
from builder.spec.model import ConfigChange, Folder, Verbs
from builder.spec.node import BOOL, LIST, MAPPING, NAMES, TEXT, Node, parse_yaml
from builder.spec.render import Renderer, is_template
from builder.spec.source import Problems, Source, quote
from builder.spec.steps import read_step, verb_schemas
from builder.spec.syntax import Malformed
from builder.spec.testing import TESTS_FIELD, test_schema


def _tag(value: str) -> str:
    if "@" in value:
        raise Malformed("holds a digest, expected NAME[:TAG]: what is built decides the digest")
    return reference(value)


def _platform(value: str) -> Platform:
    try:
        return parse_platform(value)
    except BuilderError as error:
        what = error.what.removeprefix(f"{value!r} ")
        raise Malformed(what, error.hint) from None


def _read_platforms(reader: Reader, node: Node) -> Any:
    platforms = _PLATFORMS.read(reader, node)
    if platforms is BAD:
        return BAD
    twice = next((each for each in platforms if platforms.count(each) > 1), None)
    if twice:
        raise node.fault(f"platform {str(twice)!r} is there twice")
    return tuple(sorted(platforms))


def _folder(value: str) -> str:
    try:
        path = syntax.parse_source(value)
    except Malformed as error:
        hint = "--context DIR names the folder that all contexts lie in" if ".." in value else None
        raise Malformed(error.what, error.hint or hint) from None
    if syntax.is_glob(path):
        raise Malformed("is a glob, expected the path of a folder")
    return path.rstrip("/")


def _read_context(reader: Reader, node: Node) -> Any:
    return Folder(_CONTEXT.read(reader, node), place(reader, node))


def _read_config(reader: Reader, node: Node) -> Any:
    return reader.waiting(Kind(read_config, {}), node, ConfigChange)


def _elsewhere(schema: dict[str, Any], *kinds: str) -> Kind:
    """Of a field that is read before the others, by what is above this module; it tells what is
    wrong there, too."""
    return Kind(lambda _, node: None if node.kind in kinds else BAD, schema)


def _read_vars(reader: Reader, node: Node) -> Any:
    """Looks at names and shapes; the values are computed before (spec.variables)."""
    return None if read_data(reader.problems, node, check_variable)[1] else BAD


def _read_steps(reader: Reader, node: Node) -> Any:
    """For hints, whether these are steps; what reads a spec expands them (spec.expand)."""
    return list_of(Kind(read_step, {}), expected="a list of steps").read(reader, node)


_CONTEXT = text(_folder, expected="a path below the context")
_PLATFORMS = list_of(
    text(_platform, pattern=PLATFORM, expected="os/arch[/variant]"),
    least=1,
    expected="a list of platforms",
)

_FILES = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_ROWS = {"type": "array", "items": {"type": "object"}}
_AXIS = {"anyOf": [{"type": "array", "minItems": 1}, TEMPLATE_SCHEMA]}
_MATRIX = {
    "type": "object",
    "properties": {"exclude": _ROWS, "include": _ROWS},
    "additionalProperties": _AXIS,
}
_STEPS = {"type": "array", "items": {"$ref": "#/$defs/step"}}
_EDITED = {
    "type": "object",
    "properties": {
        "prepend": _STEPS,
        "append": _STEPS,
        "replace": {
            "type": "object",
            "additionalProperties": {"anyOf": [{"type": "null"}, {"type": "object"}]},
        },
    },
    "additionalProperties": False,
}

CONTEXT_FIELD = Field(
    Kind(_read_context, _CONTEXT.schema),
    "The folder that its steps take files from, below the project's context, else that.",
)

STAGE: Table = {
    "from": Field(
        BASE, "The base: stage:NAME for another stage, else as at the top.", required=True
    ),
    "vars": Field(
        Kind(_read_vars, {"type": "object", "additionalProperties": True}),
        "Variables of this stage, over the spec's.",
    ),
    "when": WHEN_FIELD,
    "context": CONTEXT_FIELD,
    "config": Field(Kind(_read_config, table_schema(CONFIG)), "What holds for its steps."),
    "steps": Field(
        Kind(_read_steps, {"anyOf": [_STEPS, _EDITED]}), "What is done, as in an image."
    ),
    "platform": Field(
        choice("host"), "host: it runs on this machine's platform, whatever is built."
    ),
    "tests": TESTS_FIELD,
}
"""A stage of an image. Not in the image; its files are copied out of it, or it is a base."""

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
    "extends": Field(
        _elsewhere(_FILES, TEXT, LIST), "A file, or a list of them, that this one stands over."
    ),
    "vars": Field(
        Kind(_read_vars, {"type": "object", "additionalProperties": True}),
        "Values for templates, rendered over those before them; null: must be given.",
    ),
    "matrix": Field(
        _elsewhere(_MATRIX, MAPPING), "Axes and their values: an image for each combination."
    ),
    "when": Field(
        _elsewhere({"type": ["string", "boolean"]}, TEXT, BOOL),
        "A condition without braces; false: the image is left out.",
    ),
    "stages": Field(
        _elsewhere({"type": "object", "additionalProperties": {"$ref": "#/$defs/stage"}}, MAPPING),
        "Images that this one is made of, by name: stage:NAME in 'from' stands for one.",
    ),
    "context": CONTEXT_FIELD,
    "config": Field(Kind(_read_config, table_schema(CONFIG)), "What the image's config says."),
    "steps": Field(
        Kind(_read_steps, {"anyOf": [_STEPS, _EDITED]}),
        "What is done to the base, in order; each step is a layer.",
    ),
    "tags": Field(list_of(text(_tag), one=True), "References to tag the image with."),
    "platforms": Field(
        Kind(_read_platforms, _PLATFORMS.schema),
        "The platforms to build for; several make an image index.",
    ),
    "tests": TESTS_FIELD,
}


_NO_TEMPLATE = "is a template, there are none in the project file"


def _project_name(reader: Reader, node: Node) -> Any:
    if is_template(node.text):
        raise node.fault(f"{quote(node.text)} {_NO_TEMPLATE}")
    return _NAME.read(reader, node)


def _group_name(name: str) -> None:
    syntax.parse_name(name)


def _member(value: str) -> str:
    """A name that `image:` knows, or a glob over such names."""
    if not re.fullmatch(r"[a-z0-9._*?\[\]!-]{1,200}", value):
        raise Malformed("is no name of an image, nor a glob over names such as 'web-*'")
    return value


def _groups(reader: Reader, node: Node) -> Any:
    for each in (each for _, value in node.pairs for each in (value, *value.items)):
        if is_template(each.text):
            raise each.fault(f"{quote(each.text)} {_NO_TEMPLATE}")
    return _GROUPS.read(reader, node)


_NAME = text(syntax.parse_name, pattern=syntax.IMAGE_NAME)
_MEMBERS = list_of(text(_member), least=1, expected="a list of images")
_GROUPS = mapping_of(
    Kind(_MEMBERS.read, {"type": "array", "minItems": 1, "items": {"type": "string"}}),
    _group_name,
    "a mapping of names to lists of images",
)


def _own_vars(reader: Reader, node: Node) -> Any:
    """Data, as in a vars file."""
    values, right = read_data(reader.problems, node, check_variable)
    return values if right else BAD


def _platform_texts(reader: Reader, node: Node) -> Any:
    found = _read_platforms(reader, node)
    return BAD if found is BAD else tuple(map(str, found))


def _registry(value: str) -> str:
    host = value.partition("/")[0]
    if not ("." in host or ":" in host or host == "localhost") or "@" in value:
        raise Malformed("is no registry, expected a host such as registry.example/team")
    reference(f"{value}/x")
    return value


def _secret_name(name: str) -> None:
    if not re.fullmatch(syntax.NAME, name):
        raise Malformed("is no name of a secret, expected letters, digits and . _ - in it")


def _secret(reader: Reader, node: Node) -> Any:
    """Who gives it: {"file": PATH} or {"env": VARIABLE}."""
    how = "expected {file: PATH} or {env: VARIABLE}"
    if node.kind != MAPPING:  # not shown: people write the value here
        raise node.fault(f"found {NAMES[node.kind]}, {how}", "a value is never written here")
    for _, value in node.pairs:
        if is_template(value.text):
            raise value.fault(f"{quote(value.text)} {_NO_TEMPLATE}")
    found = read_table(reader, node, _GIVER, "a secret")
    if found is not None and len(found) != 1:
        raise node.fault(f"{len(found)} givers of one secret, {how}")
    return BAD if found is None else found


def _env_name(value: str) -> str:
    check_env(value)
    return value


_GIVER: Table = {
    "file": Field(text(filled, expected="a path"), "A file of the project that holds the value."),
    "env": Field(text(_env_name, expected="a variable"), "A variable of the environment."),
}
_SECRETS = mapping_of(
    Kind(_secret, {**table_schema(_GIVER), "minProperties": 1, "maxProperties": 1}),
    _secret_name,
    "a mapping of names to {file: PATH} or {env: VARIABLE}",
)


PROJECT: Table = {
    "name": Field(
        Kind(_project_name, {"type": "string", "pattern": syntax.IMAGE_NAME}),
        "The project's name: images of all its checkouts go by the same names.",
    ),
    "groups": Field(
        Kind(_groups, _GROUPS.schema), "Names for several images: a list of names and globs each."
    ),
    "vars": Field(
        Kind(_own_vars, {"type": "object", "additionalProperties": True}),
        "Variables of all specs, over their defaults; data, never rendered.",
    ),
    "platforms": Field(
        Kind(_platform_texts, _PLATFORMS.schema),
        "The platforms to build for where a spec says none; else this machine's.",
    ),
    "executor": Field(
        choice("auto", "sandbox", "runc", "docker", "chroot"),
        "What runs command steps; auto by default.",
    ),
    "epoch": Field(
        number(0, LAST_SECOND), "What SOURCE_DATE_EPOCH is where the environment has none."
    ),
    "registry": Field(
        text(_registry, expected="a registry such as registry.example/team"),
        "Put before tags that name no registry.",
    ),
    "secrets": Field(
        _SECRETS, "Who gives the values of secrets, by name: {file: PATH} or {env: VARIABLE}."
    ),
}

SCHEMA_ID = "urn:builder:spec:1"


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
        reader, node = Reader(problems, Renderer({}, {}), {}), parse_yaml(source, problems)
        for key, value in node.pairs:
            if key.text != "vars" and value.kind == TEXT and is_template(value.text):
                raise value.fault(f"{quote(value.text)} {_NO_TEMPLATE}")
        fields = read_table(reader, node, PROJECT, "a project file")
    return fields or {}


def json_schema(verbs: Verbs) -> dict[str, Any]:
    """What an editor needs to complete and check a spec: JSON Schema 2020-12. A text with a
    template in it is accepted wherever a text is."""
    include = table_schema({**INCLUDE, **COMMON})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "An image spec of builder",
        **table_schema(SPEC),
        "patternProperties": {"^x-": True},
        "$defs": {
            **verb_schemas(verbs),
            "include": {"description": "The steps of another file.", **include},
            "step": {"oneOf": [{"$ref": f"#/$defs/{verb}"} for verb in (*verbs, "include")]},
            "stage": table_schema(STAGE),
            "test": test_schema(),
            "project": table_schema(PROJECT),
        },
    }
