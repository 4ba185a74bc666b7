"""Conditions, loops, matrices, groups, and files that specs extend and include."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from builder.errors import SpecErrors, UsageError
from builder.oci.image import parse_platform
from builder.plan.step import own_steps
from builder.project import Options, Project
from builder.spec.gather import Loaded, load_project
from builder.spec.model import ImageSpec
from builder.spec.project import load_project_file
from builder.steps import VERBS
from builder.steps.file import File
from builder.steps.template import Template


@pytest.fixture
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project/specs"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder.parent)
    return folder


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)


def load(*images: str, environ: dict[str, str] | None = None, **more: Any) -> Loaded:
    return load_project(images, "specs", verbs=VERBS, environ=environ or {}, **more)


def only(name: str, **more: Any) -> ImageSpec:
    return load(name, **more).specs[name]


def wrong(*images: str, **more: Any) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        load(*images, **more)
    assert all("\n" not in each.message for each in caught.value.errors)
    return [each.message for each in caught.value.errors]


def titles(spec: ImageSpec) -> list[str]:
    return [step.title() for step in own_steps(spec)]


# when


WHEN: dict[str, bool | str] = {
    "debug": False,
    "not debug": True,
    "true": True,
    "false": False,
    "debug or target.arch == 'arm64'": True,
    "names | length > 1": True,
    "\"'a' in names\"": True,
    "version is defined and nope is not defined": True,
    "env('CI', '') == 'yes'": False,
    "'{{ debug }}'": "an expression is written without braces",
    "title": "'title' gives text, expected true or false",
    "names": "'names' gives a list, expected true or false",
    "1": "found '1', expected an expression",
    "n": "'n' gives a number, expected true or false",
    "[a]": "found a list, expected an expression",
    "''": "found '', expected an expression",
    "nope": "template error: 'nope' is undefined",
    "debug }} x": "template error: ",
    "debug debug": "template error: one expression is expected, this goes on after it",
    "debug ==": "template error: ",
    "names.__class__ == 1": "template error: ",
}
_VARS = "vars: {debug: false, names: [a, b], title: x, version: '1', n: 2}\n"


@pytest.mark.parametrize("text", WHEN)
@pytest.mark.parametrize("where", ["step", "image"])
def test_a_condition_decides(text: str, where: str, specs: Path) -> None:
    arm = {"platform": parse_platform("linux/arm64")}
    if where == "step":
        write(specs, a=f"from: scratch\n{_VARS}steps:\n- when: {text}\n  file: /a\n  content: x\n")
    else:
        write(specs, a=f"from: scratch\n{_VARS}when: {text}\n")
    expected = WHEN[text]
    if isinstance(expected, str):
        (found,) = wrong("a", **arm)
        line = 4 if where == "step" else 3
        assert found.startswith(f"specs/a.yaml:{line}:") and expected in found
        return
    found = load("a", **arm)
    if where == "image":
        assert list(found.specs) == (["a"] if expected else [])
        why = f"when: {text.strip(chr(34))}"
        assert [each.left_out for each in found.left_out] == ([] if expected else [why])
        return
    spec = found.specs["a"]
    assert len(spec.steps) == expected and len(spec.skipped) == (not expected)
    assert [(each.name, each.why) for each in spec.skipped] == [("file /a", f"when: {text}")] * (
        not expected
    )


def test_what_is_left_out_is_looked_at_all_the_same(specs: Path) -> None:
    write(
        specs,
        a="from: scratch\nsteps:\n"
        "- {when: false, file: /a, contnt: x}\n"
        "- {when: false, file: /a, content: '{{ nope[0] }}'}\n"
        "- {when: false, run: x, owner: '{{ nope }}'}\n",
        b="from: scratch\nwhen: false\nconfig: {cdm: 5, env: {A: '{{ nope }}'}}\n",
    )
    assert [each.split(": ", 1)[1][:30] for each in wrong("a", "b")] == [
        "unknown key 'contnt' in a 'fil",
        "unknown key 'owner' in a 'run'",
        "unknown key 'cdm' in 'config',",
    ]


def test_an_image_on_one_that_is_left_out_is_an_error(specs: Path) -> None:
    write(specs, a="from: scratch\nwhen: 1 > 2\n", b="from: image:a\n")
    assert wrong("b") == ["specs/b.yaml:1:7: base 'image:a' is left out by its own when: 1 > 2"]


def test_a_condition_on_the_base_is_decided_once_that_is_known(specs: Path, tmp_path: Path) -> None:
    write(
        specs,
        base="from: scratch\nconfig: {user: www, labels: {k: v}}\n",
        app="from: image:base\nsteps:\n"
        "- {when: base.user == 'www', file: /yes, content: x}\n"
        "- {when: base.user == 'root', file: /no, content: x}\n"
        "- {foreach: each in base.labels | list, file: '/{{ each }}', content: x}\n",
    )
    project = Project(Options(str(tmp_path / "store")))
    loaded, _ = project.load(["app"])
    assert loaded["app"].waits
    plan = project.plan(loaded)["app"]
    assert [step.name for step in plan.steps] == ["file /yes", "file /k"]
    assert [(each.name, each.after) for each in plan.spec.skipped] == [("file /no", 1)]


# foreach


def test_a_step_is_repeated(specs: Path) -> None:
    write(
        specs,
        a="from: scratch\nvars: {vs: [a, b, c]}\nsteps:\n"
        "- {foreach: v in vs, when: v != 'b', directory: '/{{ v }}'}\n"
        "- {foreach: 'v in vs[:1] + [7]', file: '/f{{ v }}', content: x}\n"
        "- {foreach: 'v in []', file: /gone, content: x}\n",
    )
    spec = only("a")
    assert titles(spec) == ["directory /a", "directory /c", "file /fa", "file /f7"]
    assert [(each.name, each.after) for each in spec.skipped] == [("directory /b", 1)]


LOOPS = {
    "vs": "'vs' is no loop, expected",
    "v of vs": "'v of vs' is no loop, expected",
    "spec in vs": "'spec' is a name that templates already have",
    "v-1 in vs": "'v-1' is not a variable name",
    "v in nope": "template error: 'nope' is undefined",
    "v in title": "'title' gives text, expected a list",
    "v in many": "more than 5000 steps, each round of a loop counted",
    "'{{ v }} in vs'": "is no loop, expected",
    "[v]": "found a list, expected",
}


@pytest.mark.parametrize("text", LOOPS)
def test_a_loop_that_is_none_is_told(text: str, specs: Path) -> None:
    write(
        specs,
        a="from: scratch\nvars: {vs: [a], title: x, many: '{{ range(9000) }}'}\nsteps:\n"
        f"- foreach: {text}\n  directory: /a\n",
    )
    assert LOOPS[text] in wrong("a")[0]


# matrix

MATRIX = """\
name: "py-{{ v }}-{{ kind }}"
from: scratch
matrix:
  v: ["3.11", "3.12"]
  kind: [slim, full]
  exclude: [{v: "3.11", kind: full}]
  include: [{v: "3.13", kind: slim, beta: true}]
