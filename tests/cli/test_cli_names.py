"""Names belong to a project and a platform, and a spec's name means the spec as it stands now."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROUNDS = int(os.environ.get("BUILDER_NAME_ROUNDS", "12"))
WEB = """
from: scratch
vars: {v: "1"}
steps: [{file: /who, content: "WHO"}, {file: /v, content: "{{ v }}"}]
tags: ["registry.example/web:{{ v }}"]
"""


@pytest.fixture
def checkout(project: Any, tmp_path: Path) -> Callable[..., Any]:
    """Project folders that share one store; `like` copies another's files."""

    def make(name: str, *, called: str | None = None, like: Any = None, who: str = "") -> Any:
        made = type(project)(tmp_path / name)
        made.store = project.store
        if like:
            shutil.copytree(like.root, made.root)
        else:
            made.spec("web", WEB.replace("WHO", who or name))
        if called:
            made.file("builder.yaml", f"name: {called}\n")
        return made

    return make


def digest(project: Any, *options: str) -> str:
    return str(json.loads(project.run("inspect", "web", *options).stdout)["digest"])


def built(project: Any, *options: str) -> str:
    return str(project.build("web", *options)["web"]["digest"])


def listed(project: Any) -> dict[tuple[str, str | None, str], str]:
    images = json.loads(project.run("images", "--json").stdout)["images"]
    return {(each["name"], each["project"], each["platform"]): each["digest"] for each in images}


@pytest.mark.parametrize("called", [False, True])
def test_each_project_has_its_own_image_of_a_name(checkout: Any, called: bool) -> None:
    a = checkout("a", called="shop-a" if called else None)
    b = checkout("b", called="shop-b" if called else None)
    of_a, of_b = built(a), built(b)
    assert of_a != of_b
    assert (digest(a, "--no-build"), digest(b, "--no-build")) == (of_a, of_b)
    names = {project for _, project, _ in listed(a)}
    assert names == ({"shop-a", "shop-b"} if called else {str(a.root), str(b.root)})
    a.file("specs/web.yaml", WEB.replace("WHO", "changed"))
    assert "step 1 (file /who)" in a.run("why", "web").stdout.replace(
        "1 file /who:", "step 1 (file /who)"
    )
    assert digest(b, "--no-build") == of_b


def test_checkouts_of_a_named_project_share_names_and_the_last_build(checkout: Any) -> None:
    first = checkout("first", called="shop")
    second = checkout("second", like=first)
    of_first = built(first)
    second.file("specs/web.yaml", WEB.replace("WHO", "second"))
    assert "content" in second.run("plan", "web").stdout  # what differs from the first's build
    of_second = built(second)
    assert set(listed(first).values()) == {of_second}
    # the name means the last build; the spec of this checkout means what it says
    assert digest(first, "--no-build") == of_first
    assert digest(second, "--no-build") == of_second


def test_a_moved_folder_begins_anew_and_finds_its_layers(checkout: Any, tmp_path: Path) -> None:
    before = checkout("before")
    of_before = built(before)
    os.rename(before.root, tmp_path / "after")
    after = type(before)(tmp_path / "after")
    after.store = before.store
    after.run("plan", "--exit-code")  # all of it is there
    assert built(after) == of_before
    assert [project for _, project, _ in listed(after)] == [
        str(tmp_path / "after"),
        str(tmp_path / "before"),
    ]


def test_a_symlink_to_the_folder_is_the_same_project(checkout: Any, tmp_path: Path) -> None:
    real = checkout("real")
    built(real)
    (tmp_path / "link").symlink_to(real.root)
    link = type(real)(tmp_path / "link")
    link.store = real.store
    built(link)
    assert len(listed(real)) == 1


def test_variables_choose_the_image_that_is_meant(checkout: Any) -> None:
    project = checkout("a")
    one, two = built(project, "--set", "v=1"), built(project, "--set", "v=2")
    assert one != two
    for value, expected in (("1", one), ("2", two)):
        assert digest(project, "--no-build", "--set", f"v={value}") == expected
    assert listed(project) == {("web", str(project.root), "linux/amd64"): two}


