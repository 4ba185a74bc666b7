"""`copy` with `from`: files of another image, which is read no more than it has to be."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.steps.test_set import layers


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))


def entries(archive: Path) -> dict[str, tarfile.TarInfo]:
    """All members of a saved image's layers, the topmost of a path."""
    found = {}
    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))  # type: ignore[arg-type]
        for name in manifest[0]["Layers"]:
            data = outer.extractfile(name).read()  # type: ignore[union-attr]
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                found.update({each.name.rstrip("/"): each for each in tar})
    return found


def test_what_a_file_has_comes_along(project: Any) -> None:
    xattrs = {"SCHILY.xattr.user.note": "kept", "SCHILY.xattr.security.capability": "\1\0\0\2\0\4"}
    pack(
        project.root / "s.tar",
        member("out/app", b"app", mode=0o4755, uid=12, gid=13, mtime=77, pax_headers=xattrs),
        member("out/again", type=tarfile.LNKTYPE, linkname="out/app"),
        member("out/link", type=tarfile.SYMTYPE, linkname="app", uid=4),
        member("out/node", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o600),
    )
    project.spec(
        "x",
        "from: scratch\nsteps:\n"
        "  - {copy: /out, from: 'rootfs:s.tar', dest: /a}\n"
        "  - {copy: /out, from: 'rootfs:s.tar', dest: /b, owner: '7:8', mode: '0640',"
        " preserve: mtime}\n",
    )
    project.run("build", "-o", "docker-archive:o.tar")
    found = entries(project.root / "o.tar")
    app = found["a/app"] if found["a/app"].isreg() else found["a/again"]
    assert (app.mode, app.uid, app.gid, app.mtime) == (0o4755, 12, 13, 315532800)
    assert {key: app.pax_headers[key] for key in xattrs} == xattrs
    assert {found["a/app"].type, found["a/again"].type} == {tarfile.REGTYPE, tarfile.LNKTYPE}
    assert (found["a/link"].linkname, found["a/link"].uid) == ("app", 4)
    assert found["a/node"].ischr() and found["a/node"].devminor == 3
    first = found["b/again"] if found["b/again"].isreg() else found["b/app"]
    assert (first.mode, first.uid, first.gid, first.mtime) == (0o640, 7, 8, 77)


def test_links_are_followed_within_the_image_and_globs_and_exclude_hold(project: Any) -> None:
    (project.root / "etc").mkdir()
    pack(
        project.root / "s.tar",
        member("usr/lib/a.so.1", b"1"),
        member("usr/lib/a.so", type=tarfile.SYMTYPE, linkname="a.so.1"),
        member("usr/lib/sub/b.so.2", b"2"),
        member("usr/lib/sub/skip/c.so.3", b"3"),
        member("lib", type=tarfile.SYMTYPE, linkname="../../../usr/lib"),
        member("abs", type=tarfile.SYMTYPE, linkname="/usr/lib/a.so"),
        member("loop", type=tarfile.SYMTYPE, linkname="loop"),
    )
    project.spec(
        "x",
        "from: scratch\nsteps:\n"
        "  - {copy: [/lib/a.so, abs], from: 'rootfs:s.tar', dest: /one/}\n"
        "  - {copy: '/lib/**/*.so.*', from: 'rootfs:s.tar', dest: /two/, exclude: [skip/]}\n"
        "  - {copy: /lib/, from: 'rootfs:s.tar', dest: /three/, exclude: ['*.so', '/sub/skip']}\n",
    )
    project.run("build", "-o", "docker-archive:o.tar")
    found = layers(project.root / "o.tar")
    files = {path: data for path, data in found.items() if data}
    assert files.pop("one/a.so", b"1") == files.pop("one/abs", b"1") == b"1"  # links to one another
    assert {"one/a.so", "one/abs"} < set(found)
    assert files == {
        "two/a.so.1": b"1",
        "two/sub/b.so.2": b"2",
        "three/a.so.1": b"1",
        "three/sub/b.so.2": b"2",
    }
    project.spec("x", "from: scratch\nsteps: [{copy: /loop, from: 'rootfs:s.tar', dest: /a}]\n")
    assert "leads through symlinks in a circle" in project.run("build", status=2).stderr


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("{copy: /out/ap, from: 'rootfs:s.tar', dest: /a}", "did you mean '/out/app'?"),
        ("{copy: /ot/app, from: 'rootfs:s.tar', dest: /a}", "did you mean '/out'?"),
        ("{copy: /nothing, from: 'rootfs:s.tar', dest: /a}", "does not exist in rootfs:s.tar"),
        ("{copy: '/out/*.x', from: 'rootfs:s.tar', dest: /a/}", "matches nothing in rootfs:s.tar"),
        ("{copy: /out/app/, from: 'rootfs:s.tar', dest: /a}", "is not a directory"),
        ("{copy: /out, from: 'rootfs:s.tar', dest: /a, exclude: ['*']}", ""),
        ("{copy: /out/app, from: 'rootfs:no.tar', dest: /a}", "'no.tar'"),
        ("{copy: /../x, from: 'rootfs:s.tar', dest: /a}", "'..'"),
        ("{copy: /x, from: scratch, dest: /a}", "'scratch' holds no files"),
        ("{copy: /x, from: {debootstrap: x}, dest: /a}", "found a mapping"),
        ("{copy: /x, from: 'rootfs:s.tar', dest: /a, preserve: owner}", "'owner'"),
        ("{file: /x, content: x, from: 'rootfs:s.tar'}", "from"),
    ],
)
def test_what_is_not_there_is_told(project: Any, step: str, says: str) -> None:
    pack(project.root / "s.tar", member("out/app", b"x"))
    project.spec("x", f"from: scratch\nsteps:\n  - {step}\n")
    if not says:
        project.run("build")
        return
    error = json.loads(project.run("build", "--json", status=2).stdout)["error"]
    assert says in error["message"] + error.get("hint", ""), error
    assert error["place"]["line"] == 3


