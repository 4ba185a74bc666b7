"""`commit`: what was done in a container becomes a layer's file and a spec, and the image built of
them is the container's tree.

One container has many small trees, each changed at random by the shell within. `RELIABILITY=full`
takes more of them, `RELIABILITY_SEED` others.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from builder.containers.commit import without
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, Change, Entry
from builder.plan.ignore import Leaving
from builder.rootfs.view import View
from tests.cli.conftest import Project
from tests.login import Login

BUSYBOX = "/bin/busybox"
pytestmark = [pytest.mark.root, pytest.mark.needs(BUSYBOX)]

TREES = 150 if os.environ.get("RELIABILITY") == "full" else 60
SEED = int(os.environ.get("RELIABILITY_SEED", "0"))
BOX = """\
from: scratch
steps:
  - copy: busybox
    dest: /bin/busybox
    mode: "0755"
  - run: [/bin/busybox, --install, -s, /bin]
  - run: |
      mkdir -p /etc /root /var/log /tmp
      chmod 1777 /tmp
      echo a > /etc/conf
      echo b > /etc/old
"""


def with_box(folder: Path) -> Project:
    made = Project(folder / "project")
    made.spec("box", BOX)
    shutil.copy(BUSYBOX, made.root / "busybox")
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the layers of the image."""
    made = with_box(tmp_path_factory.mktemp("box"))
    does(made, "one", "true")
    made.run("rm", "one")
    return made.store


@pytest.fixture
def box(tmp_path: Path, built: Path) -> Project:
    subprocess.run(["cp", "-a", built, tmp_path / "store"], check=True)
    return with_box(tmp_path)


def does(box: Project, name: str, script: str, image: str = "box") -> None:
    """Run a script in a container that is kept."""
    box.run("run", "--keep", name, image, "sh", "-ec", script)


# -- random changes -------------------------------------------------------------------------------

NAMES = ("a", "b", "d e", "é")


class Tree:
    """Commands that make and change what lies in one folder; some fail, which does not matter."""

    def __init__(self, rng: random.Random, top: str) -> None:
        self.rng, self.top = rng, top

    def path(self) -> str:
        return "/".join([self.top, *self.rng.choices(NAMES, k=self.rng.choice([1, 1, 1, 2, 2, 3]))])

    def command(self) -> str:
        rng, one, other = self.rng, shlex.quote(self.path()), shlex.quote(self.path())
        return rng.choice(
            [
                f"mkdir -p {one}",
                f"mkdir -p {one}",
                f"mkdir -m {rng.choice(['700', '1777', '2750'])} {one}",
                f"[ -p {one} ] || echo {rng.choice('xyz')} > {one}",
                f"[ -p {one} ] || echo {rng.choice('xyz')} >> {one}",
                f"rm -rf {other}; cp -a {one} {other}",
                f"mv {one} {other}",
                f"rm -rf {one}",
                f"rm -rf {one}; mkdir {one}; echo new > {one}/a",
                f"rm -rf {one}; ln -s {rng.choice(['a', '../b', '/nowhere'])} {one}",
                f"ln {one} {other}",
                f"rm -rf {one}; mkfifo {one}",
                f"rm -rf {one}; mknod {one} c 1 {rng.choice([3, 5])}",
                f"chmod {rng.choice(['600', '4755', '711'])} {one}",
                f"chown {rng.choice(['7:8', '0:70000'])} {one}",
                f"touch -d @{rng.choice([5, 1_000_000_000])} {one}",
                f"setfattr -n user.x -v {rng.choice('12')} {one}",
            ]
        )

    def script(self, count: int) -> str:
        return "\n".join(f"{{ {self.command()}; }} 2>/dev/null || true" for _ in range(count))


class Seen(NamedTuple):
    type: bytes
    mode: int
    owner: tuple[int, int]
    time: int  # 0 of a folder: one that was there keeps its own whatever comes and goes in it
    holds: Any
    links: frozenset[str]  # all paths of it


def read(file: Path) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    groups: dict[str, set[str]] = {}
    with tarfile.open(file) as archive:
        for each in archive:
            if not each.name.startswith("t/"):
                continue
            if each.islnk():
                groups.setdefault(each.linkname, {each.linkname}).add(each.name)
                continue
            content = archive.extractfile(each) if each.isreg() else None
            found[each.name] = Seen(
                each.type,
                each.mode,
                (each.uid, each.gid),
                0 if each.isdir() else int(each.mtime),
                (content.read() if content else each.linkname, each.devmajor, each.devminor),
                frozenset(),
            )
    for first, paths in groups.items():
        for path in paths:
            found[path] = found[first]._replace(links=frozenset(paths))
    return found


