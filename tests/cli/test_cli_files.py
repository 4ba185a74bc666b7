"""`builder tree`, `cat` and `blame`: the files of an image, and which step they are of."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Project, project

__all__ = ["project"]


@pytest.fixture
def stacked(project: Project) -> Project:
    """`base` is a root file system without history; `app` stands on it, `site` on that."""
    root = project.root / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/tool").write_bytes(b"\x7fELF\0\1")
    (root / "link").symlink_to("/bin/../bin/tool")
    (root / "nowhere").symlink_to("/bin/../usr/bin/tool")  # /bin is usr/bin: that is /usr/usr/bin
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    project.file("root/etc/page", "base\n")
    project.file("root/usr/share/a", "a" * 300)
    project.file("root/usr/share/doc/b", "b" * 40)
    status = "Package: tool\nVersion: 1.2\nStatus: install ok installed\n"
    project.file("root/var/lib/dpkg/status", status)
    project.file("root/var/lib/dpkg/info/tool.list", "/.\n/bin\n/bin/tool\n")
    subprocess.run(["tar", "-C", root, "-cf", project.root / "root.tar", "."], check=True)
    project.file("public/page", "app\n")
    project.file("public/more/x.html", "x\n")
    project.file("page.j2", "{{ 1 + 1 }}\n")
    project.spec("base", "from: rootfs:root.tar\n")
    project.spec("app", "from: image:base\nsteps: [{name: pages, copy: public/, dest: /etc/}]\n")
    project.spec(
        "site",
        """
from: image:app
steps:
  - set: {env: {A: "1"}}
  - template: page.j2
    dest: /etc/page
  - remove: /etc/more
