"""Diff of two images, held against the folders that they were packed of."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.look.diff import ConfigChange, PackageChange, Pair, gathered
from builder.look.texts import text_diffs
from builder.oci.image import Image
from builder.rootfs.layers import Layers
from tests.look.test_packages import deb

ImageOf = Callable[..., Image]
ROUNDS = int(os.environ.get("LOOK_ROUNDS", "10"))
NAMES = (b"a", b"b", b"c d", b"\xff\xfe", "ä".encode())
Truth = dict[bytes, tuple[object, ...] | tuple[None, str]]


def make(chosen: random.Random, path: bytes, depth: int) -> None:
    """Something at a path that is free."""
    kind = chosen.randrange(10)
    if kind < 3 and depth < 4:
        os.mkdir(path)
        for name in chosen.sample(NAMES, chosen.randrange(4)):
            make(chosen, os.path.join(path, name), depth + 1)
    elif kind == 3:
        os.symlink(chosen.choice((b"a", b"../b", b"/")), path)
    elif kind == 4:
        os.mkfifo(path)
    elif kind == 5:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, chosen.choice((3, 5))))
    else:
        with open(path, "wb") as file:
            file.write(chosen.choice((b"", b"1", b"2", b"22", b"text\n" * 3000)))
        if chosen.random() < 0.2:
            os.setxattr(path, b"user.note", chosen.choice((b"x", b"\0y")))
    if not os.path.islink(path):
        os.chmod(path, chosen.choice((0o755, 0o644, 0o4755, 0o1777)))
    os.lchown(path, chosen.choice((0, 7)), chosen.choice((0, 9)))
    os.utime(path, (chosen.randrange(2**31), chosen.randrange(2**31)), follow_symlinks=False)


def change(chosen: random.Random, root: bytes) -> None:
    """Something of what is below it."""
    there = [os.path.join(at, n) for at, d, f in os.walk(root) for n in (*d, *f)]
    folders = [root, *(each for each in there if os.path.isdir(each) and not os.path.islink(each))]
    what = chosen.randrange(4)
    path = os.path.join(chosen.choice(folders), chosen.choice(NAMES))
    if there and what == 0:
        path = chosen.choice(there)
        os.lchown(path, chosen.choice((0, 7)), 3)
    elif there and what == 1:
        path = chosen.choice(there)
        if not os.path.islink(path):
            os.chmod(path, 0o700)
    else:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)
        if what == 2 or chosen.random() < 0.5:
            make(chosen, path, 2)


def seen(path: bytes) -> dict[str, object]:
    """What counts of a path, by what it is called."""
    at = os.lstat(path)
    kind = stat.S_IFMT(at.st_mode)
    found: dict[str, object] = {
        "type": kind,
        "owner": (at.st_uid, at.st_gid),
        "xattrs": [
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in os.listxattr(path, follow_symlinks=False)
        ],
    }
    if not stat.S_ISLNK(kind):
        found["mode"] = stat.S_IMODE(at.st_mode)
    if stat.S_ISLNK(kind):
        found["link"] = os.readlink(path)
    if stat.S_ISREG(kind):
        with open(path, "rb") as file:
            found["content"] = file.read()
        found["size"] = at.st_size
    if stat.S_ISCHR(kind):
        found["device"] = at.st_rdev
    return found


def walked(root: bytes) -> dict[bytes, dict[str, object]]:
    found = {b"": seen(root)}
    for at, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(at, name)
            found[os.path.relpath(path, root)] = seen(path)
    return found


def truth(before: Path, after: Path) -> dict[bytes, str | set[str]]:
    old, new = walked(os.fsencode(before)), walked(os.fsencode(after))
    found: dict[bytes, str | set[str]] = {}
    for path in old.keys() | new.keys():
        if path not in old or path not in new:
            found[path] = "added" if path in new else "removed"
            continue
        one, other = old[path], new[path]
        fields = {f for f in one.keys() & other.keys() if one[f] != other[f]}
        if fields:
            found[path] = {"type", *fields} if one["type"] != other["type"] else fields
    return found


def changes(pair: Pair) -> dict[bytes, str | set[str]]:
    return {
        each.path: "added" if not each.before else set(each.what) if each.after else "removed"
        for each in pair.files()
    }


def delta(before: Path, after: Path, folder: Path) -> None:
    """What a layer holds that makes `after` of `before`: whiteouts, and what differs anew."""
    folder.mkdir()
    shutil.copystat(after, folder)
    os.chown(folder, after.stat().st_uid, after.stat().st_gid)
    differing = truth(before, after)
    for path in sorted(differing, key=lambda each: each.split(b"/")):
        above, name = os.path.split(path)
        holder = os.path.join(bytes(after), above)
        if not path or os.path.islink(holder) or not os.path.isdir(holder):
            continue  # it went with what it was in
        part = b""
        for each in filter(None, above.split(b"/")):
            part = os.path.join(part, each)
            copy(os.path.join(bytes(after), part), os.path.join(bytes(folder), part))
        if differing[path] == "removed":
            Path(os.fsdecode(os.path.join(bytes(folder), above, b".wh." + name))).touch()
        else:
            copy(os.path.join(bytes(after), path), os.path.join(bytes(folder), path))


def copy(source: bytes, target: bytes) -> None:
    """A path with all its attributes, a folder without what is in it."""
    if not os.path.lexists(target):
        run = ["cp", "-a", "--no-preserve=links", source, target]
        if os.path.isdir(source) and not os.path.islink(source):
            os.mkdir(target)
        else:
            subprocess.run(run, check=True)
    if os.path.isdir(source) and not os.path.islink(source):
        at = os.lstat(source)
        os.chown(target, at.st_uid, at.st_gid)
        os.chmod(target, stat.S_IMODE(at.st_mode))


@pytest.mark.root
def test_files_differ_as_the_folders_do(tmp_path: Path, layers: Layers, image: ImageOf) -> None:
    """Of two images without a layer in common, and of one that stands on the other."""
    for seed in range(ROUNDS):
        chosen = random.Random(seed)
        folder = tmp_path / str(seed)
        before, after, above = (folder / name for name in ("before", "after", "above"))
        before.mkdir(parents=True)
        for name in NAMES:
            make(chosen, os.path.join(bytes(before), name), 1)
        subprocess.run(["cp", "-a", before, after], check=True)
        for _ in range(chosen.randrange(1, 8)):
            change(chosen, bytes(after))
        expected = truth(before, after)
        one = image(before)
        assert changes(Pair(layers, one, image(after))) == expected, seed
        delta(before, after, above)
        other = one._replace(layers=(*one.layers, *image(above).layers))
        pair = Pair(layers, one, other)
        assert changes(pair) == expected, seed
        assert pair.layers().shared == one.layers
        # gathered, what is added or removed whole stands for the rest
        rows = list(gathered(pair.files()))
        assert sum(1 + others for _, others, _ in rows) == len(expected)
        shutil.rmtree(folder)


def test_the_same_is_no_difference(tmp_path: Path, layers: Layers, image: ImageOf) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_text("x")
    one = image(tmp_path / "a")
    os.utime(tmp_path / "a/x", (1, 1))
    pair = Pair(layers, one, image(tmp_path / "a"))
    assert pair.files() == []
    assert pair.config() == []
    assert len(pair.layers().before) == len(pair.layers().after) == 1


@pytest.mark.needs("dpkg-deb", "dpkg-query")
def test_packages_as_dpkg_knows_them(tmp_path: Path, layers: Layers, image: ImageOf) -> None:
    def root(name: str, *debs: Path) -> Path:
        folder = tmp_path / name
        for each in ("info", "updates"):
            (folder / "var/lib/dpkg" / each).mkdir(parents=True)
        (folder / "var/lib/dpkg/status").touch()
        dpkg = ["dpkg", f"--root={folder}", "--force-not-root,bad-path,script-chrootless", "-i"]
        subprocess.run([*dpkg, *debs], check=True, capture_output=True)
        return folder

    def versions(folder: Path) -> dict[str, str]:
        query = [
            "dpkg-query",
            f"--admindir={folder}/var/lib/dpkg",
            "-Wf",
            "${Package} ${Version}\n",
        ]
        listed = subprocess.run(query, check=True, capture_output=True, text=True).stdout
        return dict(line.split() for line in listed.splitlines())

    packages = {
        (name, version): deb(tmp_path, name, version, {f"usr/share/{name}/{version}": name})
        for name, version in (
            ("up", "1"),
            ("up", "1:0~rc1"),
            ("gone", "2"),
            ("new", "3"),
            ("same", "4"),
        )
    }
    one = root("one", *(packages[each] for each in (("up", "1"), ("gone", "2"), ("same", "4"))))
    two = root(
        "two", *(packages[each] for each in (("up", "1:0~rc1"), ("new", "3"), ("same", "4")))
    )
    old, new = versions(one), versions(two)
    pair = Pair(layers, image(one), image(two))
    found, unread = pair.packages(pair.files())
    assert unread == []
    assert found == [
        PackageChange(
            "dpkg", name,
            (old[name],) if name in old else (), (new[name],) if name in new else (),
        )
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]  # fmt: skip
    assert len(found) == 3


def test_configs_differ_by_fields(tmp_path: Path, layers: Layers) -> None:
    def with_config(**config: object) -> Image:
        return Image(("linux", "amd64", ""), {"architecture": "amd64", "config": config})  # type: ignore[arg-type]

    one = with_config(Env=["A=1", "B=2=2"], Cmd=["a", "b"], ExposedPorts={"80/tcp": {}}, User="")
    two = with_config(Env=["B=3", "A=1"], Cmd=["a"], ExposedPorts={}, Labels={"x.y": "z"})
    assert Pair(layers, one, two).config() == [
        ConfigChange("config.Cmd", ["a", "b"], ["a"]),
        ConfigChange("config.Env.B", "2=2", "3"),
        ConfigChange("config.ExposedPorts", None, {}),
        ConfigChange("config.ExposedPorts.80/tcp", {}, None),
        ConfigChange("config.Labels.x.y", None, "z"),
    ]


@pytest.mark.needs("patch")
def test_texts_differ_as_patch_takes_it(tmp_path: Path, layers: Layers, image: ImageOf) -> None:
    chosen = random.Random(1)
    for name in "ab":
        (tmp_path / name).mkdir()
    for number in range(ROUNDS):
        old = [f"line {chosen.randrange(30)}" for _ in range(chosen.randrange(1, 60))]
        new = list(old)
        for _ in range(chosen.randrange(1, 5)):
            at = chosen.randrange(len(new) + 1)
            new[at : at + chosen.randrange(3)] = [f"new {n}" for n in range(chosen.randrange(3))]
        for name, lines in (("a", old), ("b", new)):
            (tmp_path / name / str(number)).write_text("".join(f"{line}\n" for line in lines))
    pair = Pair(layers, image(tmp_path / "a"), image(tmp_path / "b"))
    differing = [each.path.decode() for each in pair.files()]
    assert differing
    shown = [
        line
        for each in text_diffs(pair, pair.files())
        for line in (f"--- {each.path.decode()}", f"+++ {each.path.decode()}", *each.lines)
    ]
    patch = ["patch", "-s", "-F0", "-p0", "-d", tmp_path / "a"]
    subprocess.run(patch, input="\n".join([*shown, ""]), text=True, check=True)
    for name in differing:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_is_no_text_is_said(tmp_path: Path, layers: Layers, image: ImageOf) -> None:
    for name, fill in (("a", b"1"), ("b", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bytes").write_bytes(b"\0" + fill)
        (tmp_path / name / "latin").write_bytes(b"\xe4" + fill)
        (tmp_path / name / "large").write_bytes(fill * (2 << 20))
        (tmp_path / name / "long").write_bytes(b"\n".join(fill + b"%d" % n for n in range(9000)))
        (tmp_path / name / "end").write_bytes(b"same\n" + (b"x\n" if name == "a" else b"x"))
    pair = Pair(layers, image(tmp_path / "a"), image(tmp_path / "b"))
    found = {each.path: (each.lines, each.remark) for each in text_diffs(pair, pair.files())}
    assert {path: remark for path, (_, remark) in found.items() if remark} == {
        b"bytes": "no text",
        b"latin": "no text",
        b"large": "too large",
        b"long": "9000 lines between the first that differs and the last",
    }
    assert found[b"end"][0] == ("@@ -1,2 +1,2 @@", " same", "-x", "+x (no line end)")


def test_many_texts_end(tmp_path: Path, layers: Layers, image: ImageOf) -> None:
    """Lines that change places take the square of their number, and an image may have thousands of
    such files: so many are compared, the others named; small ones still are."""
    lines = [f"{number}\n" for number in range(3900)]
    for name, small, some in (("a", "old\n", lines), ("b", "new\n", lines[::-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "small").write_text(small)
        for number in range(40):
            (tmp_path / name / f"{number:02}").write_text("".join(some))
    pair = Pair(layers, image(tmp_path / "a"), image(tmp_path / "b"))
    found = list(text_diffs(pair, pair.files()))
    assert len(found) == 41
    left_out = [each.remark.startswith("not compared") for each in found]
    assert left_out == [False] * 5 + [True] * 35 + [False]
    assert found[-1].lines[1:] == ("-old", "+new")
