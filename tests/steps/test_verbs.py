"""A verb is complete: schema, docs, lint, key, names and the kept form of a spec know it. A verb
that is added fails here until it has a row in ROWS, a section in docs/spec.md and all the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jsonschema
import pytest
import yaml

from builder import build, make_plan
from builder.api import load_spec
from builder.errors import SpecErrors
from builder.oci.image import Platform
from builder.plan.step import FileStep, own_steps, step_name
from builder.project import Options, Project
from builder.spec.compiled import decode_specs, encode_specs
from builder.spec.gather import load_project
from builder.spec.kinds import FILE_TARGET, OWNER, TARGET
from builder.spec.language import json_schema
from builder.spec.model import Place
from builder.steps import VERBS

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/spec.md").read_text()
SCHEMA = json_schema(VERBS)


class Row(NamedTuple):
    step: dict[str, Any]  # the least that a step of this verb is
    others: dict[str, Any]  # of each field another value, which leads to another key
    inert: Mapping[str, Any] = MappingProxyType({})  # and of those that must not
    beside: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    """What a field needs beside it; None: it goes."""

    def given(self, field: str, value: Any) -> dict[str, Any]:
        """The step with this field as well."""
        made = {**self.step, **self.beside.get(field, {}), field: value}
        return {name: each for name, each in made.items() if each is not None}


FILE = {"owner": "33", "mode": "0600", "times": "content"}
ROWS: Mapping[str, Row] = {
    "copy": Row(
        {"copy": "tree", "dest": "/to/"},
        {
            "copy": "tree/sub",
            "optional": ["t.*", "none"],
            "dest": "/x/",
            "exclude": "a",
            "preserve": "mtime",
            "rules": "docker",
            **FILE,
            "from": "rootfs:a.tar",  # tests/steps/test_copy_from.py tells what of it counts
        },
    ),
    "file": Row({"file": "/a", "content": "x"}, {"file": "/b", "content": "y", **FILE}),
    "template": Row(
        {"template": "t.j2", "dest": "/a"},
        {"template": "u.j2", "dest": "/b", "vars": {"v": 2}, **FILE},
    ),
    "directory": Row({"directory": "/a"}, {"directory": "/b", "owner": "33", "mode": "0700"}),
    "symlink": Row({"symlink": "/a", "to": "b"}, {"symlink": "/b", "to": "c", "owner": "33"}),
    "remove": Row({"remove": "/tree"}, {"remove": "/tree/sub"}),
    "account": Row(
        {"account": "app"},
        {
            "account": "other",
            "uid": 5,
            "gid": 7,
            "group": "crew",
            "groups": "crew",
            "home": "/srv/app",
            "shell": "/bin/bash",
            "system": True,
        },
    ),
    "unpack": Row(
        {"unpack": "a.tar", "dest": "/a"},
        {
            "unpack": ["b.tar", "a.*"],
            "dest": "/b",
            "strip_components": 1,
            "owner": "33",
            "preserve": "mtime",
        },
    ),
    "layer": Row({"layer": "a.tar"}, {"layer": "b.tar"}),
    "download": Row(
        {"download": "https://h/a", "dest": "/a", "sha256": "0" * 64},
        {
            "dest": "/b",
            "sha256": {"amd64": "1" * 64, "arm64": "0" * 64},
            "sha512": "0" * 128,
            "unpack": True,
            "strip_components": 1,
            **FILE,
        },
        {"download": "http://else.where:81/b"},
        {"sha512": {"sha256": None}, "strip_components": {"unpack": True}},
    ),
    "git": Row(
        {"git": "https://h/a", "commit": "0" * 40, "dest": "/a"},
        {
            "git": "git@h:b",
            "commit": "1" * 64,
            "dest": "/b",
            "subdir": "docs",
            "exclude": "*.md",
            "owner": "33",
        },
    ),
    "run": Row(
        {"run": "true"},
        {
            "run": "false",
            "env": {"A": "1"},
            "user": "33",
            "working_dir": "/tree",
            "shell": ["/bin/x", "-c"],
            "network": "none",
            "mounts": [{"tmpfs": "/tmp"}],
            "errexit": False,
        },
        {"timeout": "5s"},
    ),
    "apt": Row(
        {"apt": ["nginx", "curl=7.*"]},
        {
            "apt": "nginx",
            "recommends": True,
            "repositories": {"r": {"uri": "http://h/r", "suites": "s", "trusted": True}},
            "env": {"A": "1"},
            "mounts": [{"tmpfs": "/tmp"}],
        },
        {"timeout": "5s"},
    ),
    "apk": Row(
        {"apk": ["nginx", "nodejs=20.*"]},
        {
            "apk": "nginx",
            "repositories": "https://h/r",
            "env": {"A": "1"},
            "mounts": [{"tmpfs": "/tmp"}],
        },
        {"timeout": "5s"},
    ),
    "dnf": Row(
        {"dnf": ["nginx", "nodejs=20.*"]},
        {
            "dnf": "@core",
            "recommends": True,
            "repositories": {"r": {"uri": "http://h/r", "trusted": True}},
            "env": {"A": "1"},
            "mounts": [{"tmpfs": "/tmp"}],
        },
        {"timeout": "5s"},
    ),
    "pip": Row(
        {"pip": ["flask", "requests==2.*"]},
        {
            "pip": {"requirements": "t.j2"},
            "constraints": "u.j2",
            "python": "python3.12",
            "venv": "/v",
            "system": True,
            "env": {"A": "1"},
            "mounts": [{"tmpfs": "/tmp"}],
        },
        {"timeout": "5s"},
    ),
    "npm": Row(
        {"npm": "ci"},
        {
            "npm": "typescript@5",
            "dest": "/app",
            "dev": True,
            "env": {"A": "1"},
            "mounts": [{"tmpfs": "/tmp"}],
        },
        {"timeout": "5s"},
    ),
    "set": Row({"set": {"user": "33"}}, {"set": {"env": {"A": "1"}}}),
}
FIELDS = [(verb, field) for verb in VERBS for field in VERBS[verb].fields()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import tarfile

    monkeypatch.chdir(tmp_path)
    for path, text in (("tree/a", "a"), ("tree/sub/b", "b"), ("t.j2", "{{ v }}"), ("u.j2", "u")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    for name, what in (("a.tar", "tree"), ("b.tar", "tree/sub")):
        with tarfile.open(tmp_path / name, "w") as tar:
            tar.add(tmp_path / what, "in")
    with tarfile.open(tmp_path / "programs.tar", "w") as tar:
        for path in (
            "usr/bin/apt-get",
            "usr/bin/dnf",
            "sbin/apk",
            "usr/bin/npm",
            "usr/bin/python3",
            "app/package-lock.json",
            "package-lock.json",
        ):
            tar.addfile(tarfile.TarInfo(path))
    (tmp_path / "specs").mkdir()
    return tmp_path


def write(folder: Path, *steps: Mapping[str, Any], base: str = "scratch") -> str:
    text = yaml.safe_dump({"from": base, "vars": {"v": 1}, "steps": list(steps)})
    path = folder / "specs/x.yaml"
    path.write_text(text)
    return str(path)


def told(folder: Path, step: Mapping[str, Any]) -> Any:
    """What comes of a step above a tree: its key, of one without a layer what it changes."""
    group = {"file": "/etc/group", "content": "crew:x:6:\n"}
    write(folder, {"copy": "tree", "dest": "/tree/"}, group, step)
    if VERBS[next(verb for verb in VERBS if verb in step)].kind == "run":
        write(folder, base="rootfs:programs.tar")  # it needs what lies below
        build("x", cache_dir=str(folder / "store"), platforms=(Platform(),))
        write(folder, step, base="rootfs:programs.tar")
    plan = make_plan(["x"], cache_dir=str(folder / "store"), platforms=(Platform(),))["x"]
    planned = plan.steps[-1]
    # of what has to be fetched first, what decides what will come of it
    return planned.key or getattr(planned.step, "change", None) or planned.inputs


def test_every_verb_and_field_has_a_row() -> None:
    assert set(ROWS) == set(VERBS)
    for verb, row in ROWS.items():
        assert {*row.step, *row.others, *row.inert, "name"} == set(VERBS[verb].fields()), verb


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_what_it_is(verb: str) -> None:
    value = VERBS[verb]
    assert (
        value.verb == verb and value.doc.endswith(".") and value.kind in ("files", "run", "config")
    )
    fields = value.fields()
    assert fields[verb].required and "name" in fields
    assert value._fields[:2] == ("place", "name")  # type: ignore[attr-defined]
    waiting = value.waiting(Place("s", 1, 1), "later")
    assert (waiting.kind, waiting.verb, waiting.stands_in) == (value.kind, verb, True)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_in_the_schema(verb: str) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert {"$ref": f"#/$defs/{verb}"} in SCHEMA["$defs"]["step"]["oneOf"]
    assert SCHEMA["$defs"][verb]["description"] == VERBS[verb].doc
    for field, value in (("name", "n"), *ROWS[verb].others.items(), *ROWS[verb].inert.items()):
        validator.validate({"from": "scratch", "steps": [{**ROWS[verb].step, field: value}]})
    assert not validator.is_valid({"from": "scratch", "steps": [{**ROWS[verb].step, "nme": "n"}]})


@pytest.mark.parametrize(("verb", "field"), FIELDS)
def test_a_field_is_in_the_docs(verb: str, field: str) -> None:
    section = re.search(rf"^### {verb}\n(.*?)^##", DOCS, re.M | re.S)
    assert section, f"docs/spec.md has no section '### {verb}'"
    shared = "Every step takes `name`" in DOCS and field == "name"
    assert shared or f"`{field}`" in section[1]
    assert f"{verb}:" in section[1], "an example"


@pytest.mark.parametrize("verb", VERBS)
def test_a_step_has_a_name_and_a_place_in_plan_and_history(verb: str, folder: Path) -> None:
    path = write(folder, ROWS[verb].step, {**ROWS[verb].step, "name": "mine"})
    plain, named = own_steps(load_spec(path, environ={}))
    assert step_name(plain).startswith(f"{verb} ") and "\n" not in step_name(plain)
    assert step_name(named) == "mine" and named.created_by() == plain.created_by()
    assert plain.place.line > 1


@pytest.mark.parametrize("verb", VERBS)
def test_a_step_is_kept_as_it_was_read(verb: str, folder: Path) -> None:
    for field, value in (("name", "n"), *ROWS[verb].others.items()):
        path = write(folder, ROWS[verb].given(field, value))
        spec = load_spec(path, environ={})
        (found,) = decode_specs(encode_specs((spec,), {}), {}, VERBS, {}.get) or ()
        assert found == spec and type(found.steps[0]) is type(spec.steps[0])
    # and while it waits for what its base says
    step = {**ROWS[verb].step, "name": "{{ base.user }}"}
    spec = load_spec(write(folder, step, base="a.example/b"), environ={})
    assert spec.waits and decode_specs(encode_specs((spec,), {}), {}, VERBS, {}.get) == (spec,)


def _altered(inert: bool) -> Iterator[tuple[str, str]]:
    for verb, row in ROWS.items():
        yield from ((verb, field) for field in (["name", *row.inert] if inert else row.others))


@pytest.mark.parametrize(("verb", "field"), _altered(False))
def test_a_field_changes_the_key(verb: str, field: str, folder: Path) -> None:
    row = ROWS[verb]
    assert told(folder, row.step) != told(folder, row.given(field, row.others[field]))


@pytest.mark.parametrize(("verb", "field"), _altered(True))
def test_a_field_that_must_not_matter_does_not(verb: str, field: str, folder: Path) -> None:
    row = ROWS[verb]
    value = "another" if field == "name" else row.inert[field]
    assert told(folder, row.step) == told(folder, {**row.step, field: value}) is not None


def _unread_by_a_shell() -> Iterator[tuple[str, str]]:
    for verb, field in FIELDS:
        if VERBS[verb].fields()[field].kind in (TARGET, FILE_TARGET, OWNER):
            yield verb, field
    yield from (("remove", "remove"), ("run", "working_dir"))


@pytest.mark.parametrize(("verb", "field"), [*_unread_by_a_shell()])
def test_lint_warns_of_a_variable_that_no_shell_reads(verb: str, field: str, folder: Path) -> None:
    from builder.spec.dollars import dollars
    from builder.spec.node import parse_yaml
    from builder.spec.source import Problems, Source

    text = json.dumps({"from": "scratch", "steps": [{**ROWS[verb].step, field: "/$HOME/x"}]})
    source = Source("s.yaml", text)
    assert len(list(dollars(parse_yaml(source, Problems(source)), {}))) == 1


@pytest.mark.parametrize("name", ["user", "working_dir", "env"])
def test_lint_warns_of_one_within_set(name: str) -> None:
    from builder.spec.dollars import dollars
    from builder.spec.node import parse_yaml
    from builder.spec.source import Problems, Source

    value = {"A": "$B"} if name == "env" else "/$HOME"
    source = Source("s.yaml", json.dumps({"from": "a", "steps": [{"set": {name: value}}]}))
    assert len(list(dollars(parse_yaml(source, Problems(source)), {}))) == 1


# A verb of this test: what it takes to add one.


class _Marker(NamedTuple):
    place: Place
    name: str | None
    dest: str


class Marker(_Marker, FileStep):
    """An empty file."""

    __slots__ = ()
    verb = "marker"
    doc = "Write an empty file."

    @classmethod
    def fields(cls) -> Any:
        from builder.spec.fields import Field
        from builder.spec.kinds import NAME_FIELD

        return {"marker": Field(FILE_TARGET, "Its path.", required=True), "name": NAME_FIELD}

    @classmethod
    def read(cls, reader: Any, node: Any, given: Mapping[str, Any]) -> Any:
        from builder.spec.kinds import place

        return cls(place(reader, node.get("marker")), given.get("name"), given["marker"])

    def changes(self, given: Any) -> Any:
        from builder.steps.file import File

        return File(self.place, None, self.dest, "").changes(given)


def test_a_verb_is_one_class(folder: Path) -> None:
    """Read, checked, described, planned, built, told and kept without another line of ours."""
    verbs = {**VERBS, "marker": Marker}
    assert "marker" in json_schema(verbs)["$defs"]
    write(folder, {"marker": "/srv/here"}, {"copy": "tree", "dest": "/srv/"})
    kept: dict[str, bytes] = {}

    class Cache:
        load = staticmethod(kept.get)
        save = staticmethod(kept.__setitem__)

    for _ in range(2):  # read, and out of the cache
        found = load_project(["x"], "specs", verbs=verbs, environ={}, cache=Cache())
        project = Project(Options(str(folder / "store")))
        built = project.build(found.specs)["x"]
        assert [step.name for step in built.steps] == ["marker /srv/here", "copy tree"]
    assert len(kept) == 1 and [step.status for step in built.steps] == ["hit", "hit"]
    history = built.image.config["history"]
    assert history[0]["created_by"] == "marker /srv/here"
    write(folder, {"marker": "/srv/"})
    with pytest.raises(SpecErrors, match=r"x\.yaml:3:11: '/srv/' ends in '/'"):
        load_project(["x"], "specs", verbs=verbs, environ={})
    write(folder, {"markr": "/srv/x"})
    with pytest.raises(SpecErrors, match=r"did you mean 'marker'\?"):
        load_project(["x"], "specs", verbs=verbs, environ={})
