"""`context:` of a spec: its own folder with its own ignore file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Project
from tests.plan.test_optional import archive, layer

SPEC = """\
from: {base}
context: api/
steps:
- copy: .
  dest: /srv/
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project")
    made.spec("site", SPEC.format(base="scratch"))
    for path in ("api/a.py", "api/b.md", "web/a.js", "other"):
        made.file(path, path)
    made.file(".dockerignore", "*.py\napi\n")
    made.file("api/.dockerignore", "*.md\n.dockerignore\n")
    return made


def test_files_and_the_ignore_file_are_its_own(project: Project) -> None:
    assert project.run("lint").stderr == ""
    project.build()
    assert layer(project) == {"srv": None, "srv/a.py": b"api/a.py"}
    assert project.plan()["site"] == [("hit", "unchanged")]
    project.file("other", "changed")
    project.file("web/a.js", "changed")
    assert project.plan()["site"] == [("hit", "unchanged")]
    project.file("api/a.py", "changed")
    ((status, why),) = project.plan()["site"]
    assert status == "build" and why.startswith("/srv/a.py: content ")
    project.build()
    assert layer(project)["srv/a.py"] == b"changed"


def test_the_same_files_elsewhere_are_the_same_layer(project: Project) -> None:
    project.build()
    (project.root / "api").rename(project.root / "moved")
    text = SPEC.format(base="scratch").replace("api/", "./moved")
    project.spec("site", text)
    assert project.plan()["site"] == [("hit", "unchanged")]


def test_images_on_one_another_have_each_their_own(project: Project) -> None:
    project.spec("web", SPEC.format(base="image:site").replace("api/", "web"))
    project.spec("all", "from: image:web\nsteps:\n- {copy: other, dest: /other}\n")
    built = project.build("all")
    names = [[layer["name"] for layer in built[each]["layers"]] for each in ("site", "web", "all")]
    assert [len(each) for each in names] == [1, 2, 3]
    shown = json.loads(project.run("inspect", "all", "--no-build").stdout)
    assert len(shown["layers"]) == 3
    assert project.run("plan", "--exit-code").returncode == 0


def test_templates_archives_and_optional_sources_are_from_there(project: Project) -> None:
    project.file("api/t.j2", "{{ spec.name }}")
    archive(project, "api/a.tar", x=("a", 5))
    steps = [
        {"template": "t.j2", "dest": "/t"},
        {"unpack": "a.tar", "dest": "/u"},
        {"copy": "a.py", "optional": "a.lock*", "dest": "/c/"},
    ]
    project.spec("site", json.dumps({"from": "scratch", "context": "api", "steps": steps}))
    project.run("lint")
    project.run("build", "--iidfile", "site.iid", "--depfile", "site.d")
    rule = (project.root / "site.d").read_text()
    for path in ("api/t.j2", "api/a.tar", "api/a.py", "$(wildcard api/a.lock*)"):
        assert path in rule
    project.file("api/a.lock", "x")
    assert [status for status, _ in project.plan()["site"]] == ["hit", "hit", "build"]
    project.file("api/t.j2", "{{ nope }}")
    assert "'nope' is undefined" in project.run("lint", status=2).stderr


def test_a_base_is_the_projects(project: Project) -> None:
    archive(project, "base.tar", bin=("x", 5))
    project.spec("site", SPEC.format(base="rootfs:base.tar"))
    project.run("lint")
    project.build()


def test_lint_tells_a_copy_that_takes_the_spec_along(project: Project) -> None:
    project.file("api/deploy/own.yaml", SPEC.format(base="scratch"))
    said = project.run("lint", "--context", ".", "api/deploy/own.yaml").stderr
    assert "the copy takes 'api/deploy/own.yaml' along" in said and "exclude: [deploy/]" in said


@pytest.mark.parametrize(
    ("folder", "message", "hint"),
    [
        ("../api", "'../api' leaves the context, expected a path within it", "--context DIR"),
        ("/srv", "'/srv' is absolute, expected a path within the context", "write srv"),
        ("nowhere", "there is no 'nowhere', expected a folder of the context", ""),
        ("apii", "there is no 'apii', expected a folder of the context", "did you mean 'api'?"),
        ("other", "'other' is not a folder", ""),
        ("ap*", "'ap*' is a glob, expected the path of a folder", ""),
        ("out", "'out' leads out of the context through a symlink", ""),
        ("loop", "'loop' leads through symlinks in a circle", ""),
        ("", "'' is empty, expected a path", ""),
    ],
)
def test_a_folder_that_is_none_is_told(
    project: Project, folder: str, message: str, hint: str
) -> None:
    (project.root / "out").symlink_to("/etc")
    (project.root / "loop").symlink_to("loop")
    project.spec("site", SPEC.format(base="scratch").replace("api/", json.dumps(folder)))
    said = {verb: project.run(verb, status=2).stderr for verb in ("lint", "plan", "build")}
    assert said["lint"] == said["plan"] == said["build"]
    assert f"error: specs/site.yaml:2:10: {message}" in said["lint"] and hint in said["lint"]


def test_a_symlink_within_is_followed_and_a_folder_may_be_the_projects(project: Project) -> None:
    (project.root / "link").symlink_to("api")
    project.build()
    for folder in ("link", "api/./"):
        project.spec("site", SPEC.format(base="scratch").replace("api/", folder))
        assert project.plan()["site"] == [("hit", "unchanged")]
    project.spec("site", SPEC.format(base="scratch").replace("api/", "."))
    project.run("lint")
    project.build()
    assert {"srv/other", "srv/web/a.js"} <= set(layer(project))


def test_what_is_wrong_in_its_ignore_file_is_told_with_its_path(project: Project) -> None:
    project.file("api/.dockerignore", "ok\n[z-a]\n")
    said = project.run("plan", status=2).stderr
    assert said.startswith("error: api/.dockerignore:2:1: ")


def test_what_env_gave_is_not_shown(project: Project) -> None:
    project.spec("site", SPEC.format(base="scratch").replace("api/", "\"{{ env('X') }}\""))
    said = project.run("plan", status=2, env={"X": "secret"}).stderr
    assert "secret" not in said and "there is no" in said
    assert project.run("plan", env={"X": "api"}).returncode == 0


def test_stages_have_the_images_or_their_own(project: Project) -> None:
    project.spec(
        "site",
        "from: scratch\ncontext: api\nstages:\n"
        "  own: {from: scratch, context: web, steps: [{copy: ., dest: /w/}]}\n"
        "  its: {from: scratch, steps: [{copy: ., dest: /i/}]}\n"
        "steps:\n"
        "- {copy: [/w/a.js], from: 'stage:own', dest: /all/}\n"
        "- {copy: [/i/a.py], from: 'stage:its', dest: /all/}\n",
    )
    assert project.run("lint").stderr == ""
    project.build()
    shown = json.loads(project.run("inspect", "site", "--no-build").stdout)
    assert len(shown["layers"]) == 2
    assert layer(project)["all/a.py"] == b"api/a.py"
    project.file("web/a.js", "changed")
    assert any(status == "build" for each in project.plan().values() for status, _ in each)
