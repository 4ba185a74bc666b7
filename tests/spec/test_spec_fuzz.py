"""Whatever the bytes: a spec, or errors with places; nothing else, and soon."""

from __future__ import annotations

import re
import string
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import SpecErrors
from builder.oci.image import Platform
from builder.spec.compiled import decode_specs, encode_specs
from builder.spec.config import CONFIG
from builder.spec.language import SPEC
from builder.spec.reading import Given, Reading
from builder.spec.render import Renderer, TemplateFault
from builder.spec.source import decode
from builder.steps import VERBS

BOUND = settings(
    max_examples=150, deadline=5000, suppress_health_check=list(HealthCheck), derandomize=True
)
PLACE = re.compile(r"[^\n]*\.yaml:[0-9]+:[0-9]+: [^\n]+")


def load(data: bytes) -> None:
    try:
        (spec,) = Reading(decode("s.yaml", data), Given(VERBS, {}, {}, {}, Platform())).specs()
    except SpecErrors as error:
        assert error.errors
        assert all(PLACE.fullmatch(each.message) for each in error.errors)
    else:
        assert decode_specs(encode_specs((spec,), {}), {}, VERBS, {}.get) == (spec,)


WORDS = sorted(
    {*SPEC, *CONFIG, *VERBS, *(field for verb in VERBS.values() for field in verb.fields())}
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.text(string.printable, max_size=20),
    st.sampled_from(
        [
            "/a",
            "a/",
            "..",
            "scratch",
            "0644",
            "u=rwX",
            "a:b",
            "{{ title }}",
            "{{ x",
            "{% if",
            "80/tcp",
        ]
    ),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(TEXTS, st.integers(), st.floats(), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), TEXTS), inner, max_size=4),
    ),
    max_leaves=20,
)
STEPS = st.lists(
    st.sampled_from(sorted(VERBS)).flatmap(
        lambda verb: st.fixed_dictionaries(
            {verb: VALUES}, optional={name: VALUES for name in VERBS[verb].fields() if name != verb}
        )
    ),
    max_size=4,
)
SPECS = st.fixed_dictionaries(
    {"from": st.one_of(st.just("scratch"), VALUES)},
    optional={
        "steps": STEPS,
        "config": st.fixed_dictionaries({}, optional=dict.fromkeys(CONFIG, VALUES)),
        "vars": VALUES,
        "name": VALUES,
        "tags": VALUES,
        "platforms": VALUES,
    },
)


@BOUND
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    load(data)


@BOUND
@given(st.text("{}[]:-,&*!|>'\"%@`#? \n\tab<~01.=", max_size=80))
def test_any_text_of_yaml_signs(text: str) -> None:
    load(text.encode())


@BOUND
@given(SPECS)
def test_anything_shaped_like_a_spec(document: Any) -> None:
    load(yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "replace"))


PIECES = st.sampled_from(
    [
        *(
            "{{ ",
            " }}",
            "{% ",
            " %}",
            "{# ",
            " #}",
            "title",
            "d",
            "l",
            "range(9)",
            "1",
            "'a'",
            "[",
            "]",
        ),
        *(
            "(",
            ")",
            "{",
            "}",
            " ~ ",
            " * ",
            " ** ",
            " % ",
            " + ",
            " - ",
            " // ",
            " | ",
            ".",
            ", ",
            ":",
        ),
        *(
            " in ",
            " is ",
            " not ",
            " and ",
            "if ",
            "else",
            "endif",
            "for x in ",
            "endfor",
            "set x = ",
        ),
        *("macro f()", "endmacro", "f()", "x", "join", "list", "map", "sort", "format", "replace"),
        *(
            "default",
            "length",
            "batch",
            "indent",
            "center",
            "namespace()",
            "env('A')",
            "loop",
            "99999",
        ),
        *(
            "items()",
            "upper()",
            "__class__",
            "groupby",
            "tojson",
            "sum",
            "raw",
            "endraw",
            "\n",
            "-",
        ),
    ]
)


@BOUND
@given(st.lists(PIECES, max_size=14).map("".join), st.booleans())
def test_any_pieces_of_a_template(text: str, wrapped: bool) -> None:
    renderer = Renderer({"title": "Hello", "d": {"a": 1}, "l": [1, 2]}, {})
    try:
        renderer.render("{{ " + text + " }}" if wrapped else text)
    except TemplateFault as fault:
        assert fault.line >= 1
        assert "\n" not in fault.message
