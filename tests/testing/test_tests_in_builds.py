"""What a build does with the tests of its specs: nothing goes out untested, and nothing is tested
twice."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from tests.cli.conftest import Project

PASSES = "from: scratch\nsteps:\n  - {file: /a, content: x}\ntests:\n  - {file: /a, contains: x}\n"
FAILS = PASSES + "  - {file: /b}\n"


def names(project: Project) -> set[str]:
    return {line.split()[0] for line in project.run("images").stdout.splitlines()[1:]}


def statuses(project: Project, *arguments: str, status: int = 0) -> dict[str, list[str]]:
    """By image, of each of its tests."""
    done = project.run("test", "--json", *arguments, status=status)
    found: dict[str, list[str]] = {}
    for each in json.loads(done.stdout)["tests"]:
        found.setdefault(each["image"], []).append(each["status"])
    return found


def test_an_image_that_fails_gets_no_name_and_goes_nowhere(project: Project) -> None:
    project.spec("a", FAILS)
    done = project.run("build", "a", "-t", "other:1", "-o", "oci:out", status=1)
    assert "specs/a.yaml:6:5: test 'file /b' of a failed: it is not there" in done.stderr
    assert not done.stdout and names(project) == set() and not (project.root / "out").exists()
    for command in (["push", "a", "localhost:1/x"], ["tag", "a", "b"]):
        assert "test 'file /b' of a failed" in project.run(*command, status=1).stderr
    assert names(project) == set()


def test_an_image_that_fails_can_be_looked_at(project: Project) -> None:
    project.spec("a", FAILS)
    project.run("build", status=1)
    assert json.loads(project.run("inspect", "a").stdout)
    assert "file /a" in project.run("history", "a").stdout
    assert names(project) == set()


def test_an_image_keeps_the_name_that_it_had_when_its_successor_fails(project: Project) -> None:
    project.spec("a", PASSES)
    before = project.build()["a"]["digest"]
    project.spec("a", FAILS.replace("content: x", "content: xy"))
    project.run("build", status=1)
    shown = project.run("images").stdout
    assert before[:19] in shown


def test_no_tests_builds_without_them_and_push_asks_for_them(project: Project) -> None:
    project.spec("a", FAILS)
    done = project.run("build", "--no-tests")
    assert "test" not in done.stderr and names(project) == {"a"}
    assert "test 'file /b' of a failed" in project.run("load", "a", status=1).stderr


def test_what_stands_on_an_image_that_fails_is_not_built(project: Project) -> None:
    project.spec("a", FAILS)
    project.spec("b", "from: image:a\ntests:\n  - {file: /a}\n")
    project.spec("c", PASSES)
    done = project.run("build", "--keep-going", status=1)
    assert "b: not built, a failed" in done.stderr
    assert names(project) == {"c"}
    done = project.run("test", status=1)
    assert re.search(r"^b  it was not built", done.stdout, re.M)
    assert "3 tests: 2 passed, 1 failed, 1 image not built" in done.stdout


def test_a_verdict_holds_for_the_same_image_and_the_same_test(project: Project) -> None:
    project.spec("a", PASSES)
    assert statuses(project) == {"a": ["passed"]}
    assert statuses(project) == {"a": ["cached"]}
    project.spec("a", "# moved\n" + PASSES.replace("contains: x", "contains: x, name: other"))
    assert statuses(project) == {"a": ["cached"]}, "a name and a place do not matter"
    project.spec("a", PASSES.replace("contains: x", "contains: ['x']"))
    assert statuses(project) == {"a": ["cached"]}
    project.spec("a", PASSES.replace("contains: x", "matches: x"))
    assert statuses(project) == {"a": ["passed"]}, "another test"
    project.spec("a", PASSES + "config: {env: {A: b}}\n")
    assert statuses(project) == {"a": ["passed"]}, "another config"
    project.spec("a", PASSES.replace("content: x", "content: xx"))
    assert statuses(project) == {"a": ["passed"]}, "other layers"
    project.spec("a", PASSES)
    assert statuses(project) == {"a": ["cached"]}, "as it was once"
    assert statuses(project, "--again") == {"a": ["passed"]}
    project.spec("b", PASSES)
    assert statuses(project, "b") == {"b": ["cached"]}, "the same image by another name"


def test_what_failed_is_tried_again(project: Project) -> None:
    project.spec("a", FAILS)
    assert statuses(project, status=1) == {"a": ["passed", "failed"]}
    assert statuses(project, status=1) == {"a": ["cached", "failed"]}


def test_a_damaged_verdict_is_none(project: Project) -> None:
    project.spec("a", PASSES)
    statuses(project)
    for path in (project.store / "memos").glob("test-*"):
        path.write_bytes(path.read_bytes()[:-1])
    assert statuses(project) == {"a": ["passed"]}


def test_k_runs_some_and_names_only_what_has_passed_all(project: Project) -> None:
    project.spec("a", PASSES + "  - {file: /b, exists: false, name: Nothing there}\n")
    assert statuses(project, "-k", "nothing") == {"a": ["passed"]}
    assert names(project) == set()
    assert statuses(project) == {"a": ["passed", "cached"]}
    assert names(project) == {"a"}
    done = project.run("test", "-k", "zzz", status=2)
    assert "no test has that in its name" in done.stderr


def test_tests_of_stages_run_where_the_stage_is_used(project: Project) -> None:
    project.spec(
        "a",
        "from: scratch\nstages:\n  one:\n    from: scratch\n    steps:\n"
        "      - {file: /a, content: x}\n    tests:\n      - {file: /a, contains: CONTAINS}\n"
        "  two:\n    from: scratch\n    tests:\n      - {file: /a}\n"
        "steps:\n  - {copy: /a, from: stage:one, dest: /a}\n".replace("CONTAINS", "x"),
    )
    assert statuses(project) == {"a:one": ["passed"]}
    assert statuses(project, "a:two", status=1) == {"a:two": ["failed"]}


def test_plan_says_which_tests_would_run(project: Project) -> None:
    project.spec("a", PASSES)

    def planned() -> tuple[list[str], int]:
        done = project.run("plan", "--json")
        tests = [each["status"] for each in json.loads(done.stdout)["images"][0]["tests"]]
        status = 3 if "1 test to run" in project.run("plan").stdout else 0
        project.run("plan", "--exit-code", status=status)
        return tests, status

    assert planned() == (["run"], 3)
    project.run("build", "--no-tests")
    assert planned() == (["run"], 3)
    project.run("build")
    assert planned() == (["passed"], 0)


def test_views_tell_of_tests(project: Project) -> None:
    project.spec("a", FAILS)
    plain = project.run("build", "--progress", "plain", status=1).stderr
    assert re.search(r"^a test 1/2 file /a  ok  \d", plain, re.M)
    assert re.search(r"^a test 2/2 file /b  failed  .*it is not there", plain, re.M)
    plain = project.run("build", "--progress", "plain", status=1).stderr
    assert re.search(r"^a test 1/2 file /a  ok, as before$", plain, re.M)
    lines = project.run("build", "--progress", "json", status=1).stderr.splitlines()
    events = [json.loads(line) for line in lines]
    done = [each for each in events if each["event"] == "test_done"]
    assert {(each["number"], each["status"]) for each in done} == {(1, "cached"), (2, "failed")}
    assert events[-1]["event"] == "error" and events[-1]["place"]["line"] == 6


def test_a_build_in_which_nothing_is_to_do_imports_no_test(project: Project) -> None:
    project.spec("a", PASSES)
    project.run("build")
    traced = project.run("build", env={"PYTHONPROFILEIMPORTTIME": "1"}).stderr
    imported = set(re.findall(r"\|\s+(builder\.[a-z_.]+)$", traced, re.M))
    allowed = {"builder.testing", "builder.testing.tester", "builder.testing.verdicts"}
    assert {each for each in imported if each.startswith("builder.testing")} == allowed
    assert not imported & {"builder.spec.testing", "builder.executor", "builder.look"}


def test_every_platform_has_its_tests(project: Project) -> None:
    """Files can be looked at everywhere."""
    project.spec("a", PASSES)
    both = ("--platform", "linux/amd64,linux/arm64")
    found = statuses(project, *both)
    assert found == {"a (linux/amd64)": ["passed"], "a (linux/arm64)": ["passed"]}
    project.spec("a", FAILS.replace("/b}", "'/{{ target.arch }}', exists: false}"))
    assert set(statuses(project, *both)) == set(found)


def junit_of(project: Project, *arguments: str, status: int = 0) -> Any:
    from junitparser import JUnitXml

    project.run("test", "--junit", "out.xml", *arguments, status=status)
    return JUnitXml.fromfile(str(project.root / "out.xml"))


def test_junit_is_read_by_a_library_whatever_names_and_texts_hold(project: Project) -> None:
    hostile = "<&\"'>]]>\u0001\u001b[31m\ufffe\u2028é\U0001f600"
    tests = [
        {"file": "/a", "name": f"right {hostile}"},
        {"file": "/a", "contains": hostile, "name": f"wrong {hostile}"},
        {"file": f"/{hostile}"},
    ]
    step = {"file": "/a", "content": hostile.replace("\ufffe", "") + "\r\n\t"}
    project.spec("a", json.dumps({"from": "scratch", "steps": [step], "tests": tests}))
    project.spec("b", "from: image:a\ntests:\n  - {file: /a}\n")
    found = junit_of(project, status=1)
    suites = {suite.name: list(suite) for suite in found}
    assert (found.tests, found.failures, found.errors, found.skipped) == (4, 2, 1, 0)
    assert [bool(case.result) for case in suites["a"]] == [False, True, True]
    assert [type(case.result[0]).__name__ for case in suites["b"]] == ["Error"]
    assert suites["a"][0].name == "right <&\"'>]]>\\x01\\x1b[31m\\ufffe\u2028é\U0001f600"
    assert (
        suites["a"][1].classname == "a" and "does not contain" in suites["a"][1].result[0].message
    )


def test_junit_that_cannot_be_written_is_told_before_anything_is_built(project: Project) -> None:
    project.spec("a", PASSES)
    (project.root / "folder").mkdir()
    done = project.run("test", "--junit", "folder", status=2)
    assert "'folder'" in done.stderr and "built" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_is_left_of_tests_is_nothing(project: Project) -> None:
    project.spec("a", FAILS)
    project.run("test", status=1)
    assert not os.listdir(project.store / "tmp")
