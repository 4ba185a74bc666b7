"""What is undefined is an error wherever it hides: each hiding place shown in each way."""

from __future__ import annotations

import pytest

from builder.spec.render import Renderer, TemplateFault

VARIABLES = {"xs": [{"a": 1}, {"a": 2}], "one": 1}

HIDDEN = [
    "[nothere]",
    "[1, nothere]",
    "[[nothere]]",
    "(nothere, 1)",
    "{'a': nothere}",
    "{'a': {'b': [nothere]}}",
    "dict(a=nothere)",
    "{'a': nothere}.items() | list",
    "{'a': nothere}.values() | list",
    "{'a': nothere} | items | list",
    "{'a': nothere} | dictsort",
    "[xs[7]]",
    "[xs[0].typo]",
    "[xs[0]['typo']]",
    "[[] | first]",
    "[[] | max]",
    "[1 if one == 2]",
    "xs | map(attribute='typo') | list",
    "xs | map(attribute='a.typo') | list",
    "xs | batch(3, nothere) | list",
    "xs | slice(3, nothere) | list",
    "[nothere] | reverse | list",
    "[nothere] * 2",
    "[nothere] + [1]",
    "[[nothere]] | map('first') | list",
    "none | default([nothere], true)",
    "nothere | default([nothere])",
    "cycler([nothere]).current",
    "namespace(a=[nothere]).a",
]
SHOWN = [
    "{{ @ }}",
    "{{ @ ~ 'x' }}",
    "{{ 'x %s' % ((@),) }}",
    "{{ 'x %s' | format(@) }}",
    "{{ @ | string }}",
    "{{ @ | tojson }}",
    "{{ @ | quote }}",
    "{{ @ | e }}",
    "{{ @ | upper }}",
    "{{ @ | trim }}",
    "{{ @ | truncate(3) }}",
    "{{ @ | urlencode }}",
    "{{ [@] | join(',') }}",
    "{{ [{'k': (@)}] | join(',', attribute='k') }}",
    "{{ [1, 2] | join(@) }}",
    "{{ 'abc' | replace('b', @) }}",
    "{{ [@] | map('string') | list }}",
    "{% set kept = @ %}{{ kept }}",
    "{% for each in [@] %}{{ each }}{% endfor %}",
    "{% macro shown(given) %}{{ given }}{% endmacro %}{{ shown(@) }}",
    "{% filter upper %}{{ @ }}{% endfilter %}",
]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_is_undefined_is_an_error_wherever_it_hides(hidden: str) -> None:
    for shown in SHOWN:
        template = shown.replace("@", f"({hidden})")
        with pytest.raises(TemplateFault) as caught:
            print(template, "->", Renderer(VARIABLES, {}).render(template))
        said = caught.value.message
        assert "Undefined" not in said and "<template>" not in said, (template, said)
        assert any(
            word in said
            for word in ("is undefined", "has no attribute", "has no element", "empty", "evaluated")
        ), (template, said)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ nothere | default('d') }}", "d"),
        ("{{ [nothere | default('d')] }}", "['d']"),
        ("{{ [nothere, 1] | select('defined') | list }}", "[1]"),
        ("{{ [nothere, 1] | reject('undefined') | join(',') }}", "1"),
        ("{{ [nothere, 1] | map('default', 'd') | join(',') }}", "d,1"),
        ("{{ xs | map(attribute='typo', default='d') | join(',') }}", "d,d"),
        ("{{ xs | selectattr('typo', 'defined') | list }}", "[]"),
        ("{{ xs | selectattr('a', 'defined') | map(attribute='a') | join('+') }}", "1+2"),
        ("{{ xs | join('+', attribute='a') }}", "1+2"),
        ("{{ [{'a': 1, 'b': nothere}] | join(attribute='a') }}", "1"),
        ("{{ [{'a': 1, 'b': nothere}] | map(attribute='a') | list }}", "[1]"),
        ("{{ {'a': {'b': 5}}.values() | join(',', attribute='b') }}", "5"),
        ("{{ [[1, 2], [3, 4]] | join(',', attribute=1) }}", "2,4"),
        ("{{ 'abc' | join('-') }}", "a-b-c"),
        ("{{ [1, none, true] | join }}", "1Nonetrue"),
        ("{{ xs[7] is defined }}", "false"),
        ("{{ [] | first | default('d') }}", "d"),
        ("{% for x in [nothere] %}{{ x is defined }}{% endfor %}", "false"),
        ("{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}", "false"),
        ("{% if nothere is defined and nothere %}x{% endif %}", ""),
        ("{{ 'x' if one == 2 }}", ""),
        ("{{ ['x' if one == 2] | join }}", ""),
    ],
)
def test_what_asks_for_it_may(template: str, text: str) -> None:
    assert Renderer(VARIABLES, {}).render(template) == text
