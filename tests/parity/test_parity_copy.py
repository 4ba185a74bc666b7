"""COPY and ADD beside `copy` and `unpack`: one image with every case in a folder of its own, built
by the classic builder, by BuildKit and by ours, and looked at through the same engine."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NORMAL = "modes that no spec names are 0644 or 0755, so that a umask never reaches a layer"
GLOB = "a glob keeps the path below its fixed prefix, and a directory it matches keeps its name"
KEPT = "a directory that the image has keeps what the step does not name"
SETUID = "the engine's later chown clears the set-id bit that was asked for"
OWNER = "`owner` of an archive's members is ours; ADD --chown leaves them as they are"
FIFO = "BuildKit leaves FIFOs out, the classic builder and ours copy them"

CONTEXT: dict[str, Any] = {
    "file.txt": "file\n",
    "other.txt": "other\n",
    "script.sh": ("#!/bin/sh\n", 0o755),
    "group.txt": ("group\n", 0o664),
    "private.txt": ("private\n", 0o600),
    "setuid": ("setuid\n", 0o4755),
    "one/a.txt": "a\n",
    "one/b.sh": ("b\n", 0o755),
    "one/sub/c.txt": "c\n",
    "one/empty/": "",
    "closed/": ("", 0o700),
    "closed/x": "x\n",
    "owned/": ("", 0o755, (1234, 1235)),
    "owned/x": ("x\n", 0o644, (1234, 1235)),
    "links/file": "-> ../file.txt",
    "links/dir": "-> ../one",
    "links/dangling": "-> nowhere",
    "links/absolute": "-> /etc/passwd",
    "linkfile": "-> file.txt",
    "linkdir": "-> one",
    "dots/.hidden": "hidden\n",
    "dots/.config/x": "x\n",
    "dots/seen": "seen\n",
    "glob/a.conf": "a\n",
    "glob/b.conf": "b\n",
    "glob/c.txt": "c\n",
    "glob/sub/d.conf": "d\n",
    "pipe/fifo": "|",
    "over/dir/new.txt": "new\n",
    "over/secret/": ("", 0o755),
    "over/secret/new.txt": "new\n",
    "overlink/link/new.txt": "new\n",
    "overfile/flink": "over flink\n",
    "space name.txt": "space\n",
    "umlaut-ä.txt": "umlaut\n",
}

BASE: dict[str, Any] = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n",
    "etc/group": "root:x:0:\nwww:x:34:\nstaff:x:50:app\n",
}
FIXTURE: dict[str, Any] = {
    "dir/": "",
    "dir/old.txt": "old\n",
    "open/": ("", 0o1777),
    "secret/": ("", 0o700, (1000, 1001)),
    "secret/old.txt": "old\n",
    "real/old.txt": "old\n",
    "link": "-> real",
    "abslink": "-> /{c}/real",
    "chain": "-> link",
    "file": "a file\n",
    "flink": "-> file",
    "dangling": "-> missing/there",
    "usr/lib/libc.so": "libc\n",
    "lib": "-> usr/lib",
}


class Case(NamedTuple):
    """`docker` are instructions of a Dockerfile, `ours` steps; {d} is the case's own folder in the
    image. `differs`: the paths where we do otherwise than one or both of the builders, and why."""

    docker: str
    ours: list[dict[str, Any]]
    differs: Mapping[str, tuple[str, str]] = {}
    buildkit: str = ""  # what only BuildKit knows


def u(source: str, dest: str, **options: Any) -> dict[str, Any]:
    return {"unpack": source, "dest": dest, **options}


def c(sources: Any, dest: str, **options: Any) -> dict[str, Any]:
    return {"copy": sources, "dest": dest, **options}


CASES: dict[str, Case] = {
    "a file to a new name": Case("COPY file.txt {d}/new", [c("file.txt", "{d}/new")]),
    "a file to a new directory": Case("COPY file.txt {d}/new/", [c("file.txt", "{d}/new/")]),
    "a file to a deep new name": Case("COPY file.txt {d}/a/b/c", [c("file.txt", "{d}/a/b/c")]),
    "a file to an existing directory": Case("COPY file.txt {d}/dir", [c("file.txt", "{d}/dir")]),
    "a file over a file": Case("COPY file.txt {d}/file", [c("file.txt", "{d}/file")]),
    "a directory's contents": Case("COPY one {d}/new", [c("one", "{d}/new")]),
    "a directory's contents, slashes": Case("COPY one/ {d}/new/", [c("one/", "{d}/new/")]),
    "a directory onto an existing one": Case("COPY one {d}/dir/", [c("one", "{d}/dir/")]),
    "several files": Case(
        "COPY file.txt other.txt {d}/new/", [c(["file.txt", "other.txt"], "{d}/new/")]
    ),
    "a file and a directory": Case(
        "COPY file.txt one {d}/new/", [c(["file.txt", "one"], "{d}/new/")]
    ),
    "several to an existing directory": Case(
        "COPY file.txt other.txt {d}/dir/", [c(["file.txt", "other.txt"], "{d}/dir/")]
    ),
    "below a symlinked parent": Case("COPY file.txt {d}/lib/x/y", [c("file.txt", "{d}/lib/x/y")]),
    "a directory onto a symlink to one": Case("COPY one {d}/link", [c("one", "{d}/link")]),
    "a directory onto a symlink, slash": Case("COPY one {d}/link/", [c("one", "{d}/link/")]),
    "a directory onto an absolute symlink": Case(
        "COPY one {d}/abslink/", [c("one", "{d}/abslink/")]
    ),
    "a directory onto a chain of symlinks": Case("COPY one {d}/chain/", [c("one", "{d}/chain/")]),
    "a file onto a symlink to a directory": Case(
        "COPY file.txt {d}/link", [c("file.txt", "{d}/link")]
    ),
    "a file onto a symlink to a directory, slash": Case(
        "COPY file.txt {d}/link/", [c("file.txt", "{d}/link/")]
    ),
    "a file onto a symlink to a file": Case(
        "COPY file.txt {d}/flink", [c("file.txt", "{d}/flink")]
    ),
    "a file onto a dangling symlink": Case(
        "COPY file.txt {d}/dangling", [c("file.txt", "{d}/dangling")]
    ),
    "a file below a dangling symlink": Case(
        "COPY file.txt {d}/dangling/", [c("file.txt", "{d}/dangling/")]
    ),
    "a symlink to a file as source": Case("COPY linkfile {d}/new", [c("linkfile", "{d}/new")]),
    "a symlink to a file into a directory": Case(
        "COPY linkfile {d}/dir/", [c("linkfile", "{d}/dir/")]
    ),
    "a symlink to a directory as source": Case("COPY linkdir {d}/new", [c("linkdir", "{d}/new")]),
    "below a symlinked source directory": Case(
        "COPY linkdir/sub {d}/new", [c("linkdir/sub", "{d}/new")]
    ),
    "symlinks within a directory": Case("COPY links {d}/new", [c("links", "{d}/new")]),
    "a nested directory that exists": Case(
        "COPY over {d}", [c("over", "{d}")], {"secret": ("docker", KEPT)}
    ),
    "a file below a symlink, both named": Case(
        "COPY overlink/link/new.txt {d}/link/new.txt",
        [c("overlink/link/new.txt", "{d}/link/new.txt")],
    ),
    "a nested file over a symlink to a file": Case("COPY overfile {d}", [c("overfile", "{d}")]),
    "chown by numbers, new parents": Case(
        "COPY --chown=7:8 file.txt {d}/a/b/c", [c("file.txt", "{d}/a/b/c", owner="7:8")]
    ),
    "chown by one number": Case(
        "COPY --chown=7 file.txt {d}/new", [c("file.txt", "{d}/new", owner="7")]
    ),
    "chown by name": Case(
        "COPY --chown=www file.txt {d}/new", [c("file.txt", "{d}/new", owner="www")]
    ),
    "chown by user and group": Case(
        "COPY --chown=app:staff one {d}/new", [c("one", "{d}/new", owner="app:staff")]
    ),
    "chown by name and number": Case(
        "COPY --chown=app:9 file.txt {d}/new", [c("file.txt", "{d}/new", owner="app:9")]
    ),
    "chown onto an existing directory": Case(
        "COPY --chown=7:8 one {d}/dir", [c("one", "{d}/dir", owner="7:8")]
    ),
    "chown into an existing directory": Case(
        "COPY --chown=7:8 file.txt {d}/dir/", [c("file.txt", "{d}/dir/", owner="7:8")]
    ),
    "chown of nested directories that exist": Case(
        "COPY --chown=7:8 over {d}", [c("over", "{d}", owner="7:8")], {"secret": ("docker", KEPT)}
    ),
    "chown of symlinks": Case(
        "COPY --chown=7:8 links {d}/new", [c("links", "{d}/new", owner="7:8")]
    ),
    "a sticky parent": Case("COPY file.txt {d}/open/new", [c("file.txt", "{d}/open/new")]),
    "a parent of another owner": Case(
        "COPY file.txt {d}/secret/new", [c("file.txt", "{d}/secret/new")]
    ),
    "context owners do not count": Case("COPY owned {d}/new", [c("owned", "{d}/new")]),
    "an executable": Case("COPY script.sh {d}/new", [c("script.sh", "{d}/new")]),
    "group-writable in the context": Case(
        "COPY group.txt {d}/new", [c("group.txt", "{d}/new")], {"new": ("docker", NORMAL)}
    ),
    "private in the context": Case(
        "COPY private.txt {d}/new", [c("private.txt", "{d}/new")], {"new": ("docker", NORMAL)}
    ),
    "setuid in the context": Case(
        "COPY setuid {d}/new", [c("setuid", "{d}/new")], {"new": ("buildkit", NORMAL)}
    ),
    "a closed directory": Case("COPY closed {d}/new", [c("closed", "{d}/new")]),
    "preserved modes": Case(
        "COPY group.txt private.txt setuid closed {d}/new/",
        [c(["group.txt", "private.txt", "setuid", "closed"], "{d}/new/", preserve="mode")],
        {"new/setuid": ("classic", SETUID)},
    ),
    "an empty directory": Case("COPY one/empty {d}/new", [c("one/empty", "{d}/new")]),
    "an empty directory onto one": Case("COPY one/empty {d}/dir", [c("one/empty", "{d}/dir")]),
    "dotfiles and globs": Case(
        "COPY dots/* {d}/new/",
        [c("dots/*", "{d}/new/")],
        {
            "new/.config": ("docker", GLOB),
            "new/.config/x": ("docker", GLOB),
            "new/x": ("docker", GLOB),
        },
    ),
    "a glob of files": Case("COPY glob/*.conf {d}/new/", [c("glob/*.conf", "{d}/new/")]),
    "a glob in the middle": Case(
        "COPY glob/s*/d.conf {d}/new/",
        [c("glob/s*/d.conf", "{d}/new/")],
        {
            "new/d.conf": ("docker", GLOB),
            "new/sub": ("docker", GLOB),
            "new/sub/d.conf": ("docker", GLOB),
        },
    ),
    "a glob that matches a directory": Case(
        "COPY glo* {d}/new/",
        [c("glo*", "{d}/new/")],
        {
            "new/a.conf": ("docker", GLOB),
            "new/b.conf": ("docker", GLOB),
            "new/c.txt": ("docker", GLOB),
            "new/glob": ("docker", GLOB),
            "new/glob/a.conf": ("docker", GLOB),
            "new/glob/b.conf": ("docker", GLOB),
            "new/glob/c.txt": ("docker", GLOB),
            "new/glob/sub": ("docker", GLOB),
            "new/glob/sub/d.conf": ("docker", GLOB),
            "new/sub": ("docker", GLOB),
            "new/sub/d.conf": ("docker", GLOB),
        },
    ),
    "a question mark": Case("COPY glob/?.txt {d}/new/", [c("glob/?.txt", "{d}/new/")]),
    "a class": Case("COPY glob/[ab].conf {d}/new/", [c("glob/[ab].conf", "{d}/new/")]),
    "a FIFO in a directory": Case(
        "COPY pipe {d}/new", [c("pipe", "{d}/new")], {"new/fifo": ("buildkit", FIFO)}
    ),
    "spaces": Case('COPY ["space name.txt", "{d}/a b/"]', [c("space name.txt", "{d}/a b/")]),
    "a name that is not ASCII": Case("COPY umlaut-ä.txt {d}/ü", [c("umlaut-ä.txt", "{d}/ü")]),
    "one copy after another": Case(
        "COPY one {d}/new\nCOPY file.txt {d}/new/sub/",
        [c("one", "{d}/new"), c("file.txt", "{d}/new/sub/")],
    ),
    "a symlink made by a step before": Case(
        "COPY links/dir {d}/a/\nCOPY links {d}/b/\nCOPY file.txt {d}/b/dir/",
        [c("links/dir", "{d}/a/"), c("links", "{d}/b/"), c("file.txt", "{d}/b/dir/")],
    ),
    "WORKDIR and a relative destination": Case(
        "WORKDIR {d}/work\nCOPY file.txt sub/",
        [{"directory": "{d}/work"}, c("file.txt", "{d}/work/sub/")],
    ),
    "chmod of a file": Case(
        "",
        [c("file.txt", "{d}/a/b/c", mode="0640")],
        buildkit="COPY --chmod=0640 file.txt {d}/a/b/c",
    ),
    "chmod of a directory's contents": Case(
        "", [c("one", "{d}/new", mode="0750")], buildkit="COPY --chmod=0750 one {d}/new"
    ),
    "chmod and chown onto a directory": Case(
        "",
        [c("one", "{d}/dir", mode="0750", owner="7:8")],
        buildkit="COPY --chmod=0750 --chown=7:8 one {d}/dir",
    ),
    "chmod of nested directories that exist": Case(
        "", [c("over", "{d}", mode="0711", owner="0:0")], buildkit="COPY --chmod=0711 over {d}"
    ),
    "chmod leaves symlinks alone": Case(
        "", [c("links", "{d}/new", mode="0640")], buildkit="COPY --chmod=0640 links {d}/new"
    ),
    "chmod of set-id bits": Case(
        "",
        [c("file.txt", "{d}/new", mode="4711")],
        {"new": ("buildkit", SETUID)},
        buildkit="COPY --chmod=4711 file.txt {d}/new",
    ),
    "an archive": Case("ADD a.tar.gz {d}/new/", [u("a.tar.gz", "{d}/new/")]),
    "an archive onto a directory": Case("ADD a.tar.gz {d}/", [u("a.tar.gz", "{d}/")]),
    "an archive below a symlink": Case("ADD a.tar.gz {d}/lib/", [u("a.tar.gz", "{d}/lib/")]),
    "an archive with a chown": Case(
        "ADD --chown=7:8 plain.tar {d}/new/",
        [u("plain.tar", "{d}/new/", owner="7:8")],
        {
            "new": ("classic", OWNER),
            "new/dir": ("docker", OWNER),
            "new/dir/new.txt": ("docker", OWNER),
        },
    ),
    "archives in order": Case(
        "ADD a.tar.gz again.tar plain.tar {d}/new/",
        [u(["a.tar.gz", "again.tar", "plain.tar"], "{d}/new/")],
    ),
    "archives of a glob in order": Case("ADD *ain.tar {d}/new/", [u("*ain.tar", "{d}/new/")]),
    "a further source that is there": Case(
        "COPY file.txt other.txt* {d}/new/", [c("file.txt", "{d}/new/", optional="other.txt*")]
    ),
    "a further source that is missing": Case(
        "COPY file.txt none* {d}/new/", [c("file.txt", "{d}/new/", optional=["none*"])]
    ),
    "an archive onto a symlink to a file": Case("ADD flink.tar {d}/", [u("flink.tar", "{d}/")]),
}


BUILDERS = ("classic", "buildkit")


def folder(name: str) -> str:
    return f"c{list(CASES).index(name):02d}"


def filled(value: Any, name: str) -> Any:
    return json.loads(json.dumps(value).replace("{d}", f"/{folder(name)}"))


@pytest.fixture(scope="module")
def trees(sides: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The image of all cases by who built it: path -> what is there."""
    work = tmp_path_factory.mktemp("copy")
    context, root = work / "context", work / "root"
    sides.make_tree(context, CONTEXT)
    archives(context)
    sides.make_tree(root, BASE)
    for name in CASES:
        fixture = {
            path: value.replace("{c}", folder(name)) if isinstance(value, str) else value
            for path, value in FIXTURE.items()
        }
        sides.make_tree(root / folder(name), fixture)
    sides.out("import", "-", "parity:base", input=sides.tar_of(root))
    found = {}
    for builder in BUILDERS:
        lines = ["FROM parity:base"]
        for name, case in CASES.items():
            more = case.buildkit if builder == "buildkit" else ""
            lines += filled([case.docker, more], name)
        wrong = sides.build(
            "\n".join(lines), context, f"parity:{builder}", buildkit=builder == "buildkit"
        )
        assert not wrong
        found[builder] = sides.tree(f"parity:{builder}")
    (context / "base.tar").write_bytes(sides.out("save", "parity:base"))
    steps = [step for name, case in CASES.items() for step in filled(case.ours, name)]
    done = sides.ours({"from": "docker-archive:base.tar", "steps": steps}, context, work / "cache")
    assert done.returncode == 0, done.stderr
    sides.load(work / "cache" / "store", "ours", "parity:ours", work)
    found["ours"] = sides.tree("parity:ours")
    return found


