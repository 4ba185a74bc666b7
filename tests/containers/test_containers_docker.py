"""What `builder run`, `cp` and `diff` do, beside what Docker does with the same image."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.conftest import Box
from tests.dockerd import CLIENT, Engine

_FULL = """\
from: image:box
config:
  env: {GREETING: hello, EMPTY: ""}
  user: app
  working_dir: /srv/work
  entrypoint: [sh, -c, 'echo "$0" "$@"; id; pwd', entry]
  cmd: [one, "two three"]
  volumes: [/data]
"""
_HELD = ("--network", "host")

# fmt: off
COMMANDS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((), ()),
    ((), ("arg", "with space")),
    (("--entrypoint", "id"), ()),
    (("--entrypoint", "id"), ("-u",)),
    (("--entrypoint", ""), ("id", "-g")),
    (("--entrypoint", ""), ()),  # nothing to run
    (("--entrypoint", "sh", "-u", "0"), ("-c", "id; echo $HOME; pwd; umask; ulimit -c")),
    (("--entrypoint", "sh", "-u", "app"), ("-c", "id; echo $HOME")),
    (("--entrypoint", "sh", "-u", "1000"), ("-c", "id; echo $HOME")),
    (("--entrypoint", "sh", "-u", "1000:44"), ("-c", "id; echo $HOME")),
    (("--entrypoint", "sh", "-u", "app:extra"), ("-c", "id; echo $HOME")),
    (("--entrypoint", "sh", "-u", "4711"), ("-c", "id; echo $HOME")),
    (("--entrypoint", "sh", "-u", "nobody"), ("-c", "id")),  # no such user
    (("--entrypoint", "sh", "-u", "0:nogroup"), ("-c", "id")),
    (("--entrypoint", "env", "-e", "A=1", "-e", "A=2", "-e", "GREETING", "-e", "HOME=/x"), ()),
    (("--entrypoint", "env", "--env-file", "vars", "-e", "B=from -e"), ()),
    (("--entrypoint", "env", "--env-file", "bad"), ()),
    (("--entrypoint", "sh", "-w", "/made/here", "-u", "0"), ("-c", "pwd; stat -c %u:%g:%a . ..")),
    (("--entrypoint", "sh", "-w", "/etc/passwd"), ("-c", "pwd")),
    (("--entrypoint", "sh", "-w", "relative"), ("-c", "pwd")),
    (("--entrypoint", "nope"), ()),
    (("--entrypoint", "/etc/passwd", "-u", "0"), ()),
    (("--entrypoint", "/tmp"), ()),
    (("--entrypoint", "sh"), ("-c", "exit 42")),
    (("--entrypoint", "sh"), ("-c", "kill -TERM $$; kill -9 $$; echo alive")),
    (("--entrypoint", "sh"), ("-c", "sh -c 'kill -TERM $$'; echo $?")),
    (("--entrypoint", "sh"), ("-c", "echo out; echo err >&2; exit 3")),
    (("--entrypoint", "sh"), ("-c", "cat; echo over")),
    (("--entrypoint", "cat", "-i"), ()),
    (("--entrypoint", "head", "-i"), ("-c", "3")),
    (("--entrypoint", "sh", "-u", "0"), ("-c", "ls -l /dev | awk '{print $1, $NF}' | sort")),
    (("--entrypoint", "sh", "-u", "0"),
     ("-c", "for d in null zero full random urandom tty; do stat -c '%n %t %T %a' /dev/$d; done")),
    # on a network it has no NET_RAW
    (("--entrypoint", "sh", "-u", "0", "--network", "none"),
     ("-c", "grep -E 'Cap(Eff|Prm|Bnd|Amb)|NoNew' /proc/1/status")),
    (("--entrypoint", "sh"), ("-c", "grep -E 'Cap(Eff|Prm|Amb)' /proc/1/status")),
    (("--entrypoint", "sh", "--read-only", "-u", "0"),
     ("-c", "touch /x; touch /data/y && echo volume; touch /dev/shm/z && echo shm")),
    (("--entrypoint", "sh", "--read-only", "--tmpfs", "/srv:size=1m", "-u", "0"),
     ("-c", "touch /srv/x && df -k /srv | tail -1 | awk '{print $2}'; ls /srv")),
    (("--entrypoint", "sh", "-u", "0", "-v", "{here}/shared:/srv/link/in:ro"),
     ("-c", "cat /srv/old/in/file; touch /srv/old/in/new")),
    (("--entrypoint", "sh", "-u", "0", "-v", "{here}/shared:/mnt/x"),
     ("-c", "ls /mnt/x; stat -c %a /mnt")),
    (("--entrypoint", "sh", "-u", "0", "-v", "{here}/shared/file:/etc/name"),
     ("-c", "cat /etc/name")),
    (("--entrypoint", "sh", "--network", "none"), ("-c", "ls /sys/class/net")),
    (("--entrypoint", "sh"), ("-c", "ps -o pid | tail -n +2 | head -1; echo $$")),
]
# fmt: on


PAIRS = int(os.environ.get("BUILDER_CONTAINER_COPIES", "4"))
SHARE = min(len(COMMANDS), int(os.environ.get("BUILDER_CONTAINER_COMMANDS", "12")))


@pytest.fixture(scope="module")
def docker(boxes: Box, engine: Engine) -> Iterator[Engine]:
    boxes.spec("full", _FULL)
    (boxes.root / "shared").mkdir()
    (boxes.root / "shared/file").write_text("shared\n")
    (boxes.root / "vars").write_text(
        '# none\n\n  B=1\nC="quoted"\nGREETING\nD=a=b # c\r\nHOSTNAME\n'
    )
    (boxes.root / "bad").write_text("A B=1\n")
    for name in ("box", "full"):
        boxes.call("build", name, "--output", f"docker-archive:{name}.tar:latest", check=True)
        engine.docker("load", "-i", str(boxes.root / f"{name}.tar"))
    yield engine
    engine.docker("rmi", "-f", "box", "full")


def _docker(engine: Engine, box: Box, *arguments: str, input: bytes = b"") -> tuple[int, bytes]:
    made = subprocess.run(
        [CLIENT, "-H", engine.socket, *arguments],
        cwd=box.root,
        env={**box.env, "GREETING": "from here"},
        input=input,
        capture_output=True,
        timeout=120,
    )
    return made.returncode, made.stdout


@pytest.mark.parametrize("number", random.Random(1).sample(range(len(COMMANDS)), SHARE))
def test_a_command_ends_and_says_as_with_docker(docker: Engine, box: Box, number: int) -> None:
    options, argv = COMMANDS[number]
    given = [each.replace("{here}", str(box.root)) for each in options]
    network = () if "--network" in options else _HELD
    theirs = _docker(docker, box, "run", "--rm", *network, *given, "full", *argv, input=b"typed\n")
    made = subprocess.run(
        box.argv("run", *given, "full", *argv),
        cwd=box.root,
        env={**box.env, "GREETING": "from here"},
        input=b"typed\n",
        capture_output=True,
        timeout=120,
    )
    assert (made.returncode, _sorted(argv, options, made.stdout)) == (
        theirs[0],
        _sorted(argv, options, theirs[1]),
    ), made.stderr


def _sorted(argv: tuple[str, ...], options: tuple[str, ...], out: bytes) -> list[bytes]:
    """An environment has no order; and the host's name is each one's own."""
    lines = out.split(b"\n")
    if "env" in options:
        return sorted(line for line in lines if not line.startswith(b"HOSTNAME="))
    return lines


def test_what_was_changed_is_listed_as_docker_lists_it(docker: Engine, box: Box) -> None:
    text = (
        "mkdir -p /new/deep; echo 1 > /new/deep/file; rm -r /srv/old; mkdir /srv/old;"
        " echo x > /srv/old/other; echo y >> /etc/passwd; chmod 700 /root; mv /etc/group /etc/new;"
        " ln -s x /srv/another; chown 5 /tmp; rm /srv/link"
    )
    box.run("--keep", "work", "box", "sh", "-c", text)
    ours = box.call("diff", "work", check=True).stdout.decode().split("\n")
    _docker(docker, box, "run", *_HELD, "--name", "work", "box", "sh", "-c", text)
    _, theirs = _docker(docker, box, "diff", "work")
    docker.docker("rm", "-f", "work")
    assert sorted(ours) == sorted(theirs.decode().split("\n"))


_SOURCES = ("file", "folder", "folder/", "folder/.", "link", "linked", "linked/.", "missing")
_TARGETS = (
    *("new", "new/", "there", "there/", "there/.", "plain", "plain/", "tolink", "tolink/"),
    *("no/such", "there/new", "there/folder"),
)


def _layout(root: Path) -> None:
    """What is copied, and where to."""
    (root / "folder/inner").mkdir(parents=True)
    (root / "folder/a").write_text("a")
    (root / "folder/inner/b").write_text("b")
    (root / "folder/run").write_text("run")
    (root / "folder/run").chmod(0o750)
    (root / "folder/out").symlink_to("/etc/passwd")
    (root / "file").write_text("file")
    (root / "link").symlink_to("file")
    (root / "linked").symlink_to("folder")
    (root / "there/folder").mkdir(parents=True)
    (root / "there/kept").write_text("kept")
    (root / "plain").write_text("plain")
    (root / "tolink").symlink_to("there")


def _tree(root: Path) -> list[tuple[str, str, int]]:
    found = []
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        said = (
            str(path.readlink())
            if path.is_symlink()
            else path.read_text()
            if path.is_file()
            else "/"
        )
        found.append((str(path.relative_to(root)), said, status.st_mode))
    return found


@pytest.mark.parametrize("inwards", [False, True], ids=["out", "in"])
def test_cp_copies_as_docker_copies(
    docker: Engine, box: Box, tmp_path: Path, inwards: bool
) -> None:
    """Each kind of source to each kind of target, each in a container of its own (a folder)."""
    pairs = list(itertools.product(_SOURCES, _TARGETS))
    share = random.Random(inwards)
    pairs = share.sample(pairs, min(len(pairs), PAIRS))
    names = [f"{number}" for number in range(len(pairs))]
    for name in names:
        _layout(tmp_path / "in" / name)
    box.run("--keep", "work", "-v", f"{tmp_path}/in:/given:ro", "box", "cp", "-a", "/given", "/in")
    _docker(docker, box, "run", *_HELD, "--name", "work", "-v", f"{tmp_path}/in:/given:ro",
            "box", "cp", "-a", "/given", "/in")  # fmt: skip
    wrong = []
    for tool in ("ours", "theirs"):
        shutil.copytree(tmp_path / "in", tmp_path / tool, symlinks=True)
    ended: dict[str, list[bool]] = {"ours": [], "theirs": []}
    for name, (source, target) in zip(names, pairs, strict=True):
        for tool in ("ours", "theirs"):
            here = tmp_path / tool / name
            one, other = f"work:/in/{name}/{source}", f"{here}/{target}"
            if inwards:
                one, other = f"{here}/{source}", f"work:/in/{name}/{target}"
            if tool == "ours":
                made = box.call("cp", one, other).returncode
            else:
                made, _ = _docker(docker, box, "cp", one, other)
            ended[tool].append(made == 0)
    if inwards:
        for tool in ("ours", "theirs"):
            shutil.rmtree(tmp_path / tool)
        box.call("cp", "-a", "work:/in", str(tmp_path / "ours"), check=True)
        _docker(docker, box, "cp", "-a", "work:/in", str(tmp_path / "theirs"))
    docker.docker("rm", "-f", "work")
    for number, (name, pair) in enumerate(zip(names, pairs, strict=True)):
        ours, theirs = (_tree(tmp_path / tool / name) for tool in ("ours", "theirs"))
        if (ended["ours"][number], ours) != (ended["theirs"][number], theirs):
            wrong.append(
                (pair, ended["ours"][number], ended["theirs"][number],
                 sorted(set(ours) ^ set(theirs)))
            )  # fmt: skip
    assert not wrong, "\n".join(map(str, wrong))
