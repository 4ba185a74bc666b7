"""Tests of files and folders say what the kernel says of the same tree, links followed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Project

ROUNDS = int(os.environ.get("TESTING_ROUNDS", "3"))
NAMES = ("a", "b", "c", "d d", "é", "'q", "-")
_WALK = r"""
import hashlib, json, os, stat, sys
os.chroot(sys.argv[1])
os.chdir("/")
found = {}
for path in json.load(sys.stdin):
    one = {}
    for follow in (False, True):
        try:
            s = os.stat(path, follow_symlinks=follow)
        except OSError:
            continue
        kind = stat.S_IFMT(s.st_mode)
        one[str(follow)] = {"kind": kind, "mode": stat.S_IMODE(s.st_mode), "uid": s.st_uid,
                            "gid": s.st_gid}
        if stat.S_ISLNK(s.st_mode):
            one["link"] = os.readlink(path)
        elif stat.S_ISREG(s.st_mode):
            data = open(path, "rb").read()
            one["sha256"], one["text"] = hashlib.sha256(data).hexdigest(), data.decode()
    found[path] = one
print(json.dumps(found))
"""


def make_tree(rng: random.Random) -> bytes:
    """A tar of files, folders, hard links and symlinks, which lead anywhere."""
    out = io.BytesIO()
    paths = [""]
    files: list[str] = []
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("etc")
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
        data = b"root:x:0:0::/:/bin/sh\napp:x:7:8::/:/bin/sh\n"
        info = tarfile.TarInfo("etc/passwd")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
        seen = {"etc", "etc/passwd"}
        for _ in range(rng.randint(5, 25)):
            path = f"{rng.choice(paths)}/{rng.choice(NAMES)}".lstrip("/")
            if path in seen:
                continue
            seen.add(path)
            info = tarfile.TarInfo(path)
            info.mode = rng.choice((0o644, 0o600, 0o755, 0o1777, 0o4755, 0))
            info.uid, info.gid = rng.choice(((0, 0), (7, 8), (7, 0), (1000, 8)))
            kind = rng.choice("fffddlllh")
            if kind == "d":
                info.type = tarfile.DIRTYPE
                paths.append(path)
                tar.addfile(info)
            elif kind == "l":
                info.type = tarfile.SYMTYPE
                up = rng.choice(("", "/", "../", "../../../", "./"))
                info.linkname = up + rng.choice([*sorted(seen), "nowhere", path])
                tar.addfile(info)
            elif kind == "h" and files:
                info.type, info.linkname = tarfile.LNKTYPE, rng.choice(files)
                tar.addfile(info)
            else:
                data = rng.choice((b"", b"hello\n", b"one\ntwo\n"))
                info.size = len(data)
                files.append(path)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def asked(rng: random.Random, tree: Path) -> list[str]:
    """Paths of the tree, through its links too, and some that are not there."""
    every = ["/" + str(each.relative_to(tree)) for each in sorted(tree.rglob("*"))]
    through = [f"{rng.choice(every)}/{rng.choice(NAMES)}" for _ in range(12)]
    return [*every, *through, "/nowhere", "/etc/passwd/x"]


def truths(path: str, found: dict[str, Any], rng: random.Random) -> list[tuple[Any, bool]]:
    """Tests of a path, each with whether it holds."""
    here, there = found.get("False"), found.get("True")
    made: list[tuple[Any, bool]] = [
        ({"file": path, "exists": False}, here is None),
        ({"directory": path, "exists": False}, here is None),
        ({"file": path}, bool(there and stat.S_ISREG(there["kind"]))),
        ({"directory": path}, bool(there and stat.S_ISDIR(there["kind"]))),
        ({"file": path, "link": found.get("link", "x")}, "link" in found),
        ({"file": path, "link": found.get("link", "") + "x"}, False),
    ]
    if there and (stat.S_ISREG(there["kind"]) or stat.S_ISDIR(there["kind"])):
        kind = "file" if stat.S_ISREG(there["kind"]) else "directory"
        mode, owner = f"{there['mode']:04o}", f"{there['uid']}:{there['gid']}"
        made += [
            ({kind: path, "mode": mode, "owner": owner}, True),
            ({kind: path, "mode": f"{there['mode'] ^ 0o001:04o}"}, False),
            ({kind: path, "owner": f"{there['uid'] + 1}"}, False),
            ({kind: path, "owner": f"{there['uid']}:{there['gid'] + 1}"}, False),
            ({kind: path, "owner": "app"}, there["uid"] == 7),
        ]
    if "sha256" in found:
        text = found["text"]
        other = hashlib.sha256(text.encode() + b"x").hexdigest()
        made += [
            ({"file": path, "sha256": found["sha256"], "equals": text}, True),
            ({"file": path, "sha256": other}, False),
            ({"file": path, "contains": "two"}, "two" in text),
            ({"file": path, "lacks": "two"}, "two" not in text),
            ({"file": path, "matches": "^two$"}, "two" in text),
        ]
    return rng.sample(made, min(4, len(made)))


@pytest.mark.root
def test_random_trees_are_judged_as_the_kernel_sees_them(project: Project) -> None:
    rng = random.Random(os.environ.get("TESTING_SEED", "1"))
    for number in range(ROUNDS):
        data = make_tree(rng)
        project.file(f"tree{number}.tar", data)
        tree = project.root.parent / f"tree{number}"
        tree.mkdir()
        subprocess.run(["tar", "-xpf", "-", "-C", tree], input=data, check=True)
        paths = asked(rng, tree)
        walked = subprocess.run(
            ["python3", "-c", _WALK, tree], input=json.dumps(paths), capture_output=True, text=True
        )
        assert walked.returncode == 0, walked.stderr
        known = json.loads(walked.stdout)
        wanted = [each for path in paths for each in truths(path, known[path], rng)]
        tests = [{**test, "name": str(at)} for at, (test, _) in enumerate(wanted)]
        document = {"from": f"rootfs:tree{number}.tar", "tests": tests}
        project.spec(f"t{number}", json.dumps(document))
        holds = {str(at): truth for at, (_, truth) in enumerate(wanted)}
        done = project.run("test", f"t{number}", "--json", status=0 if all(holds.values()) else 1)
        for each in json.loads(done.stdout)["tests"]:
            passed = each["status"] in ("passed", "cached")  # the same test twice
            assert passed == holds[each["name"]], (wanted[int(each["name"])], each)


FAULTS = {
    "{file: /etc/paswd}": "it is not there, did you mean 'passwd'?",
    "{file: /etc}": "it is a directory, expected a file",
    "{directory: /etc/passwd}": "it is a file, expected a directory",
    "{file: /etc/passwd, exists: false}": "it is there, a file, expected nothing",
    "{file: /etc/passwd, mode: '0600'}": "its mode is '0644', expected '0600'",
    "{file: /etc/passwd, owner: web}": "its owner is 0:0, expected web (33:33)",
    "{file: /etc/passwd, owner: wbe}": "user 'wbe' is not in the image's /etc/passwd",
    "{file: /etc/passwd, contains: nobody}": "it does not contain 'nobody': found 'root:x:",
    "{file: /etc/passwd, link: x}": "it is a file, expected a symlink to 'x'",
    "{file: /bin/sh, link: dash}": "it is a symlink to 'busybox', expected 'dash'",
    "{package: nginx}": "it is not installed",
}


@pytest.mark.needs("busybox")
def test_what_does_not_hold_is_told_in_a_line_with_its_place(base: Project) -> None:
    listed = "".join(f"  - {each}\n" for each in FAULTS)
    base.spec("a", f"from: rootfs:base.tar\ntests:\n{listed}")
    done = base.run("build", status=1)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(FAULTS)
    for number, (line, said) in enumerate(zip(lines, FAULTS.values(), strict=True)):
        assert line.startswith(f"error: specs/a.yaml:{number + 3}:5: test ") and said in line, line


@pytest.mark.needs("busybox")
def test_a_search_that_takes_too_long_ends_and_the_builder_does_as_it_is_told(
    base: Project,
) -> None:
    """Of some expressions a short line is enough that a search takes years, in which Python hears
    no signal."""
    base.file("line", "a" * 60 + "!\n")
    base.spec(
        "a",
        """\
from: rootfs:base.tar
steps: [{copy: line, dest: /line}]
tests:
  - {file: /line, matches: ["^a+!$", "(a+)+$", "a"]}
  - {file: /line, matches: ["^a+!$", "^b", "!$"]}
""",
    )
    said = base.run("build", status=1).stderr
    assert "it is not searched for '(a+)+$': that takes more than 5 s" in said
    assert "it does not match '^b'" in said
    assert said.count("does not match") == 2  # as it is known, and at the end
