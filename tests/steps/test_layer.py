"""`layer`: a changeset is applied as an engine applies it.

Many small trees, each with a random changeset over it, in one image: what an engine makes of the
changeset as a layer of that image is what it makes of the layer that is built of it, and so does
umoci. `RELIABILITY=full` takes more of them, `RELIABILITY_SEED` others.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.cli.conftest import Project
from tests.dockerd import CLIENT, Engine

CASES = 400 if os.environ.get("RELIABILITY") == "full" else 60
SEED = int(os.environ.get("RELIABILITY_SEED", "0"))
Member = tuple[tarfile.TarInfo, bytes]
NAMES = ("a", "a-b", "b", "+c", "é")


def member(path: str, type: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> Member:
    made = tarfile.TarInfo(path)
    made.type, made.size = type, len(data)
    made.mode = 0o755 if type == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(made, field, value)
    return made, data


def tar(*members: Member) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for made, data in members:
            archive.addfile(made, io.BytesIO(data))
    return buffer.getvalue()


class Case:
    """A tree below `c<number>/`, and a changeset over it. `anew`: a folder may be removed and made
    anew in it, which Docker takes for one that is still there (with overlay2)."""

    def __init__(self, rng: random.Random, number: int, *, anew: bool) -> None:
        self.rng, self.anew = rng, anew
        self.below: dict[str, bytes] = {}  # paths of the tree, with their types
        top = f"c{number}"
        self.base = [self.one(top, tarfile.DIRTYPE), *self.tree(top, 0)]
        self.files: list[str] = []
        self.layer: list[Member] = []
        self.change(top, 0, there=True)

    def one(self, path: str, type: bytes, link: str = "") -> Member:
        rng = self.rng
        data = rng.choice([b"", b"x", b"y" * 700]) if type == tarfile.REGTYPE else b""
        made, data = member(path, type, data, linkname=link)
        made.mode = rng.choice([0o755, 0o700, 0o1777, 0o644, 0o4755, 0o2750])
        if type == tarfile.SYMTYPE:
            made.mode = 0o777
        made.uid, made.gid = rng.choice([0, 3, 70000]), rng.choice([0, 4])
        made.mtime = rng.choice([5, 1_000_000_000, 4_000_000_000])
        if type == tarfile.CHRTYPE:
            made.devmajor, made.devminor = 1, rng.choice([3, 5])
        if type == tarfile.REGTYPE and rng.random() < 0.3:
            made.pax_headers["SCHILY.xattr.security.capability"] = (
                "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
            )
        return made, data

    def tree(self, folder: str, depth: int) -> Iterator[Member]:
        for name in NAMES:
            path = f"{folder}/{name}"
            type = self.rng.choice(
                [tarfile.REGTYPE, tarfile.SYMTYPE, *[tarfile.DIRTYPE] * (3 - depth), None]
            )
            if type is None:
                continue
            self.below[path] = type
            yield self.one(path, type, link=self.rng.choice(["a", "../b", "/nowhere"]))
            if type == tarfile.DIRTYPE:
                yield from self.tree(path, depth + 1)

    def change(self, folder: str, depth: int, *, there: bool) -> None:
        """Changes within a folder, whiteouts first; `there`: something lies in it below."""
        rng = self.rng
        opaque = rng.random() < 0.15
        if opaque:
            self.layer.append(member(f"{folder}/.wh..wh..opq"))
        kinds = {name: rng.random() for name in NAMES}
        gone = {
            name
            for name, dice in kinds.items()
            if rng.random() < 0.25 and there and f"{folder}/{name}" in self.below
            if self.anew or not 0.3 <= dice < 0.7
        }
        self.layer += [member(f"{folder}/.wh.{name}") for name in sorted(gone)]
        there = there and not opaque
        for name, dice in kinds.items():
            path = f"{folder}/{name}"
            before = self.below.get(path) if there else None
            if dice < 0.2:
                self.layer.append(self.one(path, tarfile.REGTYPE))
                self.files.append(path)
            elif dice < 0.25:
                self.layer.append(self.one(path, tarfile.SYMTYPE, rng.choice(["a", "../a-b"])))
            elif dice < 0.3:
                self.layer.append(self.one(path, rng.choice([tarfile.CHRTYPE, tarfile.FIFOTYPE])))
            elif dice < 0.37 and self.files:
                target = rng.choice(self.files)
                of = next(made for made, _ in self.layer if made.name == target)
                made, _ = member(path, tarfile.LNKTYPE, linkname=target)
                made.mode, made.uid, made.gid, made.mtime = of.mode, of.uid, of.gid, of.mtime
                made.pax_headers = dict(of.pax_headers)
                self.layer.append((made, b""))
            elif dice < 0.7 and depth < 3:
                self.layer.append(self.one(path, tarfile.DIRTYPE))
                self.change(path, depth + 1, there=before == tarfile.DIRTYPE and name not in gone)
            elif dice < 0.8 and depth < 3 and before == tarfile.DIRTYPE and name not in gone:
                self.change(path, depth + 1, there=True)  # it does not name the folder


class Seen(NamedTuple):
    type: bytes
    mode: int
    owner: tuple[int, int]
    time: int
    holds: Any
    links: frozenset[str]  # its other paths


def read(stream: bytes, unnamed: set[str], *, modes: bool = True) -> dict[str, Seen]:
    """A tree out of its tar. Of `unnamed` folders no time is compared, and without `modes` no mode
    and owner."""
    found: dict[str, Seen] = {}
    groups: dict[str, set[str]] = {}
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        for each in archive:
            each.name, each.linkname = (
                name.removeprefix("./") for name in (each.name, each.linkname)
            )
            if not each.name.startswith("c"):
                continue
            if each.islnk():
                groups.setdefault(each.linkname, {each.linkname}).add(each.name)
                continue
            file = archive.extractfile(each) if each.isreg() else None
            if each.isdir() and each.name in unnamed:
                each.mtime = 0
                if not modes:
                    each.mode, each.uid, each.gid = 0, 0, 0
            found[each.name] = Seen(
                each.type,
                each.mode,
                (each.uid, each.gid),
                int(each.mtime),
                (file.read() if file else each.linkname, each.devmajor, each.devminor,
                 each.pax_headers.get("SCHILY.xattr.security.capability")),
                frozenset(),
            )  # fmt: skip
    for first, paths in groups.items():
        for path in paths:
            found[path] = found[first]._replace(links=frozenset(paths))
    return found


def make(project: Project, *, anew: bool) -> set[str]:
    """`layout:raw`, which has the changesets as they are, and `layout:ours`. Gives the folders that
    they may have something in and do not name: their times are of when that came, and with overlay2
    Docker takes them for 0755 0:0, whatever they are below."""
    rng = random.Random(SEED)
    cases = [Case(rng, number, anew=anew) for number in range(CASES)]
    base = [each for case in cases for each in case.base]
    layer = [each for case in cases for each in case.layer]
    project.file("base.tar", tar(*base))
    project.file("raw.tar", tar(*layer))
    project.spec("base", "from: rootfs:base.tar\nconfig: {cmd: [x]}\n")
    project.spec("ours", "from: image:base\nsteps:\n  - layer: raw.tar\n")
    project.run("build", "base", "-o", "oci:layout:base")
    add = ["umoci", "raw", "add-layer", "--image", "layout:base", "--tag", "raw", "raw.tar"]
    subprocess.run(add, cwd=project.root, check=True, capture_output=True)
    project.run("build", "ours", "-o", "oci:layout:ours")
    return {made.name for made, _ in base} - {made.name for made, _ in layer}


def compare(raw: dict[str, Seen], ours: dict[str, Seen]) -> None:
    assert len(raw) > 10 * CASES
    paths = sorted(path for path in raw.keys() | ours.keys() if raw.get(path) != ours.get(path))
    told = [f"{path}\n  {raw.get(path)}\n  {ours.get(path)}" for path in paths[:9]]
    assert not paths, f"{len(paths)} differ\n" + "\n".join(told)


@pytest.mark.root
@pytest.mark.needs("umoci", "skopeo", CLIENT)
def test_an_engine_reads_ours_as_it_reads_the_changeset(project: Project, engine: Engine) -> None:
    unnamed = make(project, anew=False)
    trees = []
    for name in ("raw", "ours"):
        archive = project.root / f"{name}.docker"
        subprocess.run(
            ["skopeo", "--insecure-policy", "copy", "--quiet",
             f"oci:layout:{name}", f"docker-archive:{archive}:{name}:x"],
            cwd=project.root, check=True, capture_output=True,
        )  # fmt: skip
        engine.docker("load", "--quiet", "-i", str(archive))
        container = engine.docker("create", "--network", "none", f"{name}:x").decode().strip()
        trees.append(read(engine.docker("export", container), unnamed, modes=False))
        engine.docker("rm", container)
    compare(*trees)


@pytest.mark.root
@pytest.mark.needs("umoci", "tar")
def test_umoci_reads_ours_as_it_reads_the_changeset(project: Project) -> None:
    unnamed = make(project, anew=True)
    trees = []
    for name in ("raw", "ours"):
        unpack = ["umoci", "unpack", "--image", f"layout:{name}", name]
        subprocess.run(unpack, cwd=project.root, check=True, capture_output=True)
        pack = ["tar", "--xattrs", "--xattrs-include=*", "--format=pax", "-C", f"{name}/rootfs"]
        packed = subprocess.run(
            [*pack, "--sort=name", "-c", "."], cwd=project.root, check=True, capture_output=True
        )
        trees.append(read(packed.stdout, unnamed))
    compare(*trees)


def applied(project: Project, *members: Member, base: str = "scratch") -> dict[str, Any]:
    project.file("x.tar", tar(*members))
    project.spec("x", f"from: {base}\nsteps: [{{layer: x.tar}}]\n")
    return project.build("x")["x"]


def test_its_entries_count_not_how_they_are_kept(project: Project) -> None:
    """Nor their order, nor which program wrote them."""
    members = [member("d", tarfile.DIRTYPE, mtime=9), member("d/f", data=b"x", mtime=7)]
    key = applied(project, *members)["layers"][0]["key"]
    for name, command in (("x.tar.gz", "gzip"), ("x.tar.zst", "zstd"), ("x.tar.xz", "xz")):
        subprocess.run([f"{command} -c x.tar >{name}"], shell=True, cwd=project.root, check=True)
        project.spec("x", f"from: scratch\nsteps: [{{layer: {name}}}]\n")
        assert project.plan("x")["x"] == [("hit", "unchanged")]
    assert applied(project, *members[::-1])["layers"][0]["key"] == key
    other = applied(project, members[0], member("d/f", data=b"x", mtime=8))
    assert other["layers"][0]["key"] != key


def test_what_belongs_to_a_machine_is_left_out(project: Project) -> None:
    made, data = member("f", data=b"x")
    made.pax_headers = {
        f"SCHILY.xattr.{name}": "v"
        for name in ("user.kept", "security.selinux", "trusted.overlay.redirect", "trusted.a")
    }
    applied(project, (made, data), member("./", tarfile.DIRTYPE, mode=0o700))
    project.run("build", "x", "-o", "tar:out.tar")
    with tarfile.open(project.root / "out.tar") as archive:
        assert archive.getnames() == ["f"]
        headers = archive.getmember("f").pax_headers
    assert [name for name in headers if "xattr" in name] == ["SCHILY.xattr.user.kept"]


def test_it_may_have_nothing_to_do(project: Project) -> None:
    (layer,) = applied(project, member(".wh.gone"), member("no/.wh..wh..opq"))["layers"]
    assert layer["status"] == "built"  # the folder
    (layer,) = applied(project, member(".wh.gone"))["layers"]
    assert layer["status"] == "empty"


def test_a_folder_in_the_place_of_a_link_is_told(project: Project) -> None:
    base = [member("usr/lib", tarfile.DIRTYPE), member("lib", tarfile.SYMTYPE, linkname="usr/lib")]
    project.file("base.tar", tar(*base, member("a", tarfile.SYMTYPE, linkname="a")))
    project.file("x.tar", tar(member("lib/x"), member("a/x")))
    project.spec("x", "from: rootfs:base.tar\nsteps: [{layer: x.tar}]\n")
    said = project.run("build", "x").stderr
    assert "'/lib' is a symlink to 'usr/lib' in the image" in said and "'/a'" not in said


def test_the_longest_names_can_be_removed(project: Project) -> None:
    """Whose whiteouts are longer than a name may be in a file system."""
    names = ["n" * 255, "é" * 126]
    project.file("base.tar", tar(member("d", tarfile.DIRTYPE), *(member(f"d/{n}") for n in names)))
    project.file("x.tar", tar(member("d/.wh..wh..opq")))
    project.spec("x", "from: rootfs:base.tar\nsteps:\n- layer: x.tar\n- {file: /f, content: x}\n")
    project.run("build", "x", "-o", "oci:layout:x", "-o", "tar:out.tar")
    with tarfile.open(project.root / "out.tar") as archive:
        assert archive.getnames() == ["d", "f"]
    unpack = ["umoci", "unpack", "--rootless", "--image", "layout:x", "bundle"]
    subprocess.run(unpack, cwd=project.root, check=True, capture_output=True)
    assert sorted(os.listdir(project.root / "bundle/rootfs")) == ["d", "f"]
    assert os.listdir(project.root / "bundle/rootfs/d") == []


HOSTILE = {
    "out of it": ([member("../x")], "'..' in its name"),
    "a device that means a removal": (
        [member("x", tarfile.CHRTYPE)],
        "is 0:0, which means a removed file",
    ),
    "no name": ([member("d/.wh.")], "names nothing"),
    "below a removal": ([member(".wh.d/x")], "below a whiteout"),
    "a link to another layer": ([member("x", tarfile.LNKTYPE, linkname="f")], "no 'f' before it"),
    "a link to a removal": (
        [member(".wh.f"), member("x", tarfile.LNKTYPE, linkname=".wh.f")],
        "no file of the same layer",
    ),
    "below a file": ([member("x"), member("x/y")], "not a directory in the same layer"),
    "a removal below a file": ([member("x"), member("x/.wh.y")], "not a directory in the same"),
    "a kind of its own": ([member("x", b"Z")], "unknown type 'Z'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_layer_holds_is_refused(project: Project, name: str) -> None:
    members, said = HOSTILE[name]
    project.file("x.tar", tar(*members))
    project.spec("x", "from: scratch\nsteps:\n- file: /f\n  content: x\n- layer: x.tar\n")
    error = project.run("build", "x", status=1).stderr
    assert "specs/x.yaml:5:10: " in error and said in error, error


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "does not exist in the context"),
        (b"version https://git-lfs.example/spec/v1\n" * 20, "this is text, not a tar"),
        (b"PK\x03\x04" + bytes(600), "this is a zip archive, not a tar"),
        (tar(member("x", data=b"x" * 5000))[:3000], "cut short"),
    ],
)
def test_what_is_no_layer_is_told(project: Project, data: bytes | None, said: str) -> None:
    if data is not None:
        project.file("x.tar", data)
    project.spec("x", "from: scratch\nsteps:\n- layer: x.tar\n")
    error = project.run("build", "x", status=2 if data is None else 1).stderr
    assert "specs/x.yaml:3:10: " in error and said in error, error
