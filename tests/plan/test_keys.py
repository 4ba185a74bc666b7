"""Keys: every input of a step changes its key, or is named here as what must not matter."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from builder.oci.digest import hasher
from builder.oci.image import Image, Platform
from builder.plan.context import Context
from builder.plan.keys import KEY_VERSION
from builder.plan.step import Step
from builder.spec.model import ConfigChange, ImageSpec, Place
from builder.spec.mounts import Cache, Secret, Ssh, Tmpfs
from builder.spec.tests import FileTest
from builder.steps.copy import Copy
from builder.steps.directory import Directory
from builder.steps.file import File
from builder.steps.remove import Remove
from builder.steps.run import Run
from builder.steps.symlink import Symlink
from builder.steps.template import Template
from builder.steps.unpack import Unpack

HERE = Place("specs/a.yaml", 3, 5)
GOLDEN = Path(__file__).parents[1] / "golden" / "keys.json"

STEPS: dict[str, Step] = {
    "copy": Copy(HERE, None, ("tree",), "/to/"),
    "file": File(HERE, None, "/etc/motd", "hello\n"),
    "template": Template(HERE, None, "/etc/motd", "motd.j2", {"who": "you"}),
    "directory": Directory(HERE, None, "/srv/app"),
    "symlink": Symlink(HERE, None, "/srv/www", "/usr/share"),
    "remove": Remove(HERE, None, ("/file",)),
    "unpack": Unpack(HERE, None, ("a.tar",), "/to"),
    "run": Run(HERE, None, "true"),
}

# field -> another value; every value must give another key
CHANGES: dict[str, dict[str, tuple[Any, ...]]] = {
    "copy": {
        "sources": (("tree/sub",), ("tree", "one")),
        "dest": ("/other/", "/tmp/x/", "/lib/"),
        "exclude": (("*.txt",), ("sub/",)),
        "owner": ("33", "www", "0:44", "33:extra"),
        "mode": ("0600", "u=rwX,go="),
        "preserve": (("mode",), ("owner",), ("mtime",), ("xattrs",)),
        "times": ("content",),
        "optional": (("none", "b.tar"), ("a.tar",)),
    },
    "file": {
        "dest": ("/etc/issue", "/tmp/x"),
        "content": ("hello", ""),
        "owner": ("33", "www", "0:44"),
        "mode": ("0600", "u+x"),
        "times": ("content",),
    },
    "template": {
        "dest": ("/etc/issue",),
        "template": ("other.j2",),
        "variables": ({"who": "me"},),
        "owner": ("33",),
        "mode": ("0600",),
        "times": ("content",),
    },
    "directory": {
        "dest": ("/srv/other", "/lib/app", "/tmp/app"),
        "owner": ("33", "www"),
        "mode": ("0700", "g+w"),
    },
    "symlink": {
        "dest": ("/srv/other", "/lib/www"),
        "to": ("../share",),
        "owner": ("33",),
    },
    "remove": {"paths": (("/dir",), ("/file", "/dir/old"))},
    "unpack": {
        "sources": (("b.tar",), ("a.tar", "b.tar")),
        "dest": ("/other", "/lib"),
        "strip_components": (1,),
        "owner": ("33", "www"),
        "preserve": (("mtime",),),
    },
    "run": {
        "command": ("false", ("true",)),
        "env": ({"A": "1"}, {"PATH": "/bin"}),
        "user": ("33", "www", "0:44"),
        "working_dir": ("/srv", "opt"),
        "shell": (("/bin/bash", "-c"),),
        "network": ("none",),
        "given": (
            (Tmpfs(HERE, "/tmp"),),
            (Cache(HERE, "/tmp", "x"),),
            (Secret(HERE, "x"),),
            (Secret(HERE, "x", env="X"),),
            (Ssh(HERE),),
        ),
        "errexit": (False,),
    },
}

# field -> another value; none may give another key, and why
INERT: dict[str, dict[str, tuple[Any, str]]] = {
    kind: {
        "place": (Place("specs/other.yaml", 99, 1), "where a step is written"),
        "name": ("renamed", "what a step is called"),
    }
    for kind in STEPS
}
INERT["run"]["timeout"] = (5 * 10**9, "what a step makes in time is the same")

# tests/steps/test_copy_from.py, tests/dockerfile
ELSEWHERE = {"copy": ("origin", "rules")}


@pytest.fixture
def context(shop: Any) -> Path:
    folder: Path = shop.context
    fill(folder)
    return folder


def fill(folder: Path) -> None:
    (folder / "tree" / "sub").mkdir(parents=True)
    (folder / "tree" / "a.txt").write_text("a")
    (folder / "tree" / "run.sh").write_text("run")
    (folder / "tree" / "sub" / "c.txt").write_text("c")
    (folder / "tree" / "link").symlink_to("a.txt")
    os.chmod(folder / "tree" / "run.sh", 0o2750)
    os.chown(folder / "tree" / "sub" / "c.txt", *OWNERS)
    os.setxattr(folder / "tree" / "a.txt", "user.note", b"x")
    os.utime(folder / "tree" / "a.txt", (1_000_000_000, 1_000_000_000))
    (folder / "one").write_text("one")
    (folder / "motd.j2").write_text("hello {{ who }}\n")
    (folder / "other.j2").write_text("bye {{ who }}\n")
    for name, data in (("a.tar", "tree"), ("b.tar", "tree/sub")):
        with tarfile.open(folder / name, "w") as tar:
            tar.add(folder / data, "in")


OWNERS = (1234, 1235) if os.geteuid() == 0 else (-1, -1)


def test_every_field_of_every_step_is_in_a_table() -> None:
    for kind, step in STEPS.items():
        known = {*CHANGES[kind], *INERT[kind], *ELSEWHERE.get(kind, ())}
        assert known == set(step._fields), kind


@pytest.mark.root
@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(k, f, v) for k, fields in CHANGES.items() for f, values in fields.items() for v in values],
)
def test_a_field_changes_the_key(
    shop: Any, context: Path, kind: str, field: str, value: Any
) -> None:
    before = STEPS[kind]
    assert shop.key(before) != shop.key(before._replace(**{field: value}))


@pytest.mark.parametrize(("kind", "field"), [(k, f) for k, fields in INERT.items() for f in fields])
def test_a_field_that_must_not_matter_does_not(
    shop: Any, context: Path, kind: str, field: str
) -> None:
    value = INERT[kind][field][0]
    assert shop.key(STEPS[kind]) == shop.key(STEPS[kind]._replace(**{field: value}))


@pytest.mark.parametrize("kind", STEPS)
def test_values_differ_among_each_other(shop: Any, context: Path, kind: str) -> None:
    keys = {
        shop.key(STEPS[kind]._replace(**{field: value}))
        for field, values in CHANGES[kind].items()
        for value in values
        if value not in ("www", "33", "33:extra")  # some of these are the same owner
    }
    assert len(keys) == sum(
        value not in ("www", "33", "33:extra")
        for values in CHANGES[kind].values()
        for value in values
    )


def test_the_platform_is_in_every_key(shop: Any, context: Path) -> None:
    other = Platform("linux", "arm64")
    for step in STEPS.values():
        assert shop.key(step) != shop.key(step, platform=other)


def test_the_epoch_is_in_every_key_but_of_what_has_no_time(shop: Any, context: Path) -> None:
    for step in STEPS.values():
        assert shop.key(step) != shop.key(step, epoch=1)


def test_config_reaches_commands_alone(shop: Any, context: Path) -> None:
    run = STEPS["run"]
    for change in (
        ConfigChange(env={"A": "1"}),
        ConfigChange(user="33"),
        ConfigChange(working_dir="/srv"),
        ConfigChange(shell=("/bin/bash", "-c")),
    ):
        assert shop.key(run) != shop.key(run, config=change)
    others = ConfigChange(
        entrypoint=("x",),
        cmd=("x",),
        labels={"a": "b"},
        exposed_ports=("80",),
        volumes=("/v",),
        stop_signal="SIGINT",
    )
    for step in STEPS.values():
        assert shop.key(step) == shop.key(step, config=others)
    for kind in set(STEPS) - {"run"}:
        assert shop.key(STEPS[kind]) == shop.key(STEPS[kind], config=ConfigChange(env={"A": "1"}))


def test_what_else_a_spec_says_is_in_no_key(shop: Any, context: Path) -> None:
    more = {"tags": ("x:1",), "variables": {"unused": "1"}, "environment": {"USER": "me"}}
    more |= {"key": "y", "skipped": (), "left_out": None, "row": 1, "axes": ("a",), "parts": ("z",)}
    more |= {"stages": (), "stage": "z", "task": "z"}
    more |= {"tests": (FileTest(Place("a", 1, 1), "a", "/a"),)}
    more |= {"platforms": (Platform(), Platform("linux", "arm64")), "target": Platform()}
    known = {"name", "file", "base", "steps", "config", "platform", "waits", "context", *more}
    assert set(ImageSpec._fields) == known
    for step in STEPS.values():
        assert shop.key(step) == shop.key(step, file="specs/b.yaml", **more)


def test_a_template_that_asks_the_environment_has_the_answer_in_its_key(
    shop: Any, context: Path
) -> None:
    (context / "motd.j2").write_text("{{ env('WHO') }}")
    step = STEPS["template"]
    assert shop.key(step, environ={"WHO": "a"}) != shop.key(step, environ={"WHO": "b"})
    assert shop.key(step, environ={"WHO": "a", "X": "1"}) == shop.key(step, environ={"WHO": "a"})


# -- what lies below ------------------------------------------------------------------------------


def test_a_file_step_keeps_its_key_on_another_base_a_command_does_not(
    shop: Any, context: Path, make_base: Callable[..., Image]
) -> None:
    accounts = {
        "etc/group": b"root:x:0:\n",
        "etc/passwd": b"other:x:7:7::/:\nwww:x:33:34::/var/www:/bin/sh\n",
    }
    other = make_base(shop.store, accounts)
    for kind, step in STEPS.items():
        same = shop.key(step) == shop.key(step, image=other)
        assert same == (kind != "run"), kind


def test_a_name_that_has_another_number_on_another_base_changes_the_key(
    shop: Any, context: Path, make_base: Callable[..., Image]
) -> None:
    other = make_base(shop.store, {"etc/passwd": b"www:x:99:99::/:\n", "etc/group": b""})
    step = Copy(HERE, None, ("tree",), "/to/", owner="www")
    assert shop.key(step) != shop.key(step, image=other)


def test_where_a_symlinked_parent_leads_is_in_the_key(shop: Any, context: Path) -> None:
    through, straight = (File(HERE, None, f"/{folder}/x", "x") for folder in ("lib", "usr/lib"))
    assert shop.key(through) == shop.key(straight)
    moved = Symlink(HERE, None, "/link", "/usr"), Symlink(HERE, None, "/link", "/srv")
    below = File(HERE, None, "/link/x", "x")
    assert shop.key(moved[0], below) != shop.key(moved[1], below)


# -- what must not matter -------------------------------------------------------------------------


def touch(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (5, 5), follow_symlinks=False)


def group_writable(folder: Path) -> None:
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o022)


def private(folder: Path) -> None:
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o7700)


def copied_elsewhere_and_back(folder: Path) -> None:
    moved = folder.with_name("elsewhere")
    shutil.copytree(folder, moved, symlinks=True, copy_function=shutil.copyfile)
    for path in folder.rglob("*"):
        if path.stat().st_mode & 0o100 and path.is_file():
            (moved / path.relative_to(folder)).chmod(0o755)
    shutil.rmtree(folder)
    moved.rename(folder)


def owned_by_another(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.chown(path, 77, 78, follow_symlinks=False)


@pytest.mark.parametrize(
    "change",
    [touch, group_writable, private, copied_elsewhere_and_back,
     pytest.param(owned_by_another, marks=pytest.mark.root)],
)  # fmt: skip
def test_the_state_of_a_checkout_does_not_matter(
    shop: Any, context: Path, change: Callable[[Path], None]
) -> None:
    steps = [STEPS[kind] for kind in ("copy", "template", "unpack")]
    before = [shop.key(step) for step in steps]
    change(context)
    assert [shop.key(step) for step in steps] == before


def test_the_path_of_a_checkout_does_not_matter(shop: Any, context: Path) -> None:
    before = shop.key(STEPS["copy"])
    moved = context.with_name("another-checkout")
    context.rename(moved)
    assert shop._replace(context=moved).key(STEPS["copy"]) == before


def test_the_order_of_mappings_does_not_matter(shop: Any, context: Path) -> None:
    pairs = [("A", "1"), ("B", "2"), ("C", "3")]
    one, other = (Run(HERE, None, "true", env=dict(order)) for order in (pairs, pairs[::-1]))
    assert shop.key(one) == shop.key(other)


def test_other_bytes_of_equal_size_and_time_are_never_a_hit(shop: Any) -> None:
    """Written and planned as fast as it goes, so that many fall into one tick of the clock."""
    path = shop.context / "file"
    step = Copy(HERE, None, ("file",), "/to")
    context = Context(str(shop.context), shop.store)
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    (source,) = context.find("file")
    for number in range(10_000):
        data = b"%08d" % number
        os.pwrite(handle, data, 0)
        os.utime(handle, (1_000_000_000, 1_000_000_000))
        tree = context.tree(source)
        (digest,) = context.digests(tree)
        assert digest == digest_of(data), number
        if number % 100 == 0:
            made = shop.planned(step).decision.changes
            assert made is not None
            assert [row[2] for row in made.rows] == [digest_of(data)]
    os.close(handle)


def digest_of(data: bytes) -> bytes:
    return hasher(data).digest()


# -- goldens --------------------------------------------------------------------------------------


def goldens(shop: Any) -> Mapping[str, str]:
    chosen = {**STEPS, "copy": Copy(HERE, None, ("tree",), "/to/", owner="www", mode="u=rwX,go=rX")}
    del chosen["unpack"]  # its archive is made by this Python's tarfile
    return {kind: shop.key(step) for kind, step in chosen.items()}


def test_keys_are_those_of_this_version(shop: Any, context: Path) -> None:
    """A key that changed without another KEY_VERSION would make caches lie; with a new one, write
    the keys of tests/golden/keys.json anew."""
    golden = json.loads(GOLDEN.read_text())
    assert {"version": KEY_VERSION, "keys": dict(goldens(shop))} == golden
