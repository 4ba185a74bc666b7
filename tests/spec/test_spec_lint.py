"""Lint, render and the schema."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jsonschema
import pytest
import yaml

from builder.api import load_spec
from builder.errors import SpecErrors
from builder.plan.context import Context
from builder.plan.sources import advice
from builder.plan.sources import lint as look
from builder.spec.base import _DEBOOTSTRAP
from builder.spec.conditions import COMMON
from builder.spec.config import CONFIG
from builder.spec.expand import INCLUDE
from builder.spec.language import PROJECT, SPEC, json_schema
from builder.spec.lint import Findings, lint, render
from builder.spec.load import inputs, load_file
from builder.steps import VERBS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    return tmp_path


def found(images: tuple[str, ...], specs: str, root: str) -> Findings:
    context = Context(root, None)
    return lint(
        images,
        specs,
        partial(look, context=context, environ={}),
        partial(advice, context=context),
        verbs=VERBS,
        environ={},
    )


def errors(*images: str) -> list[str]:
    return [error.message for error in found(images, "specs", ".").errors]


def test_the_projects_own_specs_are_clean() -> None:
    assert found((), str(ROOT / "specs"), str(ROOT))[:3] == ((), (), ())


def test_lint_finds_what_the_context_lacks(folder: Path) -> None:
    (folder / "specs/a.yaml").write_text(
        "from: rootfs:r.tar\n"
        "steps:\n"
        "- {copy: [here, gone], dest: /x/}\n"
        "- {copy: '*.png', dest: /x/}\n"
        "- {unpack: folder, dest: /x}\n"
        "- {template: t.j2, dest: /x}\n"
        "- {template: gone.j2, dest: /x}\n"
        "- {copy: out/passwd, dest: /x}\n"
    )
    (folder / "here").write_text("x")
    (folder / "folder").mkdir()
    (folder / "t.j2").write_text("a\n{{ nope }}\n")
    os.symlink("/etc", folder / "out")
    assert errors() == [
        "specs/a.yaml:1:7: there is no 'r.tar', expected a path from the context folder",
        "specs/a.yaml:3:10: 'gone' does not exist in the context",
        "specs/a.yaml:4:10: '*.png' matches nothing in the context",
        "specs/a.yaml:5:12: 'folder' is not a file, expected a file: the archive",
        "t.j2:2:4: template error: 'nope' is undefined, expected one of the variables",
        "specs/a.yaml:7:14: 'gone.j2' does not exist in the context",
        "specs/a.yaml:8:10: 'out/passwd' leads out of the context through a symlink",
    ]


def test_lint_tells_templates_that_are_never_rendered(folder: Path) -> None:
    (folder / "specs/a.yaml").write_text("from: scratch\nvars: {host: a}\n")
    (folder / "v.yaml").write_text(
        "url: 'http://{{ host }}/'\ndocker: '{{.Names}} {{ other }}'\n"
        "deep: [1, ['{{-env(1)}}']]\nown: '{{ url }}'\n"
    )
    found = lint([], "specs", lambda spec: (), verbs=VERBS, environ={}, vars_files=["v.yaml"])
    assert not found.errors
    assert [each.message for each in found.warnings] == [
        "v.yaml:1:6: 'http://{{ host }}/' stays as it is: a vars file is data, never rendered",
        "v.yaml:3:12: '{{-env(1)}}' stays as it is: a vars file is data, never rendered",
        "v.yaml:4:6: '{{ url }}' stays as it is: a vars file is data, never rendered",
    ]


def test_lint_says_which_step_a_template_is_too_large_for(folder: Path) -> None:
    (folder / "specs/a.yaml").write_text("from: scratch\nsteps:\n- {template: t.j2, dest: /x}\n")
    (folder / "t.j2").write_bytes(b"x" * (4 << 20) + b"y")
    assert errors() == ["specs/a.yaml:3:14: template 't.j2' is larger than 4194304 bytes"]


GOES_ON = "a line that fails is passed over: the shell"


@pytest.mark.parametrize(
    ("spec", "warning"),
    [
        ("- {run: 'a\n\n  b', shell: [sh, -c]}", "3:9: " + GOES_ON + " 'sh -c' has no -e"),
        ("- {run: 'a\n\n  b', shell: [/bin/bash, -uo, pipefail, -c]}", "3:9: " + GOES_ON),
        ("- {run: 'a\n\n  b', shell: [/bin/bash, -euo, pipefail, -c]}", None),
        ("- {run: 'a\n\n  b', shell: [bash, -o, errexit, -c]}", None),
        ("- {run: 'a\n\n  b'}", None),
        ("- {run: a, shell: [sh, -c]}", None),
        ("- {run: '# a\n\n  b', shell: [sh, -c]}", None),
        ("- {run: 'set -eu\n\n  b', shell: [sh, -c]}", None),
        ("- {run: 'a &&\n\n  b', shell: [sh, -c]}", None),
        ("- {run: 'a\n\n  b', shell: [python3, -c]}", None),
        ("- {copy: ., dest: /x}", "3:10: the copy takes 'specs/a.yaml' along"),
        ("- {copy: [here, .], dest: /x/}", "3:10: the copy takes 'specs/a.yaml' along"),
        ("- {copy: specs/, dest: /x}", "3:10: the copy takes 'specs/a.yaml' along"),
        ("- {copy: 'spec*', dest: /x/}", "3:10: the copy takes 'specs/a.yaml' along"),
        ("- {copy: ., dest: /x, exclude: [specs/]}", None),
        ("- {copy: ., dest: /x, exclude: '*.yaml'}", None),
        ("- {copy: here, dest: /x}", None),
    ],
)
def test_lint_warns_of_what_is_hardly_meant(folder: Path, spec: str, warning: str | None) -> None:
    (folder / "specs/a.yaml").write_text(f"from: scratch\nsteps:\n{spec}\n")
    (folder / "here").write_text("x")
    seen = found((), "specs", ".")
    assert seen.errors == ()
    assert [each.message.startswith(f"specs/a.yaml:{warning}") for each in seen.warnings] == (
        [True] if warning else []
    ), seen.warnings
    if warning is None or "shell" not in spec:
        return
    hint = seen.warnings[0].hint
    assert hint is not None
    fixed = re.sub(r"shell: \[.*\]", hint.removeprefix("write "), spec)
    (folder / "specs/a.yaml").write_text(f"from: scratch\nsteps:\n{fixed}\n")
    assert found((), "specs", ".")[:3] == ((), (), ())


@pytest.mark.parametrize(
    ("config", "warning", "hint"),
    [
        ("{entrypoint: nginx -g x, cmd: [b]}", "passes cmd by", "write [nginx, -g, x]"),
        ("{entrypoint: a $A, cmd: b}", "passes cmd by", 'write [/bin/sh, -c, "a $A"]'),
        ("{entrypoint: '{{ 1 }} a', cmd: b}", "passes cmd by", None),
        ("{entrypoint: a, cmd: []}", None, None),
        ("{entrypoint: a}", None, None),
        ("{entrypoint: [a], cmd: b}", None, None),
        ("{cmd: b}", None, None),
    ],
)
def test_lint_tells_a_cmd_that_nothing_reads(
    folder: Path, config: str, warning: str | None, hint: str | None
) -> None:
    (folder / "specs/a.yaml").write_text(f"from: scratch\nconfig: {config}\n")
    seen = found((), "specs", ".")
    assert seen.errors == ()
    assert [(warning in each.message, each.hint) for each in seen.warnings if warning] == (
        [(True, hint)] if warning else []
    )
    assert len(seen.warnings) == bool(warning)


def test_a_spec_that_dockerignore_leaves_out_is_not_taken_along(folder: Path) -> None:
    (folder / "specs/a.yaml").write_text("from: scratch\nsteps:\n- {copy: ., dest: /x}\n")
    (folder / ".dockerignore").write_text("specs\n")
    assert found((), "specs", ".")[:3] == ((), (), ())


def test_lint_warns_of_a_base_that_only_looks_like_a_registrys(folder: Path) -> None:
    (folder / "specs/web.yaml").write_text("from: scratch\n")
    (folder / "specs/a.yaml").write_text("from: imge:web\n")
    (folder / "specs/d.yaml").write_text("from: docker:28-dind\n")
    (folder / "specs/b.yaml").write_text("from: rootf:r.tar\n")
    (folder / "specs/c.yaml").write_text("from: nginx:1.25\n")
    said = [each.message for each in found((), "specs", ".").warnings]
    assert said == [
        "specs/a.yaml:1:7: 'imge:web' is an image of a registry, did you mean 'image:web'?",
        "specs/b.yaml:1:7: 'rootf:r.tar' is an image of a registry, did you mean 'rootfs:r.tar'?",
    ]


def test_lint_goes_on_after_a_broken_spec(folder: Path) -> None:
    (folder / "specs/a.yaml").write_text("from: [\n")
    (folder / "specs/b.yaml").write_text("from: image:c\n")
    assert len(errors()) == 2


def test_lint_takes_paths_and_names(folder: Path) -> None:
    (folder / "specs/a.yaml").write_text("from: scratch\n")
    (folder / "specs/b.yaml").write_text("form: scratch\n")
    assert errors("a", "specs/a.yaml") == []


def test_render_gives_the_spec_after_jinja(folder: Path) -> None:
    text = (
        "from: scratch\n"
        "vars: {title: Hi, n: 1}\n"
        "steps:\n"
        "- {file: /a, content: '{{ title }}\n\n  b\n\n', mode: 0644}\n"
        "- {run: '0{{ n }}', env: {A: 5, B: '1e5', C: 'no'}}\n"
        "- {template: t, dest: /t, vars: {x: '{{ n + 1 }}'}}\n"
    )
    path = folder / "specs/a.yaml"
    path.write_text(text)
    rendered = render(str(path), "specs", verbs=VERBS, environ={}, sets={"title": "Ho"})
    document = yaml.safe_load(rendered)
    assert document["vars"] == {"title": "Ho", "n": 1}
    assert document["steps"][0] == {"file": "/a", "content": "Ho\nb\n", "mode": "0644"}
    assert document["steps"][1] == {"run": "01", "env": {"A": 5, "B": "1e5", "C": "no"}}
    assert document["steps"][2]["vars"] == {"x": 2}
    before = load_spec(str(path), environ={}, sets={"title": "Ho"})
    path.write_text(rendered)
    after = load_spec(str(path), environ={})
    assert [s[2:] for s in after.steps] == [s[2:] for s in before.steps]


def test_render_of_a_wrong_spec_is_its_errors(folder: Path) -> None:
    (folder / "specs/a.yaml").write_text("form: x\n")
    with pytest.raises(SpecErrors):
        render("specs/a.yaml", "specs", verbs=VERBS, environ={})


# Schema.

SCHEMA = json_schema(VERBS)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

GOOD = """
from: {debootstrap: bookworm, variant: minbase, include: [a], mirror: http://x/y}
name: a
vars: {any: [thing, {x: 1.5}]}
tags: [a:b]
platforms: [linux/amd64]
extends: [a.yaml, b.yaml]
matrix: {a: [1, b], c: "{{ cs }}", exclude: [{a: 1}], include: [{a: 2, c: 1}]}
when: a != 1
x-free: [1.5, {a: b}]
steps:
  - {copy: a, dest: /b, name: x, exclude: ["*.x"], owner: 0, mode: "0644", preserve: [mtime]}
  - {copy: [a, b], dest: /b/, mode: "{{ m }}", owner: "{{ o }}"}
  - {file: /a, content: x}
  - {template: a, dest: /b, vars: {a: 1}}
  - {directory: /a, mode: "u=rwX,go=rX"}
  - {symlink: /a, to: b}
  - {remove: [/a]}
  - {unpack: a, dest: /b, strip_components: 1}
  - {unpack: a, dest: /b, strip_components: "{{ n }}"}
  - {run: x, env: {A: 1}, network: "{{ n }}"}
  - {run: x, when: debug and y == 'x', foreach: v in vs}
  - {include: a.yaml, vars: {a: 1}, when: true}
  - {run: [a], user: a, working_dir: /, network: none}
config:
  env: {PORT: "80"}
  exposed_ports: [80, 53/udp, "{{ p }}/tcp"]
  healthcheck: {test: [CMD, a], interval: 30s, retries: 3}
  stop_signal: "{{ s }}"
  entrypoint: [a]
"""

BAD = [
    "{}",
    "{from: scratch, form: x}",
    "{from: scratch, steps: [{run: a, copy: b, dest: /c}]}",
    "{from: scratch, steps: [{run: a, mode: '0644'}]}",
    "{from: scratch, steps: [{copy: a}]}",
    "{from: scratch, steps: [{copy: a, dest: /b, mode: 755}]}",
    "{from: scratch, steps: [{copy: a, dest: /b, mode: '888'}]}",
    "{from: scratch, steps: [{run: a, network: bridge}]}",
    "{from: scratch, steps: [{remove: []}]}",
    "{from: scratch, platforms: [a, b]}",
    "{from: scratch, config: {cmd: {a: b}}}",
    "{from: scratch, config: {env: {A: 1.5}}}",
    "{from: scratch, config: {stop_signal: term}}",
    "{from: scratch, config: {healthcheck: {interval: 3s}}}",
    "{from: {image: a}}",
    "{from: scratch, matrix: [a]}",
    "{from: scratch, matrix: {a: []}}",
    "{from: scratch, matrix: {a: b}}",
    "{from: scratch, when: [a]}",
    "{from: scratch, extends: {a: b}}",
    "{from: scratch, steps: {prpend: []}}",
    "{from: scratch, steps: [{run: x, when: 5}]}",
    "{from: scratch, steps: [{run: x, foreach: [a]}]}",
    "{from: scratch, steps: [{run: x, foreach: a}]}",
    "{from: scratch, steps: [{include: a, dest: b}]}",
]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] and "2020-12" in SCHEMA["$schema"]
    json.dumps(SCHEMA)


def test_the_schema_takes_good_specs() -> None:
    VALIDATOR.validate(yaml.safe_load(GOOD))
    for path in sorted((ROOT / "specs").glob("*.yaml")):
        VALIDATOR.validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("text", BAD)
def test_the_schema_and_the_loader_refuse_alike(text: str, wrong: Callable[..., list[str]]) -> None:
    assert not VALIDATOR.is_valid(yaml.safe_load(text))
    wrong(text)


def test_every_field_has_a_description_in_the_schema() -> None:
    tables = [SPEC, COMMON, INCLUDE, CONFIG, *(verb.fields() for verb in VERBS.values())]
    assert all(field.doc.endswith(".") or field.doc for table in tables for field in table.values())


# The reference.


def test_the_reference_names_every_field() -> None:
    text = (ROOT / "docs/spec.md").read_text()
    verbs = (verb.fields() for verb in VERBS.values())
    for table in (SPEC, COMMON, INCLUDE, PROJECT, CONFIG, _DEBOOTSTRAP, *verbs):
        for name in table:
            assert f"`{name}`" in text, name


def _examples() -> list[str]:
    text = (ROOT / "docs/spec.md").read_text()
    return re.findall(r"```yaml\n(.*?)```", text, re.S)


@pytest.mark.parametrize("example", _examples(), ids=lambda text: text[:40])
def test_every_example_of_the_reference_loads(example: str, folder: Path) -> None:
    """Fragments are completed: a list is of steps, a mapping without `from` lacks only that."""
    if example.startswith("- "):
        example = "steps:\n" + example
    if not re.search("^from:", example, re.M):
        example = "from: scratch\n" + example
    if not re.search("^vars:", example, re.M):
        example += "vars: {title: x, version: '1.10', port: 80}\n"
    (folder / "specs/s.yaml").write_text(example)
    (folder / "specs/parts").mkdir()
    (folder / "specs/parts/common.yaml").write_text("config: {healthcheck: {test: x}}\n")
    (folder / "specs/parts/apt.yaml").write_text("- run: echo {{ packages | join(' ') }}\n")
    given = inputs(VERBS, {"CI_COMMIT": "abc"})
    assert load_file("specs/s.yaml", given)


@pytest.mark.parametrize(
    ("variable", "warns"),
    [
        *((name, True) for name in (
            "TOKEN", "NPM_TOKEN", "GITHUB_TOKEN", "GITLABTOKEN", "DB_PASSWORD", "PGPASSWORD",
            "MYSQL_PWD", "SIGNING_KEY", "AWS_SECRET_ACCESS_KEY", "api_key", "APIKEY", "GH_PAT",
            "KEY_PASSPHRASE", "REGISTRY_PASS", "GOOGLE_CREDENTIALS", "CLIENT_SECRET")),
        *((name, False) for name in (
            "CI_COMMIT", "PWD", "HOME", "MONKEY", "KEYBOARD", "AUTHOR", "PATH", "PASSENGER",
            "SSH_PUBLIC_KEY", "COMPASS", "SSH_AUTH_SOCK", "TOKENIZER")),
    ],
)  # fmt: skip
def test_lint_tells_where_credentials_belong(folder: Path, variable: str, warns: bool) -> None:
    (folder / "specs/x.yaml").write_text(
        f"from: scratch\nvars: {{a: \"{{{{ env('{variable}', '') }}}}\"}}\n"
        f'steps:\n  - run: x\n    env: {{A: \'{{{{ env( "{variable}", "" ) | upper }}}}\'}}\n'
    )
    said = [error for error in found((), "specs", ".").warnings if "credential" in error.what]
    assert [error.place.line for error in said if error.place] == ([2, 5] if warns else [])
    for error in said:
        name = variable.lower()
        assert error.hint and f"{{secret: {name}, env: {variable}}}" in error.hint
        assert f"--secret {name}=env:{variable}" in error.hint
