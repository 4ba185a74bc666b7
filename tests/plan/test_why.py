"""Why: the one line that names the first input that differs from the last build."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.oci.digest import CacheKey, DiffID, chain_id
from builder.oci.image import Platform, encode
from builder.plan.keys import key_of, parse
from builder.plan.last import LastBuild, LastStep
from builder.plan.why import Below, _change, first_difference, why_step
from builder.project import Options, Project
from builder.spec.model import Place
from builder.steps.run import Run
from builder.store.records import save_document
from builder.store.store import Store

SPEC = """
from: scratch
vars: {who: world}
steps:
  - name: pages
    copy: pages/
    dest: /srv/
  - name: motd
    template: motd.j2
    dest: /etc/motd
  - name: link
    symlink: /www
    to: srv
"""


class Site:
    """A project whose image is built once and then looked at after a change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "specs").mkdir()
        (root / "pages" / "sub").mkdir(parents=True)
        (root / "pages" / "a.html").write_text("a")
        (root / "pages" / "b.html").write_text("b")
        (root / "pages" / "sub" / "c.html").write_text("c")
        (root / "motd.j2").write_text("hello {{ who }}\n")
        self.spec(SPEC)

    def spec(self, text: str) -> None:
        (self.root / "specs" / "a.yaml").write_text(text)

    def replace(self, old: str, new: str) -> None:
        assert old in SPEC
        self.spec(SPEC.replace(old, new))

    def project(self) -> Project:
        return Project(Options(str(self.root / "store"), str(self.root / "specs")))

    def build(self) -> None:
        project = self.project()
        project.build(project.load(["a"])[0])

    def whys(self) -> dict[str, str]:
        """Names of the steps that would be built, and why."""
        project = self.project()
        (plan,) = project.plan(project.load(["a"])[0]).values()
        return {step.name: step.why for step in plan.steps if step.status != "hit"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.build()
    return site


def short(text: str) -> str:
    from builder.oci.digest import hex_of

    return hex_of(text.encode())[:12]


def test_before_the_first_build_nothing_was_built(tmp_path: Path) -> None:
    assert set(Site(tmp_path).whys().values()) == {"first build"}


def test_after_a_build_nothing_is_left_to_do(site: Site) -> None:
    assert site.whys() == {}


WORLD, YOU = short("hello world\n"), short("hello you\n")


def make_folder(site: Site) -> None:
    (site.root / "pages" / "new").mkdir()
    (site.root / "pages" / "new" / "d.html").write_text("d")


def remove_folder(site: Site) -> None:
    (site.root / "pages" / "sub" / "c.html").unlink()
    (site.root / "pages" / "sub").rmdir()


def make_link(site: Site) -> None:
    (site.root / "pages" / "a.html").unlink()
    (site.root / "pages" / "a.html").symlink_to("b.html")


CHANGES: dict[str, tuple[Callable[[Site], object], dict[str, str]]] = {
    "a file's bytes": (
        lambda site: (site.root / "pages" / "a.html").write_text("A"),
        {"pages": f"/srv/a.html: content {short('a')} -> {short('A')}"},
    ),
    "two files": (
        lambda site: [
            (site.root / "pages" / name).write_text("new") for name in ("b.html", "a.html")
        ],
        {"pages": f"/srv/a.html: content {short('a')} -> {short('new')} (and 1 more)"},
    ),
    "a file is executable": (
        lambda site: (site.root / "pages" / "a.html").chmod(0o755),
        {"pages": "/srv/a.html: mode 0644 -> 0755"},
    ),
    "a new file": (
        lambda site: (site.root / "pages" / "d.html").write_text("d"),
        {"pages": "/srv/d.html: new"},
    ),
    "a new file in a new directory": (
        make_folder,
        {"pages": "/srv/new/d.html: new (and 1 more)"},
    ),
    "a file is gone": (
        lambda site: (site.root / "pages" / "a.html").unlink(),
        {"pages": "/srv/a.html: gone"},
    ),
    "a directory is gone": (
        remove_folder,
        {"pages": "/srv/sub/c.html: gone (and 1 more)"},
    ),
    "a file became a symlink": (
        make_link,
        {"pages": "/srv/a.html: file -> symlink"},
    ),
    "a name with a line break": (
        lambda site: (site.root / "pages" / "a\nb").write_text(""),
        {"pages": "/srv/a?b: new"},
    ),
    "an owner": (
        lambda site: site.replace("dest: /srv/", "dest: /srv/\n    owner: 33:34"),
        {"pages": "/srv/a.html: owner 0 -> 33 (and 4 more)"},
    ),
    "a mode": (
        lambda site: site.replace("dest: /etc/motd", "dest: /etc/motd\n    mode: '0600'"),
        {"motd": "/etc/motd: mode 0644 -> 0600"},
    ),
    "a destination": (
        lambda site: site.replace("dest: /etc/motd", "dest: /etc/issue"),
        {"motd": "/etc/issue: new (and 1 more)"},
    ),
    "a variable": (
        lambda site: site.replace("{who: world}", "{who: you}"),
        {"motd": f"/etc/motd: content {WORLD} -> {YOU}"},
    ),
    "a link's target": (
        lambda site: site.replace("to: srv", "to: /srv"),
        {"link": "/www: target srv -> /srv"},
    ),
    "a new step": (
        lambda site: site.spec(SPEC + "  - directory: /new\n"),
        {"directory /new": "new step"},
    ),
    "a new step before the others": (
        lambda site: site.replace("steps:\n", "steps:\n  - directory: /new\n"),
        {"directory /new": "new step"},
    ),
    "a step is gone": (lambda site: site.spec(SPEC[: SPEC.index("  - name: link")]), {}),
    "a step has another name": (lambda site: site.replace("name: link", "name: another"), {}),
    "a step with another name and content": (
        lambda site: site.spec(
            SPEC.replace("name: link", "name: another").replace("to: srv", "to: x")
        ),
        {"another": "/www: target srv -> x"},
    ),
    "a name that was another kind of step": (
        lambda site: site.replace("symlink: /www\n    to: srv", "directory: /www"),
        {"link": "/www: symlink -> directory"},
    ),
    "steps in another place": (
        lambda site: site.spec(
            SPEC[: SPEC.index("  - name: pages")]
            + SPEC[SPEC.index("  - name: link") :]
            + SPEC[SPEC.index("  - name: pages") : SPEC.index("  - name: link")]
        ),
        {},
    ),
    "a comment": (lambda site: site.spec(SPEC + "# a comment\n"), {}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_names_what_changed(site: Site, name: str) -> None:
    change, expected = CHANGES[name]
    change(site)
    assert site.whys() == expected


def test_another_epoch_is_named(site: Site) -> None:
    project = Project(Options(str(site.root / "store"), str(site.root / "specs"), epoch=1))
    (plan,) = project.plan(project.load(["a"])[0]).values()
    assert plan.steps[2].why == "/www: mtime 315532800 -> 0"


def test_a_layer_that_was_lost_is_said(site: Site) -> None:
    blobs = site.root / "store" / "blobs" / "sha256"
    for blob in blobs.iterdir():
        if blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.unlink()
    assert set(site.whys().values()) == {"its layer is no longer in the cache"}


def test_a_base_that_changed_is_named(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for text in ("one", "other"):
        (tmp_path / "specs" / "base.yaml").write_text(
            f"from: scratch\nsteps: [{{file: /base, content: {text}}}]\n"
        )
        site.spec(SPEC.replace("scratch", "image:base"))
        project = site.project()
        specs, _ = project.load(["a"])
        if text == "one":
            project.build(specs)
        else:
            project.build({"base": specs["base"]})
    plan = site.project().plan(specs)["a"]
    assert plan.base_why.startswith("base changed: ")
    assert {step.status for step in plan.steps} == {"hit"}


# -- commands -------------------------------------------------------------------------------------

RUN = Run(Place("specs/a.yaml", 1, 1), "run", "first\nsecond\nthird\n", {"A": "1"})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"command": "first\nother\nthird\n"}, "command: 'second' -> 'other'"),
        ({"command": "first\nsecond\n"}, "command: 'third' -> 'second'"),
        ({"command": ("a", "b")}, "command: '/bin/sh' -> 'a'"),
        ({"env": {"A": "2"}}, "env A: '1' -> '2'"),
        ({"env": {}}, "env A: '1' -> unset"),
        ({"env": {"A": "1", "B": "x"}}, "env B: unset -> 'x'"),
        ({"user": "33"}, "user: '0:0' -> '33:34'"),
        ({"working_dir": "/srv"}, "working_dir: '/' -> '/srv'"),
        ({"network": "none"}, "network: 'host' -> 'none'"),
        ({"shell": ("/bin/bash", "-c")}, "command: '/bin/sh' -> '/bin/bash'"),
    ],
)
def test_a_commands_first_difference_is_named(
    shop: Any, change: dict[str, Any], expected: str
) -> None:
    old, new = (parse(shop.planned(step).document) for step in (RUN, RUN._replace(**change)))
    assert first_difference(old, new) == expected