LARGE = 24 << 20


@pytest.mark.needs("strace")
def test_only_the_layer_of_the_file_is_read_and_nothing_when_nothing_changed(project: Any) -> None:
    """Two layers of 24 MB and a small one that has the file."""
    for name in ("one", "two"):
        project.file(f"{name}.bin", os.urandom(LARGE))
    project.file("app", b"x" * 4096)
    project.spec(
        "below",
        "from: scratch\nsteps: [{copy: one.bin, dest: /one}, {copy: two.bin, dest: /two},"
        " {copy: app, dest: /app}]\n",
    )
    project.run("build", "-o", "oci:layout")
    large, small = [], []
    index = json.loads((project.root / "layout/index.json").read_text())
    blobs = project.root / "layout/blobs/sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    for layer in manifest["layers"]:
        (large if layer["size"] > LARGE // 2 else small).append(layer["digest"][7:])
    assert (len(large), len(small)) == (2, 1)
    project.spec("x", "from: scratch\nsteps: [{copy: /app, from: 'oci:layout', dest: /app}]\n")
    assert opened(project) & {*large, *small} == set(small)
    assert opened(project) & {*large, *small} == set()
    project.spec("x", "from: scratch\nsteps: [{copy: /app, from: 'oci:layout', dest: /other}]\n")
    assert opened(project) & set(large) == set()


def opened(project: Any) -> set[str]:
    """The names of the files that a build opens to read."""
    log = project.root / "strace.log"
    subprocess.run(
        [
            *("strace", "-f", "-qq", "-e", "trace=openat", "-e", "status=successful", "-o", log),
            *(sys.executable, "-m", "builder", "build", "x"),
        ],
        cwd=project.root,
        env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)},
        check=True,
        capture_output=True,
    )
    paths = (line.partition('"')[2].partition('"')[0] for line in log.read_text().splitlines())
    return {os.path.basename(path) for path in paths}


def test_the_same_file_of_another_image_is_the_same_step(project: Any) -> None:
    """Early cut-off: what was copied counts, not the image that it came from."""
    pack(project.root / "s.tar", member("app", b"same"), member("other", b"1"))
    project.spec("x", "from: scratch\nsteps: [{copy: /app, from: 'rootfs:s.tar', dest: /}]\n")
    first = project.build()["x"]["digest"]
    pack(project.root / "s.tar", member("app", b"same"), member("other", b"2"))
    found = project.build()["x"]
    assert [step["status"] for step in found["layers"]] == ["hit"]
    assert found["digest"] == first
    pack(project.root / "s.tar", member("app", b"else"), member("other", b"2"))
    assert [step["status"] for step in project.build()["x"]["layers"]] == ["built"]
    assert project.plan() == {"x": [("hit", "unchanged")]}


def test_globs_go_as_deep_as_images_and_past_links_that_lead_nowhere(project: Any) -> None:
    deep = "/".join(["a"] * 1500)
    pack(
        project.root / "s.tar",
        member(f"{deep}/f", b"deep"),
        member("b/f", b"flat"),
        member("loop", type=tarfile.SYMTYPE, linkname="loop"),
        member("nowhere", type=tarfile.SYMTYPE, linkname="/not/there"),
        member("self", type=tarfile.SYMTYPE, linkname="."),
    )
    project.spec(
        "x",
        "from: scratch\nsteps:\n"
        "  - {copy: '/**/a/**/f', from: 'rootfs:s.tar', dest: /one/}\n"
        "  - {copy: '/*/f', from: 'rootfs:s.tar', dest: /two/}\n"
        "  - {copy: '/self/*/b/f', from: 'rootfs:s.tar', dest: /three/}\n",
    )
    project.run("build", "-o", "docker-archive:o.tar")
    found = {path: data for path, data in layers(project.root / "o.tar").items() if data}
    assert found == {f"one/{deep}/f": b"deep", "two/b/f": b"flat", "three/self/b/f": b"flat"}


def test_what_is_copied_may_be_opened_again(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a layer that turned out damaged: all of it comes in one read more, and nothing of
    what was opened stays on disk."""
    from builder.api import build
    from builder.plan.origin import SourceImage
    from builder.rootfs.layers import Layers
    from builder.store.store import Store

    files = {f"f{n}".encode(): b"%d" % n for n in range(20)}
    pack(project.root / "s.tar", *(member(name.decode(), data) for name, data in files.items()))
    project.spec("x", "from: rootfs:s.tar\n")
    monkeypatch.chdir(project.root)
    image = build(["x"], cache_dir=str(project.store))["x"].image
    store = Store(str(project.store))
    origin = SourceImage("x", Layers(store), image.layers)
    found = {path: origin.view.lookup(path) for path in files}
    opens = {path: origin.content(origin.stored(each)) for path, each in found.items() if each}
    assert len(opens) == 20
    for _ in range(2):
        for path, open_it in opens.items():
            with open_it() as stream:
                assert stream.read() == files[path]
        left = [f for _, _, names in os.walk(project.store / "tmp") for f in names]
        assert not [name for name in left if name.isdigit()]
    store.close()
