"""Bake and compose files converted by the command line, and the images that their specs build."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Project

_DOCKERFILE = """\
ARG VERSION=dev
FROM lib AS files
FROM scratch AS app
ARG VERSION
ARG FLAVOUR=plain
COPY app.txt /app/
COPY --from=files /lib.txt /lib/
COPY --from=extra /x /extra/
ENV VERSION=$VERSION FLAVOUR=$FLAVOUR
LABEL version=$VERSION
FROM scratch AS other
COPY app.txt /other/
"""
_BAKE = """
variable "TAG" { default = "latest" }
variable "REGISTRY" { default = "reg.example/team" }
variable "DEBUG" { default = false }
variable "EXTRA" { default = "" }
function "image" {
  params = [name]
  result = "${REGISTRY}/${name}:${TAG}"
}
group "default" { targets = ["app", "more"] }
group "more" { targets = ["lib", "worker"] }
target "_common" {
  args = { VERSION = "v-${TAG}" }
  labels = { "org.example.tag" = TAG, "org.example.debug" = DEBUG ? "yes" : "no" }
}
target "app" {
  inherits = ["_common"]
  context = "app"
  target = "app"
  contexts = { lib = "target:lib", extra = "./extra" }
  tags = concat([image("app")], EXTRA != "" ? ["${REGISTRY}/app:${EXTRA}"] : [])
  cache-from = ["type=gha"]
  secret = ["id=token,env=TOKEN", "id=file,src=token.txt"]
}
target "worker" {
  name = "worker-${replace(v, ".", "-")}"
  matrix = { v = ["1.0", "2.0"] }
  context = "app"
  target = "other"
  labels = { v = v }
}
target "lib" {
  dockerfile-inline = <<-EOT
    FROM scratch
    COPY lib.txt /
  EOT
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    project.root.mkdir()
    project.file("app/Dockerfile", _DOCKERFILE)
    project.file("app/app.txt", "app")
    project.file("lib.txt", "lib")
    project.file("extra/x", "extra")
    project.file("docker-bake.hcl", _BAKE)
    return project


def _tree(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_text() for path in files}


def _built(project: Project, name: str, *arguments: str, env: dict[str, str] | None = None) -> Any:
    """The files of an image, and its config."""
    for each in ("out", "layout"):
        shutil.rmtree(project.root / each, ignore_errors=True)
    project.run("build", name, "-o", "dir:out", "-o", "oci:layout", *arguments, env=env)
    blobs = project.root / "layout" / "blobs" / "sha256"
    index = json.loads((project.root / "layout" / "index.json").read_text())
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())["config"]
    return _tree(project.root / "out"), config


def test_a_bake_file_becomes_specs_that_build(folder: Project) -> None:
    folder.run("convert", "docker-bake.hcl", "-o", "specs")
    assert sorted(path.name for path in (folder.root / "specs").iterdir()) == [
        *("app.yaml", "lib.yaml", "worker-1-0.yaml", "worker-2-0.yaml"),
    ]
    files, config = _built(folder, "app")
    assert files == {"app/app.txt": "app", "lib/lib.txt": "lib", "extra/x": "extra"}
    assert config["Labels"] == {
        "version": "v-latest", "org.example.tag": "latest", "org.example.debug": "no",
    }  # fmt: skip
    assert {"VERSION=v-latest", "FLAVOUR=plain"} <= set(config["Env"])
    files, config = _built(folder, "worker-2-0")
    assert (files, config["Labels"]) == ({"other/app.txt": "app"}, {"v": "2.0"})
    folder.run("lint")
    assert sorted(folder.build("more")) == ["lib", "worker-1-0", "worker-2-0"]


def test_variables_go_on_working(folder: Project) -> None:
    folder.run("convert", "docker-bake.hcl", "-o", "specs")
    for arguments, env in (
        (("--set", "TAG=7", "--set", "DEBUG=true", "--set", "EXTRA=e"), {}),
        ((), {"TAG": "7", "DEBUG": "true", "EXTRA": "e"}),
    ):
        _, config = _built(folder, "app", *arguments, env=env)
        assert config["Labels"]["version"] == "v-7"
        assert config["Labels"]["org.example.tag"] == "7"
        assert config["Labels"]["org.example.debug"] == "yes"
    made = folder.run("render", "app", "--set", "TAG=7", "--set", "EXTRA=e")
    assert yaml.safe_load(made.stdout)["tags"] == [
        "reg.example/team/app:7",
        "reg.example/team/app:e",
    ]
    made = folder.run("render", "app")
    assert yaml.safe_load(made.stdout)["tags"] == ["reg.example/team/app:latest"]


