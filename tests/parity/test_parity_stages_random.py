"""Random images with several layers, and random copies out of them: `COPY --from` of BuildKit and
ours give the same tree, or both refuse. `RELIABILITY=full` tries 240 copies."""

from __future__ import annotations

import concurrent.futures
import copy
import fnmatch
import gzip
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.parity.conftest import Tree, flattened

ROUNDS = 12 if os.environ.get("RELIABILITY") == "full" else 1
COPIES = 20 if os.environ.get("RELIABILITY") == "full" else 8
SEED = int(os.environ.get("RELIABILITY_SEED", "1"))
GLOBS = ("*", "?", "[ab]", "*a*", "[a-c]*", "??*")
NAMES = ("a", "b", "c", "x y", "ä", "d-1", "é")
BASE: dict[str, Any] = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/:/bin/sh\n",
    "etc/group": "root:x:0:\nwww:x:34:\n",
    "dir/a/": ("", 0o700, (3, 4)),
    "dir/b": ("old\n", 0o600, (5, 6)),
    "dir/c": "-> /real",
    "real/a": "real\n",
    "link": "-> dir",
    "far": "-> ../../real/new",
    "file": "file\n",
}


class Image:
    """Layers whose entries lie in real folders, as every engine writes them."""

    def __init__(self, seeded: random.Random) -> None:
        self.seeded = seeded
        self.here: dict[str, str] = {"": "dir"}  # path -> what it is, over all layers
        self.folders: dict[str, tarfile.TarInfo] = {}
        self.layers = [self._layer(number) for number in range(seeded.randint(1, 4))]

    def _layer(self, number: int) -> bytes:
        out, seeded = io.BytesIO(), self.seeded
        written: dict[str, str] = {}  # by this layer
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:

            def folder_of(path: str) -> None:
                """Engines differ about folders that a layer holds and does not name."""
                parts = path.split("/")[:-1]
                for end in range(len(parts)):
                    above = "/".join(parts[: end + 1])
                    if above not in written:
                        written[above] = "dir"
                        tar.addfile(self.folders[above])

            for _ in range(seeded.randint(4, 14)):
                folder = seeded.choice([path for path, kind in self.here.items() if kind == "dir"])
                path = f"{folder}/{seeded.choice(NAMES)}".lstrip("/")
                there = self.here.get(path)
                if path in written or path.count("/") > 3:
                    continue
                if there and seeded.random() < 0.5:
                    folder_of(path)
                    if any(each.startswith(path + "/") for each in written):
                        continue
                    opaque = there == "dir" and seeded.random() < 0.4
                    name = (
                        f"{path}/.wh..wh..opq"
                        if opaque
                        else f"{folder}/.wh.{path[len(folder) :].lstrip('/')}"
                    )
                    if opaque:
                        tar.addfile(self._info(path, tarfile.DIRTYPE))
                    tar.addfile(self._info(name.lstrip("/"), tarfile.REGTYPE))
                    written[path] = "gone"
                    for each in [each for each in self.here if f"{each}/".startswith(f"{path}/")]:
                        if each != path or not opaque:
                            del self.here[each]
                    continue
                if there == "dir":
                    tar.addfile(self._info(path, tarfile.DIRTYPE))
                    written[path] = "dir"
                    continue
                folder_of(path)
                kind = seeded.choice(("dir", "dir", "file", "file", "symlink", "hard"))
                files = [each for each, what in written.items() if what == "file"]
                if kind == "hard" and files:
                    target = seeded.choice(files)
                    info = copy.copy(tar.getmember(target))  # links say what their file says
                    info.name, info.type, info.linkname, info.size = (
                        path,
                        tarfile.LNKTYPE,
                        target,
                        0,
                    )
                    tar.addfile(info)
                elif kind == "dir":
                    tar.addfile(self._info(path, tarfile.DIRTYPE))
                elif kind == "symlink":
                    info = self._info(path, tarfile.SYMTYPE)
                    info.linkname, info.mode = self._target(), 0o777
                    tar.addfile(info)
                else:
                    kind, data = "file", f"{number} {path}".encode() * seeded.randint(0, 3)
                    info = self._info(path, tarfile.REGTYPE)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
                written[path] = self.here[path] = kind
        return out.getvalue()

    def _info(self, name: str, kind: bytes) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.mtime = kind, self.seeded.randrange(2_000_000_000)
        modes = (0o755, 0o700, 0o1777) if kind == tarfile.DIRTYPE else (0o644, 0o4755, 0o600, 0)
        info.mode = self.seeded.choice(modes)
        info.uid, info.gid = self.seeded.choice(((0, 0), (1000, 1001), (33, 7)))
        if kind == tarfile.DIRTYPE:
            self.folders[name] = info
        return info

    def _target(self) -> str:
        up = self.seeded.choice(("", "/", "../", "../../", "./", "../../../../"))
        return up + self.seeded.choice([*NAMES[:3], *self.here]) or "."

    def path(self) -> str:
        """One that may be there, or a glob."""
        seeded = self.seeded
        path = "/" + seeded.choice(list(self.here))
        if seeded.random() < 0.3:
            path += "/" + seeded.choice(NAMES)
        globs = [
            f"{folder}/{glob}" for folder in self.here for glob in GLOBS if self._fits(folder, glob)
        ]
        if globs and seeded.random() < 0.3:
            return "/" + seeded.choice(globs).lstrip("/")
        return path + ("/" if seeded.random() < 0.15 else "")

    def _fits(self, folder: str, glob: str) -> bool:
        """Whether files match, and nothing else: of folders both do otherwise (docs/docker.md)."""
        names = {
            path[len(folder) :].lstrip("/"): kind
            for path, kind in self.here.items()
            if path and path.rpartition("/")[0] == folder
        }
        found = [kind for name, kind in names.items() if fnmatch.fnmatchcase(name, glob)]
        return bool(found) and set(found) <= {"file", "hard"}

    def save(self, layout: Path) -> None:
        blobs = layout / "blobs/sha256"
        blobs.mkdir(parents=True)

        def put(data: bytes, kind: str) -> dict[str, Any]:
            name = hashlib.sha256(data).hexdigest()
            (blobs / name).write_bytes(data)
            return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}

        oci = "application/vnd.oci.image."
        layers = [
            put(gzip.compress(each, 1, mtime=0), oci + "layer.v1.tar+gzip") for each in self.layers
        ]
        ids = ["sha256:" + hashlib.sha256(each).hexdigest() for each in self.layers]
        config = {
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": ids},
        }  # fmt: skip
        manifest = {
            "schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
            "config": put(json.dumps(config).encode(), oci + "config.v1+json"), "layers": layers,
        }  # fmt: skip
        entry = put(json.dumps(manifest).encode(), oci + "manifest.v1+json")
        index = {"schemaVersion": 2, "manifests": [entry]}
        (layout / "index.json").write_text(json.dumps(index))
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