def test_what_is_not_built_as_the_spec_stands_now_is_built_or_refused(checkout: Any) -> None:
    project = checkout("a")
    old = built(project)
    changes: dict[str, tuple[str, str]] = {
        "a step": ("a'", "step 1 (file /who): /who: content"),
        "a label": ("\nconfig: {labels: {x: a}}", "label x: new"),
        "the command": ("\nconfig: {cmd: [a]}", 'cmd: unset -> ["a"]'),
    }
    for text, said in changes.values():
        spec = WEB.replace("WHO", "b") if text == "a'" else WEB.replace("WHO", "a") + text
        project.file("specs/web.yaml", spec)
        for command in (
            ("inspect", "web"),
            ("history", "web"),
            ("tag", "web", "x"),
            ("push", "web"),
        ):
            error = project.run(*command, "--no-build", status=2).stderr
            assert "not built as its spec stands now: " in error and said in error, error
        assert ("x:latest", None, "linux/amd64") not in listed(project)
        new = digest(project)
        assert new != old and digest(project, "--no-build") == new
    error = project.run("inspect", "web", "--no-build", "--set", "v=7", status=2).stderr
    assert "step 2 (file /v)" in error


def test_a_base_that_changed_is_what_differs(checkout: Any) -> None:
    project = checkout("a")
    project.spec("on", "from: image:web\nsteps: [{file: /x, content: x}]\n")
    project.build()
    project.file("specs/web.yaml", WEB.replace("WHO", "b"))
    error = project.run("inspect", "on", "--no-build", status=2).stderr
    assert "image web: step 1 (file /who)" in error


def test_a_reference_and_a_digest_are_taken_as_they_are(checkout: Any) -> None:
    project = checkout("a")
    one = built(project)
    project.run("tag", "web", "team/web:1")
    two = built(project, "--set", "v=2")
    project.run("tag", one, "team/web:again")  # no name of a spec means it any more
    project.file("specs/web.yaml", "this: is wrong")
    for text, expected in {
        "team/web:1": one,
        "docker.io/team/web:1": one,
        "team/web:again": one,
        one: one,
        two: two,
        two[7:19]: two,
        two[:19]: two,
    }.items():
        shown = json.loads(project.run("inspect", text).stdout)
        assert shown["digest"] == expected, text
    elsewhere = checkout("b")
    elsewhere.spec("other", "from: scratch\n")
    os.unlink(elsewhere.root / "specs/web.yaml")
    assert f"one of {project.root} is" in elsewhere.run("inspect", "web", status=2).stderr
    assert json.loads(elsewhere.run("inspect", "team/web:1").stdout)["digest"] == one


def test_names_that_are_no_references_are_refused(checkout: Any) -> None:
    project = checkout("a")
    built(project)
    for name in (
        "UPPER",
        "",
        " ",
        "a b",
        "a:b:c",
        "-x:",
        "a@sha256:" + "0" * 64,
        "http://a/b",
        "é",
    ):
        error = project.run("tag", "web", "--", name, status=2).stderr
        assert error.startswith("error: ") and error.count("error:") == 1
    assert len(listed(project)) == 1
    project.run("tag", "web", "Registry.example:5000/x/y")
    assert ("Registry.example:5000/x/y:latest", None, "linux/amd64") in listed(project)


def test_platforms_have_names_of_their_own(checkout: Any) -> None:
    project = checkout("a")
    here, there = built(project), built(project, "--platform", "linux/arm64")
    assert here != there
    assert digest(project, "--no-build") == here
    assert digest(project, "--no-build", "--platform", "linux/arm64") == there
    assert set(listed(project).values()) == {here, there}
    project.run("tag", "web", "x:1")
    project.run("tag", "web", "x:1", "--platform", "linux/arm64")
    assert json.loads(project.run("inspect", "x:1").stdout)["digest"] == here
    arm = json.loads(project.run("inspect", "x:1", "--platform", "linux/arm64").stdout)
    assert arm["digest"] == there
    error = project.run("inspect", "x:1", "--platform", "linux/s390x", status=2).stderr
    assert "linux/amd64 and linux/arm64" in error
    project.run("rmi", "x:1", "--platform", "linux/amd64")
    # of the only one that is left, no platform need be said
    assert json.loads(project.run("inspect", "x:1").stdout)["digest"] == there
    project.run("rmi", "web", "docker.io/library/x:1")
    assert project.run("rmi", "web", status=2).stderr.startswith("error: no image 'web'")


