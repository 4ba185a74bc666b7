"""Paths that a user names, pointed at what is not theirs: nothing is changed, one line says why."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import builder

pytestmark = pytest.mark.root

FULL = os.environ.get("SECURITY") == "full"
STRANGER = 54321
SPEC = "from: scratch\nsteps:\n- {name: copy, copy: a, dest: /a}\n"


class Result(NamedTuple):
    status: int
    err: str
    changed: list[str]


# -- things: each is made at the path given ------------------------------------------------------


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    (path / "tmp").mkdir()
    (path / "tmp" / ("0" * 16)).write_text("years of work")


def _link(target: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        make(path.with_name(target))
        path.symlink_to(target)

    return act


def _file(path: Path) -> None:
    path.write_text("years: of work\n")


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def _others(path: Path) -> None:
    """Another user's, in a folder where everybody may have files."""
    path.parent.chmod(0o1777)
    path.write_text("years of work")
    os.chown(path, STRANGER, STRANGER)


def _others_folder(path: Path) -> None:
    _folder(path)
    for each in (path, *path.rglob("*")):
        os.chown(each, STRANGER, STRANGER)


def _everybodys(path: Path) -> None:
    path.mkdir()
    path.chmod(0o1777)


def _inside(path: Path, mount: tuple[str, ...]) -> None:
    """A folder of its own at `path`, mounted over when the builder runs."""
    path.mkdir()
    MOUNTS[str(path)] = mount


MOUNTS: dict[str, tuple[str, ...]] = {}
THINGS: dict[str, Callable[[Path], Any]] = {
    "device": _device,
    "fifo": os.mkfifo,
    "socket": _socket,
    "folder": _folder,
    "folder of another": _others_folder,
    "folder for everybody": _everybodys,
    "file of another": _others,
    "link to a file": _link("file", _file),
    "link to a folder": _link("other", _folder),
    "link to a device": _link("null", _device),
    "dangling link": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "below a file": lambda path: _file(path.parent),
    "below nothing": lambda path: None,
    "read-only": lambda path: _inside(path, ("-o", "ro,size=1m")),
    "full": lambda path: _inside(path, ("-o", "size=4k")),
    "no permission": lambda path: _inside(path, ()),
}
BELOW = ("below a file", "below nothing", "read-only", "full", "no permission")
"""What is named is below these."""

# -- options: the arguments that name a path ------------------------------------------------

BUILD = ("build", "site")
WRITES: dict[str, tuple[str, ...]] = {
    "--cache-dir of build": (*BUILD, "--cache-dir", "PATH"),
    "--cache-dir of plan": ("plan", "--cache-dir", "PATH"),
    "--cache-dir of images": ("images", "--cache-dir", "PATH"),
    "--cache-dir of tag": ("tag", "site", "again", "--cache-dir", "PATH"),
    "--cache-dir of rmi": ("rmi", "site", "--cache-dir", "PATH"),
    "--cache-dir of push": ("push", "site", "localhost:1/x", "--cache-dir", "PATH"),
    "--cache-dir of cache gc": ("cache", "gc", "--max-size", "0", "--cache-dir", "PATH"),
    "--cache-dir of cache check": ("cache", "check", "--repair", "--cache-dir", "PATH"),
    "--cache-dir of doctor": ("doctor", "--cache-dir", "PATH"),
    "BUILDER_CACHE_DIR": ("cache", "ls"),
    "--output oci": (*BUILD, "--output", "oci:PATH"),
    "--output oci-archive": (*BUILD, "--output", "oci-archive:PATH"),
    "--output docker-archive": (*BUILD, "--output", "docker-archive:PATH"),
    "--output dir": (*BUILD, "--output", "dir:PATH"),
    "--output tar": (*BUILD, "--output", "tar:PATH"),
    "--iidfile": (*BUILD, "--iidfile", "PATH"),
    "--metadata-file": (*BUILD, "--metadata-file", "PATH"),
    "--depfile": (*BUILD, "--iidfile", "iid", "--depfile", "PATH"),
}
READS: dict[str, tuple[str, ...]] = {
    "--context": (*BUILD, "--context", "PATH"),
    "--specs": ("build", "--specs", "PATH"),
    "a spec among --specs": ("build", "--specs", "FOLDER"),
    "--vars-file": (*BUILD, "--vars-file", "PATH"),
    "IMAGE": ("build", "PATH"),
    "lint": ("lint", "PATH"),
    "render": ("render", "PATH"),
    "from: oci": ("build", "oci"),
    "from: rootfs": ("build", "rootfs"),
    "from: docker-archive": ("build", "archive"),
    "copy": ("build", "copy"),
    "template": ("build", "template"),
    "unpack": ("build", "unpack"),
    "DOCKER_CONFIG": ("push", "site", "localhost:1/x"),
    "REGISTRY_AUTH_FILE": ("push", "site", "localhost:1/x"),
}