class Copying(NamedTuple):
    sources: list[str]
    dest: str
    owner: str | None

    @classmethod
    def of(cls, image: Image) -> Copying:
        seeded = image.seeded
        sources = [image.path() for _ in range(seeded.choice((1, 1, 1, 2, 3)))]
        dests = (
            "/new",
            "/new/",
            "/dir",
            "/dir/",
            "/link",
            "/link/",
            "/far",
            "/a/b/c",
            "/file",
            "/",
        )
        dest = seeded.choice(dests)
        if len(sources) > 1 or any(set(each) & set("*?[") for each in sources):
            dest = dest.rstrip("/") + "/"
        return cls(sources, dest, seeded.choice((None, None, None, "7:8", "www")))

    def docker(self, origin: str) -> str:
        owner = f"--chown={self.owner} " if self.owner else ""
        paths = json.dumps([*self.sources, self.dest])
        return f"FROM scratch\nADD base.tar /\nCOPY --from={origin} {owner}{paths}\n"

    def ours(self) -> dict[str, Any]:
        step = {"copy": self.sources, "from": "oci:layout", "dest": self.dest}
        if self.owner:
            step["owner"] = self.owner
        return {"from": "rootfs:base.tar", "steps": [step]}


def merged(archive: Path) -> Tree:
    """The tree of a saved image, whose layers take nothing away."""
    found: Tree = {}
    with tarfile.open(archive) as outer:
        for name in json.load(outer.extractfile("manifest.json"))[0]["Layers"]:  # type: ignore[arg-type]
            found.update(flattened(outer.extractfile(name).read()))  # type: ignore[union-attr]
    return found


