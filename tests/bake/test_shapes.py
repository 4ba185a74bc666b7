"""Projects in the shapes that public ones have: converted, built, and what their variables do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.bake.test_convert import _built
from tests.cli.conftest import Project


@pytest.fixture
def folder(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    project.root.mkdir()
    project.file("a.txt", "a")
    return project


def _notes(project: Project) -> list[str]:
    return [
        line
        for path in sorted((project.root / "specs").iterdir())
        for line in path.read_text().splitlines()
        if "# builder:" in line
    ]


def test_a_tool_that_is_built_for_many_ends(folder: Project) -> None:
    """Variables without a value, outputs to folders, targets that only others inherit from."""
    folder.file(
        "Dockerfile",
        "ARG GO=1.22\nFROM scratch AS base\nARG GO\nLABEL go=$GO\nCOPY a.txt /bin/tool\n"
        "FROM scratch AS binary\nCOPY --from=base /bin/tool /\n"
        'FROM base AS image\nARG STATIC=1\nLABEL static=$STATIC\nENTRYPOINT ["/bin/tool"]\n',
    )
    folder.file(
        "docker-bake.hcl",
        """
        variable "GO" { default = null }
        variable "STATIC" { default = "1" }
        variable "DEST" { default = "" }
        function "bindir" {
          params = [other]
          result = DEST != "" ? DEST : "./out/${other}"
        }
        target "docker-metadata-action" { tags = ["team/tool:local"] }
        target "_common" {
          args = { GO = GO, STATIC = STATIC, BUILDKIT_CONTEXT_KEEP_GIT_DIR = 1 }
        }
        target "_platforms" { platforms = ["linux/amd64", "linux/arm64", "windows/amd64"] }
        group "default" { targets = ["binary"] }
        target "binary" {
          inherits = ["_common"]
          target = "binary"
          output = [bindir("binary")]
        }
        target "binary-cross" { inherits = ["binary", "_platforms"] }
        target "image" {
          inherits = ["_common", "docker-metadata-action"]
          target = "image"
          output = ["type=docker"]
        }
        target "dynamic" {
          inherits = ["image"]
          args = { STATIC = "0" }
        }
        """,
    )
    folder.run("convert", "docker-bake.hcl", "-o", "specs")
    assert sorted(path.stem for path in (folder.root / "specs").iterdir()) == [
        *("binary", "binary-cross", "docker-metadata-action", "dynamic", "image"),
    ]
    assert _built(folder, "image")[1]["Labels"] == {"go": "1.22", "static": "1"}
    assert _built(folder, "image", env={"GO": "1.30", "STATIC": "2"})[1]["Labels"] == {
        "go": "1.30",
        "static": "2",
    }
    assert _built(folder, "dynamic", env={"STATIC": "2"})[1]["Labels"]["static"] == "0"
    assert _built(folder, "binary")[0] == {"tool": "a"}
    cross = yaml.safe_load((folder.root / "specs" / "binary-cross.yaml").read_text())
    assert cross["platforms"] == ["linux/amd64", "linux/arm64"]
    made = folder.run("render", "image").stdout
    assert yaml.safe_load(made)["tags"] == ["team/tool:local"]
    assert all(" is left out: " in each for each in _notes(folder))


def test_images_that_stand_on_one_another_by_their_tags(folder: Project) -> None:
    """Contexts that have the name which the Dockerfile gives its base, with variables in it."""
    folder.file("Dockerfile.base", "FROM scratch\nCOPY a.txt /base\n")
    folder.file(
        "Dockerfile.api", "ARG REPO\nARG V=dev\nFROM ${REPO}/dr_base:${V}\nCOPY a.txt /api\n"
    )
    folder.file(
        "docker-bake.hcl",
        """
        variable "REPO" { default = "team" }
        variable "V" { default = "local" }
        variable "PLATFORMS" { default = "linux/amd64" }
        variable "PUSH" { default = false }
        function "tags_for" {
          params = [name]
          result = ["${REPO}/dr_${name}:${V}", "${REPO}/dr_${name}:latest"]
        }
        function "cache_to" {
          params = [name]
          result = PUSH ? ["type=registry,ref=${REPO}/${name}_cache"] : []
        }
        function "on" {
          params = [parent]
          result = { "${REPO}/dr_${parent}:${V}" = "target:${parent}" }
        }
        target "_common" { args = { REPO = REPO, V = V } }
        target "base" {
          inherits = ["_common"]
          dockerfile = "Dockerfile.base"
          tags = tags_for("base")
          cache-to = cache_to("base")
        }
        target "api" {
          inherits = ["_common"]
          dockerfile = "Dockerfile.api"
          contexts = on("base")
          tags = tags_for("api")
        }
        group "default" { targets = ["base", "api"] }
        """,
    )
    folder.run("convert", "docker-bake.hcl", "-o", "specs")
    assert _built(folder, "api")[0] == {"base": "a", "api": "a"}
    tags = yaml.safe_load(folder.run("render", "api", "--set", "V=3").stdout)["tags"]
    assert tags == ["team/dr_api:3", "team/dr_api:latest"]


def test_tags_that_a_function_of_functions_makes(folder: Project) -> None:
    folder.file(
        "docker-bake.hcl",
        """
        variable "V" { default = "2.356" }
        variable "LATEST" { default = "false" }
        variable "WHERE" { default = "local" }
        variable "SHA" {}
        function "_versioned" {
          params = [tag]
          result = notequal(tag, "") ? "r/j:${V}-${tag}" : "r/j:${V}"
        }
        function "tag" {
          params = [versioned, tag]
          result = equal(versioned, true) ? _versioned(tag) : "r/j:${tag}"
        }
        function "weekly" {
          params = [versioned, tag]
          result = equal(LATEST, "true") ? tag(versioned, tag) : ""
        }
        function "where" {
          params = [target]
          result = WHERE == "both" ? [
            "gcp/${target}:${SHA}",
            "ecr/${target}:${SHA}",
          ] : (WHERE == "gcp" ? ["gcp/${target}:${SHA}"] : ["core/${target}:from-local"])
        }
        target "a" {
          dockerfile-inline = "FROM scratch"
          tags = [tag(true, ""), tag(true, "slim"), weekly(false, "latest"), weekly(true, "x")]
        }
        target "b" {
          dockerfile-inline = "FROM scratch"
          tags = where("b")
        }
        """,
    )
    folder.run("convert", "docker-bake.hcl", "-o", "specs")
    assert not _notes(folder)

    def tags(name: str, *sets: str) -> list[str]:
        options = [part for each in sets for part in ("--set", each)]
        found: list[str] = yaml.safe_load(folder.run("render", name, *options).stdout)["tags"]
        return found

    assert tags("a") == ["r/j:2.356", "r/j:2.356-slim"]
    assert tags("a", "V=3", "LATEST=true") == ["r/j:3", "r/j:3-slim", "r/j:latest", "r/j:3-x"]
    assert tags("b") == ["core/b:from-local"]
    assert tags("b", "WHERE=gcp", "SHA=s") == ["gcp/b:s"]
    assert tags("b", "WHERE=both", "SHA=s") == ["gcp/b:s", "ecr/b:s"]


def test_a_development_compose_file_with_an_override(folder: Project) -> None:
    folder.file("api/Dockerfile", "FROM scratch AS prod\nARG UID=1\nCOPY a /a\nLABEL uid=$UID\n"
                "FROM prod AS dev\nCOPY a /dev-only\n")  # fmt: skip
    folder.file("api/a", "a")
    folder.file(
        "docker-compose.yml",
        """
        x-common: &common
          restart: always
          logging: {driver: json-file}
        services:
          api:
            <<: *common
            build:
              context: ./api
              target: ${STAGE:-prod}
              args:
                UID: ${UID_:-1000}
            image: team/api:${TAG:-dev}
            depends_on: {db: {condition: service_healthy}}
            healthcheck: {test: ["CMD", "true"], interval: 5s}
          worker:
            extends: {service: api}
            image: team/worker:${TAG:-dev}
            command: work
          db:
            <<: *common
            image: postgres:16
        volumes: {data: }
        networks: {default: {name: net}}
        """,
    )
    folder.file("docker-compose.override.yml", "services: {api: {build: {target: dev}}}\n")
    folder.run("convert", "docker-compose.yml", "-o", "specs")
    assert _built(folder, "api")[0] == {"a": "a", "dev-only": "a"}
    files, config = _built(folder, "worker")
    assert (files, config["Labels"]) == ({"a": "a"}, {"uid": "1000"})
    assert _notes(folder) == [
        "# builder: target hangs on STAGE, and is here what it was by default"
    ]