def test_the_image_is_the_container(box: Project) -> None:
    rng = random.Random(SEED)
    trees = [Tree(rng, f"/t/{number}") for number in range(TREES)]
    for name, count in (("before", 20), ("after", 15)):
        lines = [f"mkdir -p {each.top}\n{each.script(count)}" for each in trees]
        box.file(f"{name}.sh", "\n".join(lines))
    box.spec(
        "tree",
        "from: image:box\nsteps:\n  - run: sh /x/before.sh\n"
        "    mounts: [{bind: before.sh, target: /x/}]\n",
    )
    mount = f"{box.root}/after.sh:/after.sh:ro"
    box.run("run", "--keep", "work", "-v", mount, "tree", "sh", "/after.sh")
    with open(box.root / "container.tar", "wb") as out:
        subprocess.run(
            [sys.executable, "-m", "builder", "run", "container:work", "tar", "-c", "/t"],
            cwd=box.root,
            env={**os.environ, "BUILDER_CACHE_DIR": str(box.store)},
            stdout=out,
            check=True,
            timeout=300,
        )
    said = json.loads(box.run("commit", "work", "--json").stdout)
    assert min(said["added"], said["changed"], said["removed"]) > TREES / 4
    box.run("build", "work", "-o", "tar:image.tar")
    container, image = read(box.root / "container.tar"), read(box.root / "image.tar")
    assert len(container) > TREES
    different = [
        f"{path}\n  {container.get(path)}\n  {image.get(path)}"
        for path in sorted(container.keys() | image.keys())
        if container.get(path) != image.get(path)
    ]
    assert not different, f"{len(different)}\n" + "\n".join(different[:9])


# -- what is written ------------------------------------------------------------------------------


def test_a_layer_and_a_spec_are_written(box: Project) -> None:
    does(box, "work", "rm /etc/old; echo new > /etc/conf; mkdir /srv; echo x > /srv/x")
    said = box.run("commit", "work", "-m", 'by {{ hand }}: "x"').stdout.splitlines()
    assert said == [
        "D /etc/old",
        "C /etc/conf  4 B",
        "A /srv",
        "A /srv/x  2 B",
        "2 added, 1 changed, 1 removed",
        said[5],
        "wrote specs/work.yaml",
        "next: builder build work",
    ]
    assert said[5].startswith("wrote layers/work.tar.zst, ")
    assert (box.root / "specs/work.yaml").read_text() == (
        "from: image:box\nsteps:\n"
        '  - name: "{% raw %}by {{ hand }}: \\"x\\"{% endraw %}"\n'
        "    layer: layers/work.tar.zst\n"
    )
    box.run("lint", "work")
    assert box.build("work")["work"]["layers"][-1]["name"] == 'by {{ hand }}: "x"'
    assert box.run("run", "work", "cat", "/etc/conf", "/srv/x").stdout == "new\nx\n"
    # once more: not over what is there, and the same bytes
    error = box.run("commit", "work", status=2).stderr
    assert "'specs/work.yaml' is there already" in error and "--force" in error
    before = (box.root / "layers/work.tar.zst").read_bytes()
    box.run("commit", "work", "--force", "-m", 'by {{ hand }}: "x"')
    assert (box.root / "layers/work.tar.zst").read_bytes() == before
    box.run("plan", "work", "--exit-code")


def test_times_are_those_of_the_files_unless_an_epoch_is_given(box: Project) -> None:
    does(box, "work", "echo x > /x; touch -d @1700000000 /x")
    for env, time in (({}, 1_700_000_000), ({"SOURCE_DATE_EPOCH": "1600000000"}, 1_600_000_000)):
        box.run("commit", "work", "--force", env=env)
        box.run("build", "work", "-o", "tar:out.tar")
        with tarfile.open(box.root / "out.tar") as archive:
            assert archive.getmember("x").mtime == time


@pytest.mark.needs("newuidmap", "newgidmap", "useradd", "setpriv")
def test_an_ordinary_user_commits_the_same_bytes(box: Project, login: Login) -> None:
    script = """
        rm /etc/old; mkdir /srv; echo x > /srv/x; chown 7:8 /srv/x; chmod 4755 /srv/x
        ln -s x /srv/y; mkfifo /srv/z; rm -rf /var/log; mkdir -m 700 /var/log
        find /srv /var/log | xargs touch -h -d @1700000000"""
    does(box, "work", script)
    box.run("commit", "work")
    own = login.home / "own"
    for name in ("busybox", "specs/box.yaml"):
        (own / name).parent.mkdir(exist_ok=True)
        shutil.copy(box.root / name, own / name)
    for each in (own, own / "specs"):
        os.chown(each, login.user.pw_uid, login.user.pw_gid)
    login.run("run", "--keep", "work", "box", "sh", "-ec", script)
    login.run("commit", "work")
    assert login.run("run", "work", "stat", "-c", "%u:%g %a", "/srv/x").endswith("7:8 4755\n")
    layer = own / "layers/work.tar.zst"
    assert layer.read_bytes() == (box.root / "layers/work.tar.zst").read_bytes()
    assert {layer.stat().st_uid, (own / "specs/work.yaml").stat().st_uid} == {login.user.pw_uid}


