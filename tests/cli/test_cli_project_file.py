"""builder.yaml: what holds for all specs of a project, where the command line says nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

SPEC = """
vars: {version: null, flavour: plain}
from: scratch
steps: [{file: /v, content: "{{ version }} {{ flavour }} {{ target.arch }}"}]
tags: ["site:{{ version }}", "other.example/x:1"]
"""


def content(project: Any, *arguments: str) -> str:
    document = project.run("render", "x", *arguments).stdout
    line = next(line for line in document.splitlines() if "content: " in line)
    return str(line.partition("content: ")[2])


def test_its_variables_are_over_defaults_and_below_what_the_command_line_says(project: Any) -> None:
    project.spec("x", SPEC)
    assert "must be given" in project.run("plan", status=2).stderr
    project.file("builder.yaml", "vars: {version: '2', flavour: '{{ no }}'}\n")
    assert content(project) == "2 {{ no }} amd64"
    project.file("v.yaml", "flavour: file\n")
    assert content(project, "--vars-file", "v.yaml") == "2 file amd64"
    assert content(project, "--vars-file", "v.yaml", "--set", "flavour=set") == "2 set amd64"
    project.run("build")
    project.file("builder.yaml", "vars: {version: '3'}\n")
    assert project.plan()["x"][0][0] == "build"  # the spec's cache sees another project file


def test_platform_epoch_executor_and_registry(project: Any) -> None:
    project.spec("x", SPEC)
    project.file(
        "builder.yaml",
        "vars: {version: '2'}\nplatforms: [linux/arm64]\nepoch: 1700000000\n"
        "registry: registry.example/team\nexecutor: chroot\n",
    )
    project.run("build", "--allow-foreign")
    document = json.loads(project.run("inspect", "x", "--no-build").stdout)
    assert document["platform"] == "linux/arm64"
    assert document["config"]["created"] == "2023-11-14T22:13:20Z"
    assert content(project) == "2 plain arm64"
    assert content(project, "--platform", "linux/amd64") == "2 plain amd64"
    env = {"SOURCE_DATE_EPOCH": "1600000000"}
    project.run("build", "--allow-foreign", env=env)
    document = json.loads(project.run("inspect", "x", "--no-build", env=env).stdout)
    assert document["config"]["created"] == "2020-09-13T12:26:40Z"
    done = project.run("push", "x", status=1)  # there is no such registry
    assert "registry.example" in done.stderr and "docker.io" not in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("platforms: [linux/amd64, amd64]\n", "'linux/amd64' is there twice"),
        ("executor: sandbx\n", "did you mean 'sandbox'?"),
        ("epoch: -1\n", "whole number"),
        ("registry: team\n", "is no registry, expected a host"),
        ("registry: r.example/Team\n", "r.example/Team"),
        ("registry: '{{ x }}'\n", "is a template, there are none in the project file"),
        ("vars: [a]\n", "mapping of names to values"),
        ("vars: {spec: 1}\n", "spec"),
        ("var: {}\n", "did you mean 'vars'?"),
    ],
)
def test_what_is_wrong_in_it_has_its_place(project: Any, text: str, says: str) -> None:
    project.spec("x", "from: scratch\n")
    project.file("builder.yaml", text)
    for command in ("plan", "lint"):
        done = project.run(command, status=2)
        assert says in done.stderr and "builder.yaml:1:" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("secrets: [a]\n", "mapping of names"),
        ("secrets: {a: hunter2}\n", "found text, expected {file: PATH} or {env: VARIABLE}"),
        ("secrets: {a: {}}\n", "0 givers"),
        ("secrets: {a: {file: x, env: y}}\n", "2 givers"),
        ("secrets: {a: {fil: x}}\n", "did you mean 'file'?"),
        ("secrets: {a: {env: 'A=B'}}\n", "is not a name of an environment variable"),
        ("secrets: {a: {env: '{{ x }}'}}\n", "is a template"),
        ("secrets: {a/b: {env: X}}\n", "is no name of a secret"),
    ],
)
def test_who_gives_secrets(project: Any, text: str, says: str) -> None:
    project.spec("x", "from: scratch\n")
    project.file("builder.yaml", text)
    done = project.run("plan", status=2)
    assert says in done.stderr and "builder.yaml:1:" in done.stderr, done.stderr