def test_a_removed_name_is_freed_by_the_next_gc(checkout: Any) -> None:
    a, b = checkout("a"), checkout("b")
    of_a, of_b = built(a), built(b)
    a.run("tag", "web", "kept:1")
    blobs = a.store / "blobs/sha256"
    assert "0 things" in a.run("cache", "gc").stdout
    assert f"web (linux/amd64, {a.root}) removed" in a.run("rmi", "web").stdout
    assert "0 things" in a.run("cache", "gc").stdout  # kept:1 holds it
    a.run("rmi", "kept:1")
    assert "would free" in a.run("cache", "gc", "--dry-run").stdout
    assert (blobs / of_a[7:]).exists()
    a.run("cache", "gc")
    assert not (blobs / of_a[7:]).exists() and (blobs / of_b[7:]).exists()
    assert a.run("cache", "check").stdout == "all is well\n"
    # what both hold is still there, what only one held is made again
    assert [status for status, _ in b.plan("web")["web"]] == ["hit", "hit"]
    assert [status for status, _ in a.plan("web")["web"]] == ["build", "hit"]
    assert built(a) == of_a


def test_a_layer_that_is_used_again_after_rmi_stays(checkout: Any) -> None:
    project = checkout("a")
    of_project = built(project)
    project.run("rmi", of_project[:19])  # by its digest
    assert built(project) == of_project
    assert "0 things" in project.run("cache", "gc").stdout
    assert digest(project, "--no-build") == of_project


def test_a_project_that_is_gone_holds_nothing(checkout: Any) -> None:
    gone, named, here = checkout("gone"), checkout("named", called="shop"), checkout("here")
    digests = [built(each) for each in (gone, named, here)]
    shutil.rmtree(gone.root)
    shutil.rmtree(named.root)
    for path in (here.store / "blobs/sha256").iterdir():
        os.utime(path, (1, 1))
    here.run("cache", "gc", "--max-age", "99999d")
    assert len(listed(here)) == 3  # nothing is so old
    here.run("cache", "gc")
    assert set(listed(here).values()) == set(digests[1:])
    assert digest(here, "--no-build") == digests[2]


def test_any_order_of_builds_gives_each_its_own(checkout: Any) -> None:
    """Projects, checkouts, variables, platforms and edits in random order: what a name means is
    what its spec says there and now."""
    seeded = random.Random(ROUNDS)
    projects = [checkout("a"), checkout("b"), checkout("c", called="shop", who="c")]
    projects.append(checkout("d", like=projects[2]))
    known: dict[tuple[str, ...], str] = {}  # what was built, to its digest
    last: dict[tuple[str, str], str] = {}  # what each name means
    for _ in range(ROUNDS):
        project = seeded.choice(projects)
        if seeded.random() < 0.3:
            who = seeded.choice("ab")
            project.file("specs/web.yaml", WEB.replace("WHO", who))
        text = (project.root / "specs/web.yaml").read_text()
        value, platform = seeded.choice("12"), seeded.choice(["linux/amd64", "linux/arm64"])
        options = ("--set", f"v={value}", "--platform", platform)
        owner = "shop" if (project.root / "builder.yaml").exists() else str(project.root)
        if seeded.random() < 0.5:
            found = built(project, *options)
            last[owner, platform] = found
        else:
            found = digest(project, *options)
            if (text, value, platform) not in known:
                last[owner, platform] = found
        assert known.setdefault((text, value, platform), found) == found
        assert len(set(known.values())) == len(known)
        assert listed(project) == {("web", owner, p): d for (owner, p), d in last.items()}