def test_what_is_mounted_is_no_change(box: Project) -> None:
    box.file("there/f", "x")
    mounts = ["-v", f"{box.root}/there:/mnt/there", "-v", f"{box.root}/specs/box.yaml:/f:ro"]
    box.run(
        "run",
        "--keep",
        "work",
        *mounts,
        "--tmpfs",
        "/memory",
        "box",
        "sh",
        "-ec",
        "echo x >/x; echo x > /memory/x; echo y > /mnt/there/y",
    )
    changes = json.loads(box.run("commit", "work", "--json").stdout)["changes"]
    assert [each["path"] for each in changes] == ["/x"]


DOUBTS = {
    "/root/.ash_history": "a history of what was typed",
    "/home/user/.python_history": "a history of what was typed",
    "/var/lib/apt/lists/x": "package lists",
    "/var/cache/apt/y": "a cache",
    "/root/.cache/pip/z": "a cache",
    "/var/log/l": "a log",
    "/tmp/t": "a temporary file",
    "/etc/machine-id": "what tells one machine from others",
    "/root/.ssh/config": "keys or hosts of ssh",
    "/etc/ssh/ssh_host_rsa_key": "keys or hosts of ssh",
    "/root/.npmrc": "credentials",
    "/srv/.aws/credentials": "credentials",
    "/srv/odd name[1]": "a private key",
}


def test_what_is_hardly_meant_is_told_and_left_out(box: Project) -> None:
    def text(path: str) -> str:
        key = "-----BEGIN EC PRIVATE KEY-----\\nx\\n"
        return key if DOUBTS[path] == "a private key" else "x"

    lines = [
        f"mkdir -p {shlex.quote(os.path.dirname(path))}; printf -- '{text(path)}' "
        f"> {shlex.quote(path)}"
        for path in DOUBTS
    ]
    does(box, "work", "\n".join([*lines, "echo x > /srv/x; echo log > /srv/empty.log; : > /tmp/e"]))
    made = box.run("commit", "work", "--json")
    warnings = json.loads(made.stdout)["warnings"]
    told = {path: each["what"] for each in warnings for path in each["paths"]}
    assert told == DOUBTS
    assert made.stderr.count("warning: ") == len(set(DOUBTS.values()))
    globs = [f"--exclude={glob}" for each in warnings for glob in each["exclude"]]
    again = json.loads(box.run("commit", "work", "--json", "--force", *globs).stdout)
    assert again["warnings"] == []
    files = [each["path"] for each in again["changes"] if each["size"]]
    assert files == ["/srv/empty.log", "/srv/x"]


@pytest.mark.parametrize("number", range(32))
def test_what_is_left_out_may_be_linked(number: int) -> None:
    """Of two files with four paths and one, each set of paths."""
    first, second = Entry(b"l/a", FILE, 0o644, size=1), Entry(b"l/b", FILE, 0o600, size=2)
    found: list[Change] = [(Entry(b"l", DIRECTORY, 0o755), None), (first, b"x"), (second, b"yy")]
    for name in (b"l/c", b"l/d", b"l/e"):
        found.append((first._replace(path=name, type=HARDLINK, size=0, link=b"l/a"), None))
    globs = [f"/l/{name}" for bit, name in enumerate("abcde") if number & 1 << bit]
    left = list(without(found, View(), Leaving(globs)))
    paths = [entry.path for entry, _ in left]
    assert paths == [b"l", *(path for path in (b"l/a", b"l/b", b"l/c", b"l/d", b"l/e")
                             if f"/{path.decode()}" not in globs)]  # fmt: skip
    shared = [(entry, content) for entry, content in left if entry.path not in (b"l", b"l/b")]
    for position, (entry, content) in enumerate(shared):
        if position == 0:
            assert (entry, content) == (first._replace(path=entry.path), b"x")
        else:
            assert (entry.type, entry.link, content) == (HARDLINK, shared[0][0].path, None)


def test_removals_and_folders_are_left_out_too(box: Project) -> None:
    does(box, "work", "rm /etc/old; echo x > /etc/x; mkdir -p /srv/a; echo y > /srv/a/y")
    made = box.run("commit", "work", "--json", "--exclude", "old", "--exclude", "/srv/")
    assert [each["path"] for each in json.loads(made.stdout)["changes"]] == ["/etc/x"]
    with tarfile.open(fileobj=_plain(box.root / "layers/work.tar.zst")) as archive:
        assert archive.getnames() == ["etc", "etc/x"]


def _plain(path: Path) -> Any:
    import io

    done = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True)
    return io.BytesIO(done.stdout)


