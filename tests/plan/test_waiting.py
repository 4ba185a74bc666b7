"""Templates that name the base: rendered once it is known, whatever it is."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builder.errors import SpecErrors
from builder.oci import media
from builder.oci.digest import digest_of, hex_of
from builder.oci.image import Descriptor, empty_image, host_platform
from builder.plan.context import Context
from builder.plan.plan import ImagePlan
from builder.plan.planned import BuildFiles
from builder.plan.sources import lint as check_lint
from builder.project import Options, Project
from builder.spec.lint import lint, render
from builder.steps import VERBS
from builder.steps.run import Run

BASE = """from: scratch
steps: [{file: /etc/x, content: x}]
config:
  env: {APP: /opt/app, PATH: /bin}
  user: "33"
  working_dir: /srv
  labels: {org.x: label}
"""
APP = """from: image:base
vars: {dest: there}
steps:
  - {file: /plain, content: plain}
  - {file: "{{ base.env.APP }}/{{ dest }}", content: "{{ base.user }} {{ base.labels['org.x'] }}"}
  - {template: t.j2, dest: "{{ base.working_dir }}/t"}
  - {run: "echo {{ base.env.APP }}", env: {PATH: "/mine:{{ base.env.PATH }}"}}
config:
  env: {APP: "{{ base.env.APP }}/2", NONE: "{{ base.env.NONE | default('none') }}"}
