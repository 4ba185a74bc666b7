"""The working directory beside BuildKit's WORKDIR: when it is made, whose it is, what is relative
to it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

# Debian's busybox has none. As others do: a home that is there stays as it is.
ADDUSER = """#!/bin/sh
while [ $# -gt 1 ]; do [ "$1" = -h ] && home=$2; shift; done
home=${home:-/home/$1}
echo "$1:x:1000:1000::$home:/bin/sh" >> /etc/passwd
echo "$1:x:1000:" >> /etc/group
[ -e "$home" ] || { mkdir -m 700 "$home"; chown 1000:1000 "$home"; }
"""
PLAIN, USER, DEEP = "plain", "user", "deep"
BASES = {PLAIN: "", USER: "USER web\n", DEEP: "USER 7:8\nWORKDIR /base/work\n"}

Step = dict[str, Any]

# name -> base, what a Dockerfile says, our steps and config; what comes last in ours is made last
CASES: dict[str, tuple[str, str, list[Step], dict[str, Any]]] = {
    "a command runs in it": (
        PLAIN,
        "WORKDIR /data\nRUN pwd > where",
        [{"run": "pwd > where"}],
        {"working_dir": "/data"},
    ),
    "its user by number, its parents too": (
        PLAIN,
        "USER 1000\nWORKDIR /a/b\nRUN touch x",
        [{"run": "touch x"}],
        {"user": "1000", "working_dir": "/a/b"},
    ),
    "its user by name": (
        PLAIN,
        "USER web\nWORKDIR /a/b\nRUN touch x",
        [{"run": "touch x"}],
        {"user": "web", "working_dir": "/a/b"},
    ),
    "its user and group": (
        PLAIN,
        "USER web:extra\nWORKDIR /a/b\nRUN touch x",
        [{"run": "touch x"}],
        {"user": "web:extra", "working_dir": "/a/b"},
    ),
    "no step runs in it": (
        PLAIN,
        "COPY f /x\nUSER web\nWORKDIR /a/b",
        [{"copy": "f", "dest": "/x"}],
        {"user": "web", "working_dir": "/a/b"},
    ),
    "no step at all, the base's user": (USER, "WORKDIR /a/b", [], {"working_dir": "/a/b"}),
    "one that is there keeps its owner": (
        PLAIN,
        "USER web\nWORKDIR /srv/there/new",
        [],
        {"user": "web", "working_dir": "/srv/there/new"},
    ),
    "a command elsewhere comes first": (
        PLAIN,
        "RUN mkdir -m 700 /data\nWORKDIR /data\nRUN touch x",
        [{"run": "mkdir -m 700 /data", "working_dir": "/"}, {"run": "touch x"}],
        {"working_dir": "/data"},
    ),
    "a command makes it": (
        PLAIN,
        "RUN mkdir -m 700 /data && pwd > /where\nWORKDIR /data\nRUN touch x",
        [{"run": "mkdir -m 700 /data && pwd > /where"}, {"run": "touch x"}],
        {"working_dir": "/data"},
    ),
    "an account's home": (
        PLAIN,
        "RUN adduser -D jo\nUSER jo\nWORKDIR /home/jo\nRUN touch x",
        [{"run": "adduser -D jo", "user": "root"}, {"run": "touch x"}],
        {"user": "jo", "working_dir": "/home/jo"},
    ),
    "an account's other home": (
        PLAIN,
        "RUN adduser -D -h /srv/jo jo\nUSER jo\nWORKDIR /srv/jo/sub",
        [{"run": "adduser -D -h /srv/jo jo", "user": "root", "working_dir": "/"}],
        {"user": "jo", "working_dir": "/srv/jo/sub"},
    ),
    "mkdir -p of it": (
        PLAIN,
        "WORKDIR /data\nRUN mkdir -p /data/sub /data && touch x",
        [{"run": "mkdir -p /data/sub /data && touch x"}],
        {"working_dir": "/data"},
    ),
    "a copy to it": (
        PLAIN,
        "USER web\nWORKDIR /a/b\nCOPY f ./",
        [{"copy": "f", "dest": "./"}],
        {"user": "web", "working_dir": "/a/b"},
    ),
    "a tree copied to it": (
        PLAIN,
        "USER web\nWORKDIR /a/b\nCOPY --chown=7:8 tree .",
        [{"copy": "tree", "dest": ".", "owner": "7:8"}],
        {"user": "web", "working_dir": "/a/b"},
    ),
    "copies below it": (
        PLAIN,
        "USER web\nWORKDIR /a/b\nCOPY f new\nCOPY f sub/deep/\nRUN pwd > /tmp/p",
        [
            {"copy": "f", "dest": "new"},
            {"copy": "f", "dest": "sub/deep/"},
            {"run": "pwd > /tmp/p"},
        ],
        {"user": "web", "working_dir": "/a/b"},
    ),
    "copies below the base's": (
        DEEP,
        "COPY f ./\nCOPY f new\nCOPY tree tree/\nRUN pwd > p",
        [
            {"copy": "f", "dest": "./"},
            {"copy": "f", "dest": "new"},
            {"copy": "tree", "dest": "tree/"},
            {"run": "pwd > p"},
        ],
        {},
    ),
    "other steps below the base's": (
        DEEP,
        "COPY f g\nCOPY f made/keep\nADD a.tar un\nRUN ln -s x link && rm keep",
        [
            {"file": "g", "content": "f"},
            {"directory": "made"},
            {"copy": "f", "dest": "made/keep"},
            {"unpack": "a.tar", "dest": "un"},
            {"symlink": "link", "to": "x", "owner": "7:8"},
            {"remove": "keep"},
        ],
        {},
    ),
    "another one than the base's": (
        DEEP,
        "WORKDIR /other\nCOPY f new\nRUN pwd > p",
        [{"copy": "f", "dest": "new"}, {"run": "pwd > p"}],
        {"working_dir": "/other"},
    ),
    "a step's own, below the base's": (
        DEEP,
        "WORKDIR x/y\nRUN pwd > p\nWORKDIR /base/work",
        [{"run": "pwd > p", "working_dir": "x/y"}],
        {},
    ),
    "through a symlink": (
        PLAIN,
        "USER web\nWORKDIR /srv/link/new\nCOPY f .\nRUN touch x",
        [{"copy": "f", "dest": "."}, {"run": "touch x"}],
        {"user": "web", "working_dir": "/srv/link/new"},
    ),
}


@pytest.fixture(scope="module")
def context(sides: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    busybox = shutil.which("busybox")
    assert busybox
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
    (folder / "f").write_text("f")
    (folder / "tree" / "sub").mkdir(parents=True)
    (folder / "tree" / "sub" / "g").write_text("g")
    with tarfile.open(folder / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("in"))
    with tarfile.open(folder / "root.tar", "w") as tar:

        def add(path: str, data: bytes | str, mode: int = 0o644) -> None:
            member = tarfile.TarInfo(path)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                tar.addfile(member)
            else:
                member.size, member.mode = len(data), mode
                tar.addfile(member, io.BytesIO(data))

        def make(path: str, mode: int = 0o755, owner: int = 0) -> None:
            member = tarfile.TarInfo(path)
            member.type, member.mode, member.uid = tarfile.DIRTYPE, mode, owner
            tar.addfile(member)

        for path in ("bin", "etc", "home", "srv", "base", "base/work"):
            make(path, owner=7 if path == "base/work" else 0)
        make("tmp", 0o1777)
        make("srv/there", 0o755, 5)
        make("srv/real", 0o755, 5)
        add("srv/link", "real")
        add("base/work/keep", b"")
        add("bin/busybox", Path(busybox).read_bytes(), 0o755)
        for name in names.split():
            if name not in ("busybox", "adduser"):
                add(f"bin/{name}", "busybox")
        add("bin/adduser", ADDUSER.encode(), 0o755)
        add("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
        add("etc/group", b"root:x:0:\nweb:x:34:\nextra:x:44:\n")
    for name, lines in BASES.items():
        text = f"FROM scratch\nADD root.tar /\n{lines}"
        assert not sides.build(text, folder, f"parity:folder-{name}", buildkit=True)
        (folder / f"{name}.tar").write_bytes(sides.out("save", f"parity:folder-{name}"))
    return folder


@pytest.mark.root
@pytest.mark.needs("dockerd", "skopeo")
@pytest.mark.parametrize("name", CASES)
def test_the_folder_is_as_buildkit_makes_it(
    sides: Any, context: Path, tmp_path: Path, name: str
) -> None:
    base, lines, steps, config = CASES[name]
    theirs = "parity:theirs"
    text = f"FROM parity:folder-{base}\n{lines}\n"
    assert not sides.build(text, context, theirs, buildkit=True)
    spec = {"from": f"docker-archive:{base}.tar", "steps": steps, "config": config}
    trees, layers = {}, {}
    for kind in ("sandbox", "runc", "chroot", "docker"):
        cache = tmp_path / kind
        args = ("--executor", kind) if any("run" in step for step in steps) else ()
        done = sides.ours(spec, context, cache, *args, environ={"DOCKER_HOST": sides.socket})
        assert done.returncode == 0, done.stderr
        _, made = sides.built(cache)
        layers[kind] = made["rootfs"]["diff_ids"]
        if kind == "sandbox":
            sides.load(cache / "store", "ours", "parity:ours", tmp_path / "archive")
            trees = {"ours": sides.tree("parity:ours"), "theirs": sides.tree(theirs)}
            expected = sides.config(theirs)["WorkingDir"]
            assert made["config"].get("WorkingDir", "") == expected
        elif not args:
            break
    assert trees["ours"] == trees["theirs"]
    assert len({json.dumps(each) for each in layers.values()}) == 1
