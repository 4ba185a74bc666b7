"""Variables: computed, required, typed, of one image; what comes from outside is never rendered."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.errors import SpecErrors, UsageError
from builder.oci.image import parse_platform
from builder.spec.gather import Loaded, load_project
from builder.spec.model import ImageSpec
from builder.steps import VERBS

Read = Callable[..., ImageSpec]
Wrong = Callable[..., list[str]]
FULL = os.environ.get("RELIABILITY") == "full"


def load(*images: str, environ: dict[str, str] | None = None, **more: Any) -> Loaded:
    return load_project(images, "specs", verbs=VERBS, environ=environ or {}, **more)


COMPUTED: dict[str, dict[str, Any]] = {
    '{go: "1.24", base: "golang:{{ go }}"}': {"go": "1.24", "base": "golang:1.24"},
    '{a: x, b: "{{ a }}y", c: "{{ b }}z"}': {"a": "x", "b": "xy", "c": "xyz"},
    '{n: "{{ 2 + 3 }}", m: "{{ n * 2 }}"}': {"n": 5, "m": 10},
    "{d: \"{{ 'x' == 'y' }}\"}": {"d": False},
    '{l: "{{ [1, true, \'x\'] }}", k: "{{ l | length }}"}': {"l": [1, True, "x"], "k": 3},
    "{m: \"{{ {'a': [1]} }}\"}": {"m": {"a": [1]}},
    '{t: " {{ 1 }} x"}': {"t": " 1 x"},
    '{l: [a, "{% if false %}b{% endif %}", "", "{{ 1 }}"]}': {"l": ["a", "", 1]},
    '{a: x, m: {deep: ["{{ a }}", {k: "{{ a }}{{ a }}"}]}}': {
        "a": "x",
        "m": {"deep": ["x", {"k": "xx"}]},
    },
    '{a: "{% raw %}{{ x }}{% endraw %}", b: "<{{ a }}>"}': {"a": "{{ x }}", "b": "<{{ x }}>"},
    '{r: "{{ range(3) }}", t: "{{ (1, 2) }}"}': {"r": [0, 1, 2], "t": [1, 2]},
    '{result: 1, x: "{{ result }}"}': {"result": 1, "x": 1},
    '{p: "{{ target.platform }}", v: "{{ target.variant }}"}': {"p": "linux/arm/v7", "v": "v7"},
    '{target: x, p: "{{ target }}"}': {"target": "x", "p": "x"},
}


@pytest.mark.parametrize("text", COMPUTED)
def test_a_default_is_computed(text: str, read: Read) -> None:
    found = read(f"from: scratch\nvars: {text}\n", platform=parse_platform("linux/arm/v7"))
    assert found.variables == COMPUTED[text]
    assert {k: type(v) for k, v in found.variables.items()} == {
        k: type(v) for k, v in COMPUTED[text].items()
    }


WRONG: dict[str, str] = {
    '{a: "{{ a }}"}': "2:8: variables in a circle: a -> a",
    '{a: "{{ b }}", b: "{{ c }}", c: "{{ a }}"}': "2:8: variables in a circle: a -> b -> c -> a",
    '{a: "{{ b }}", b: x}': "2:8: variable 'a' uses 'b', which stands after it",
    '{title: x, a: "{{ titel }}"}': "template error: 'titel' is undefined, expected one of the"
    " variables, did you mean 'title'?",
    '{a: "{{ 1 +"}': "template error: ",
    "{a: \"{{ env('NOT') }}\"}": "template error: environment variable 'NOT' is not set",
    '{a: "{{ range }}"}': "template error: ",
    '{a: "{{ base.user }}"}': "template error: 'base' is undefined",
    "{a: null}": "2:8: variable 'a' must be given",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_computed_is_told_with_its_place(text: str, wrong: Wrong) -> None:
    used = "steps: [{file: /a, content: '{{ a }}{{ a | upper }}'}]\n"
    (found,) = wrong(f"from: scratch\nvars: {text}\n{used}")  # and its uses are not errors as well
    assert found.startswith("s.yaml:2:") and WRONG[text] in found


def test_all_missing_variables_of_all_images_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("specs").mkdir()
    Path("specs/a.yaml").write_text("from: scratch\nvars: {v: null, w: '{{ v }}', x: null}\n")
    Path("specs/b.yaml").write_text("from: image:a\nvars: {v: null}\ntags: 'x:{{ v }}'\n")
    with pytest.raises(SpecErrors) as caught:
        load("b")
    assert [each.message for each in caught.value.errors] == [
        "specs/b.yaml:2:8: variable 'v' must be given",
        "specs/a.yaml:2:8: variable 'v' must be given",
        "specs/a.yaml:2:31: variable 'x' must be given",
    ]
    assert all(str(each.hint).startswith("--set ") for each in caught.value.errors)
    Path("v.yaml").write_text("x: 1\n")
    specs = load("b", sets={"v": "2"}, vars_files=["v.yaml"]).specs
    assert specs["a"].variables == {"v": "2", "w": "2", "x": 1}
    assert specs["b"].tags == ("x:2",)


def test_a_text_of_set_may_be_for_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("specs").mkdir()
    Path("specs/app.v2.yaml").write_text("from: image:web\nvars: {v: 1, w: '{{ v + 1 }}'}\n")
    Path("specs/web.yaml").write_text("from: scratch\nvars: {v: 1}\n")
    specs = load(sets={"app.v2.v": "5", "v": "3"}).specs
    assert [specs[name].variables for name in ("app.v2", "web")] == [{"v": 5, "w": 6}, {"v": 3}]
    for text, message in {
        "wbe.v": "--set 'wbe.v': no such image 'wbe', did you mean 'web'?",
        "web.w": "--set 'web.w': no such variable",
        "app.v2.x": "--set 'app.v2.x': no such variable",
    }.items():
        with pytest.raises(UsageError) as caught:
            load(sets={text: "1"})
        assert caught.value.message == message
    Path("specs/web.yaml").write_text("from: scratch\nvars: {v: null}\n")
    with pytest.raises(UsageError, match="no such image 'wbe', did you mean 'web'"):
        load("web", sets={"wbe.v": "1"})


LISTS: dict[str, tuple[str, ...] | str] = {
    "tags: \"{{ names | map('upper') | map('lower') | list }}\"": ("a", "b"),
    "tags: \"{{ names | map('lower') }}\"": ("a", "b"),
    'tags: ["{{ names[0] }}", "{{ nothing }}", "{% if false %}x{% endif %}"]': ("a",),
    'tags: "{{ nothing }}"': (),
    'tags: "{{ names + [nothing] }}"': ("a", "b"),
    'tags: "{{ [1, 1.5, true] }}"': ("1", "1.5", "true"),
    'tags: "{{ data }}"': "2:7: 'x:{{ 1 }}' is not an image reference",
    'tags: "{{ [names] }}"': "2:7: the template gives a list that holds a list, expected texts",
    'tags: "{{ [{}] }}"': "2:7: the template gives a list that holds a mapping, expected texts",
}


@pytest.mark.parametrize("text", LISTS)
def test_a_template_may_give_a_whole_list(text: str, read: Read, wrong: Wrong) -> None:
    variables = "vars: {names: [a, b], nothing: '', data: ['x:{% raw %}{{ 1 }}{% endraw %}']}"
    spec = f"from: scratch\n{text}\n{variables}\n"
    expected = LISTS[text]
    if isinstance(expected, str):
        assert wrong(spec)[0].startswith(f"s.yaml:{expected}")
    else:
        assert read(spec).tags == expected


def test_an_empty_word_that_is_written_stays(read: Read) -> None:
    config = "{cmd: [a, '', '{{ empty }}', b], entrypoint: \"{{ ['x', ''] }}\", volumes: '{{ v }}'}"
    spec = read(f"from: scratch\nvars: {{empty: '', v: [/a, /b]}}\nconfig: {config}\n")
    assert spec.config.cmd == ("a", "", "b")
    assert spec.config.entrypoint == ("x",)
    assert spec.config.volumes == ("/a", "/b")


def test_what_env_gave_is_not_shown_wherever_a_variable_takes_it(read: Read) -> None:
    text = (
        "from: scratch\n"
        "vars: {s: \"{{ env('S') }}\", t: '{{ s }}!', l: '{{ [s] }}', n: '{{ s | length }}'}\n"
        "steps: [{file: /a, content: '{{ t }}{{ l[0] }}{{ n }}'}]\n"
        "config: {env: {A: '{{ s }}'}, cmd: '{{ l }}'}\n"
    )
    spec = read(text, {"S": "sesame"})
    assert "sesame" not in repr(spec.variables)
    assert spec.steps[0].values()[1] == "sesame!sesame6"
    shown = (spec.steps[0].values()[1], spec.config.env["A"], (spec.config.cmd or ("",))[0])
    assert all("sesame" not in each.shown for each in shown)
    with pytest.raises(SpecErrors) as caught:
        read(text + "tags: '{{ t }}'\nplatforms: ['{{ s }}']\n", {"S": "sesame"})
    assert "sesame" not in repr([(e.message, e.hint, e.snippet) for e in caught.value.errors])


def _hostile(rng: random.Random) -> str:
    """Text that would do something, were it rendered: it would become MARK, or an error."""
    parts = [
        *("{{ 'MA' ~ 'RK' }}", "{% set x = 1 %}", "{# gone #}", "{{ env('HOME') }}", "{{ nope }}"),
        *("{{", "}}", "{%", "%}", "{{ v }}", "{{ spec.name }}", "{% raw %}", "{% endraw %}", "a"),
        *(
            "{{ 7 * 7 }}",
            "\\",
            "'",
            '"',
            "{{ base.env.PATH }}",
            "{{ target.arch }}",
            " ",
            "é",
            "$X",
        ),
        "{%- for i in range(3) -%}{{ i }}{%- endfor -%}",
    ]
    return "".join(rng.choices(parts, k=rng.randint(1, 4)))


def test_no_text_from_outside_is_ever_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("specs").mkdir()
    (Path("specs") / "a.yaml").write_text(
        "from: scratch\n"
        "vars:\n"
        "  v: ''\n"
        "  l: []\n"
        "  m: {}\n"
        "  copied: '{{ v }}'\n"
        "  again: '<{{ copied }}>{{ l | join }}'\n"
        "  e: \"{{ env('E', '') }}\"\n"
        "steps:\n"
        "- {file: /a, content: '{{ v }}|{{ again }}|{{ e }}|{{ m.k }}'}\n"
        "- {run: '{{ l + [v, e] }}'}\n"
        "- foreach: each in [v, e] + l\n"
        "  file: /b\n"
        "  content: '{{ each }}'\n"
        "- {include: inc.txt, vars: {w: '{{ v }}'}}\n"
        "- {when: v is defined and v != 'x', file: /c, content: '{{ v }}'}\n"
        "config:\n"
        "  labels: {a: '{{ v }}'}\n"
        "  env: {A: '{{ e }}'}\n"
        "  cmd: '{{ [v, e] + l }}'\n"
    )
    Path("specs/inc.txt").write_text("- {file: /w, content: '{{ w }}'}\n")
    rng = random.Random(11)
    for number in range(500 if FULL else 60):
        a, b, c, d = (_hostile(rng) for _ in range(4))
        Path("v.yaml").write_text(yaml.safe_dump({"m": {"k": d}, "l": [b, c]}))
        spec = load(
            sets={"v": a} if number % 2 else {"a.v": a}, environ={"E": c}, vars_files=["v.yaml"]
        ).specs["a"]
        steps = [step.values() for step in spec.steps]
        assert steps[0][1] == f"{a}|<{a}>{b}{c}|{c}|{d}"
        assert [values[1] for values in steps[2:6]] == [a, c, b, c]
        assert [values[1] for values in steps[6:8]] == [a, a]
        assert spec.config.labels["a"] == a and spec.config.env["A"] == c
        assert spec.config.cmd == tuple(each for each in (a, c, b, c) if each.strip())
