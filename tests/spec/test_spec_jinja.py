"""Templates: what they can say, where their errors are, and that none of them gets out of hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import BuilderError, SpecError, SpecErrors
from builder.spec.model import ImageSpec
from builder.spec.render import Renderer, TemplateFault, render_template
from builder.steps.run import Run

VARS = {"title": "Hello", "d": {"b": 1, "a": 2}, "l": [3, 1, 2], "spec": {"name": "n"}}


def render(text: str) -> str:
    return Renderer(VARS, {"HOME": "/h"}).render(text)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ title }}\n", "Hello\n"),
        (
            "{{ spec.name }} {{ title | upper }} {{ title[1:3] }} {{ title.lower() }}",
            "n HELLO el hello",
        ),
        (
            "{% for x in l | sort %}{{ loop.index }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}",
            "1:1,2:2,3:3",
        ),
        ("{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}", "a=2;b=1;"),
        ("{% for k, v in d.items() %}{{ k }}{% endfor %}", "ba"),
        ("{% if l | length > 2 and 'H' in title %}yes{% else %}no{% endif %}", "yes"),
        ("{{ nope | default('d') }} {{ nope is defined }}", "d false"),
        ("{{ env('HOME') }} {{ env('X', 'y') }}", "/h y"),
        ("{{ d | tojson }} {{ 'ü' | tojson }}", '{"a": 2, "b": 1} "ü"'),
        ('{{ "it\'s" | quote }}', "'it'\"'\"'s'"),
        ("{{ '<a&b>' | e }} {{ '<' | escape ~ '<' }}", "&lt;a&amp;b&gt; &lt;<"),
        ("{{ '%s-%03d' | format('a', 7) }} {{ '%s' % title }}", "a-007 Hello"),
        (
            "{{ l | map('string') | join('+') }} {{ l | sum }} {{ [{'n': 2}] | sum('n') }}",
            "3+1+2 6 2",
        ),
        (
            "{% set n = namespace(t=0) %}{% for i in range(4) %}{% set n.t = n.t + i %}{% endfor %}"
            "{{ n.t }}",
            "6",
        ),
        (
            "{% macro m(a, b=2) %}[{{ a }}{{ b }}{{ caller() }}]{% endmacro %}"
            "{% call m(1) %}c{% endcall %}",
            "[12c]",
        ),
        ("{% set x %}a{{ title }}{% endset %}{{ x ~ 1 }}", "aHello1"),
        ("{% filter upper %}a{% endfilter %}{% with a = 1 %}{{ a }}{% endwith %}{# gone #}", "A1"),
        (
            "{{ [1, 2, 3, 4] | batch(2) | list }} {{ {'a': (1, 2)} }}",
            "[[1, 2], [3, 4]] {'a': (1, 2)}",
        ),
        ("{{ 2 ** 10 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ -3 }} {{ 1 < 2 < 3 }}", "1024 3 3 -3 true"),
        ("{{ [{'g': 1, 'v': 2}] | groupby('g') | map('last') | list }}", "[[{'g': 1, 'v': 2}]]"),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
    ],
)
def test_jinja_as_people_know_it(template: str, text: str) -> None:
    assert render(template) == text


OUT_OF_BOUNDS = [
    "{{ 'a' * 10**10 }}",
    "{{ [0] * 10**9 }}",
    "{{ 10 ** (10 ** 8) }}",
    "{{ 2 ** 4000 * 2 ** 4000 }}",
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
    "{{ range(10 ** 9) }}",
    "{{ range(100000) | map('center', 1000) | join('x' * 1000) | length }}",
    "{% set x = 'aaaaaaaaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 40,
    "{% set x = [1, 2] %}" + "{% set x = [x, x] %}" * 40 + "{{ x }}",
    "{% set x = (1, 2) %}" + "{% set x = (x, x) %}" * 40 + "{{ {x: 1} }}",
    "{% set a = [1] %}" + "{% set a = a + a %}" * 40,
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%.99999999f' % 1 }}",
    "{{ '%(a)99999999d' % {'a': 1} }}",
    "{{ ('%(a)9999d' * 10000) % {'a': 1} }}",
    "{{ '%s' * 10000 % ('x' * 10000,) }}",
    "{{ 'a' | center(10 ** 9) }}",
    "{{ 'a'.ljust(10 ** 9) }}",
    "{{ 'a'.zfill(10 ** 9) }}",
    "{{ [1] | batch(10 ** 9, 'x') | list }}",
    "{{ [1] | slice(10 ** 9) | list }}",
    "{{ ('a\n' * 100000) | indent(10000) }}",
    "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
    "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "{{ ('abc' * 300000).join('abc' * 300000) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for i in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "{% set x %}{% for i in range(100000) %}" + "y" * 10000 + "{% endfor %}{% endset %}",
    "{% set l = range(100000) | list %}{% for i in l %}{{ i in l }}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ 1" + "+1" * 20000 + " }}",
    "{% if 1 %}" * 200 + "{% endif %}" * 200,
    "{{ 9" + "9" * 5000 + " }}",
    "{{ 0x" + "f" * 50000 + " // 3 }}",
    "{{ [[1]] * 1000 | sum(start=[]) }}",
    "{{ {} | tojson(indent=1000000000) }}",
    "{{ title }}" * 20_000 + "{{ nope",
    "{{ title" + ".a" * 100_000 + " }}",
    "{{ ('ab,' * 1000000).split(',') }}",
    "{{ ('ab' * 1000000) | list | length }}",
    "{{ '%' ~ '0' * 1000000 % 1 }}",
    "{{ ('%' ~ '0' * 1000000) % 1 }}",
    "{{ ('.0' * 1000000) % 1 }}",
    "{{ (')' * 1000000) | format(1) }}",
    "{{ lipsum(n=10 ** 6) }}",
    "{{ (5).to_bytes(10 ** 9, 'big') }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ 'a'.translate({97: 'b' * 100000}) }}",
]


@pytest.mark.parametrize("template", OUT_OF_BOUNDS, ids=lambda text: text[:60])
def test_a_template_that_wants_too_much_is_an_error_and_no_hang(template: str) -> None:
    start = time.process_time()
    with pytest.raises(TemplateFault):
        render(template)
    assert time.process_time() - start < 6


FORBIDDEN = [
    ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
    ("{{ cycler.__init__.__globals__ }}", "'__init__' of 'type' object is unsafe"),
    ("{{ dict.update({}, {}) }}", "cannot be called here"),
    ("{{ dict.fromkeys('ab') }}", "method 'fromkeys' of type cannot be called here"),
    ("{{ l.append(1) }}", "'append' of 'list' object is unsafe"),
    ("{{ d.update({'x': 1}) }}", "'update' of 'dict' object is unsafe"),
    ("{{ '{0.__class__}'.format(1) }}", "method 'format' of text cannot be called here"),
    ("{% include '/etc/passwd' %}", "'include' is not available here"),
    ("{% import 'x' as x %}", "'import' is not available here"),
    ("{% from 'x' import y %}", "'from' is not available here"),
    ("{% extends 'x' %}", "'extends' is not available here"),
    ("{% block x %}{% endblock %}", "'block' is not available here"),
    ("{% autoescape true %}{% endautoescape %}", "'autoescape' is not available here"),
    ("{{ [1, 2] | random }}", "No filter named 'random'"),
    ("{{ cycler }}", "type is not text"),
    ("{{ [range] }}", "function is not text"),
    ("{{ range(3) | map('string') | upper }}", "generator is not text"),
    ("{{ d.keys() - ['a'] }}", "'-' is for numbers"),
]


@pytest.mark.parametrize(("template", "message"), FORBIDDEN)
def test_nothing_outside_and_nothing_of_chance_can_be_reached(template: str, message: str) -> None:
    with pytest.raises(TemplateFault) as caught:
        render(template)
    assert message in caught.value.message
    assert VARS["l"] == [3, 1, 2]


PLACES = [
    (
        "- run: echo {{ titel }}\n",
        "3:16: template error: 'titel' is undefined, expected one of the",
    ),
    ("- run: |\n    a\n    b {{ x }}\n", "5:10: template error: 'x' is undefined"),
    ("- run: |\n\n    a\n    {% if title %}\n    {{ nope }}\n    {% endif %}\n", "7:8: template"),
    ("- run: |2\n      a {{ x }}\n", "4:12: template error: 'x' is undefined"),
    ("- run: >\n    a\n    b {{ x }}\n", "5:10: template error: 'x' is undefined"),
    ("- run: 'a\n    b {{ x }}'\n", "4:10: template error: 'x' is undefined"),
    ("- {run: '{{ title }}', name: '{{ x }}'}\n", "3:34: template error: 'x' is undefined"),
    ("- run: |\n    a\n    {% for %}\n", "5:5: template error: Expected an expression"),
    ("- run: '{{ title'\n", "3:9: template error: unexpected end of template"),
    ("- run: '{{ 1 / 0 }}'\n", "3:9: template error: division by zero"),
    ("- run: \"{{ env('NOPE') }}\"\n", "3:17: template error: environment variable 'NOPE' is not"),
    ("- run: '{{ spec.nmae }}'\n", "3:17: template error: 'dict object' has no attribute 'nmae'"),
]


@pytest.mark.parametrize(("step", "message"), PLACES, ids=[each[0] for each in PLACES])
def test_an_error_is_placed_within_the_template(
    step: str, message: str, wrong: Callable[..., list[str]]
) -> None:
    (found,) = wrong(f"from: scratch\nsteps:\n{step}vars: {{title: x}}\n")
    assert found.startswith(f"s.yaml:{message}")


def test_did_you_mean_a_variable(wrong: Callable[..., list[str]]) -> None:
    (found,) = wrong("from: scratch\nvars: {title: x}\nsteps: [{run: '{{ titel }}'}]\n")
    assert found.endswith("did you mean 'title'?")


def test_what_is_rendered_stays_text(read: Callable[..., ImageSpec]) -> None:
    value = "'[a, b]: {% raw %}{{ x }}{% endraw %}'"
    spec = read(f"from: scratch\nvars: {{v: {value}}}\nsteps: [{{run: '{{{{ v }}}}'}}]\n")
    step = spec.steps[0]
    assert isinstance(step, Run)
    assert step.command == "[a, b]: {{ x }}"


def test_env_is_looked_up_only_when_asked_for_and_noted(read: Callable[..., ImageSpec]) -> None:
    environ = {"A": "1", "SECRET": "x"}
    spec = read("from: scratch\nname: \"n{{ env('A') }}{{ env('B', '') }}\"\n", environ)
    assert spec.name == "n1"
    assert spec.environment == {"A": "1", "B": None}


def test_all_scalars_of_a_spec_share_one_budget(wrong: Callable[..., list[str]]) -> None:
    greedy = "{% for i in range(9000) %}{% for i in range(20) %}x{% endfor %}{% endfor %}"
    steps = "".join(f"- run: '{greedy}'\n" for _ in range(40))
    start = time.process_time()
    found = wrong(f"from: scratch\nsteps:\n{steps}")
    assert "the template does too much" in found[-1]
    assert time.process_time() - start < 8


# Template files.


def template(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "t.j2"
    path.write_bytes(data)
    return str(path)


def test_a_template_file_keeps_its_newlines(tmp_path: Path) -> None:
    path = template(tmp_path, b"a {{ v }}\n{{ spec.name }}\n\n")
    assert render_template(path, {"v": 1, "spec": {"name": "site"}}, {}) == b"a 1\nsite\n\n"
    path = template(tmp_path, b"a {{ v }}\r\nb\r\n")
    assert render_template(path, {"v": 1}, {}) == b"a 1\r\nb\r\n"
    assert render_template(template(tmp_path, b"plain \r\n"), {}, {}) == b"plain \r\n"


def test_a_template_file_notes_what_it_asks_the_environment(tmp_path: Path) -> None:
    asked: dict[str, str | None] = {}
    path = template(tmp_path, b"{{ env('A') }}{{ env('B', 'b') }}")
    assert render_template(path, {}, {"A": "a"}, asked) == b"ab"
    assert asked == {"A": "a", "B": None}


def test_an_error_in_a_template_file_has_its_place_and_line(tmp_path: Path) -> None:
    path = template(tmp_path, b"one\r\n  <p>{{ titel }}</p>\r\n")
    with pytest.raises(SpecError) as caught:
        render_template(path, {"title": 1}, {}, name="t.j2")
    assert caught.value.message == (
        "t.j2:2:9: template error: 'titel' is undefined, expected one of the variables, "
        "did you mean 'title'?"
    )
    assert caught.value.snippet == "  <p>{{ titel }}</p>\n        ^"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"ab\n\xc3\xa9 \xff", "t.j2:2:3: byte 0xff is not UTF-8 text"),
        (b"{{ 'a' * 10**10 }}", "t.j2:1:1: template error: the template makes a value that is"),
    ],
)
def test_a_bad_template_file_is_an_error(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        render_template(template(tmp_path, data), {}, {}, name="t.j2")
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "template 't.j2' cannot be read: No such file or directory"),
        (b"x" * (4 << 20) + b"y", "template 't.j2' is larger than 4194304 bytes"),
        (
            b"{% for i in range(100) %}" + b"x" * (1 << 20) + b"{% endfor %}",
            "template 't.j2' becomes a text of more than 67108864 characters",
        ),
    ],
)
def test_what_is_wrong_with_a_whole_template_file_is_said_where_it_is_named(
    data: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.j2" if data is None else template(tmp_path, data)
    with pytest.raises(BuilderError) as caught:
        render_template(str(path), {}, {}, name="t.j2")
    assert caught.value.message == message
    assert not isinstance(caught.value, SpecError)  # which would have its place already


def test_errors_are_specerrors_for_the_whole_spec(read: Callable[..., ImageSpec]) -> None:
    with pytest.raises(SpecErrors):
        read("from: scratch\nsteps: [{run: '{{ x }}'}, {run: '{{ y }}'}]\n")


WAYS = {
    "{{ V }}": "%s",
    "{{ [V, V] | join(' ') }}": "%s %s",
    "{{ 'is ' ~ V }}": "is %s",
    "{{ V | string }}": "%s",
    "{{ V | quote }}": "%s",
    "{{ V | tojson }}": "%s",
    "{{ V | e }}": "%s",
    "{{ V | trim }}{{ V | lower }}": "%s%s",
    "{{ V | replace('x', 'y') }}": "%s",
    "{{ '%s' | format(V) }}": "%s",
    "{{ '%s %s' % (V, V) }}": "%s %s",
    "{{ '%s' % V }}": "%s",
    "{{ V | default('x') }}": "%s",
    "{% if V == true or V == false %}{{ V }}{% endif %}": "%s",
    "{% set x %}{{ V }}{% endset %}{{ x }}": "%s",
    "{% filter trim %}{{ V }}{% endfilter %}": "%s",
    "{{ [V] | map('string') | first }}": "%s",
}


@pytest.mark.parametrize("template", WAYS)
@pytest.mark.parametrize("written", ["true", "false", "(1 == 1)", "(title == 'x')", "yes", "no"])
def test_a_truth_value_is_written_as_yaml_has_it(template: str, written: str) -> None:
    text = {"(1 == 1)": "true", "(title == 'x')": "false", "yes": "true", "no": "false"}
    shown = text.get(written, written)
    variables = {"title": "Hello", "yes": True, "no": False}
    expected = WAYS[template].replace("%s", shown)
    assert Renderer(variables, {}).render(template.replace("V", written)) == expected