def look(folder: Path) -> dict[str, tuple[Any, ...]]:
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        kind = (status.st_ino, status.st_mode, status.st_uid, status.st_nlink, status.st_rdev)
        times = (status.st_mtime_ns, status.st_ctime_ns)
        found[str(path)] = (*kind, *times, data)
    return found


def run(theirs: Path, project: Path, argv: list[str], env: dict[str, str], user: int) -> Result:
    """The builder in a fork of its own with mounts of its own, and what it changed in `theirs`."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            os.close(reading)
            err = os.memfd_create("err")
            before = _enter(theirs, project, env, err, user)
            builder = os.fork()
            if builder == 0:
                if user:
                    os.setgroups([])
                    os.setresgid(user, user, user)
                    os.setresuid(user, user, user)
                signal.alarm(20)
                sys.argv = ["builder", *argv]
                from builder.cli import main

                ended = main()
                sys.stderr.flush()
                os._exit(ended)
            _, ended = os.waitpid(builder, 0)
            after = look(theirs)
            changed = [p for p in {*before, *after} if before.get(p) != after.get(p)]
            text = os.pread(err, 1 << 16, 0).decode()
            os.write(
                writing, json.dumps([os.waitstatus_to_exitcode(ended), text, changed]).encode()
            )
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    return Result(*json.loads(data))


def _enter(theirs: Path, project: Path, env: dict[str, str], err: int, user: int) -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
    assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
    for path, options in MOUNTS.items():
        if options:
            subprocess.run(["mount", "-t", "tmpfs", *options, "none", path], check=True)
            if "size=4k" in options[1]:
                Path(path, "full").write_bytes(bytes(4096))
        else:
            os.chmod(path, 0o500)
    before = look(theirs)
    os.chdir(project)
    os.environ.update(env)
    null = os.open(os.devnull, os.O_RDWR)
    for handle, target in ((null, 0), (null, 1), (err, 2)):
        os.dup2(handle, target)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    return before


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a store that holds its image."""
    # Another user may not reach this Python's folder: what may be needed is there before.
    ours = [each.name for each in pkgutil.walk_packages(builder.__path__, "builder.")]
    ours.remove("builder.__main__")
    for name in (*ours, "docker", "http.client", "ssl", "urllib3"):
        importlib.import_module(name)
    project = tmp_path_factory.mktemp("paths") / "project"
    (project / "specs").mkdir(parents=True)
    (project / "specs/site.yaml").write_text(SPEC)
    (project / "a").write_text("content\n")
    command = [sys.executable, "-m", "builder", "build", "--cache-dir", str(project / "store")]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    return project


