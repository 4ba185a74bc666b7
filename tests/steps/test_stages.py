"""Stages: images that another is made of; built when needed, cut off where nothing changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.steps.test_copy_from import member, pack
from tests.steps.test_set import layers

APP = """
vars: {word: hello}
stages:
  tools:
    from: rootfs:box.tar
    steps:
      - run: echo tools > /tools
  build:
    from: stage:tools
    config: {working_dir: /src}
    steps:
      - copy: main.txt
        dest: ./
      - run: mkdir /out; cat main.txt > /out/app; echo {{ word }} > /out/word; cat /tools
  unused:
    from: rootfs:box.tar
    steps: [{run: exit 7}]
from: scratch
steps:
  - copy: /out/app
    from: stage:build
    dest: /
"""


def statuses(project: Any, *arguments: str) -> dict[str, list[str]]:
    found = project.plan(*arguments)
    return {image: [status for status, _ in steps] for image, steps in found.items()}


@pytest.mark.needs("busybox")
def test_only_what_is_needed_is_built_and_changes_end_where_files_are_equal(box: Any) -> None:
    box.file("main.txt", "main\n")
    box.spec("app", APP)
    first = box.build()
    assert set(first) == {"app:tools", "app:build", "app"}
    assert statuses(box) == {"app:tools": ["hit"], "app:build": ["hit"] * 2, "app": ["hit"]}
    # another word is no part of what is copied: the stage is built again, the image is not
    plan = box.plan("--set", "word=bye")
    status, why = plan["app:build"][1]
    assert status == "build" and "echo hello" in why and "echo bye" in why
    assert plan["app"][0][0] == "unknown" and "stage:build" in plan["app"][0][1]
    second = box.build("--set", "word=bye")
    assert [each["status"] for each in second["app:build"]["layers"][-2:]] == ["hit", "built"]
    assert [each["status"] for each in second["app"]["layers"]] == ["hit"]
    assert second["app"]["digest"] == first["app"]["digest"]
    box.file("main.txt", "other\n")
    third = box.build("--set", "word=bye")
    assert [each["status"] for each in third["app"]["layers"]] == ["built"]


@pytest.mark.needs("busybox")
def test_a_stage_is_named_on_the_command_line_and_never_tagged(box: Any) -> None:
    box.file("main.txt", "main\n")
    box.spec("app", APP)
    assert set(box.build("app:tools")) == {"app:tools"}
    assert box.run("images").stdout.count("app") == 0
    box.run("build", "app:build", "-o", "docker-archive:o.tar")
    assert layers(box.root / "o.tar")["out/app"] == b"main\n"
    assert "hit" in box.run("why", "app:build", "1").stdout
    assert json.loads(box.run("inspect", "app:build", "--no-build").stdout)["layers"]
    box.run("build", "app:unused", status=1)
    done = box.run("build", "app:bild", status=2)
    assert "'app' has no stage 'bild', did you mean 'build'?" in done.stderr
    assert "its stages: tools, build, unused" in done.stderr


@pytest.mark.needs("busybox")
def test_stages_run_beside_one_another(box: Any) -> None:
    box.spec(
        "app",
        "stages:\n"
        + "".join(
            f"  s{n}: {{from: 'rootfs:box.tar', steps: [{{run: sleep 2; echo {n} > /r}}]}}\n"
            for n in range(3)
        )
        + "from: scratch\nsteps:\n"
        + "".join(f"  - {{copy: /r, from: 'stage:s{n}', dest: /r{n}}}\n" for n in range(3)),
    )
    began = time.monotonic()
    box.run("build", "--jobs", "3")
    assert time.monotonic() - began < 5
    assert box.build()["app"]["layers"][2]["status"] == "hit"


FAULTS = {
    "an unknown stage": (
        "from: scratch\nstages: {build: {from: scratch}}\n"
        "steps: [{copy: /x, from: 'stage:bild', dest: /x}]\n",
        "'stage:bild' is no stage of 'specs/x.yaml', did you mean 'build'?",
        3,
    ),
    "no stages": ("from: stage:build\n", "'stage:build' is no stage of 'specs/x.yaml'", 1),
    "a circle": (
        "from: stage:a\nstages:\n  a: {from: stage:b}\n  b:\n    from: scratch\n"
        "    steps: [{copy: /x, from: 'stage:a', dest: /x}]\n",
        "images in a circle: x:a -> x:b -> x:a",
        6,
    ),
    "itself": (
        "from: scratch\nsteps: [{copy: /x, from: 'image:x', dest: /x}]\n",
        "images in a circle: x -> x",
        2,
    ),
    "a bare name": (
        "from: scratch\nstages: {build: {from: scratch}}\n"
        "steps: [{copy: /x, from: build, dest: /x}]\n",
        "'build' is an image of a registry, and a stage has this name",
        3,
    ),
    "left out": (
        "from: stage:build\nstages: {build: {from: scratch, when: false}}\n",
        "'stage:build' is left out by its own when: false",
        1,
    ),
    "no base": ("from: scratch\nstages:\n  build: {steps: []}\n", "'from'", 3),
    "tags": ("from: scratch\nstages:\n  build: {from: scratch, tags: [x]}\n", "'tags'", 3),
    "a bad name": ("from: scratch\nstages:\n  Build: {from: scratch}\n", "'Build'", 3),
    "a list": ("from: scratch\nstages: [{from: scratch}]\n", "mapping", 2),
    "another's stage": ("from: stage:y:z\n", "'stage:y:z' names no stage", 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_stages_has_its_place(project: Any, fault: str) -> None:
    text, says, line = FAULTS[fault]
    project.spec("x", text)
    error = json.loads(project.run("plan", "--json", status=2).stdout)["error"]
    assert says in error["message"], error
    assert error["place"]["line"] == line
    assert project.run("lint", status=2).stderr.count("error:") == 1


def test_what_is_not_in_a_stage_is_told(project: Any) -> None:
    project.file("main.txt", "x")
    project.spec(
        "x",
        "stages: {build: {from: scratch, steps: [{copy: main.txt, dest: /out/app}]}}\n"
        "from: scratch\nsteps: [{copy: /out/ap, from: 'stage:build', dest: /x}]\n",
    )
    done = project.run("build", status=2)
    assert "specs/x.yaml:3:" in done.stderr and "does not exist in stage:build" in done.stderr
    assert "did you mean '/out/app'?" in done.stderr


def test_variables_and_conditions_hold_for_stages(project: Any) -> None:
    project.spec(
        "x",
        "vars: {v: 1, debug: false}\n"
        "stages:\n"
        "  a:\n"
        "    vars: {w: 'w{{ v }}'}\n"
        "    from: scratch\n"
        "    steps:\n"
        "      - {file: /a, content: '{{ v }} {{ w }} {{ spec.name }}'}\n"
        "      - {when: debug, file: /debug, content: x}\n"
        "  b: {when: debug, from: stage:a}\n"
        "from: \"stage:{{ 'b' if debug else 'a' }}\"\n",
    )
    project.run("build", "-o", "docker-archive:o.tar")
    assert layers(project.root / "o.tar")["a"] == b"1 w1 x"
    assert set(project.plan("--set", "debug=true")) == {"x:a", "x:b", "x"}
    document = project.run("render", "x", "--set", "v=7").stdout
    assert "w: w7" in document and "content: 7 w7 x" in document


@pytest.mark.needs("busybox")
def test_what_the_base_says_may_decide_about_copies(box: Any) -> None:
    """A step that waits for its own base still has its stage built before."""
    box.spec("below", "from: scratch\nconfig: {env: {V: '3'}, working_dir: /srv}\n")
    box.spec(
        "x",
        "stages:\n"
        "  a: {from: scratch, steps: [{file: /a, content: a}]}\n"
        "  b:\n    from: image:below\n"
        "    steps: [{file: '/{{ base.env.V }}', content: '{{ base.env.V }}'}]\n"
        "from: image:below\n"
        "steps:\n"
        "  - {copy: /a, from: 'stage:a', dest: '{{ base.working_dir }}/a'}\n"
        "  - {when: base.env.V == '3', copy: /3, from: 'stage:b', dest: /three}\n",
    )
    box.run("build", "x", "-o", "docker-archive:o.tar")
    found = layers(box.root / "o.tar")
    assert (found["srv/a"], found["three"]) == (b"a", b"3")


def test_the_depfile_knows_what_stages_take(project: Any) -> None:
    project.file("main.txt", "x")
    project.spec(
        "x",
        "stages: {build: {from: scratch, steps: [{copy: main.txt, dest: /out/app}]}}\n"
        "from: scratch\nsteps: [{copy: /out/app, from: 'stage:build', dest: /x}]\n",
    )
    project.run("build", "x", "--iidfile", "x.id", "--depfile", "x.d")
    assert "main.txt" in (project.root / "x.d").read_text()


def test_a_matrix_and_a_copied_image_have_stages(project: Any) -> None:
    project.spec(
        "x",
        "matrix: {v: [1, 2]}\nname: 'x-{{ v }}'\n"
        "stages: {a: {from: scratch, steps: [{file: /a, content: '{{ v }}'}]}}\n"
        "from: scratch\nsteps: [{copy: /a, from: 'stage:a', dest: /a}]\n",
    )
    project.spec("y", "from: scratch\nsteps: [{copy: /a, from: 'image:x-2', dest: /b}]\n")
    built = project.build()
    assert set(built) == {"x-1:a", "x-1", "x-2:a", "x-2", "y"}
    project.run("build", "y", "-o", "docker-archive:o.tar")
    assert layers(project.root / "o.tar")["b"] == b"2"
    assert set(project.build("x-1:a")) == {"x-1:a"}


@pytest.mark.needs("busybox")
def test_the_time_of_an_image_is_its_own(box: Any) -> None:
    """What it waits for its stages is told with those."""
    box.spec(
        "x",
        "stages: {slow: {from: 'rootfs:box.tar', steps: [{run: sleep 2; echo a > /a}]}}\n"
        "from: scratch\nsteps: [{copy: /a, from: 'stage:slow', dest: /a}]\n",
    )
    done = box.run("build", "--progress", "json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    took = {each["image"]: each["seconds"] for each in events if each["event"] == "image_done"}
    assert took["x:slow"] >= 2 > took["x"]


def test_a_stage_that_many_ways_lead_to_counts_once(project: Any) -> None:
    """Thirty stages that each copy twice from the one before: 2**30 ways to the first."""
    project.file("f", "f")
    lines = ["stages:", "  s0: {from: scratch, steps: [{copy: f, dest: /f}]}"]
    for n in range(1, 31):
        copies = [f"{{copy: /f, from: 'stage:s{n - 1}', dest: /{to}}}" for to in "fg"]
        lines.append(f"  s{n}: {{from: scratch, steps: [{', '.join(copies)}]}}")
    project.spec("app", "\n".join([*lines, "from: stage:s30\n"]))
    project.run("build", "app", "--depfile", "out.d", "--iidfile", "out.iid")
    assert (project.root / "out.d").read_text().split("\n\n")[0].count("f") < 10


def test_a_stage_may_be_rendered_and_linted_alone_and_is_pushed_by_name(project: Any) -> None:
    project.spec(
        "x",
        "vars: {v: '1'}\nstages:\n  a: {from: scratch, steps: [{file: /a, content: '{{ v }}'}]}\n"
        "  b: {from: scratch}\nfrom: 'stage:a'\ntags: [localhost:1/x]\n",
    )
    shown = "from: scratch\nsteps:\n- file: /a\n  content: '1'\n"
    assert project.run("render", "x:a").stdout == shown
    project.run("lint", "x:a")
    assert "error: a stage has no `tags`" in project.run("push", "x:a", status=2).stderr


USES = {
    "from: stage:a\n": True,
    "from: scratch\nsteps: [{when: false, copy: /a, from: 'stage:a', dest: /}]\n": True,
    "vars: {v: b}\nfrom: 'stage:{{ v }}'\n": True,
    "vars: {v: scratch}\nfrom: \"{{ 'stage:a' if v == 'a' else v }}\"\n": True,
    "from: stage:b\n": False,
}


@pytest.mark.parametrize("text", USES)
def test_lint_tells_of_a_stage_that_nothing_can_use(project: Any, text: str) -> None:
    project.spec("x", f"stages: {{a: {{from: scratch}}, b: {{from: scratch}}}}\n{text}")
    told = "the stage 'a' is used by nothing" in project.run("lint", "x").stderr
    assert told != USES[text]


@pytest.mark.needs("busybox")
def test_an_interrupt_is_an_object_for_who_asked_for_objects(box: Any) -> None:
    box.spec("x", "from: 'rootfs:box.tar'\nsteps: [{run: sleep 60}]\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "builder", "build", "--progress", "json"],
        cwd=box.root,
        env={**os.environ, "BUILDER_CACHE_DIR": str(box.store)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(json.loads(line))
        if told[-1]["event"] == "step_started" and told[-1]["step"] == 1:
            process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert (told[-1]["event"], told[-1]["message"]) == ("error", "interrupted")


def test_a_stage_of_a_matrix_is_one_of_an_image(project: Any) -> None:
    project.spec(
        "m",
        "matrix: {v: [1, 2]}\nname: 'x-{{ v }}'\nstages: {s: {from: scratch}}\nfrom: 'stage:s'\n",
    )
    said = project.run("build", "m:s", status=2).stderr
    assert "'m' is a matrix of 2 images, expected one of them\nhint: write x-1:s\n" in said
    assert set(project.build("x-1:s")) == {"x-1:s"}
    assert "hint: its stages: s\n" in project.run("build", "m:t", status=2).stderr


def test_the_depfile_knows_the_files_of_images(project: Any) -> None:
    project.file("a.txt", "a")
    project.spec("below", "from: scratch\nsteps: [{copy: a.txt, dest: /a}]\n")
    project.run("build", "below", "-o", "oci:layout", "-o", "docker-archive:saved.tar")
    pack(project.root / "box.tar", member("b", b"b"))
    project.spec(
        "x",
        "from: rootfs:box.tar\nstages: {s: {from: 'docker-archive:saved.tar'}}\nsteps:\n"
        "  - {copy: /a, from: 'stage:s', dest: /}\n"
        "  - {copy: /a, from: 'oci:layout', dest: /b}\n",
    )
    for _ in range(2):
        project.run("build", "x", "--iidfile", "x.id", "--depfile", "x.d")
        rule = (project.root / "x.d").read_text().partition("\n\n")[0].split()
        assert {"box.tar", "layout/index.json", "saved.tar", "specs/x.yaml"} <= set(rule)


def test_all_files_of_images_that_lack_are_told_at_once(project: Any) -> None:
    project.spec(
        "x",
        "from: rootfs:no.tar\nsteps:\n"
        "  - {copy: /a, from: 'oci:none', dest: /}\n"
        "  - {copy: /b, from: 'oci:none', dest: /}\n"
        "  - {copy: /a, from: 'docker-archive:not.tar', dest: /b}\n",
    )
    for command in ("lint", "build"):
        said = project.run(command, "x", status=2).stderr
        assert [said.count(f"no {path!r}") for path in ("no.tar", "none", "not.tar")] == [1, 2, 1]


def test_an_error_in_an_included_step_names_the_spec(box: Any) -> None:
    box.file("parts/copy.yaml", "- {copy: /no, from: 'stage:s', dest: /}\n")
    box.file("parts/run.yaml", "- run: exit 7\n")
    for name, status in (("copy", 2), ("run", 1)):
        box.spec(
            name,
            "stages: {s: {from: scratch, steps: [{file: /f, content: x}]}}\n"
            f"from: rootfs:box.tar\nsteps: [{{include: ../parts/{name}.yaml}}]\n",
        )
        said = box.run("build", name, status=status).stderr
        assert f"error: parts/{name}.yaml:1:" in said
        assert f"named at specs/{name}.yaml:" in said
