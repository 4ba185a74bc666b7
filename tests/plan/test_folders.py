"""What is relative to the working directory, and which commands make it themselves."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import SpecError
from builder.plan.config import in_image, working_dir
from builder.spec.model import ConfigChange, Place
from builder.steps.copy import Copy
from builder.steps.file import File
from builder.steps.remove import Remove
from builder.steps.run import makes_it

HERE = Place("specs/a.yaml", 1, 1)
PARTS = st.lists(st.sampled_from(["a", "b", ".", "c d"]), min_size=1, max_size=4).map("/".join)


@given(PARTS, st.booleans(), PARTS, st.booleans())
def test_a_target_is_joined_as_docker_joins_it(
    path: str, absolute: bool, folder: str, slash: bool
) -> None:
    path = ("/" if absolute else "") + path + ("/" if slash else "")
    found = in_image(path, "/" + folder)
    assert found.startswith("/") and "//" not in found
    assert found.rstrip("/") == posixpath.normpath(posixpath.join("/", folder, path)).rstrip("/")
    assert found.endswith("/") == (slash or found == "/")


@pytest.mark.parametrize(
    ("command", "folder", "made"),
    [
        ("mkdir /data", "/data", True),
        ("true && mkdir -m 700 '/data/'; touch /data/x", "/data", True),
        (("mkdir", "/x", "/data"), "/data", True),
        ("/bin/mkdir /data", "/data", True),
        ("mkdir -p /data", "/data", False),
        ("mkdir -vp /data", "/data", False),
        ("mkdir --parents /data", "/data", False),
        ("mkdir /data/sub", "/data", False),
        ("echo mkdir /data", "/data", False),
        ("ls /data", "/data", False),
        ("useradd -m jo", "/home/jo", True),
        ("adduser --disabled-password --gecos '' jo", "/home/jo", True),
        ("useradd --home-dir=/srv/jo -m jo", "/srv/jo", True),
        ("useradd -d /srv/jo -m jo", "/srv/jo", True),
        ("useradd -m jo", "/srv/jo", False),
        ("useradd -m jo", "/data", False),
        ("", "/data", False),
        ("mkdir", "/", False),
    ],
)
def test_a_command_that_makes_the_folder_itself(
    command: str | tuple[str, ...], folder: str, made: bool
) -> None:
    assert makes_it(command, folder) == made


def config(folder: str, user: str | None = None) -> ConfigChange:
    return ConfigChange(user=user, working_dir=folder)


def test_the_base_says_where_relative_targets_lie(shop: Any) -> None:
    document = {**shop.image.config, "config": {"WorkingDir": "/lib/x", "User": "www"}}
    image = shop.image._replace(config=document)
    assert {*shop.entries(File(HERE, None, "f", ""), image=image)} == {"usr/lib/x", "usr/lib/x/f"}
    assert shop.entries(File(HERE, None, "f", ""), image=image)["usr/lib/x"].uid == 33
    assert shop.entries(File(HERE, None, "f", ""), image=image, config=config("/dir")).keys() == {
        "dir",  # not plain: written as it stands below
        "dir/f",
    }


def test_nothing_is_made_for_what_is_removed_or_absolute(shop: Any) -> None:
    for step in (Remove(HERE, None, ("x",)), File(HERE, None, "/srv/f", "")):
        assert "new" not in shop.entries(step, config=config("/new"))


def test_a_user_that_comes_later_does_not_own_the_folder(shop: Any) -> None:
    entries = shop.entries(File(HERE, None, "f", ""), config=config("/new", "nobody-yet"))
    assert (entries["new"].uid, entries["new"].gid) == (0, 0)


def test_the_folder_of_a_copy_of_many_files_is_made_first(shop: Any) -> None:
    """Of so many that they wait on disk."""
    folder: Path = shop.context / "many"
    folder.mkdir()
    for number in range(30):
        (folder / str(number)).write_text("")
    step = Copy(HERE, None, ("many", "many"), "./")
    planned = shop.planned(step, config=config("/new/deep", "33:7"))
    made = {entry.path: (entry.uid, entry.gid) for entry, _ in planned.decision.changes.sorted()}
    assert (made[b"new"], made[b"new/deep"], made[b"new/deep/3"]) == ((33, 7), (33, 7), (0, 0))


def test_a_path_that_becomes_too_long_is_an_error(shop: Any) -> None:
    long = "/".join(["x" * 200] * 15)
    with pytest.raises(SpecError, match="is longer than 4095 bytes"):
        shop.planned(File(HERE, None, long, ""), config=config("/" + long))


def test_working_dirs_are_chained_as_go_joins_paths() -> None:
    for parts, expected in {
        (None, None): "/",
        ("//app", None): "/app",
        ("//app/", "b"): "/app/b",
        ("/a", "/b"): "/b",
        ("a", "../c"): "/c",
        ("///", ".."): "/",
    }.items():
        assert working_dir(*parts) == expected, parts
