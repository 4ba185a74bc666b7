"""`$NAME` where no shell reads it: an error in PATH, a warning elsewhere, with what to write."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from builder import build
from builder.plan.config import DEFAULT_PATH
from builder.plan.context import Context
from builder.plan.sources import advice
from builder.spec.dollars import as_template, names_one
from builder.spec.lint import lint
from builder.steps import VERBS


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("/opt/bin:$PATH", "/opt/bin:{{ base.env.PATH }}"),
        ("${HOME}/bin", "{{ base.env.HOME | default('') }}/bin"),
        ("$mine/$MINE", "{{ mine }}/{{ base.env.MINE | default('') }}"),
        ("${X:-y z}", "{{ base.env.X | default('y z') }}"),
        ("${X:-}", "{{ base.env.X | default('') }}"),
        ("${X:-$Y}", None),
        ("${X%.*}", None),
        ("$1 $$ $ $- 5$", "$1 $$ $ $- 5$"),
    ],
)
def test_the_template_to_write(text: str, template: str | None) -> None:
    assert as_template(text, {"mine"}) == template
    assert names_one(text) == (template != text)


@pytest.mark.parametrize("value", ["/opt/bin:$PATH", "${PATH}:/x", "$HOME/bin", "${X:-/a}"])
@pytest.mark.parametrize(
    "where", ["config: {{env: {{PATH: '{}'}}}}", "steps: [{{run: a, env: {{PATH: '{}'}}}}]"]
)
def test_a_path_with_a_variable_is_an_error(
    value: str, where: str, wrong: Callable[..., list[str]]
) -> None:
    (error,) = wrong("from: scratch\n" + where.format(value) + "\n")
    assert f"'{value}' names a variable, which no shell reads here" in error
    assert "config's 'path'" in error


@pytest.mark.parametrize("value", ["/opt:/bin", "a", ""])
def test_a_folder_of_the_path_is_one(value: str, wrong: Callable[..., list[str]]) -> None:
    assert wrong(f"from: scratch\nconfig: {{path: ['{value}']}}\n")


SPEC = """from: scratch
vars: {port: "80", A: x}
config:
  env: {URL: "http://x:$PORT", OK: "a$", RAW: "{{ port }}", PLAIN: "$A/b"}
  user: "a$USER"
  working_dir: /srv/$APP
  labels: {v: "${VERSION}"}
  cmd: [sh, -c, "echo $HOME"]
  healthcheck: {test: "curl $URL"}
steps:
  - {run: "echo $HOME", env: {X: "$Y"}, working_dir: "$Z"}
  - {copy: a, dest: "/$APP/"}
  - {file: "/${APP}", content: "$HOME"}
  - {symlink: /a, to: "$b"}
  - {remove: ["/x", "/$y"]}
"""


def test_lint_warns_where_no_shell_reads(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text(SPEC)
    found = lint(["a"], str(tmp_path / "specs"), lambda spec: (), verbs=VERBS, environ={})
    assert found.errors == ()
    shown = [
        (int(each.message.split(":")[1]), (each.hint or "").removeprefix("write "))
        for each in found.warnings
    ]
    assert [(line, yaml.safe_load(hint)) for line, hint in shown] == [
        (5, "a{{ base.env.USER | default('') }}"),
        (6, "/srv/{{ base.env.APP | default('') }}"),
        (4, "http://x:{{ base.env.PORT | default('') }}"),
        (4, "{{ A }}/b"),
        (7, "{{ base.env.VERSION | default('') }}"),
        (11, "{{ base.env.Z | default('') }}"),
        (11, "{{ base.env.Y | default('') }}"),
        (12, "/{{ base.env.APP | default('') }}/"),
        (13, "/{{ base.env.APP | default('') }}"),
        (15, "/{{ base.env.y | default('') }}"),
    ]


def test_names_that_the_spec_sets_itself_move_to_vars(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text(
        """from: scratch
vars: {B: b}
config: {env: {APP: x, B: y}, working_dir: "/srv/$APP/$B/$HOME"}
steps:
  - {set: {env: {C: c, PATH: /bin}}}
  - {copy: a, dest: "/$C/$APP/$C/$PATH"}
"""
    )
    found = lint(["a"], str(tmp_path / "specs"), lambda spec: (), verbs=VERBS, environ={})
    assert found.errors == ()
    assert [each.hint for each in found.warnings] == [
        "give APP a value in 'vars', and write"
        " \"/srv/{{ APP }}/{{ B }}/{{ base.env.HOME | default('') }}\"",
        "give C and APP a value in 'vars', and write"
        ' "/{{ C }}/{{ APP }}/{{ C }}/{{ base.env.PATH }}"',
    ]


def test_a_hint_that_is_followed_builds_on_a_base_without_the_variable(tmp_path: Path) -> None:
    text = """from: scratch
config: {env: {X: "$NOTHING:$PATH"}, working_dir: "/srv/$HOME"}
steps: [{file: "/${HOME}/x", content: ""}]
"""
    for written in ("$NOTHING:$PATH", "/srv/$HOME", "/${HOME}/x"):
        made = as_template(written, ())
        assert made is not None
        text = text.replace(written, made)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text(text)
    built = build(["a"], specs=str(tmp_path / "specs"), cache_dir=str(tmp_path / "store"))
    config = built["a"].image.config["config"]
    assert config["Env"] == [f"X=:{DEFAULT_PATH}"]
    assert config["WorkingDir"] == "/srv"


def test_a_folder_that_a_web_server_serves(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text(
        """from: scratch
steps:
  - {copy: a, dest: /usr/share/nginx/html/}
  - {copy: a, dest: /var/www, times: content}
  - {copy: a, dest: /var/www/x, preserve: mtime}
  - {file: /var/www/html/x, content: ""}
  - {copy: a, dest: /var/wwwx/}
  - {copy: a, dest: /usr/share/nginx/}
"""
    )
    look = partial(advice, context=Context(str(tmp_path), None))
    found = lint(["a"], str(tmp_path / "specs"), lambda spec: (), look, verbs=VERBS, environ={})
    assert [each.message.split(":")[1] for each in found.warnings] == ["3", "6"]
    assert {each.hint for each in found.warnings} == {"write times: content"}