def _buildkit(sides: Any, context: Path, text: str) -> Tree | str:
    printed, wrong = sides.run(
        "build", "--network", "none", "-o", "-", "-f", "-", str(context),
        input=text.encode(), buildkit=True,
    )  # fmt: skip
    return wrong or flattened(printed)


@pytest.fixture
def context(sides: Any, tmp_path: Path) -> Iterator[Path]:
    sides.make_tree(tmp_path / "root", BASE)
    made = tmp_path / "context"
    (made / "specs").mkdir(parents=True)
    (made / ".dockerignore").write_text("specs\nlayout\nout\n")
    (made / "base.tar").write_bytes(sides.tar_of(tmp_path / "root"))
    yield made


@pytest.mark.root
@pytest.mark.needs("dockerd", "skopeo")
@pytest.mark.parametrize("number", range(ROUNDS))
def test_random_copies_land_as_with_buildkit(sides: Any, context: Path, number: int) -> None:
    image = Image(random.Random(SEED * 1000 + number))
    image.save(context / "layout")
    origin = f"random:{SEED}-{number}"
    archive = context.parent / "origin.tar"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{context}/layout",
         f"docker-archive:{archive}:{origin}"],
        check=True, capture_output=True,
    )  # fmt: skip
    sides.out("load", "--quiet", "-i", str(archive))
    copies = [Copying.of(image) for _ in range(COPIES)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        theirs = list(pool.map(lambda each: _buildkit(sides, context, each.docker(origin)), copies))
    (context / "out").mkdir()
    wrong: list[Any] = []
    for at, (copying, expected) in enumerate(zip(copies, theirs, strict=True)):
        found = _ours(context, f"c{at}", copying)
        if (isinstance(found, str), isinstance(expected, str)) == (True, True):
            continue
        if isinstance(found, str) and "is not a directory in" in found:
            continue  # a file with a slash behind it, which BuildKit takes
        if isinstance(expected, str) and "cannot copy to non-directory" in expected:
            continue  # a symlink to a directory, below the destination: ours is followed
        if isinstance(found, str) or isinstance(expected, str):
            sides_of = [each if isinstance(each, str) else "works" for each in (found, expected)]
            wrong.append((copying, *sides_of))
            continue
        paths = {path for path in {*found, *expected} if found.get(path) != expected.get(path)}
        if paths:
            told = {path: (expected.get(path), found.get(path)) for path in sorted(paths)}
            wrong.append((copying, told))
    assert not wrong, "\n".join(map(str, wrong))


def _ours(context: Path, name: str, copying: Copying) -> Tree | str:
    (context / f"specs/{name}.yaml").write_text(json.dumps(copying.ours()))
    done = subprocess.run(
        [sys.executable, "-m", "builder", "build", name, "-o", f"docker-archive:out/{name}.tar"],
        cwd=context, env={**os.environ, "BUILDER_CACHE_DIR": str(context.parent / "store")},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if done.returncode:
        assert "Traceback" not in done.stderr and "itself failed" not in done.stderr, done.stderr
        return done.stderr
    return merged(context / f"out/{name}.tar")
