"""`tests:` in a spec: what is taken, what is refused, where it is told, and what schema and render
say of it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from builder.api import load_spec
from builder.errors import SpecErrors
from tests.cli.conftest import Project

HEAD = "from: scratch\ntests:\n  - "
RIGHT = (
    "run: echo hi",
    "{run: [echo, hi], status: 3, stdout: {contains: h}, stderr: {lacks: [a, b], equals: ''}}",
    "{run: [--version], entrypoint: true, stdout: {matches: '^v[0-9]+$'}}",
    "{run: id, user: 'app:7', env: {A: b}, working_dir: sub, network: private, timeout: 5s}",
    "{run: cat, stdin: text, network: host, name: reads}",
    "{file: /etc/passwd, mode: '0644', owner: root, contains: [root, bin]}",
    "{file: /bin/sh, link: busybox, owner: '0:0'}",
    "{file: /gone, exists: false}",
    f"{{file: /a, sha256: {'ab' * 32}, matches: x, lacks: y, equals: z}}",
    f"{{file: /a, sha256: 'sha256:{'AB' * 32}'}}",
    "{directory: /srv, mode: '1777', owner: app}",
    "{directory: /gone, exists: false}",
    "{package: nginx, version: 1.2*, manager: dpkg}",
    "{package: '@scope/name', installed: false}",
    "port: 80",
    "{port: 53/udp, within: 1m, env: {A: b}}",
    "{port: '8080/tcp', http: {path: '/x?y=1', status: 404, contains: text}}",
    "{run: 'true', when: false}",
    "{run: 'true', when: target.arch == 'amd64'}",
)
WRONG = {
    "x": "found 'x', expected a test",
    "{}": "a test that says nothing to look at",
    "{status: 0}": "a test that says nothing to look at",
    "{run: a, file: /b}": "'run' and 'file' in one test",
    "{command: a}": "unknown test 'command', did you mean 'run'?",
    "{fiel: /a}": "unknown test 'fiel', did you mean 'file'?",
    "{run: a, exit_code: 1}": "unknown key 'exit_code' in a 'run' test, did you mean 'status'?",
    "{run: a, mode: '0644'}": "key 'mode' belongs to a 'directory' test, not to a 'run' test",
    "{run: a, status: 256}": "'256' is not expected here",
    "{run: a, stdout: hi}": "found 'hi', expected a mapping with contains, lacks, matches, equals",
    "{run: a, stdout: {has: hi}}": "unknown key 'has'",
    "{run: a, stdout: {matches: '('}}": "'(' is no regular expression",
    "{run: a, stdout: {contains: ''}}": "'' is empty",
    "{run: a, timeout: 0s}": "a test ends",
    "{run: a, timeout: 5}": "'5' is not a duration",
    "{run: a b, entrypoint: true}": "text is for the shell",
    "{run: []}": "the list is empty",
    "{run: a, network: bridge}": "'bridge' is not known here",
    "{file: etc/passwd}": "'etc/passwd' is relative",
    "{file: /a, mode: u=rw}": "'u=rw' is symbolic",
    "{file: /a, mode: 644}": "quote",
    "{file: /a, sha256: abc}": "'abc' is no SHA-256",
    "{file: /a, exists: false, mode: '0644'}": "'mode' is given, but exists: false",
    "{file: /a, link: b, contains: c}": "'link' is about the symlink itself",
    "{file: /a, exists: maybe}": "'maybe' is not expected here, expected true or false",
    "{directory: /a, contains: x}": "key 'contains' belongs to a 'file' test",
    "{package: nginx=1.2}": "'nginx=1.2' is no name of a package",
    "{package: a, version: '1', installed: false}": "'version' is given, but installed: false",
    "{package: a, manager: pacman}": "'pacman' is not known here",
    "{port: 0}": "is not a port",
    "{port: 80-90}": "is a range",
    "{port: 80/sctp}": "is for sctp",
    "{port: 80/udp, http: {}}": "'http' is given, but the port is for udp",
    "{port: 80, http: {path: health}}": "'health' is no path of a URL",
    "{port: 80, http: {status: 42}}": "'42' is not expected here",
    "{run: a, when: maybe}": "maybe",
    "{run: a, name: ''}": "'' is not a name",
}


def spec(tmp_path: Any, text: str) -> Any:
    (tmp_path / "specs").mkdir(exist_ok=True)
    path = tmp_path / "specs/a.yaml"
    path.write_text(text)
    return path


def schema() -> Any:
    from builder.spec.language import json_schema
    from builder.steps import VERBS

    return json_schema(VERBS)


@pytest.mark.parametrize("test", RIGHT)
def test_what_is_right_is_taken_as_the_schema_takes_it(tmp_path: Any, test: str) -> None:
    path = spec(tmp_path, HEAD + test + "\n")
    found = load_spec(str(path), environ={}).tests
    assert len(found) == ("false" not in test.partition("when")[2])
    jsonschema.validate(yaml.safe_load(path.read_text()), schema())


@pytest.mark.parametrize("test", WRONG)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Any, test: str) -> None:
    path = spec(tmp_path, HEAD + test + "\n")
    with pytest.raises(SpecErrors) as caught:
        load_spec(str(path), environ={})
    (error,) = caught.value.errors
    assert WRONG[test] in error.what + (error.hint or ""), error.message
    assert error.place and error.place.line == 3 and error.place.column > 4


@pytest.mark.parametrize("test", ["{run: a, stdout: hi}", "{run: v, entrypoint: true}"])
def test_a_hint_that_is_followed_is_right(tmp_path: Any, test: str) -> None:
    path = spec(tmp_path, HEAD + test + "\n")
    with pytest.raises(SpecErrors) as caught:
        load_spec(str(path), environ={})
    hint = caught.value.errors[0].hint or ""
    assert hint.startswith("write ")
    written = hint.removeprefix("write ")
    meant = {"{run: a, stdout: hi}": f"{{run: a, stdout: {written}}}"}.get(test, written)
    meant = f"{{{meant}, entrypoint: true}}" if "entrypoint" in test else meant
    spec(tmp_path, HEAD + meant + "\n")
    assert load_spec(str(path), environ={}).tests


def test_every_kind_is_the_same_from_the_cache_and_after_rendering(project: Project) -> None:
    listed = "".join(f"  - {each}\n" for each in RIGHT)
    project.spec(
        "a", f"from: scratch\nvars: {{v: x}}\ntests:\n{listed}  - run: 'echo {{{{ v }}}}'\n"
    )
    first = json.loads(project.run("plan", "--json").stdout)
    assert json.loads(project.run("plan", "--json").stdout) == first
    names = [each["name"] for each in first["images"][0]["tests"]]
    assert names[-1] == "run echo x" and len(names) == len(RIGHT)
    rendered = project.run("render", "a").stdout
    project.spec("a", rendered)
    assert json.loads(project.run("plan", "--json").stdout)["images"][0]["tests"] == [
        {"name": name, "status": "run"} for name in names
    ]


def test_tests_of_files_that_are_extended_come_first_and_null_takes_them_away(
    project: Project,
) -> None:
    project.file("specs/parts/p.yaml", "tests:\n  - run: parent\n")
    project.spec("a", "extends: parts/p.yaml\nfrom: scratch\ntests:\n  - run: child\n")
    project.spec("b", "extends: parts/p.yaml\nfrom: scratch\ntests: null\n")
    project.spec("c", "extends: parts/p.yaml\nfrom: scratch\n")
    found = json.loads(project.run("plan", "--json").stdout)["images"]
    names = {each["name"]: [test["name"] for test in each["tests"]] for each in found}
    assert names == {"a": ["run parent", "run child"], "b": [], "c": ["run parent"]}


def test_each_row_of_a_matrix_has_its_own(project: Project) -> None:
    project.spec(
        "m",
        "from: scratch\nname: 'm-{{ v }}'\nmatrix: {v: [a, b]}\ntests:\n"
        "  - file: '/{{ v }}'\n    exists: false\n"
        "  - {directory: /only-b, exists: false, when: v == 'b'}\n",
    )
    found = json.loads(project.run("plan", "--json").stdout)["images"]
    names = {each["name"]: [test["name"] for test in each["tests"]] for each in found}
    assert names == {"m-a": ["file /a"], "m-b": ["file /b", "directory /only-b"]}


def test_a_test_may_say_what_the_base_says(base: Project) -> None:
    base.spec("low", "from: rootfs:base.tar\nconfig: {env: {VERSION: '7'}}\n")
    base.spec(
        "top",
        "from: image:low\ntests:\n  - {file: '/{{ base.env.VERSION }}', exists: false}\n",
    )
    base.build()
    found = json.loads(base.run("test", "top", "--json").stdout)["tests"]
    assert [(each["name"], each["status"]) for each in found] == [("file /7", "cached")]