def test_of_a_failed_state_it_writes_a_step_for_its_place(box: Project) -> None:
    spec = "from: image:box\nsteps:\n{}  - run: echo after > /after\n"
    box.spec("bad", spec.format("  - name: odd\n    run: echo left > /left; exit 3\n"))
    box.run("build", "bad", status=1)
    box.run("shell", "--failed", "bad", "--", "sh", "-c", "echo mended > /mended")
    said = box.run("commit", "failed-bad", "-m", "mended by hand").stdout.splitlines()
    assert said[:2] == ["A /left  5 B", "A /mended  7 B"]
    assert said[-3] == "next: put this in the place of the step 'odd' of bad:"
    assert not (box.root / "specs/failed-bad.yaml").exists()
    box.spec("bad", spec.format("".join(f"{line}\n" for line in said[-2:])))
    assert box.run("run", "bad", "cat", "/left", "/mended", "/after").stdout.split() == [
        "left",
        "mended",
        "after",
    ]
    box.run("commit", "failed-bad", status=2)  # it went with the build that made the image


# -- what the spec stands on ----------------------------------------------------------------------


def test_the_spec_stands_on_what_the_container_does(box: Project) -> None:
    def base(project: Project, image: str) -> str:
        name = f"w{len(list(box.store.glob('containers/*')))}"
        does(project, name, "echo x > /x", image)
        project.run("commit", name, "-o", "specs/made.yaml", "--force")
        return (project.root / "specs/made.yaml").read_text().splitlines()[0]

    digest = str(box.build("box")["box"]["digest"])
    assert base(box, "box") == "from: image:box"
    box.run("tag", "box", "web:1")
    assert base(box, "web:1") == "from: image:box"
    assert base(box, digest[:19]) == "from: image:box"
    box.run("commit", "w0", "--from", "debian:12", "-o", "specs/other.yaml")
    assert (box.root / "specs/other.yaml").read_text().startswith("from: debian:12\n")
    # what no spec of this project makes is a reference
    other = Project(box.root / "other")
    other.spec("x", "from: scratch\n")
    other.store = box.store
    assert base(other, "web:1") == f"from: web:1@{digest}"
    # which may be where no registry has it
    shutil.copy(box.root / "busybox", other.root / "busybox")
    other.file("Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\n")
    other.build(".", "-t", "made:1")
    does(other, "d", "echo x > /x", "made:1")
    said = other.run("commit", "d", "-o", "specs/d.yaml").stderr
    assert "'made:1' was built here" in said
    other.run(*said.split(" or builder ")[1].splitlines()[0].split())
    assert list(other.build("d"))[-1] == "d"


def test_it_is_told_when_the_image_is_another_by_now(box: Project) -> None:
    does(box, "w", "echo x > /x")
    box.spec("box", BOX + "  - file: /more\n    content: x\n")
    box.build("box")
    said = box.run("commit", "w")
    assert "the image 'box' was built anew since 'w' was made on it" in said.stderr


# -- what is wrong --------------------------------------------------------------------------------


def test_what_is_wrong_is_one_line(box: Project) -> None:
    def wrong(*arguments: str) -> str:
        error = box.run("commit", *arguments, status=2).stderr
        assert not (box.root / "layers").exists(), error
        return error

    assert "no container 'none'" in wrong("none")
    does(box, "nothing", "true")
    assert "the container 'nothing' changed nothing" in wrong("nothing")
    does(box, "work", "echo x > /x")
    assert "changed nothing but what is left out" in wrong("work", "--exclude", "x")
    assert "expected text on one line" in wrong("work", "-m", "a\nb")
    assert "expected the path of a spec" in wrong("work", "-o", "specs/x")
    assert "not in the folder of specs, 'specs'" in wrong("work", "-o", "x.yaml")
    assert "is not an image name" in wrong("work", "-o", "specs/X Y.yaml")
    assert "would stand on itself" in wrong("work", "-o", "specs/box.yaml", "--force")
    box.file("layers.txt", "x")
    (box.root / ".dockerignore").write_text("layers\n")
    said = box.run("commit", "work")
    assert "'layers/work.tar.zst' is excluded by .dockerignore" in said.stderr


@pytest.fixture
def running(box: Project) -> Iterator[Project]:
    box.build("box")
    process = subprocess.Popen(
        [sys.executable, "-m", "builder", "run", "-i", "--keep", "work", "box", "sh", "-c",
         "echo x > /x; echo up; read a"],
        cwd=box.root,
        env={**os.environ, "BUILDER_CACHE_DIR": str(box.store)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    yield box
    process.communicate(b"\n", timeout=60)


def test_one_that_runs_is_not_read(running: Project) -> None:
    assert "the container 'work' runs" in running.run("commit", "work", status=2).stderr