""",
    )
    return project


def blame(project: Project, *arguments: str) -> list[tuple[object, ...]]:
    document = json.loads(project.run("blame", "--json", *arguments).stdout)
    return [
        (
            each["what"],
            each.get("image"),
            each["step"]["number"] if "step" in each else None,
            each["place"]["line"] if "place" in each else None,
            each.get("source"),
        )
        for each in document["history"]
    ]


def test_blame_names_each_step_that_wrote_a_path(stacked: Project) -> None:
    assert blame(stacked, "site", "/etc/page") == [
        ("written", "site", 2, 5, "page.j2"),
        ("written", "app", 1, 2, "public/page"),
        ("written", None, None, None, None),
    ]
    assert blame(stacked, "site", "etc/more/x.html") == [
        ("removed", "site", 3, 7, None),
        ("written", "app", 1, 2, "public/more/x.html"),
    ]
    told = stacked.run("blame", "site", "/bin/tool").stdout.splitlines()
    assert told[0] == "/usr/bin/tool  file, 0644 0:0, 6 B"
    assert told[1] == "  package  dpkg tool 1.2"
    assert told[-1].startswith("    layer 1 of 4")


def test_blame_says_why_and_when_a_step_was_built(stacked: Project) -> None:
    stacked.build("site")
    stacked.file("public/page", "other\n")
    told = stacked.run("blame", "app", "/etc/page", "--progress", "quiet").stdout.splitlines()
    assert told[1:4] == [
        "  written by app, step 1 (pages)",
        "    specs/app.yaml:2:29: copy public/",
        "    from public/page",
    ]
    assert ": /etc/page: content " in told[4]
    document = json.loads(stacked.run("blame", "app", "/etc/page", "--json").stdout)
    assert document["history"][0]["why"].startswith("/etc/page: content ")


def test_blame_of_what_is_no_spec_goes_by_the_history(stacked: Project) -> None:
    stacked.build("site", "-o", "oci:layout")
    document = json.loads(stacked.run("blame", "oci:layout", "/etc/page", "--json").stdout)
    assert [each["made_by"] for each in document["history"]][:2] == [
        "template /etc/page",
        "copy public/",
    ]
    assert not any("step" in each for each in document["history"])


def test_tree_lists_what_takes_the_room(stacked: Project) -> None:
    told = stacked.run("tree", "base", "/usr").stdout.splitlines()
    assert told == [
        "   346 B  /usr/  6 paths",
        "   340 B    share/",
        "   300 B      a",
        "    40 B      doc/",
        "     6 B    bin/",
        "     6 B      tool",
    ]
    assert stacked.run("tree", "base", "/usr", "--depth", "1").stdout.splitlines() == [
        told[0], told[1], told[4]
    ]  # fmt: skip
    document = json.loads(stacked.run("tree", "base", "--json", "--depth", "9").stdout)
    files: dict[str, int] = {}

    def walk(each: dict[str, object]) -> None:
        if each["type"] == "file":
            files[str(each["path"])] = int(str(each["size"]))
        for inner in each.get("below", []):  # type: ignore[attr-defined]
            walk(inner)

    walk(document)
    root = stacked.root / "root"
    truth = {
        f"/{path.relative_to(root)}": path.lstat().st_size
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert files == truth
    assert document["size"] == sum(truth.values())


def test_a_large_folder_is_summed_up_but_for_all(project: Project) -> None:
    for number in range(30):
        project.file(f"many/{number}", "x" * (number + 1))
    project.spec("many", "from: scratch\nsteps: [{copy: many/, dest: /}]\n")
    told = project.run("tree", "many").stdout.splitlines()
    assert told[-1] == "    55 B    (10 more; --all lists them)"
    assert len(told) == 22
    assert len(project.run("tree", "many", "--all").stdout.splitlines()) == 31


def test_cat_writes_the_bytes(stacked: Project) -> None:
    def cat(path: str) -> bytes:
        argv = [sys.executable, "-m", "builder", "cat", "site", path]
        environ = {**os.environ, "BUILDER_CACHE_DIR": str(stacked.store)}
        return subprocess.run(
            argv, cwd=stacked.root, env=environ, capture_output=True, check=True
        ).stdout

    assert cat("/etc/page") == b"2\n"
    assert cat("link") == b"\x7fELF\0\1"
    assert cat("/usr/share/../share/doc/b") == b"b" * 40


def test_cat_does_nothing_to_a_terminal(stacked: Project) -> None:
    stacked.build("site")
    for path, shown in (("/etc/page", b"2"), ("/link", b"no text")):
        ours, theirs = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "builder", "cat", "site", path],
            cwd=stacked.root,
            env={**os.environ, "BUILDER_CACHE_DIR": str(stacked.store), "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        data = os.read(ours, 4096)
        os.close(ours)
        assert shown in data
        assert b"\x7fELF" not in data
        assert done.returncode == (0 if path == "/etc/page" else 2)


def test_cat_does_nothing_to_a_terminal_however_late(project: Project) -> None:
    """Also within a character that lies on the border of two reads."""
    text = "abc" + "a line\n" * 149_796
    assert len(text) == (1 << 20) - 1
    text += "\u00e9" + "." * 5000
    for name, end in (("good", ""), ("evil", "\x1b]0;evil\a"), ("cut", "\udcc3\n")):
        project.file(f"many/{name}", (text + end).encode("utf-8", "surrogateescape"))
    project.spec("many", "from: scratch\nsteps: [{copy: many/, dest: /}]\n")
    project.build("many")
    for name in ("good", "evil", "cut"):
        ours, theirs = pty.openpty()
        cat = subprocess.Popen(
            [sys.executable, "-m", "builder", "cat", "many", name],
            cwd=project.root,
            env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        data = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while part := os.read(ours, 1 << 16):
                data += part
        os.close(ours)
        assert cat.wait() == (0 if name == "good" else 2)
        assert b"\x1b]" not in data
        assert (data.replace(b"\r\n", b"\n") == text.encode()) == (name == "good")


def test_folders_however_deep_are_listed(project: Project) -> None:
    with tarfile.open(project.root / "deep.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("/".join(["a"] * 2000)))
    project.spec("deep", "from: rootfs:deep.tar\n")
    told = project.run("tree", "deep", "--depth", "200").stdout.splitlines()
    assert told[0].endswith("2000 paths")
    assert len(told) == 201
    assert len(project.run("tree", "deep", "--depth", "200", "--json").stdout) > 200
    assert "from 1 to 200" in project.run("tree", "deep", "--depth", "201", status=2).stderr


BAD = [
    ("cat", "/usr", "/usr is a directory, expected a file", "builder tree site /usr"),
    ("cat", "/fifo", "/fifo is a FIFO, expected a file", ""),
    ("cat", "/usr/share/dok/b", "no '/usr/share/dok/b' in the image", "'/usr/share/doc'"),
    ("cat", "/loop", "'/loop' runs through more than 40 symlinks", ""),
    ("cat", "/etc/page/x", "no '/etc/page/x' in the image", "/etc/page is no directory there"),
    ("cat", "../../nothing", "no '../../nothing' in the image", "/ has bin, etc, fifo"),
    ("blame", "/usr/bin/tol", "no '/usr/bin/tol' in the image", "did you mean '/usr/bin/tool'?"),
    ("blame", "/loop/x", "'/loop/x' runs through more than 40 symlinks", ""),
    ("cat", "/nowhere", "'/nowhere' is a symlink to '/bin/../usr/bin/tool', which", ""),
    ("tree", "/none", "no '/none' in the image", ""),
]


def test_what_is_not_there_is_a_line_with_names_like_it(stacked: Project) -> None:
    stacked.build("site")
    for command, path, message, hint in BAD:
        told = stacked.run(command, "site", path, status=2).stderr.splitlines()
        assert told[0].startswith(f"error: {message}"), told
        assert len(told) <= 2
        assert not hint or hint in told[1], told
    assert "expected a number" in stacked.run("tree", "site", "--depth", "x", status=2).stderr


def test_an_image_of_another_platform_is_said(stacked: Project, tmp_path: Path) -> None:
    stacked.run("build", "app", "--platform", "linux/arm64", "-o", "oci:arm", "--allow-foreign")
    made = stacked.run("cat", "oci:arm", "/etc/page", status=1)
    assert made.stderr.startswith("error: oci:arm: no image for linux/amd64; there is linux/arm64")
    told = stacked.run("cat", "oci:arm", "/etc/page", "--platform", "linux/arm64").stdout
    assert told == "app\n"