def test_what_is_left_out_is_told_and_a_second_run_writes_the_same(folder: Project) -> None:
    made = folder.run("convert", "docker-bake.hcl", "-o", "specs")
    assert "docker-bake.hcl:12:1: target _common is left out" in made.stderr
    assert "docker-bake.hcl:22:3: cache-from is left out: the store is the cache" in made.stderr
    text = (folder.root / "specs" / "app.yaml").read_text()
    assert "# builder: cache-from is left out: the store is the cache\n" in text
    project = yaml.safe_load((folder.root / "builder.yaml").read_text())
    assert project == {
        "groups": {
            "default": ["app", "lib", "worker-1-0", "worker-2-0"],
            "more": ["lib", "worker-1-0", "worker-2-0"],
            "worker": ["worker-1-0", "worker-2-0"],
        },
        "secrets": {"token": {"env": "TOKEN"}, "file": {"file": "token.txt"}},
    }
    before = _tree(folder.root)
    again = folder.run("convert", "docker-bake.hcl", "-o", "specs", status=2)
    assert "specs/app.yaml" in again.stderr and "is there already" in again.stderr
    folder.run("convert", "docker-bake.hcl", "-o", "specs", "--force")
    assert _tree(folder.root) == before
    shown = folder.run("convert", "docker-bake.hcl").stdout
    assert all(text in shown for name, text in before.items() if name.startswith("specs/"))


def test_a_project_file_that_is_there_stays(folder: Project) -> None:
    folder.file("builder.yaml", "name: mine\n")
    made = folder.run("convert", "docker-bake.hcl", "-o", "specs")
    assert (folder.root / "builder.yaml").read_text() == "name: mine\n"
    assert "builder.yaml is left as it is" in made.stderr
    assert "it may want groups: default:" in made.stderr


def test_an_override_file_is_read_with_the_first(folder: Project) -> None:
    folder.file("docker-bake.override.hcl", 'TAG = "over"\ntarget "lib" { labels = { o = "1" } }\n')
    folder.run("convert", "docker-bake.hcl", "-o", "specs")
    assert _built(folder, "lib")[1]["Labels"] == {"o": "1"}
    assert _built(folder, "app")[1]["Labels"]["org.example.tag"] == "over"


def test_several_files_and_json(folder: Project) -> None:
    folder.file("more.json", json.dumps({"target": {"lib": {"labels": {"j": "${TAG}"}}}}))
    folder.run("convert", "docker-bake.hcl", "more.json", "-o", "specs")
    assert _built(folder, "lib")[1]["Labels"] == {"j": "latest"}


_COMPOSE = """
x-args: &args {VERSION: "${VERSION:-1.0}"}
services:
  app:
    image: reg.example/app:${TAG:-latest}
    build:
      context: app
      target: app
      args: {<<: *args}
      labels: [a=b]
      additional_contexts: {lib: "service:lib", extra: ./extra}
  lib:
    image: ${REGISTRY:-reg.example}/lib:${TAG:-latest}
    build:
      labels: {tag: "${TAG:-latest}"}
      dockerfile_inline: |
        FROM scratch
        COPY lib.txt /
  db:
    image: postgres
"""


def test_a_compose_file_becomes_specs_that_build(folder: Project) -> None:
    folder.file("compose.yaml", _COMPOSE)
    folder.file(".env", "VERSION=from-env-file\n")
    made = folder.run("convert", "compose.yaml", "-o", "specs")
    assert "compose.yaml:19:3: service 'db' is left out: it has no build section" in made.stderr
    files, config = _built(folder, "app")
    assert files == {"app/app.txt": "app", "lib/lib.txt": "lib", "extra/x": "extra"}
    assert config["Labels"] == {"version": "from-env-file", "a": "b"}
    for arguments, env in ((("--set", "VERSION=9"), {}), ((), {"VERSION": "9"})):
        assert _built(folder, "app", *arguments, env=env)[1]["Labels"]["version"] == "9"
    tags = yaml.safe_load(folder.run("render", "lib", "--set", "TAG=3").stdout)["tags"]
    assert tags == ["reg.example/lib:3"]
    tags = yaml.safe_load(folder.run("render", "lib").stdout)["tags"]
    assert tags == ["reg.example/lib:latest"]
    assert _built(folder, "lib", env={"TAG": ""})[1]["Labels"] == {"tag": "latest"}
    assert _built(folder, "lib", env={"TAG": "8"})[1]["Labels"] == {"tag": "8"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("a.hcl",), "cannot read the file 'a.hcl'"),
        (("docker-bake.hcl", "compose.yaml"), "bake files and compose files together"),
        (("docker-bake.hcl", "--target", "x"), "--target is a Dockerfile's stage"),
        (("docker-bake.hcl", "-o", "x.yaml"), "-o x.yaml is one file, expected a folder"),
        (("broken.hcl", "-o", "specs"), "broken.hcl:1:10: the line ends here, expected a value"),
        (("empty.hcl",), "no target is an image here"),
        (("away.hcl",), "no target is an image here"),
        (("stage.hcl",), "stage.hcl:1:14: target 'x': app/Dockerfile has no such stage"),
        (("app/Dockerfile", "app/Dockerfile"), "several files, expected one Dockerfile"),
    ],
)
def test_what_cannot_be_converted_is_told(
    folder: Project, arguments: tuple[str, ...], told: str
) -> None:
    folder.file("compose.yaml", _COMPOSE)
    folder.file("broken.hcl", "target = \n")
    folder.file("empty.hcl", "")
    folder.file("stage.hcl", 'target "a" { target = "x"\n context = "app"\n}\n')
    folder.file("away.hcl", 'target "a" { context = "https://example.org/a.git" }\n')
    made = folder.run("convert", *arguments, status=2)
    assert told in made.stderr
    assert not (folder.root / "specs").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('target "a" { context = ".." }', "its context is outside of the project"),
        ('target "a" { context = "https://x.example/a.git" }', "is not fetched"),
        ('target "a" { dockerfile = "no" }', "there is no no"),
        ('target "a" {\n args = { NO = 1 }\n dockerfile-inline = "FROM scratch"\n}',
         "argument NO is left out: the Dockerfile has no such ARG"),
        ('target "a" {\n platforms = ["windows/amd64"]\n dockerfile-inline = "FROM scratch"\n}',
         "platform windows/amd64 is left out"),
        ('variable "P" { default = "linux/amd64" }\n'
         'target "a" {\n platforms = [P]\n dockerfile-inline = "FROM scratch"\n}',
         "platforms hangs on P, and is here what it was by default"),
        ('target "a" {\n labels = { t = timestamp() }\n dockerfile-inline = "FROM scratch"\n}',
         "label t hangs on timestamp(), and is here what it was by default"),
        ('target "a" {\n secret = ["id=x,src=/etc/x"]\n dockerfile-inline = "FROM scratch"\n}',
         "secret x is outside of the project: --secret x=/etc/x"),
    ],
)  # fmt: skip
def test_what_a_spec_does_not_say_is_told(folder: Project, text: str, told: str) -> None:
    folder.file("docker-bake.hcl", text + '\ntarget "z" { dockerfile-inline = "FROM scratch" }\n')
    assert told in folder.run("convert", "docker-bake.hcl", "-o", "specs").stderr
    folder.run("lint")