def attempt(made: Path, folder: Path, option: str, argv: tuple[str, ...], thing: str) -> Result:
    """A fresh `theirs` with the thing in it, named by way of the option."""
    theirs = folder / "theirs"
    shutil.rmtree(folder, ignore_errors=True)
    project = folder / "project"
    shutil.copytree(made, project, symlinks=True)
    (theirs / "in").mkdir(parents=True)
    # a spec's name for what is in a folder of specs, so that it is read there
    at = theirs / "in" / ("x.yaml" if option in ("a spec among --specs", "IMAGE", "lint") else "x")
    MOUNTS.clear()
    if thing == "below a file":
        at = theirs / "file" / "x"
    elif thing == "below nothing":
        at = theirs / "nothing" / "x"
    THINGS[thing](at)
    named = at / "x" if thing in BELOW[2:] else at
    words = (
        *("oci", "from: oci:PATH\n"),
        *("rootfs", "from: rootfs:PATH\n"),
        *("archive", "from: docker-archive:PATH\n"),
        *("copy", "from: scratch\nsteps:\n- {copy: PATH, dest: /x}\n"),
        *("template", "from: scratch\nsteps:\n- {template: PATH, dest: /x}\n"),
        *("unpack", "from: scratch\nsteps:\n- {unpack: PATH, dest: /x}\n"),
    )
    if option in READS and argv[-1] in words:
        text = words[words.index(argv[-1]) + 1]
        inside = project / "in"
        if argv[-1] in ("copy", "template", "unpack"):  # only what is in the context is read
            shutil.rmtree(inside, ignore_errors=True)
            (project / "specs" / f"{argv[-1]}.yaml").write_text(
                text.replace("PATH", str(named.relative_to(theirs.parent)))
            )
            argv = (*argv, "--context", str(theirs.parent))
        else:
            (project / "specs" / f"{argv[-1]}.yaml").write_text(text.replace("PATH", str(named)))
    env = {"BUILDER_CACHE_DIR": str(project / "store")}
    if option in ("BUILDER_CACHE_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        env[option] = str(named)
    user = STRANGER + 1 if thing == "no permission" else 0
    if user:
        for path in (folder, project, *project.rglob("*")):
            os.chown(path, user, user, follow_symlinks=False)
    return run(
        theirs,
        project,
        [word.replace("PATH", str(named)).replace("FOLDER", str(at.parent)) for word in argv],
        env,
        user,
    )


def _cases(options: dict[str, tuple[str, ...]], share: int) -> list[tuple[str, str]]:
    cases = [(option, thing) for option in options for thing in THINGS]
    return cases if FULL else sorted(random.Random(11).sample(cases, share))


@pytest.fixture
def area(tmp_path: Path) -> Path:
    for path in (tmp_path, *tmp_path.parents):  # an ordinary user passes
        if path.stat().st_mode & 0o1 == 0:
            path.chmod(path.stat().st_mode | 0o111)
    return tmp_path / "area"


@pytest.mark.parametrize("option, thing", _cases(WRITES, 66))
def test_what_is_not_theirs_to_write_is_refused_and_left(
    made: Path, area: Path, option: str, thing: str
) -> None:
    done = attempt(made, area, option, WRITES[option], thing)
    new = option.startswith(("--cache-dir", "BUILDER")) or option == "--output oci"
    if new and thing == "below nothing":
        return  # a store or a layout is made there
    if thing == "full":  # what was begun there may stay; files are gone again
        done = done._replace(
            changed=[] if new else [each for each in done.changed if "/x/" in each]
        )
    assert done.changed == []
    assert done.status in (1, 2), (done.status, done.err)
    if option.startswith("--output") and thing != "full":  # known before anything is built
        assert done.status == 2, done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "itself failed" not in done.err, done.err


@pytest.mark.parametrize("option, thing", _cases(READS, 30))
def test_what_is_named_to_be_read_is_never_changed_or_waited_for(
    made: Path, area: Path, option: str, thing: str
) -> None:
    done = attempt(made, area, option, READS[option], thing)
    assert done.changed == []
    assert done.status in (0, 1, 2), (done.status, done.err)
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert bool(errors) == (done.status != 0) and "itself failed" not in done.err, done.err
    if option != "copy" and thing in ("device", "fifo", "socket", "link to a device"):
        assert done.status in (1, 2), done.err


def test_variables_come_from_a_pipe_that_a_shell_hands_over(made: Path, tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/site.yaml").write_text("from: scratch\nconfig: {user: '{{ who }}'}\n")
    script = '"$0" -m builder render --vars-file <(sleep 0.2; echo "who: somebody") site'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "somebody" in done.stdout, done.stderr