def archives(context: Path) -> None:
    """`a.tar.gz` with owners, modes, links and a directory that the image has; `plain.tar`."""
    entries: list[tuple[str, bytes, str, int, int]] = [
        # name, type, content or target, mode, owner
        ("dir/", tarfile.DIRTYPE, "", 0o700, 5),
        ("dir/new.txt", tarfile.REGTYPE, "new", 0o640, 6),
        ("dir/suid", tarfile.REGTYPE, "suid", 0o4755, 6),
        ("made/deep/file", tarfile.REGTYPE, "no entries for its parents", 0o600, 7),
        ("hard", tarfile.LNKTYPE, "dir/new.txt", 0o640, 6),
        ("soft", tarfile.SYMTYPE, "dir/new.txt", 0o777, 6),
        ("pipe", tarfile.FIFOTYPE, "", 0o600, 6),
        ("real/", tarfile.DIRTYPE, "", 0o1777, 0),
    ]
    pack(context / "a.tar.gz", "w:gz", entries)
    pack(context / "plain.tar", "w", entries[:2])
    again = ("dir/new.txt", tarfile.REGTYPE, "again", 0o604, 8)
    pack(context / "again.tar", "w", [again, ("soft", tarfile.REGTYPE, "a file", 0o644, 9)])
    pack(context / "flink.tar", "w", [("flink", tarfile.REGTYPE, "over", 0o644, 0)])


def pack(path: Path, mode: Any, entries: list[tuple[str, bytes, str, int, int]]) -> None:
    with tarfile.open(path, mode) as tar:
        for name, kind, what, bits, owner in entries:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.gid = kind, bits, owner, owner
            data = what.encode() if kind == tarfile.REGTYPE else b""
            member.size = len(data)
            member.linkname = "" if data else what
            tar.addfile(member, io.BytesIO(data))


@pytest.mark.root
@pytest.mark.needs("dockerd", "skopeo")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("builder", BUILDERS)
def test_lands_as_with_docker(trees: dict[str, Any], name: str, builder: str) -> None:
    case = CASES[name]
    if not case.docker and builder == "classic":
        return  # the option needs BuildKit
    own = f"{folder(name)}/"
    docker, ours = (
        {path[len(own) :]: seen for path, seen in trees[side].items() if f"{path}/".startswith(own)}
        for side in (builder, "ours")
    )
    differing = {path for path in {*docker, *ours} if docker.get(path) != ours.get(path)}
    expected = {path for path, (who, _) in case.differs.items() if who in ("docker", builder)}
    assert differing == expected, {path: (docker.get(path), ours.get(path)) for path in differing}
