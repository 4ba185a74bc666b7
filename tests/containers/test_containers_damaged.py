"""What stands in the place of a kept container may be anything: no command follows it out of the
store, each says so in a line, and it can be removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.containers.conftest import Box

DEEP = b"[" * 100_000


def _link(path: Path, outside: Path) -> None:
    """A link to the same outside of the store."""
    if path.is_dir():
        shutil.copytree(path, outside / path.name, symlinks=True)
        shutil.rmtree(path)
    elif path.exists():
        shutil.move(path, outside / path.name)
    path.symlink_to(outside / path.name)


def _fifo(path: Path, outside: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _bytes(data: bytes) -> Callable[[Path, Path], None]:
    def write(path: Path, outside: Path) -> None:
        path.write_bytes(data)

    return write


def _gone(path: Path, outside: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


DAMAGES: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "empty": ("about.json", _bytes(b"")),
    "cut": ("about.json", _bytes(b'{"name": "hurt", "layers": [')),
    "another": ("about.json", _bytes(b'{"layers": [{}], "command": 3}')),
    "deep": ("about.json", _bytes(DEEP)),
    "no about.json": ("about.json", _gone),
    "a FIFO": ("about.json", _fifo),
    "about.json elsewhere": ("about.json", _link),
    "upper elsewhere": ("upper", _link),
    "no upper": ("upper", _gone),
    "all of it elsewhere": ("", _link),
}
COMMANDS = (
    ("run", "container:hurt", "sh", "-c", "echo > /made"),
    ("diff", "hurt"),
    ("cp", "hurt:/etc/passwd", "passwd"),
    ("cp", "specs/box.yaml", "hurt:/made"),
    ("commit", "hurt"),
)


def _told(folder: Path) -> dict[str, tuple[int, int, int]]:
    """All that is there, with what a write changes."""
    return {
        str(path.relative_to(folder)): (status.st_mode, status.st_size, status.st_mtime_ns)
        for path in (folder, *folder.rglob("*"))
        for status in [path.lstat()]
    }


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_none_is_told_and_removed(box: Box, tmp_path: Path, name: str) -> None:
    box.run("--keep", "hurt", "box", "true")
    folder = box.store / "containers/hurt"
    inner, damage = DAMAGES[name]
    damage(folder / inner if inner else folder, tmp_path)
    before = _told(tmp_path)
    for command in COMMANDS:
        said = box.fails(*command, status=125 if command[0] == "run" else 2)
        assert "'hurt' is damaged" in said and "`builder rm hurt`" in said
    assert "hurt" not in box.call("ps", "-a", check=True).stdout.decode()
    box.call("cache", "gc", "--all", "--dry-run", check=True)
    assert "hurt" in box.fails("run", "--keep", "hurt", "box", "true", status=125)
    box.call("rm", "hurt", check=True)
    assert _told(tmp_path) == before
    assert not os.path.lexists(folder)
    box.run("--keep", "hurt", "box", "true")


def test_a_lock_elsewhere_is_not_written(box: Box, tmp_path: Path) -> None:
    box.run("--keep", "hurt", "box", "true")
    _link(box.store / "containers/hurt/lock", tmp_path)
    before = _told(tmp_path)
    assert "lock" in box.fails("run", "container:hurt", "true", status=125)
    assert _told(tmp_path) == before
    (box.store / "containers/hurt/lock").unlink()


def test_the_check_tells_of_it_and_takes_out_none(box: Box) -> None:
    box.run("--keep", "hurt", "box", "true")
    (box.store / "containers/hurt/about.json").write_bytes(b"")
    made = box.call("cache", "check", "--repair")
    assert b"containers/hurt: damaged; `builder rm hurt` removes it" in made.stdout
    assert made.returncode == 1
    assert (box.store / "containers/hurt").is_dir()


def test_what_they_take_is_in_the_list_of_the_store(box: Box) -> None:
    box.run("--keep", "large", "box", "sh", "-c", "head -c 3000000 /dev/urandom > /large")
    listed = box.call("cache", "ls", check=True).stdout.decode()
    row = next(line.split() for line in listed.splitlines() if line.startswith("containers "))
    assert row[1:] == ["1", "3.0", "MB"]


def test_a_file_is_no_folder(box: Box) -> None:
    box.run("--keep", "one", "box", "true")
    for path in ("specs/box.yaml/", "specs/box.yaml/."):
        assert "is no folder on this machine" in box.fails("cp", path, "one:/made", status=2)
