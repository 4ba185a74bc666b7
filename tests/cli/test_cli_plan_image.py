"""The image is a row of the plan: what changes its digest, or its tags, is said and is a change."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

SPEC = """\
from: {base}
vars: {{v: "1"}}
steps: [{{file: /x, content: x}}]
config: {{env: {{A: a, B: b}}, labels: {{l: a}}, cmd: [a], user: "1", exposed_ports: [80]}}
tags: [registry.example/a:1]
"""

CHANGES: dict[str, tuple[str, str, str]] = {
    # what is replaced in the spec, with what, what is said of it
    "a label": ("l: a", "l: b", 'label l: "a" -> "b"'),
    "a new label": ("l: a", "l: a, m: b", "label m: new"),
    "a label that is gone": ("{l: a}", "{}", "label l: gone"),
    "a variable": ("A: a", "A: c", 'env A: "a" -> "c"'),
    "a new variable": ("B: b", "B: b, C: c", "env C: new"),
    "variables in another order": ("A: a, B: b", "B: b, A: a", "env: in another order"),
    "the command": ("cmd: [a]", "cmd: [a, b]", 'cmd: ["a"] -> ["a", "b"]'),
    "an entrypoint": ("cmd: [a]", "cmd: [a], entrypoint: [e]", 'entrypoint: unset -> ["e"]'),
    "the user": ('user: "1"', 'user: "2"', 'user: "1" -> "2"'),
    "a port": ("[80]", "[80, 81]", "exposed port 81/tcp: new"),
    "a volume": ("cmd: [a]", "cmd: [a], volumes: [/v]", "volume /v: new"),
    "the stop signal": ("cmd: [a]", "cmd: [a], stop_signal: SIGINT", "stop_signal: unset"),
    "the shell": ("cmd: [a]", "cmd: [a], shell: [/bin/sh]", 'shell: unset -> ["/bin/sh"]'),
    "a health check": ("cmd: [a]", "cmd: [a], healthcheck: {test: [NONE]}", "healthcheck: "),
    "a step's name": ("{file: /x", "{name: n, file: /x", "history: a step is named"),
    "the tags": ("a:1]", "a:2]", 'tags: ["registry.example/a:1"] -> ["registry.example/a:2"]'),
}  # fmt: skip


@pytest.fixture(params=["scratch", "image:below"])
def made(request: Any, project: Any) -> Any:
    project.spec("below", "from: scratch\nsteps: [{file: /below, content: x}]\n")
    project.spec("a", SPEC.format(base=request.param))
    project.run("build", "a")
    project.text = SPEC.format(base=request.param)
    return project


def row(project: Any, *options: str, status: int) -> dict[str, Any]:
    done = project.run("plan", "a", "--json", "--exit-code", *options, status=status)
    found: dict[str, Any] = json.loads(done.stdout)["images"][-1]["image"]
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_image_alone_is_a_change(made: Any, change: str) -> None:
    before, after, said = CHANGES[change]
    unchanged = row(made, status=0)
    assert (unchanged["status"], unchanged["why"]) == ("hit", "unchanged")
    assert before in made.text
    made.spec("a", made.text.replace(before, after))
    found = row(made, status=3)
    assert found["status"] == "build" and said in found["why"], found
    assert (found["digest"] != unchanged["digest"]) == (change != "the tags")
    assert f"image: build: {found['why']}\n" in made.run("why", "a").stdout
    assert [status for status, _ in made.plan("a")["a"]] == ["hit"]
    assert made.build("a")["a"]["digest"] == found["digest"]
    assert row(made, status=0)["digest"] == found["digest"]


def test_the_digest_in_a_plan_is_that_of_the_build(project: Any) -> None:
    config = "config: {working_dir: /w, user: '1', env: {A: a}, labels: {l: %s}, cmd: [a]}\n"
    steps = "steps: [{file: %s, content: x}, {remove: /nothing}]\n"
    project.spec("a", "from: scratch\n" + config % "a" + steps % "a")
    project.spec("b", "from: image:a\nconfig: {working_dir: /v, entrypoint: [e]}\n")
    project.spec("c", "from: image:b\n" + steps % "c")
    project.spec("d", "from: image:c\nconfig: {env: {A: d}, shell: [/s]}\n" + steps % "/d")
    for options in ([], ["--compression", "zstd"], ["--platform", "arm64"]):
        built = project.build(*options)
        done = project.run("plan", "--json", "--exit-code", *options)
        planned = {each["name"]: each["image"] for each in json.loads(done.stdout)["images"]}
        assert {name: each["digest"] for name, each in planned.items()} == {
            name: each["digest"] for name, each in built.items()
        }
    converted = json.loads(project.run("plan", "--json", "--compression", "none").stdout)["images"]
    assert {each["image"]["status"] for each in converted} == {"unknown"}


def test_times_and_codecs_are_the_images_too(made: Any) -> None:
    zstd = row(made, "--compression", "zstd", status=3)
    assert (zstd["status"], zstd["digest"]) == ("unknown", None)
    assert re.fullmatch(r"decided after step 1 \(.*\), whose layer is converted", zstd["why"])
    made.build("a", "--compression", "zstd")
    found = row(made, status=3)
    assert found["why"] == "its layers are compressed in another way"


def test_a_step_that_is_built_decides_first(made: Any) -> None:
    made.spec("a", made.text.replace("content: x", "content: y").replace("l: a", "l: b"))
    found = row(made, status=3)
    assert (found["status"], found["why"]) == ("unknown", "decided after step 1 (file /x)")
    rows = [line.split() for line in made.run("plan", "a").stdout.splitlines()]
    assert ["image", "unknown", "decided", "after", "step", "1", "(file", "/x)"] in rows


def test_an_image_whose_documents_are_gone_is_built(made: Any) -> None:
    digest = row(made, status=0)["digest"]
    (made.store / "blobs/sha256" / digest[7:]).unlink()
    assert row(made, status=3)["why"] == "it is no longer in the cache"
    assert made.build("a")["a"]["digest"] == digest
    assert row(made, status=0)["digest"] == digest


def test_a_base_that_says_something_else_changes_what_stands_on_it(project: Any) -> None:
    project.spec("below", "from: scratch\nsteps: [{file: /below, content: x}]\n")
    project.spec("a", SPEC.format(base="image:below"))
    project.build()
    text = "from: scratch\nsteps: [{file: /below, content: x}]\nconfig: {working_dir: /}\n"
    project.spec("below", text)
    documents = json.loads(project.run("plan", "--json", "--exit-code", status=3).stdout)["images"]
    assert {each["name"]: each["image"]["why"] for each in documents} == {
        "below": 'working_dir: unset -> "/"',
        "a": 'working_dir: unset -> "/"',
    }
