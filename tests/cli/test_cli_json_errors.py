"""A command that was asked for JSON and fails says why in JSON: what stderr says, as data."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

STEP = "from: scratch\nsteps:\n  - "
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    # the spec, and what is known of the error beside its message
    "not YAML": ("from: [", {"file": "specs/x.yaml"}),
    "an unknown key": (STEP + "flie: /a\n", {"line": 3, "column": 5}),
    "a missing source": (STEP + "copy: nope\n    dest: /b\n", {"line": 3, "column": 11}),
    "a missing layout": ("from: oci:nowhere\n", {"line": 1, "column": 7}),
    "a missing base": ("from: image:nope\n", {"line": 1, "column": 7}),
    "an unknown owner": (
        STEP + "file: /a\n    content: x\n    owner: nobody\n",
        {"line": 5, "column": 12, "step": 1, "name": "file /a"},
    ),
    "a target that is a folder": (
        STEP + "directory: /a\n  - name: second\n    file: /a\n    content: x\n",
        {"line": 5, "column": 11, "step": 2, "name": "second"},
    ),
    "a torn archive": (
        STEP + "unpack: torn.tar\n    dest: /b\n",
        {"line": 3, "column": 13, "step": 1, "name": "unpack torn.tar"},
    ),
    "too many layers": (
        "from: scratch\nsteps: [" + "{file: /a, content: x}, " * 128 + "]\n",
        {"line": 1, "column": 7},
    ),
    "a registry that is not there": ("from: localhost:1/x:1\n", {"line": 1, "column": 7}),
}


def error_of(done: Any) -> dict[str, Any]:
    document = json.loads(done.stdout)
    assert set(document) == {"error"}
    error: dict[str, Any] = document["error"]
    return error


def same(error: dict[str, Any], stderr: str) -> None:
    """What the text says is what the document says."""
    place = "{file}:{line}:{column}: ".format(**error["place"]) if "place" in error else ""
    lines = stderr.splitlines()
    assert f"error: {place}{error['message']}" in lines, (error, stderr)
    if "hint" in error:
        assert f"hint: {error['hint']}" in lines


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_plan_and_a_failed_build_say_the_same(project: Any, fault: str) -> None:
    text, known = FAULTS[fault]
    project.file("torn.tar", b"x" * 600)
    project.spec("x", text)
    wanted = 1 if fault in ("a torn archive", "a registry that is not there") else 2
    commands = (["plan"], ["build"], ["history", "x"], ["push", "x"], ["load", "x"])
    found = []
    for command in commands:
        done = project.run(*command, "--json", status=wanted)
        error = error_of(done)
        same(error, done.stderr)
        plain = project.run(*command, status=wanted).stderr
        assert plain[plain.index("error: ") :] == done.stderr[done.stderr.index("error: ") :]
        found.append(error)
    assert all(error == found[0] for error in found)
    place, step = found[0].get("place", {}), found[0].get("step", {})
    shown = {**place, "step": step.get("number"), "name": step.get("name")}
    assert {key: shown[key] for key in known} == known
    assert not step or step["image"] == "x"


def test_a_file_that_cannot_be_read_is_the_same_fault_whenever_it_is_met(project: Any) -> None:
    """A plan reads it for the key, a build while it makes the layer."""
    project.file("a", "x").chmod(0)
    project.spec("x", STEP + "copy: a\n    dest: /b\n")
    powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]  # root reads all else
    for command in ("plan", "build"):
        done = subprocess.run(
            [
                *(powerless if os.geteuid() == 0 else ()),
                *(sys.executable, "-m", "builder", command, "--json"),
            ],
            cwd=project.root,
            env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2, done.stderr
        error = error_of(done)
        assert error["step"]["number"] == 1 and error["place"]["line"] == 3


def test_all_faults_of_a_spec_are_there(project: Any) -> None:
    project.spec(
        "x", "from: scratch\nsteps:\n  - copy: 1.5\n    dest: b\n    mode: 755\n  - f: /x\n"
    )
    done = project.run("plan", "--json", status=2)
    error = error_of(done)
    assert len(error["errors"]) == done.stderr.count("error: ") > 2
    for each in error["errors"]:
        same(each, done.stderr)
    assert {**error["errors"][0], "errors": error["errors"]} == error


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("build", "--nope"), 2),
        (("plan", "--set", "x"), 2),
        (("frobnicate",), 2),
        (("history", "nothere"), 2),
        (("push", "nothere"), 2),
        (("images", "--cache-dir", "/dev/null"), 1),
        (("search", "x", "--registry", "localhost:1"), 1),
    ],
)
def test_every_command_that_speaks_json_fails_in_json(
    project: Any, arguments: tuple[str, ...], status: int
) -> None:
    project.spec("x", "from: scratch\n")
    done = project.run(*arguments, "--json", status=status)
    same(error_of(done), done.stderr)
    assert project.run(*arguments, status=status).stdout == ""


def test_no_reader_is_no_fault(project: Any) -> None:
    project.spec("x", "from: [")
    command = f"{sys.executable} -m builder plan --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=project.root, capture_output=True, text=True,
        env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)},
    )  # fmt: skip
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_progress_as_json_ends_with_the_error(project: Any, fault: str) -> None:
    """Every line of stderr is an object, and the last one says what `--json` says."""
    project.file("torn.tar", b"x" * 600)
    project.spec("x", FAULTS[fault][0])
    status = 1 if fault in ("a torn archive", "a registry that is not there") else 2
    done = project.run("build", "--json", "--progress", "json", status=status)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    last = events[-1]
    assert last.pop("event") == "error" and last.pop("time") > 1.7e9
    assert last == error_of(done)


ANNOTATION = re.compile(r"::(error|warning)(?: ([^:]*))?::(.*)")


def annotations(stderr: str) -> list[tuple[str, dict[str, str], str]]:
    """Workflow commands, read as GitHub's runner reads them."""

    def plain(text: str) -> str:
        for sign in ":,\n\r%":
            text = text.replace(f"%{ord(sign):02X}", sign)
        return text

    found = []
    for line in stderr.splitlines():
        if line.startswith("::"):
            match = ANNOTATION.fullmatch(line)
            assert match, line
            pairs = [each.partition("=") for each in (match[2] or "").split(",") if each]
            found.append((match[1], {n: plain(v) for n, _, v in pairs}, plain(match[3])))
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_in_githubs_actions_an_error_is_an_annotation(project: Any, fault: str) -> None:
    project.file("torn.tar", b"x" * 600)
    project.spec("x", FAULTS[fault][0])
    status = 1 if fault in ("a torn archive", "a registry that is not there") else 2
    done = project.run("build", "--json", status=status, env={"GITHUB_ACTIONS": "true"})
    error = error_of(done)
    kind, properties, text = annotations(done.stderr)[0]
    place = error.get("place", {})
    assert kind == "error"
    assert properties.get("file") == place.get("file")
    assert properties.get("line") == (str(place["line"]) if place else None)
    assert text == error["message"] + (f"\n{error['hint']}" if "hint" in error else "")