"""


class Site:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "specs").mkdir()
        self.write("base", BASE)
        self.write("app", APP)
        (root / "t.j2").write_text("{{ base.env.APP }} {{ dest }}")

    def write(self, name: str, text: str) -> None:
        (self.root / "specs" / f"{name}.yaml").write_text(text)

    def project(self, **options: Any) -> Project:
        return Project(Options(str(self.root / "store"), str(self.root / "specs"), **options))

    def plan(self, name: str = "app", **options: Any) -> ImagePlan:
        project = self.project(**options)
        return project.plan(project.load([name])[0])[name]

    def files(self, name: str) -> dict[str, bytes]:
        plan = self.plan(name)
        found = {}
        for step in plan.steps:
            if not isinstance(step.decision, BuildFiles):
                continue
            for entry, content, _ in step.decision.changes.rows:
                if isinstance(content, bytes):
                    found[entry.path.decode()] = content
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


EXPECTED = {
    "etc/x": b"x", "plain": b"plain", "opt/app/there": b"33 label", "srv/t": b"/opt/app there"
}  # fmt: skip


def test_a_base_of_the_project_is_known_before_it_is_built(site: Site) -> None:
    assert {**site.files("base"), **site.files("app")} == EXPECTED
    plan = site.plan()
    run = plan.spec.steps[-1]
    assert isinstance(run, Run)
    assert (run.command, run.env) == ("echo /opt/app", {"PATH": "/mine:/bin"})
    assert plan.spec.config.env == {"APP": "/opt/app/2", "NONE": "none"}


def test_another_base_is_another_plan_and_a_base_that_says_the_same_is_a_hit(site: Site) -> None:
    site.write("app", APP.partition("  - {run")[0])
    project = site.project()
    project.build(project.load(["app"])[0])
    assert {step.status for step in site.plan().steps} == {"hit"}
    site.write("base", BASE.replace("/opt/app", "/opt/b"))
    assert [step.status for step in site.plan().steps] == ["hit", "build", "build"]
    site.write("base", BASE + "  cmd: [x]\n")
    assert {step.status for step in site.plan().steps} == {"hit"}


def test_a_foreign_base(site: Site) -> None:
    config = {"Env": ["APP=/opt/far"], "User": "7", "Labels": {"org.x": "far"}}
    image = empty_image(host_platform())
    image = image._replace(config={**image.config, "config": config})
    blobs = site.root / "layout" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for data in (image.config_bytes(), image.manifest_bytes()):
        (blobs / hex_of(data)).write_bytes(data)
    size = len(image.manifest_bytes())
    entry = Descriptor(media.MANIFEST, digest_of(image.manifest_bytes()), size).document()
    index = {"schemaVersion": 2, "manifests": [entry]}
    (site.root / "layout" / "index.json").write_text(json.dumps(index))
    (site.root / "layout" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    site.write("app", APP.replace("image:base", "oci:layout"))
    assert site.files("app") == {
        "plain": b"plain", "opt/far/there": b"7 far", "t": b"/opt/far there"
    }  # fmt: skip
    run = site.plan().spec.steps[-1]
    assert isinstance(run, Run) and run.env["PATH"].startswith("/mine:/usr/local/sbin:")


def test_a_base_that_is_not_made_yet_decides_later(site: Site) -> None:
    site.write("base", "from: debootstrap:bookworm\n")
    plan = site.plan()
    assert [(step.name, step.status) for step in plan.steps] == [
        ("file /plain", "unknown"),
        ("file {{ base.env.APP }}/{{ dest }}", "unknown"),
        ("template t.j2", "unknown"),
        ("run echo {{ base.env.APP }}", "unknown"),
    ]
    assert {step.why for step in plan.steps} == {"decided after the base debootstrap:bookworm"}


def test_a_variable_of_that_name_hides_it(site: Site) -> None:
    site.write(
        "app", "from: scratch\nvars: {base: mine}\nsteps: [{file: '/{{ base }}', content: a}]"
    )
    assert site.files("app") == {"mine": b"a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{file: '/{{ base.env.NOPE }}', content: ''}", "3:26: template error: .*'NOPE'"),
        ("{file: /a, content: '{{ base.nope }}'}", "3:34: template error: .*'nope'"),
        ("{file: '/a', content: '{{ base.user }}', mode: '{{ base.user }}9'}", "is not octal"),
    ],
)
def test_an_error_has_its_place_once_the_base_is_known(site: Site, text: str, message: str) -> None:
    site.write("app", f"from: image:base\nsteps:\n  - {text}\n")
    with pytest.raises(SpecErrors, match=message):
        site.plan()


@pytest.mark.parametrize(
    "text",
    [
        "from: '{{ base.user }}'\n",
        "from: scratch\ntags: ['{{ base.user }}']\n",
        "from: scratch\nname: '{{ base.user }}'\n",
    ],
)
def test_elsewhere_there_is_no_base(site: Site, text: str) -> None:
    site.write("app", text)
    with pytest.raises(SpecErrors, match="'base' is undefined"):
        site.plan()


def test_other_errors_of_such_a_step_are_found_at_once(site: Site) -> None:
    step = "{file: '/{{ base.user }}', contnt: x, mode: '9'}"
    site.write("app", f"from: nowhere.example/x\nsteps:\n  - {step}\n")
    with pytest.raises(SpecErrors) as found:
        site.project().load(["app"])
    assert len(found.value.errors) == 2


def test_lint_and_render_do_without_the_base(site: Site) -> None:
    site.write("app", APP.replace("image:base", "nowhere.example/x"))
    specs = str(site.root / "specs")
    context = Context(str(site.root), None)
    look = partial(check_lint, context=context, environ={})
    assert lint(["app"], specs, look, verbs=VERBS, environ={}).errors == ()
    shown = render("app", specs, verbs=VERBS, environ={})
    assert "echo {{ base.env.APP }}" in shown and "plain" in shown


def test_what_was_read_on_a_base_is_kept_by_it(site: Site) -> None:
    """As in a build in which nothing changed: no YAML, no Jinja."""
    before = site.plan().spec
    assert site.plan().spec == before
    site.write("base", BASE.replace("/opt/app", "/opt/b"))
    assert json.dumps(site.plan().spec.steps) != json.dumps(before.steps)


def test_what_env_gave_the_base_is_neither_said_nor_kept_above_it(site: Site) -> None:
    canary = "canary-7f3a"
    site.write("base", BASE.replace("/opt/app", "\"/opt/{{ env('TOKEN') }}\""))
    plan = site.plan(environ={"TOKEN": canary})
    run = plan.spec.steps[-1]
    assert isinstance(run, Run) and run.command == f"echo /opt/{canary}"
    assert canary not in plan.steps[-1].name
    kept = [path for path in (site.root / "store").rglob("*") if path.is_file()]
    assert kept and not any(canary.encode() in path.read_bytes() for path in kept)