def test_a_platform_is_named(shop: Any) -> None:
    old = shop.planned(RUN).document
    new = shop.planned(RUN, platform=Platform("linux", "arm64")).document
    assert first_difference(parse(old), parse(new)) == "platform: linux/amd64 -> linux/arm64"


def test_an_executor_that_a_command_can_tell_is_named(shop: Any) -> None:
    old = parse(shop.planned(RUN).document)
    new = parse(shop.planned(RUN, executor="chroot").document)
    assert "executor" not in old
    assert first_difference(old, new) == "executor: sandbox -> chroot"


def test_a_key_of_another_version_is_said(shop: Any) -> None:
    document = parse(shop.planned(RUN).document)
    assert first_difference({**document, "version": 0}, document) == (
        "made by another version of the builder"
    )


A, B, C, D = (DiffID("sha256:" + letter * 64) for letter in "abcd")
BASE = chain_id([A])
OTHER = chain_id([D])


@pytest.mark.parametrize(
    ("base", "steps", "expected"),
    [
        (OTHER, [("one", B), ("two", "")], "base changed: aaaaaaaaaaaa -> dddddddddddd"),
        (BASE, [("one", C), ("two", "")], "step 'one' below it changed"),
        (BASE, [("one", B), ("two", C)], "step 'two' below it changed"),
        (BASE, [("zero", C), ("one", B), ("two", "")], "step 'zero' below it is new"),
        (BASE, [("two", "")], "step 'one' below it is gone"),
        (BASE, [("two", ""), ("one", B)], "the steps below it changed places"),
    ],
)
def test_what_changed_below_a_command_is_named(
    tmp_path: Path, shop: Any, base: str, steps: list[tuple[str, str]], expected: str
) -> None:
    store = Store(str(tmp_path / "other"))
    fields = {**parse(shop.planned(RUN).document), "parent": "before"}
    old = encode(fields)
    save_document(store, key_of(old), old)
    before = [
        LastStep(name, "files", "0" * 64, layer, "", 0) for name, layer in (("one", B), ("two", ""))
    ]
    before.append(LastStep("run", "run", key_of(old), C, "", 0))
    last = LastBuild("scratch", BASE, {}, tuple(before), "", 0)
    new = encode({**fields, "parent": "now"})
    names = [*(name for name, _ in steps), "run"]
    why = why_step(
        store, last, len(steps), names, "run", new, CacheKey("1" * 64), Below(base, tuple(steps))
    )
    assert why == expected