def test_a_circle_of_contexts_is_told(folder: Project) -> None:
    text = "".join(
        f'target "{a}" {{\n dockerfile-inline = "FROM x"\n contexts = {{ x = "target:{b}" }}\n}}\n'
        for a, b in (("a", "b"), ("b", "c"), ("c", "a"))
    )
    folder.file("docker-bake.hcl", text)
    made = folder.run("convert", "docker-bake.hcl", status=2)
    assert "targets take from one another in a circle: a -> b -> c -> a" in made.stderr


def test_arguments_count_where_a_template_does_not_say_what_a_dockerfile_does(
    folder: Project,
) -> None:
    folder.file(
        "Dockerfile",
        "ARG BASE=one\nARG V=1\n"
        "FROM scratch AS one\nCOPY lib.txt /one\n"
        "FROM scratch AS two\nCOPY lib.txt /two\n"
        "FROM $BASE AS last\nARG V=2\nLABEL v=$V w=${V%.*}\n"
        "FROM last\nARG V\nLABEL x=$V\n",
    )
    folder.file(
        "docker-bake.hcl",
        'variable "V" { default = "7.8" }\n'
        'target "t" { args = { BASE = "two", V = V } }\n'
        'target "u" { args = { V = "9.${V}" } }\n',
    )
    folder.run("convert", "docker-bake.hcl", "-o", "specs")
    files, config = _built(folder, "t")
    assert files == {"two": "lib"}
    assert config["Labels"] == {"v": "7.8", "w": "7", "x": "7.8"}
    files, config = _built(folder, "u")
    assert files == {"one": "lib"}
    assert config["Labels"] == {"v": "9.7.8", "w": "9.7", "x": "9.7.8"}


def test_a_copy_of_all_leaves_the_specs_out(folder: Project) -> None:
    folder.file("docker-bake.hcl", 'target "t" { dockerfile-inline = "FROM scratch\\nCOPY . /" }\n')
    before = set(_tree(folder.root))
    folder.run("convert", "docker-bake.hcl", "-o", "specs")
    assert set(_built(folder, "t")[0]) == before


def test_the_example_of_the_documentation_is_what_comes_out(folder: Project) -> None:
    text = (Path(__file__).parents[2] / "docs" / "from-dockerfile.md").read_text()
    hcl = text.split("```hcl\n")[1].split("```")[0]
    wanted = text.split("```hcl\n")[1].split("```yaml\n")[1].split("```")[0]
    folder.file("docker-bake.hcl", hcl + 'target "base" { dockerfile-inline = "FROM scratch" }\n')
    folder.file("app/Dockerfile", "FROM base\nARG VERSION\nCOPY --from=certs /x /y\n")
    folder.run("convert", "docker-bake.hcl", "-o", "specs")
    made = yaml.safe_load((folder.root / "specs" / "app.yaml").read_text())
    shown = yaml.safe_load(wanted.replace("[...]", "null"))
    assert {**made, "steps": None} == shown
