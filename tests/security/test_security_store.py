"""A store that others prepared: whatever stands in it, nothing outside of it changes."""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FULL = os.environ.get("SECURITY") == "full"
STRANGER = 54321
FOLDERS = (
    *("tmp", "locks", "live", "blobs", "blobs/sha256", "tables", "unpacked", "uses", "records"),
    *("documents", "layers", "bases", "memos", "trees", "specs", "builds", "names", "logs"),
)
FILES = ("version", "index.json", "oci-layout", "CACHEDIR.TAG")
SPEC = "from: scratch\nsteps:\n- {name: copy, copy: a, dest: /a}\ntags: [localhost:1/site:1]\n"
COMMANDS = (
    ("build", "site"),
    ("build", "site", "--output", "oci:out"),
    ("plan", "site"),
    ("why", "site"),
    ("images",),
    ("inspect", "site"),
    ("tag", "site", "again"),
    ("rmi", "site"),
    ("push", "site"),
    ("cache", "ls"),
    ("cache", "check"),
    ("cache", "check", "--repair"),
    ("cache", "gc"),
    ("cache", "gc", "--max-size", "0"),
    ("doctor",),
)


def look(folder: Path, *, names: bool = True) -> dict[str, tuple[Any, ...]]:
    """All that could be changed about everything in a folder; of files with another name in the
    store, which may be removed there, not how many names they have (`names` is false)."""
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = (
            *(status.st_ino, status.st_mode, status.st_uid, status.st_mtime_ns, data),
            *((status.st_nlink, status.st_ctime_ns) if names else ()),
        )
    return found