def test_what_a_step_prints_and_names_hold_is_no_workflow_command(project: Any) -> None:
    """A step's output may not speak to the runner, nor may a name break out of its property."""
    project.spec(
        "x",
        "from: scratch\nsteps:\n  - name: 'a,b::c%0A::set-env name=x::y'\n    run:"
        " [/bin/echo, '::error::x']\n",
    )
    done = project.run("build", status=1, env={"GITHUB_ACTIONS": "true"})
    found = annotations(done.stderr)
    assert [kind for kind, _, _ in found] == ["error"], done.stderr
    assert found[0][1]["title"] == "x step 1 (a,b::c%0A::set-env name=x::y)"


def test_warnings_are_annotations_too(project: Any) -> None:
    project.spec("x", STEP + "copy: .\n    dest: /b\n")
    done = project.run("lint", env={"GITHUB_ACTIONS": "true"})
    kind, properties, _ = annotations(done.stderr)[0]
    assert (kind, properties["file"], properties["line"]) == ("warning", "specs/x.yaml", "3")


def test_json_that_another_program_is_asked_for_is_not_ours(project: Any) -> None:
    project.spec("site", "from: scratch\nsteps: [{file: /a, content: x}]\n")
    made = project.run("run", "site", "/nothing", "--json", status=127)
    assert made.stdout == "" and "error: " in made.stderr
