"""`COPY --from` beside `copy` with `from`: one image with every case in a folder of its own, its
sources in a stage, built by the classic builder, BuildKit and buildah, and by ours."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from tests.parity.conftest import Tree, flattened

FIFO = "BuildKit leaves FIFOs out"
STICKY = "BuildKit keeps the sticky bit of a source under --chmod"
REPLACED = "buildah puts the file in the place of the symlink, the others where it leads"

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
    "file": "a file\n",
    "flink": "-> file",
    "usr/lib/libc.so": "libc\n",
    "lib": "-> usr/lib",
}
SOURCE: dict[str, Any] = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nwww:x:1033:1034::/:/bin/sh\nbuilder:x:77:78::/:/b\n",
    "file.txt": "file\n",
    "other.txt": "other\n",
    "out/app": ("app\n", 0o755, (1000, 1001)),
    "out/setuid": ("setuid\n", 0o4755),
    "out/private": ("private\n", 0o600, (7, 8)),
    "one/": ("", 0o750, (5, 6)),
    "one/a.txt": ("a\n", 0o640, (5, 6)),
    "one/b.sh": ("b\n", 0o775),
    "one/sub/": ("", 0o700, (9, 9)),
    "one/sub/c.txt": ("c\n", 0o444, (9, 10)),
    "one/empty/": ("", 0o1777),
    "links/file": "-> ../file.txt",
    "links/dir": "-> ../one",
    "links/dangling": "-> nowhere",
    "links/absolute": "-> /etc/passwd",
    "linkfile": "-> out/private",
    "linkdir": "-> one",
    "absdir": "-> /one",
    "up": "-> ../../../one/a.txt",
    "deep/lib": "-> /usr/lib",
    "usr/lib/lib.so.1": "lib\n",
    "usr/lib/lib.so": "-> lib.so.1",
    "lib": "-> usr/lib",
    "glob/a.conf": ("a\n", 0o644, (3, 4)),
    "glob/b.conf": "b\n",
    "glob/c.txt": "c\n",
    "glob/sub/d.conf": "d\n",
    "hard/first": ("one file\n", 0o640, (2, 2)),
    "over/secret/": ("", 0o755, (11, 12)),
    "over/secret/new.txt": ("new\n", 0o600, (11, 12)),
    "overlink/link/new.txt": "new\n",
    "pipe/fifo": "|",
    "space name.txt": "space\n",
    "umlaut-ä.txt": "umlaut\n",
}


class Case(NamedTuple):
    """`docker` are instructions, `ours` steps; {d} is the case's own folder. `differs`: paths where
    we do otherwise than some of the builders, who and why."""

    docker: str
    ours: list[dict[str, Any]]
    differs: Mapping[str, tuple[str, str]] = {}
    only: tuple[str, ...] = ()  # the builders that know it; (): all


def f(sources: Any, dest: str, **options: Any) -> dict[str, Any]:
    return {"copy": sources, "from": "stage:src", "dest": dest, **options}


def simple(source: str, dest: str, differs: Mapping[str, tuple[str, str]] | None = None) -> Case:
    return Case(f"COPY --from=src {source} {{d}}{dest}", [f(source, "{d}" + dest)], differs or {})


CASES: dict[str, Case] = {
    "a file to a new name": simple("/file.txt", "/new"),
    "a path without its slash": simple("file.txt", "/new"),
    "a file to a new directory": simple("/file.txt", "/new/"),
    "a file to a deep new name": simple("/out/app", "/a/b/c"),
    "a file to an existing directory": simple("/out/app", "/dir"),
    "a file over a file": simple("/out/private", "/file"),
    "owner and mode of a file": simple("/out/private", "/new"),
    "a set-id bit": simple("/out/setuid", "/new"),
    "a directory's contents": simple("/one", "/new"),
    "a directory's contents, slashes": simple("/one/", "/new/"),
    "a directory onto an existing one": simple("/one", "/dir/"),
    "an empty sticky directory": simple("/one/empty", "/new"),
    "several files": Case(
        "COPY --from=src /file.txt /other.txt /out/app {d}/new/",
        [f(["/file.txt", "/other.txt", "/out/app"], "{d}/new/")],
    ),
    "a file and a directory": Case(
        "COPY --from=src /file.txt /one {d}/new/", [f(["/file.txt", "/one"], "{d}/new/")]
    ),
    "below a symlinked parent": simple("/file.txt", "/lib/x/y"),
    "a directory onto a symlink to one": simple("/one", "/link"),
    "a file onto a symlink to a directory": simple("/file.txt", "/link"),
    "a file onto a symlink to a file": simple(
        "/file.txt", "/flink", {"file": ("buildah", REPLACED), "flink": ("buildah", REPLACED)}
    ),
    "a symlink to a file as source": simple("/linkfile", "/new"),
    "a symlink to a file into a directory": simple("/linkfile", "/dir/"),
    "a symlink to a directory as source": simple("/linkdir", "/new"),
    "an absolute symlink as source": simple("/absdir", "/new"),
    "a symlink that climbs above the root": simple("/up", "/new"),
    "below a symlinked source directory": simple("/linkdir/sub", "/new"),
    "below an absolute symlink": simple("/deep/lib/lib.so.1", "/new"),
    "a library by its symlink": simple("/lib/lib.so", "/libs/"),
    "symlinks within a directory": simple("/links", "/new"),
    "a directory with a library and its links": simple("/usr/lib", "/lib/"),
    "a nested directory that exists": simple("/over", ""),
    "a file below a symlink, both named": simple("/overlink/link/new.txt", "/link/new.txt"),
    "chown by numbers": simple("/out/private", "/new"),
    "chown by name is the target's": Case(
        "COPY --from=src --chown=www /one {d}/new", [f("/one", "{d}/new", owner="www")]
    ),
    "chown by user and group": Case(
        "COPY --from=src --chown=app:staff /one {d}/new",
        [f("/one", "{d}/new", owner="app:staff")],
    ),
    "chown onto an existing directory": Case(
        "COPY --from=src --chown=7:8 /one {d}/dir", [f("/one", "{d}/dir", owner="7:8")]
    ),
    "chown of symlinks": Case(
        "COPY --from=src --chown=7:8 /links {d}/new", [f("/links", "{d}/new", owner="7:8")]
    ),
    "a sticky parent": simple("/file.txt", "/open/new"),
    "a parent of another owner": simple("/file.txt", "/secret/new"),
    "a glob of files": simple("/glob/*.conf", "/new/"),
    "a question mark": simple("/glob/?.txt", "/new/"),
    "a class": simple("/glob/[ab].conf", "/new/"),
    "a glob that matches a link": simple("/usr/lib/lib.so*", "/new/"),
    "a FIFO in a directory": simple("/pipe", "/new", {"new/fifo": ("buildkit", FIFO)}),
    "hard links": simple("/hard", "/new"),
    "spaces": Case(
        'COPY --from=src ["/space name.txt", "{d}/a b/"]', [f("/space name.txt", "{d}/a b/")]
    ),
    "a name that is not ASCII": simple("/umlaut-ä.txt", "/ü"),
    "the whole of the source": simple("/", "/all", {"all/pipe/fifo": ("buildkit", FIFO)}),
    "one copy after another": Case(
        "COPY --from=src /one {d}/new\nCOPY --from=src /file.txt {d}/new/sub/",
        [f("/one", "{d}/new"), f("/file.txt", "{d}/new/sub/")],
    ),
    "WORKDIR and a relative destination": Case(
        "WORKDIR {d}/work\nCOPY --from=src /file.txt sub/",
        [{"directory": "{d}/work"}, f("/file.txt", "{d}/work/sub/")],
    ),
    "chmod of a file": Case(
        "COPY --from=src --chmod=0640 /out/app {d}/a/b/c",
        [f("/out/app", "{d}/a/b/c", mode="0640")],
        only=("buildkit",),
    ),
    "chmod and chown of a directory": Case(
        "COPY --from=src --chmod=0750 --chown=7:8 /one {d}/new",
        [f("/one", "{d}/new", mode="0750", owner="7:8")],
        {"new/empty": ("buildkit", STICKY)},
        only=("buildkit",),
    ),
}
BUILDERS = ("classic", "buildkit", "buildah")


def folder(name: str) -> str:
    return f"c{list(CASES).index(name):02d}"


def filled(value: Any, name: str) -> Any:
    return json.loads(json.dumps(value).replace("{d}", f"/{folder(name)}"))


def dockerfile(builder: str) -> str:
    lines = ["FROM scratch AS src", "ADD src.tar /", "FROM scratch", "ADD base.tar /"]
    for name, case in CASES.items():
        if not case.only or builder in case.only:
            lines += filled([case.docker], name)
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def trees(sides: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tree]:
    """The image of all cases by who built it: path -> what is there."""
    work = tmp_path_factory.mktemp("stages")
    context, root, source = work / "context", work / "root", work / "source"
    context.mkdir()
    sides.make_tree(root, BASE)
    for name in CASES:
        sides.make_tree(root / folder(name), FIXTURE)
    sides.make_tree(source, SOURCE)
    os.link(source / "hard/first", source / "hard/second")
    (context / "base.tar").write_bytes(sides.tar_of(root))
    (context / "src.tar").write_bytes(sides.tar_of(source))
    found = {}
    for builder in ("classic", "buildkit"):
        text = dockerfile(builder)
        wrong = sides.build(text, context, f"stages:{builder}", buildkit=builder == "buildkit")
        assert not wrong
        found[builder] = sides.tree(f"stages:{builder}")
    (work / "Dockerfile").write_text(dockerfile("buildah"))
    folders = ["--root", f"{work}/images", "--runroot", f"{work}/run", "--storage-driver", "vfs"]
    command = ["buildah", *folders, "bud", "-q", "--isolation", "chroot", "-f", work / "Dockerfile"]
    out = work / "out.tar"
    subprocess.run(
        [*command, "-o", f"type=tar,dest={out}", context], check=True, capture_output=True
    )
    found["buildah"] = flattened(out.read_bytes())
    spec = {
        "from": "rootfs:base.tar",
        "stages": {"src": {"from": "rootfs:src.tar"}},
        "steps": [step for name, case in CASES.items() for step in filled(case.ours, name)],
    }
    done = sides.ours(spec, context, work / "cache")
    assert done.returncode == 0, done.stderr
    sides.load(work / "cache" / "store", "ours", "stages:ours", work)
    found["ours"] = sides.tree("stages:ours")
    return found


@pytest.mark.root
@pytest.mark.needs("dockerd", "skopeo", "buildah")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("builder", BUILDERS)
def test_lands_as_with_others(trees: dict[str, Tree], name: str, builder: str) -> None:
    case = CASES[name]
    if case.only and builder not in case.only:
        return
    own = f"{folder(name)}/"
    theirs, ours = (
        {path[len(own) :]: seen for path, seen in trees[side].items() if f"{path}/".startswith(own)}
        for side in (builder, "ours")
    )
    differing = {path for path in {*theirs, *ours} if theirs.get(path) != ours.get(path)}
    expected = {path for path, (who, _) in case.differs.items() if builder in who}
    assert differing == expected, {path: (theirs.get(path), ours.get(path)) for path in differing}