def test_a_document_that_was_swept_is_said(shop: Any) -> None:
    document = shop.planned(RUN).document
    last = LastBuild("scratch", BASE, {}, (LastStep("run", "run", "2" * 64, C, "", 0),), "", 0)
    why = why_step(shop.store, last, 0, ["run"], "run", document, CacheKey("1" * 64), None)
    assert why == "changed; what it was is no longer in the cache"


def test_what_changed_among_too_many_paths_is_not_told_apart(shop: Any) -> None:
    last = LastBuild("scratch", BASE, {}, (LastStep("a", "files", "2" * 64, C, "", 0),), "", 0)
    why = why_step(shop.store, last, 0, ["a"], "files", None, CacheKey("1" * 64), None)
    assert why == "changed; it has more than 200000 paths, which are not told apart"


def test_long_values_are_shown_where_they_part() -> None:
    draw = random.Random(7)
    letters = "abcdefghij é"
    for _ in range(2000):
        old = "".join(draw.choices(letters, k=draw.randrange(1, 300)))
        at = draw.randrange(len(old) + 1)
        new = old[:at] + draw.choice(("X", "XY" * draw.randrange(1, 90), "")) + old[at:]
        if draw.random() < 0.5:
            new = new[: at + 1]
        if old == new:
            continue
        before, after = map(ast.literal_eval, _change(old, new).split(" -> "))
        assert before != after
        assert max(len(before), len(after)) <= 58 + len("......")
        for shown, whole in ((before, old), (after, new)):
            middle = shown.removeprefix("...").removesuffix("...")
            assert middle in whole
            assert shown.startswith("...") or whole.startswith(middle)
            assert shown.endswith("...") or whole.endswith(middle)