vars: {beta: false, tag: "x:{{ v }}"}
steps: [{when: beta, file: /a, content: x}]
tags: "{{ tag }}"
"""


def test_a_matrix_makes_an_image_of_each_row(specs: Path) -> None:
    write(specs, py=MATRIX, app="from: image:py-3.12-full\n", other="from: scratch\n")
    names = ["py-3.11-slim", "py-3.12-slim", "py-3.12-full", "py-3.13-slim"]
    found = load("py")
    assert list(found.asked) == names == [spec.name for spec in found.specs.values()]
    assert [spec.tags[0] for spec in found.specs.values()] == [
        "x:3.11",
        "x:3.12",
        "x:3.12",
        "x:3.13",
    ]
    assert [len(spec.steps) for spec in found.specs.values()] == [0, 0, 0, 1]
    assert list(load("app").specs) == ["py-3.12-full", "app"]
    assert load("py-*-slim").asked == (names[0], names[1], names[3])
    assert load("py-3.13-slim").asked == (names[3],)
    assert set(load().asked) == {*names, "app", "other"}
    assert load("[ao]*").asked == ("app", "other")
    groups = {"web": ["other", "py-3.12-*"]}
    assert load("web", "app", groups=groups).asked == ("other", names[1], names[2], "app")
    sets = {"py.beta": "true", "py-3.13-slim.beta": "false"}
    steps = [len(spec.steps) for spec in load("py", sets=sets).specs.values()]
    assert steps == [1, 1, 1, 0]
    for image in ("py-3.14-slim", "p*x", "weeb"):
        with pytest.raises(UsageError, match="no spec "):
            load(image, groups=groups)
    with pytest.raises(UsageError, match=r"the matrix of specs/py.yaml gives 'v' its values"):
        load("py", sets={"v": "1"})
    write(specs, app="from: image:py\n")
    assert "is a matrix of 4 images, expected one of them" in wrong("app")[0]


MATRICES = {
    "{a: []}": "the list is empty, expected values",
    "{a: 5}": "found '5', expected a list of values",
    "[a]": "found a list, expected a mapping of axes",
    "{a: [1], b: [1.10]}": "'1.10' is a number that would be written '1.1'",
    "{5: [a]}": "'5' is not a variable name",
    "{spec: [a]}": "'spec' is a name that templates already have",
    "{a: [1, 1]}": "two rows of the matrix make the image 'n-1'",
    "{a: [1], exclude: [{b: 1}]}": "the matrix has no axis 'b'",
    "{a: [1, 2], exclude: [{a: 3}]}": "'3' is no value of 'a'",
    "{a: [1], exclude: [{a: 1}]}": "the matrix has no rows",
    "{a: [1], exclude: [{}]}": "the row is empty, it would exclude all",
    "{a: [1], exclude: {a: 1}}": "found a mapping, expected a list of rows",
    "{a: [1], include: [{b: 1}]}": "the row gives no 'a'",
    "{a: [1], include: [x]}": "found 'x', expected a mapping",
    "{a: '{{ range(1001) | list }}'}": "the matrix has 1001 rows, expected at most 1000",
    "{a: '{{ range(90) | list }}', b: '{{ range(90) | list }}'}": "the matrix has 8100 rows",
    "{a: '{{ nope }}'}": "template error: 'nope' is undefined",
    "{}": "the matrix has no rows",
}


@pytest.mark.parametrize("text", MATRICES)
def test_a_matrix_that_is_none_is_told(text: str, specs: Path) -> None:
    write(specs, m=f"name: 'n-{{{{ a }}}}'\nfrom: scratch\nmatrix: {text}\n")
    assert MATRICES[text] in wrong("m")[0]


def test_a_matrix_needs_a_name(specs: Path) -> None:
    write(specs, m="from: scratch\nmatrix: {a: [1, 2]}\n")
    assert "a matrix needs a 'name' that tells its images apart" in wrong("m")[0]


MANY = """\
name: "img-{{ a }}-{{ b }}"
from: scratch
matrix: {a: "{{ range(20) | list }}", b: "{{ range(10) | list }}"}
vars: {t: "{{ a }}.{{ b }}"}
steps:
- {file: /a, content: "{{ t }}"}
- {directory: /d, when: b != 3}
config: {labels: {v: "{{ t }}"}, env: {A: "{{ a }}"}}
tags: "r.example/x:{{ t }}"
"""


def test_200_images_of_one_matrix_are_planned_in_half_a_second(specs: Path, tmp_path: Path) -> None:
    write(specs, many=MANY)

    def plan() -> tuple[int, float]:
        start = time.process_time()
        project = Project(Options(str(tmp_path / "store")))
        loaded, _ = project.load([])
        plans = project.plan(loaded)
        return len(plans), time.process_time() - start

    took = [plan() for _ in range(3)]
    project = Project(Options(str(tmp_path / "store")))
    project.build(project.load([])[0])
    took += [plan() for _ in range(3)]
    print("CPU seconds of plans, three before it was built:", took)
    assert {count for count, _ in took} == {200}
    assert min(seconds for _, seconds in took[:3]) < 1  # 0.5 on an idle machine
    assert min(seconds for _, seconds in took[3:]) < 0.5
    assert len(os.listdir(tmp_path / "store/specs")) == 1


def test_groups_are_told_in_the_project_file(specs: Path) -> None:
    Path("builder.yaml").write_text("groups: {web: [app, 'py-*']}\n")
    assert load_project_file(".").groups == {"web": ("app", "py-*")}
    for text, message in {
        "groups: {web: []}": "the list is empty",
        "groups: {web: app}": "found 'app', expected a list of images",
        "groups: {Web: [app]}": "'Web' ",
        "groups: {web: ['{{ x }}']}": "is a template, there are none in the project file",
        "groups: {web: [a/b]}": "'a/b' is no name of an image",
        "groups: [web]": "found a list, expected a mapping",
    }.items():
        Path("builder.yaml").write_text(text)
        with pytest.raises(SpecErrors) as caught:
            load_project_file(".")
        assert message in caught.value.errors[0].message
    write(specs, web="from: scratch\n")
    with pytest.raises(UsageError, match=r"'web' is a group of builder.yaml, and a spec, too"):
        load("web", groups={"web": ["web"]})


# extends and include

COMMON = """\
x-any: &env {A: "1", B: "2"}
vars: {title: x, long: "{{ title }}!", data: {a: 1, b: 2}}
steps:
- {name: one, file: /one, content: "{{ long }}"}
- {name: two, file: /two, content: x}
config: {env: *env, healthcheck: {test: x, retries: 3}, labels: {a: "1"}}
tags: [a]
"""


def test_a_spec_stands_over_another_file(specs: Path) -> None:
    write(
        specs,
        common=COMMON,
        app="extends: common.yaml\nfrom: scratch\nvars: {title: y, data: {b: 3}}\n"
        "steps: [{file: /own, content: x}]\n"
        "config: {env: {B: '3', C: '4'}, healthcheck: null, labels: {b: '2'}}\ntags: [b]\n",
    )
    spec = only("app")
    assert spec.variables == {"title": "y", "long": "y!", "data": {"a": 1, "b": 3}}
    assert [step.name for step in spec.steps] == ["one", "two", None]
    assert spec.steps[0].values()[1] == "y!"
    assert spec.config.env == {"A": "1", "B": "3", "C": "4"}
    assert spec.config.healthcheck is None
    assert spec.config.labels == {"a": "1", "b": "2"}
    assert spec.tags == ("b",)
    assert spec.parts == ("specs/common.yaml",)
    assert load().asked == ("app",)  # common is no image
    assert wrong("common") == ["specs/common.yaml:1:1: missing key 'from' in a spec"]


def test_steps_of_the_extended_file_may_be_edited(specs: Path) -> None:
    edited = (
        "{prepend: [{file: /zero, content: x}], append: [{file: /last, content: x}],"
        " replace: {one: {directory: /1}, two: null}}"
    )
    write(specs, common=COMMON, app=f"extends: [common.yaml]\nfrom: scratch\nsteps: {edited}\n")
    spec = only("app")
    assert titles(spec) == ["file /zero", "directory /1", "file /last"]
    assert [step.name for step in spec.steps] == [None, "one", None]


def test_steps_of_another_file_are_included(specs: Path) -> None:
    (specs / "steps").mkdir()
    (specs / "steps/apt.yaml").write_text(
        "- {file: '/{{ pkg }}', content: '{{ title }}'}\n- {include: ../more.txt, when: deep}\n"
    )
    (specs / "more.txt").write_text("- {directory: '/{{ pkg }}.d'}\n")
    write(
        specs,
        app="from: scratch\nvars: {title: x, deep: true}\nsteps:\n"
        "- {include: steps/apt.yaml, vars: {pkg: '{{ title }}1'}}\n"
        "- include: 'steps/{{ \"apt\" }}.yaml'\n  foreach: p in ['a', 'b']\n"
        "  vars: {pkg: '{{ p }}', deep: false}\n",
    )
    spec = only("app")
    assert titles(spec) == ["file /x1", "directory /x1.d", "file /a", "file /b"]
    assert [each.name for each in spec.skipped] == ["include ../more.txt"] * 2
    assert spec.parts == ("specs/steps/apt.yaml", "specs/more.txt")


FAULTS: dict[str, tuple[dict[str, str], str, tuple[str, ...]]] = {
    "extended": (
        {"app": "extends: common.yaml\nfrom: scratch\n", "common": "config: {cdm: [x]}\n"},
        "specs/common.yaml:1:10: unknown key 'cdm' in 'config', did you mean 'cmd'?",
        ("specs/app.yaml:1:10",),
    ),
    "extended twice": (
        {
            "app": "extends: a.yaml\nfrom: scratch\n",
            "a": "extends: b.yaml\n",
            "b": "config: {cmd: '{{ nope }}'}\n",
        },
        "specs/b.yaml:1:19: template error: 'nope' is undefined, expected one of the variables",
        ("specs/a.yaml:1:10", "specs/app.yaml:1:10"),
    ),
    "included": (
        {"app": "from: scratch\nsteps:\n- include: c.yaml\n", "c": "- {run: x, tmeout: 5s}\n"},
        "specs/c.yaml:1:12: unknown key 'tmeout' in a 'run' step, did you mean 'timeout'?",
        ("specs/app.yaml:3:12",),
    ),
    "no YAML": (
        {"app": "from: scratch\nsteps:\n- include: c.yaml\n", "c": "- [\n"},
        "specs/c.yaml:2:1: ",
        ("specs/app.yaml:3:12",),
    ),
    "no text": (
        {"app": "from: scratch\nextends: c.yaml\n", "c": "\x00"},
        "specs/app.yaml:2:10: 'c.yaml' cannot be read: ",
        (),
    ),
    "no list": (
        {"app": "from: scratch\nsteps:\n- include: c.yaml\n", "c": "run: x\n"},
        "specs/c.yaml:1:1: found a mapping, expected a list of steps",
        ("specs/app.yaml:3:12",),
    ),
    "no mapping": (
        {"app": "from: scratch\nextends: c.yaml\n", "c": "- run: x\n"},
        "specs/c.yaml:1:1: found a list, expected a mapping as in a spec",
        ("specs/app.yaml:2:10",),
    ),
    "itself": (
        {"app": "from: scratch\nextends: app.yaml\n"},
        "specs/app.yaml:2:10: files in a circle: specs/app.yaml -> specs/app.yaml",
        (),
    ),
    "a circle": (
        {
            "app": "from: scratch\nextends: a.yaml\n",
            "a": "extends: b.yaml\n",
            "b": "extends: a.yaml\n",
        },
        "specs/b.yaml:1:10: files in a circle: specs/a.yaml -> specs/b.yaml -> specs/a.yaml",
        ("specs/a.yaml:1:10", "specs/app.yaml:2:10"),
    ),
    "a circle of includes": (
        {"app": "from: scratch\nsteps: [{include: a.yaml}]\n", "a": "- include: a.yaml\n"},
        "specs/a.yaml:1:12: files in a circle: specs/a.yaml -> specs/a.yaml",
        ("specs/app.yaml:2:19",),
    ),
    "not there": (
        {"app": "from: scratch\nextends: comon.yaml\n", "common": ""},
        "specs/app.yaml:2:10: 'comon.yaml' cannot be read: No such file or directory, did you mean"
        " 'common.yaml'?",
        (),
    ),
    "a folder": (
        {"app": "from: scratch\nextends: ../specs\n"},
        "specs/app.yaml:2:10: '../specs' cannot be read: it is not a regular file",
        (),
    ),
    "outside": (
        {"app": "from: scratch\nextends: ../../secret.yaml\n"},
        "specs/app.yaml:2:10: '../../secret.yaml' leads out of the project",
        (),
    ),
    "outside by a link": (
        {"app": "from: scratch\nextends: link.yaml\n"},
        "specs/app.yaml:2:10: 'link.yaml' leads out of the project",
        (),
    ),
    "absolute": (
        {"app": "from: scratch\nextends: /etc/passwd\n"},
        "specs/app.yaml:2:10: '/etc/passwd' is no path, expected one relative to this file",
        (),
    ),
    "a template": (
        {"app": "from: scratch\nextends: '{{ x }}.yaml'\n"},
        "specs/app.yaml:2:10: '{{ x }}.yaml' is a template",
        (),
    ),
    "nothing to unset": (
        {
            "app": "from: scratch\nextends: c.yaml\nconfig: {cdm: null}\n",
            "c": "config: {cmd: [x]}\n",
        },
        "specs/app.yaml:3:10: nothing is unset: no file that is extended has 'cdm' here,"
        " did you mean 'cmd'?",
        (),
    ),
    "no such step": (
        {
            "app": "from: scratch\nextends: c.yaml\nsteps: {replace: {oen: null}}\n",
            "c": "steps: [{name: one, run: x}]\n",
        },
        "specs/app.yaml:3:19: no step that is extended has the name 'oen', did you mean 'one'?",
        (),
    ),
    "no such edit": (
        {"app": "from: scratch\nextends: c.yaml\nsteps: {prepnd: []}\n", "c": "steps: []\n"},
        "specs/app.yaml:3:9: unknown key 'prepnd' in 'steps', did you mean 'prepend'?",
        (),
    ),
    "a misspelt include": (
        {"app": "from: scratch\nsteps: [{inculde: c.yaml}]\n"},
        "specs/app.yaml:2:10: unknown step 'inculde', did you mean 'include'?",
        (),
    ),
    "a name of many steps": (
        {
            "app": "from: scratch\nsteps: [{include: c.yaml, name: all}]\n",
            "c": "- {file: /a, content: a}\n",
        },
        "specs/app.yaml:2:27: key 'name' belongs to the steps of that file, not to an 'include'",
        (),
    ),
    "too deep": (
        {
            "app": "from: scratch\nextends: f0.yaml\n",
            **{f"f{n}": f"extends: f{n + 1}.yaml\n" for n in range(30)},
        },
        "more than 20 files below each other",
        tuple("x" * 20),
    ),
    "too many": (
        {
            "app": "from: scratch\nextends: [f0.yaml, f0.yaml]\n",
            **{f"f{n}": f"extends: [f{n + 1}.yaml, f{n + 1}.yaml]\n" for n in range(15)},
            "f15": "vars: {a: 1}\n",
        },
        "more than 100 files are extended",
        (),
    ),
    "too many steps": (
        {
            "app": "from: scratch\nsteps: [{include: f0.yaml}, {include: f0.yaml}]\n",
            **{f"f{n}": f"- include: f{n + 1}.yaml\n- include: f{n + 1}.yaml\n" for n in range(15)},
            "f15": "[]\n",
        },
        "more than 5000 steps, each round of a loop counted",
        (),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_error_in_another_file_tells_both_places(name: str, specs: Path) -> None:
    texts, message, via = FAULTS[name]
    (specs.parent.parent / "secret.yaml").write_text("from: scratch\n")
    (specs / "link.yaml").symlink_to("../../secret.yaml")
    write(specs, **texts)
    start = time.process_time()
    with pytest.raises(SpecErrors) as caught:
        load("app")
    assert time.process_time() - start < 4
    assert message in caught.value.errors[0].message
    found = caught.value.errors[0]
    if name.startswith("too"):
        assert len(found.via) >= len(via)
    else:
        assert tuple(map(str, found.via)) == via


def test_a_known_spec_is_read_again_when_a_part_of_it_changes(specs: Path, tmp_path: Path) -> None:
    write(specs, common="steps: [{directory: /a}]\n", app="extends: common.yaml\nfrom: scratch\n")

    def found() -> list[str]:
        return titles(Project(Options(str(tmp_path / "store"))).load(["app"])[0]["app"])

    assert found() == found() == ["directory /a"]
    write(specs, common="steps: [{directory: /b}]\n")
    assert found() == ["directory /b"]
    (specs / "common.yaml").unlink()
    with pytest.raises(SpecErrors, match="cannot be read: No such file"):
        found()


@pytest.mark.parametrize("word", ["extends: {0}", "steps: [{{include: {0}}}]"])
@pytest.mark.parametrize(
    "kind", ["a folder", "a FIFO", "a socket", "a device", "a link to nothing"]
)
def test_what_is_no_file_is_not_what_was_meant(specs: Path, kind: str, word: str) -> None:
    """The hint for a file that cannot be read never proposes that one."""
    place = specs / "part.yaml"
    match kind:
        case "a folder":
            place.mkdir()
        case "a FIFO":
            os.mkfifo(place)
        case "a socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(place.relative_to(Path.cwd())))
        case "a device":
            place.symlink_to("/dev/null")
        case _:
            place.symlink_to("none.yaml")
    write(specs, app=f"from: scratch\n{word.format('part.yaml')}\n")
    (message,) = wrong("app")
    assert "'part.yaml'" in message and "did you mean" not in message


NAMES = {
    "the file's": ("", ["app"]),
    "its own": ("name: other\n", ["other"]),
    "a template": ("vars: {v: 1}\nname: 'x-{{ v }}'\n", ["x-1"]),
    "a template that names the target": ("name: 'x-{{ target.os }}'\n", ["x-linux"]),
    "rows": ("name: 'x-{{ r }}'\nmatrix: {r: [a, b]}\n", ["x-a", "x-b"]),
}
SAYS_IT = """
  - {file: /f, content: "{{ spec.name }}"}
  - {file: "/{{ spec.name }}", content: x}
  - {template: t.j2, dest: /t}
  - {include: part.yaml}
"""


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_one_name_wherever_it_is_said(specs: Path, name: str) -> None:
    """In steps, in files of templates, in included ones; in the image and in its stages."""
    text, wanted = NAMES[name]
    stage = f"from: scratch\n    steps:{SAYS_IT}".replace("\n  -", "\n      -")
    write(
        specs,
        app=f"{text}from: stage:s\nsteps:{SAYS_IT}stages:\n  s:\n    {stage}",
        part='- {file: /part, content: "{{ spec.name }}"}\n',
    )
    made = list(load("app").specs.values())
    images = [spec for spec in made if not spec.stage]
    assert [spec.name for spec in images] == wanted
    for spec in images:
        for each in (spec, *spec.stages):
            first, second, template, part = own_steps(each)
            assert isinstance(first, File) and isinstance(second, File)
            assert isinstance(template, Template) and isinstance(part, File)
            assert {first.content, second.dest[1:], part.content} == {spec.name}
            assert template.variables["spec"] == {"name": spec.name}