class Bench:
    """A project, a store with an image, and what lies outside of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project, self.store = folder / "project", folder / "store"
        self.outside = folder / "outside"
        (self.project / "specs").mkdir(parents=True)
        (self.project / "specs/site.yaml").write_text(SPEC)
        (self.project / "a").write_text("content\n")
        self.run("build", "site")
        self.run("build", "site")
        for name in (*FOLDERS, "dead"):  # looks like a part of a store, and is not
            (self.outside / name).mkdir(parents=True)
        for number, name in enumerate(
            ("thesis.txt", "0" * 64, "0" * 16, "0" * 16 + ".1", "step-" + "1" * 64, "index")
        ):
            for place in (".", "tmp", "blobs/sha256"):
                (self.outside / place / name).write_text(f"years of work {number}")
        (self.outside / "empty").touch()
        for path in (self.outside, *self.outside.rglob("*")):
            os.utime(path, (1_000_000_000, 1_000_000_000))
        self.kept = folder / "kept"
        subprocess.run(["cp", "-a", self.store, self.kept], check=True)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "builder", *arguments],
            cwd=self.project,
            env={**os.environ, "BUILDER_CACHE_DIR": str(self.store), "PYTHONPATH": ROOT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr and "itself failed" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    def restore(self) -> None:
        shutil.rmtree(self.store)
        subprocess.run(["cp", "-a", self.kept, self.store], check=True)


ROOT = str(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("store"))


# -- what may stand somewhere: each takes the place's path ----------------------------------------


def _link(target: str) -> Callable[[Bench, Path], None]:
    def act(bench: Bench, path: Path) -> None:
        _gone(bench, path)
        path.symlink_to(bench.outside / target)

    return act


def _gone(bench: Bench, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link_to_same(bench: Bench, path: Path) -> None:
    _gone(bench, path)
    path.symlink_to(bench.outside / path.relative_to(bench.store))


def _hard(bench: Bench, path: Path) -> None:
    _gone(bench, path)
    os.link(bench.outside / "thesis.txt", path)


def _hard_empty(bench: Bench, path: Path) -> None:
    _gone(bench, path)
    os.link(bench.outside / "empty", path)


def _fifo(bench: Bench, path: Path) -> None:
    _gone(bench, path)
    os.mkfifo(path)


def _socket(bench: Bench, path: Path) -> None:
    _gone(bench, path)
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _device(bench: Bench, path: Path) -> None:
    _gone(bench, path)
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def _folder(bench: Bench, path: Path) -> None:
    _gone(bench, path)
    path.mkdir()
    (path / "out").symlink_to(bench.outside)


def _foreign(bench: Bench, path: Path) -> None:
    if not path.exists():
        path.write_text("years of work")
    os.chown(path, STRANGER, STRANGER)


def _open(bench: Bench, path: Path) -> None:
    if path.is_dir():
        path.chmod(0o777)


STANDS: dict[str, Callable[[Bench, Path], None]] = {
    "link to the same folder outside": _link_to_same,
    "link to a folder": _link("tmp"),
    "link to a file": _link("thesis.txt"),
    "dangling link": _link("nothing"),
    "hard link": _hard,
    "hard link to an empty file": _hard_empty,
    "fifo": _fifo,
    "socket": _socket,
    "device": _device,
    "folder with a link": _folder,
    "foreign": _foreign,
    "open": _open,
    "gone": _gone,
}


def places(bench: Bench) -> list[str]:
    """Where something may stand: every folder, every file of the root, an entry of each folder that
    is there, and names that builders give to what they make."""
    found = [*FOLDERS, *FILES]
    for folder in FOLDERS:
        names = sorted(os.listdir(bench.kept / folder)) if (bench.kept / folder).is_dir() else []
        found += [f"{folder}/{name}" for name in [*names, "0" * 64][:2] if name != "sha256"]
    return [*found, "tmp/" + "0" * 16 + ".1", "live/" + "0" * 16, "locks/index", "locks/collector"]


@pytest.mark.root
@pytest.mark.timeout(3600 if FULL else 600)
def test_nothing_outside_of_a_store_changes_whatever_stands_in_it(
    bench: Bench, record_property: Any
) -> None:
    """Every place with everything in it. All of them with every command: SECURITY=full."""
    cases = [(place, name) for place in places(bench) for name in STANDS]
    folders = [each for each in cases if each[0] in FOLDERS and "link to the same" in each[1]]
    chosen = random.Random(7)
    few = [(*each, chosen.choice(COMMANDS)) for each in chosen.sample(cases, 50)]
    few += [(*each, command) for each in folders for command in (COMMANDS[0], COMMANDS[13])]
    every = [(*each, command) for each in cases for command in COMMANDS]
    os.utime(bench.outside / "thesis.txt", (1_000_000_000, 1_000_000_000))
    for place, stands, command in every if FULL else few:
        bench.restore()
        path = bench.store / place
        if not path.parent.is_dir():
            path.parent.mkdir()
        STANDS[stands](bench, path)
        names = not stands.startswith("hard")
        before = look(bench.outside, names=names)
        where = f"{place}: {stands}: {' '.join(command)}"
        status, _, err = bench.run(*command)
        assert look(bench.outside, names=names) == before, where
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert status in (0, 1, 2) and len(errors) <= 1, f"{where}: {status} {err}"
        shutil.rmtree(bench.project / "out", ignore_errors=True)
        if place in FOLDERS and "link" in stands and stands != "folder with a link":
            assert status == 1 and f"{path}: " in err, f"{where}: {err}"
    record_property("cases", len(every if FULL else few))


@pytest.mark.root
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_link_put_in_a_folders_place_meanwhile_leads_nowhere(tmp_path: Path, folder: str) -> None:
    """The store is open, and then its folder is swapped."""
    from builder.errors import StoreError
    from builder.oci import media
    from builder.oci.image import Platform
    from builder.store.gc import gc
    from builder.store.names import ImageName
    from builder.store.store import Store

    name = ImageName("site", Platform())
    outside = tmp_path / "outside"
    outside.mkdir()
    for each in ("0" * 64, "0" * 16 + ".1", "index"):
        (outside / each).write_text("years of work")
        os.utime(outside / each, (0, 0))
    store = Store(str(tmp_path / "store"))
    path = Path(store.root, folder)
    moved = tmp_path / "moved"
    if path.exists():
        path.rename(moved)
    path.symlink_to(outside)
    before = look(outside)
    for act in (
        lambda: store.put(b"layer", media.LAYER),
        lambda: store.save("records", "0" * 64, b"x"),
        lambda: store.tag(name, store.put(b"{}", media.MANIFEST)),
        lambda: store.live().__enter__(),
        lambda: gc(store, max_size=0),
        store.close,
    ):
        try:
            act()
        except StoreError as error:
            assert "\n" not in error.message
    assert look(outside) == before


@pytest.mark.root
def test_entries_of_a_stranger_are_not_believed(bench: Bench) -> None:
    """Their owner can write to them at any time, and say what a step came to."""
    bench.restore()
    for path in (bench.store / "records").iterdir():
        os.chown(path, STRANGER, STRANGER)
    status, _, err = bench.run("plan", "site")
    assert status == 0 and "is corrupt; it is made again" in err


@pytest.mark.parametrize("name", ["thesis.txt", "notes", "0" * 15, "0" * 63, "Index"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_has_no_name_of_ours_stays(tmp_path: Path, folder: str, name: str) -> None:
    from builder.store.gc import gc
    from builder.store.store import Store

    store = Store(str(tmp_path / "store"))
    path = Path(store.root, folder, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text("years of work")
    os.utime(path, (0, 0))
    with store.live():
        gc(store, max_size=0, max_age=0)
    assert path.read_text() == "years of work"


# -- which folders are stores --------------------------------------------------------------------


def _project(folder: Path) -> None:
    (folder / "version").write_text("1.0\n")
    (folder / "tmp").mkdir()
    (folder / "tmp" / ("0" * 16)).write_text("years of work")


def _only_tmp(folder: Path) -> None:
    (folder / "tmp").mkdir()
    (folder / "tmp" / ("0" * 16)).write_text("years of work")


def _foreign_layout(folder: Path) -> None:
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    (folder / "blobs").mkdir()
    (folder / "tmp").mkdir()


def _others_cache(folder: Path) -> None:
    (folder / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# cargo\n")


def _tag_elsewhere(folder: Path) -> None:
    other = folder.parent / "elsewhere"
    other.touch()
    os.link(other, folder / "CACHEDIR.TAG")


NO_STORES: dict[str, Callable[[Path], Any]] = {
    "a project with a version file": _project,
    "a folder that holds tmp": _only_tmp,
    "a layout of another tool": _foreign_layout,
    "a cache of another tool": _others_cache,
    "a tag that is a file elsewhere": _tag_elsewhere,
    "the folder for temporary files": lambda folder: folder.chmod(0o1777),
    "a version that is a folder": lambda folder: (folder / "version").mkdir(),
    "a version that is a link": lambda folder: (folder / "version").symlink_to("/etc/hostname"),
    "a version that is a fifo": lambda folder: os.mkfifo(folder / "version"),
    "a document": lambda folder: (folder / "thesis.txt").write_text("years of work"),
}


@pytest.mark.parametrize("mode", [0o755, 0o1777, 0o777])
@pytest.mark.parametrize("kind", NO_STORES)
def test_what_is_no_store_is_refused_and_left_as_it_was(
    bench: Bench, tmp_path: Path, kind: str, mode: int
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    NO_STORES[kind](folder)
    before = look(tmp_path)
    for command in ("build", "plan", "images"):
        status, _, err = bench.run(command, "--cache-dir", str(folder))
        assert status == 1 and err.count("error: ") == 1, err
        assert "not a store of builder" in err
    assert look(tmp_path) == before


def test_a_maker_that_was_killed_leaves_what_becomes_a_store(tmp_path: Path) -> None:
    """After any of its writes."""
    from builder.store.store import Store

    tag = (Path(Store(str(tmp_path / "whole")).root) / "CACHEDIR.TAG").read_bytes()
    for size in (0, 1, len(tag)):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "CACHEDIR.TAG").write_bytes(tag[:size])
        assert Store(str(folder)).names() == {}
        assert (folder / "CACHEDIR.TAG").read_bytes() == tag


# -- who else may write ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", *FOLDERS] if FULL else ["", "records"])
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o775])
def test_that_others_could_write_is_said_once_and_ended(
    bench: Bench, place: str, mode: int
) -> None:
    bench.restore()
    path = bench.store / place
    path.mkdir(exist_ok=True)
    path.chmod(mode)
    _, _, err = bench.run("build", "site")
    assert err.count("others could write here") == 1
    assert stat.S_IMODE(path.stat().st_mode) == mode & ~0o022
    _, _, err = bench.run("build", "site")
    assert "others" not in err


@pytest.mark.root
@pytest.mark.parametrize(
    "owner, mode, said",
    [
        *((0, 0o777, True), (0, 0o1777, False), (0, 0o755, False), (0, 0o775, False)),
        *((STRANGER, 0o755, True), (STRANGER, 0o1777, True)),
    ],
)
def test_that_others_may_put_another_store_in_its_place_is_said(
    tmp_path: Path, owner: int, mode: int, said: bool
) -> None:
    from builder.events import Event, Warned
    from builder.store.store import Store

    above = tmp_path / "above"
    above.mkdir()
    above.chmod(mode)
    os.chown(above, owner, 0)
    (tmp_path / "link").symlink_to(above)
    for path in (above / "between" / "store", tmp_path / "link" / "between" / "store"):
        events: list[Event] = []
        Store(str(path), events.append)
        warned = [each.text for each in events if isinstance(each, Warned)]
        assert ["may put another store" in text for text in warned] == [True] * said


@pytest.mark.root
def test_a_restored_cache_is_no_rm(tmp_path: Path) -> None:
    """A job's archive of its cache, unpacked as CI does: links to a folder beside it for all."""
    target = tmp_path / "home"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    (target / ("0" * 16)).write_text("years of work")
    archive = tmp_path / "cache.tar"
    from builder.store.store import Store

    made = Path(Store(str(tmp_path / "made")).root)
    with tarfile.open(archive, "w") as tar:
        for name in FILES:
            tar.add(made / name, f"store/{name}")
        for folder in ("tmp", "live", "locks", "unpacked", "records"):
            member = tarfile.TarInfo(f"store/{folder}")
            member.type, member.linkname = tarfile.SYMTYPE, "../home"
            tar.addfile(member)
    subprocess.run(["tar", "-xf", str(archive), "-C", str(tmp_path)], check=True)
    before = look(target)
    bench = Bench(tmp_path / "bench")
    bench.store = tmp_path / "store"
    for command in COMMANDS:
        status, _, err = bench.run(*command)
        assert (status, err.count("error: ")) == (1, 1), err
    assert look(target) == before
