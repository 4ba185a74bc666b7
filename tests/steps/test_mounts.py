"""Mounts of a command step, in the executors that have namespaces."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox", "runc")]


class Made:
    """Builds a spec `x` over busybox, whose last step has mounts."""

    def __init__(self, box: Any, executor: str) -> None:
        self.box, self.root, self.executor = box, box.root, executor

    def spec(self, run: str, *mounts: Any, before: tuple[Any, ...] = (), **top: Any) -> None:
        step = {"run": run, "mounts": list(mounts), "network": "none"}
        step |= {name: top.pop(name) for name in ("working_dir", "user", "timeout") if name in top}
        made = {"from": "rootfs:box.tar", **top, "steps": [*before, step]}
        self.box.spec("x", yaml.safe_dump(made, sort_keys=False))

    def build(self, *args: str, status: int = 0) -> Any:
        return self.box.run("build", "x", "--executor", self.executor, *args, status=status)

    def layer(self) -> dict[str, str]:
        """What the last layer holds, by path: a file's bytes, else its type."""
        archive = self.root / "x.oci"
        self.build("-o", f"oci-archive:{archive}")
        with tarfile.open(archive) as tar:

            def blob(digest: str) -> bytes:
                found = tar.extractfile(f"blobs/sha256/{digest[7:]}")
                assert found is not None
                return found.read()

            index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
            manifest = json.loads(blob(index["manifests"][0]["digest"]))
            config = json.loads(blob(manifest["config"]["digest"]))
            layer = blob(manifest["layers"][-1]["digest"])
        if config["history"][-1].get("empty_layer"):
            return {}
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            return {each.name: _holds(tar, each) for each in tar}

    def why(self) -> tuple[str, str]:
        """Of the last step."""
        found: tuple[str, str] = self.box.plan("x")["x"][-1]
        return found


def _holds(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = tar.extractfile(member) if member.isreg() else None
    return content.read().decode() if content else "dir" if member.isdir() else "other"


@pytest.fixture(params=["sandbox", "runc"])
def made(box: Any, request: pytest.FixtureRequest) -> Made:
    return Made(box, request.param)


def test_binds_are_read_only_and_leave_nothing(made: Made) -> None:
    made.box.file("src/a", "a")
    made.box.file("src/left-out", "x")
    made.box.file(".dockerignore", "src/left-out\n")
    made.spec(
        "cat /new/src/a /etc/passwd > /out; ls /new/src >> /out; ! echo x > /new/src/b;"
        " ls /tmp/d >> /out",
        {"bind": "src", "target": "/new/src"},
        {"bind": "src/a", "target": "/etc/passwd"},
        {"bind": "src/*", "target": "/tmp/d"},
    )
    assert made.layer() == {"out": "aaa\na\n"}


def test_a_relative_target_is_below_the_steps_working_dir(made: Made) -> None:
    made.box.file("a", "a")
    made.spec("cat /srv/x/in > /out", {"bind": "a", "target": "in"}, working_dir="/srv/x")
    assert made.layer() == {"out": "a", "srv": "dir", "srv/x": "dir"}


def test_a_folder_in_memory_has_a_size(made: Made) -> None:
    run = "echo x > /m/x; ! cat /bin/busybox > /m/y; ls /m/x > /out"
    made.spec(run, {"tmpfs": "/m", "size": "512k"})
    assert made.layer() == {"out": "/m/x\n"}


def test_a_step_sees_several_images_and_their_content_is_its_key(made: Made) -> None:
    def write(first: str, run: str = "true") -> None:
        stages = {
            "first": {
                "from": "rootfs:box.tar",
                "steps": [{"run": f"{run}; mkdir /o; echo {first} > /o/a"}],
            },
            "second": {"from": "rootfs:box.tar", "steps": [{"run": "echo 2 > /b"}]},
        }
        made.spec(
            "cat /m/a /n /p/bin/sh > /dev/null; cat /m/a /n > /out",
            {"bind": "/o", "from": "stage:first", "target": "/m"},
            {"bind": "/b", "from": "stage:second", "target": "/n"},
            {"bind": "/", "from": "rootfs:box.tar", "target": "/p"},
            stages=stages,
        )

    write("1")
    assert made.layer() == {"out": "1\n2\n"}
    write("1", run="sleep 0")
    assert made.why() == (
        "unknown",
        "decided after stage:first: step 1 (run sleep 0; mkdir /o; echo 1 > /o/a)",
    )
    assert "  hit " in made.build().stderr
    assert made.why() == ("hit", "unchanged")
    write("3")
    assert made.layer() == {"out": "3\n2\n"}


def test_what_changes_a_bind_runs_the_step_again(made: Made) -> None:
    file = made.box.file("src/a", "a")
    made.box.file("src/b", "b")
    mount = {"bind": "src", "target": "/src"}
    made.spec("cat /src/* > /out", mount)
    made.build()
    os.utime(file)
    assert made.why() == ("hit", "unchanged")
    file.write_text("c")
    status, why = made.why()
    assert status == "build"
    assert why.startswith("mount /src: /a: content ")
    made.spec("cat /src/* > /out", {**mount, "target": "/src/"})
    assert made.layer() == {"out": "cb"}
    (made.root / "src/b").unlink()
    assert made.why() == ("build", "mount /src: /b: gone")
    made.spec("cat /src/* > /out", {"bind": "src", "target": "/other"})
    assert made.why() == ("build", "mount /other: new")


def test_a_changed_file_is_told_by_its_mount(made: Made) -> None:
    file = made.box.file("a", "a")
    made.spec("cat /x > /out", {"bind": "a", "target": "/x"})
    made.build()
    file.write_text("b")
    assert made.why()[1].startswith("mount /x: content ")


FAULTS = [
    ({"bind": "none", "target": "/x"}, (), "'none' does not exist in the context"),
    (
        {"tmpfs": "/bin/busybox"},
        (),
        "a folder cannot be mounted at '/bin/busybox', which is a file",
    ),
    ({"tmpfs": "/bin/busybox/x"}, (), "'/bin/busybox' is no directory in the image"),
    (
        {"bind": "specs/x.yaml", "target": "/etc"},
        (),
        "a file cannot be mounted at '/etc', which is a",
    ),
    ({"tmpfs": "/etc/hosts"}, (), "a folder cannot be mounted at '/etc/hosts', which is a file"),
    ({"tmpfs": "/etc/hosts/x"}, (), "'/etc/hosts' is no directory in the image"),
    (
        {"bind": "box.tar", "target": "/etc/resolv.conf/"},
        (),
        "a folder cannot be mounted at '/etc/resolv.conf', which is a file",
    ),
    ({"tmpfs": "."}, (), "a mount at './' is '/', which is the image's root"),
    ({"tmpfs": "/l"}, ({"symlink": "/l", "to": "/proc"},), "'/proc', which lies in /proc"),
    ({"tmpfs": "/l"}, ({"symlink": "/l", "to": "l"},), "leads through symlinks in a circle"),
    ({"bind": "/no", "from": "rootfs:box.tar", "target": "/x"}, (), "'/no' does not exist in"),
    ({"bind": "/no*", "from": "rootfs:box.tar", "target": "/x"}, (), "'/no*' matches nothing in"),
    ({"bind": "no*", "target": "/x"}, (), "'no*' matches nothing in the context"),
]


@pytest.mark.parametrize(("mount", "before", "said"), FAULTS)
def test_what_cannot_be_mounted(box: Any, mount: Any, before: Any, said: str) -> None:
    made = Made(box, "sandbox")
    made.spec("true", mount, before=before)
    text = made.build(status=2).stderr
    assert said in text
    assert "`optional`" not in text  # which a mount does not have
    lines = (made.root / "specs/x.yaml").read_text().splitlines()
    assert f"specs/x.yaml:{lines.index('  mounts:') + 2}:" in text


def test_lint_sees_what_is_missing(box: Any) -> None:
    made = Made(box, "sandbox")
    made.spec("true", {"bind": "none", "target": "/x"})
    assert "'none' does not exist in the context" in box.run("lint", status=2).stderr


CACHE = {"cache": "c", "target": "/c"}


def test_a_cache_outlives_its_step_and_is_in_no_layer(made: Made) -> None:
    def run(text: str, **more: Any) -> dict[str, str]:
        made.spec(text, {**CACHE, **more})
        return made.layer()

    assert run("echo 1 > /c/a; echo x > /out") == {"out": "x\n"}
    assert run("cat /c/a > /out; echo 2 > /c/b") == {"out": "1\n"}
    assert run("ls /c > /out", owner="app", mode="700") == {"out": "a\nb\n"}
    assert run("ls -ld /c > /out", owner="7:8", mode="700")["out"].startswith("drwx------")
    assert run("ls /d/e > /out", target="/d/e") == {"out": "a\nb\n"}
    assert run("ls /c > /out; true", cache="other") == {"out": ""}
    made.spec("cat /c/a", {**CACHE, "cache": "third"})
    made.build(status=1)
    made.box.run("cache", "check", "--deep")
    listed = made.box.run("cache", "ls").stdout
    assert {"c", "other", "third"} <= {line.split()[0] for line in listed.splitlines() if line}


def test_a_cache_belongs_to_the_steps_user(made: Made) -> None:
    made.spec("echo 1 > /c/a; id -u > /c/b", CACHE, user="app")
    made.build()
    made.spec("cat /c/b > /out", CACHE)
    assert made.layer() == {"out": "7\n"}


def test_a_cache_of_a_step_that_was_killed_is_thrown_away(made: Made) -> None:
    made.spec("echo 1 > /c/a", CACHE)
    made.build()
    made.spec("echo half > /c/half; false", CACHE)  # it ended by itself
    made.build(status=1)
    made.spec("ls /c > /out", CACHE)
    assert made.layer() == {"out": "a\nhalf\n"}
    made.spec("echo half > /c/more; sleep 60", CACHE, timeout="1s")
    assert "it starts empty" in made.build(status=1).stderr
    made.spec("ls /c > /out; true", CACHE)
    assert made.layer() == {"out": ""}


def test_a_cache_of_a_builder_that_was_killed_is_thrown_away(made: Made) -> None:
    made.spec("echo 1 > /c/a; echo started; sleep 60", CACHE)
    with started(made) as builder:
        builder.kill()
    made.spec("ls /c > /out", CACHE)
    assert "it starts empty" in made.build().stderr
    assert made.layer() == {"out": ""}


@contextlib.contextmanager
def started(made: Made) -> Iterator[subprocess.Popen[str]]:
    """A build whose step has said `started`."""
    argv = [sys.executable, "-m", "builder", "build", "x", "--executor", made.executor]
    env = {**os.environ, "BUILDER_CACHE_DIR": str(made.box.store)}
    builder = subprocess.Popen(
        [*argv, "--progress", "plain"],
        cwd=made.root, env=env, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert builder.stderr
        for line in builder.stderr:
            if line.strip() == "x 1| started":
                break
        yield builder
    finally:
        builder.kill()
        builder.communicate()


@pytest.mark.parametrize("sharing", ["shared", "locked", "private"])
def test_two_builds_at_once(box: Any, sharing: str) -> None:
    made, cache = Made(box, "sandbox"), {**CACHE, "sharing": sharing}
    made.spec("echo 1 > /c/a; echo started; sleep 3; ls /c > /out", cache)
    with started(made) as builder:
        made.spec("ls /c > /out; echo 2 > /c/b", cache)
        began = time.monotonic()
        other = made.layer()
        took = time.monotonic() - began
        assert builder.wait() == 0
    made.spec("echo; ls /c > /out", cache)
    after = made.layer()
    if sharing == "shared":
        assert (other, after) == ({"out": "a\n"}, {"out": "a\nb\n"})
    elif sharing == "locked":
        assert (other, after) == ({"out": "a\n"}, {"out": "a\nb\n"})
        assert took > 1
    else:
        assert other == {"out": ""}
        assert after in ({"out": "a\n"}, {"out": "b\n"})
    folder = next(each for each in (box.store / "caches").iterdir())
    assert len(list(folder.iterdir())) == 2  # `about` and one copy


def test_a_new_cache_holds_its_seed(made: Made) -> None:
    stage = {"from": "scratch", "steps": [{"file": "/d/s", "content": "seed", "owner": "7:8"}]}
    mount = {**CACHE, "seed": "stage:seed"}
    made.spec("cat /c/d/s > /out; ls -ln /c/d/s; echo 2 > /c/d/s", mount, stages={"seed": stage})
    assert made.layer() == {"out": "seed"}
    made.spec("cat /c/d/s > /out; true", mount, stages={"seed": stage})
    assert made.layer() == {"out": "2\n"}


def test_what_a_hostile_step_left_in_a_cache_harms_nobody(made: Made) -> None:
    outside = made.root / "outside"
    outside.mkdir()
    (outside / "file").write_text("stays")
    made.spec(
        f"ln -s {outside} /c/link; ln -s / /c/root; mkdir -p /c/sub; ln -s {outside}/file /c/sub/f;"
        " cp /bin/busybox /c/busybox; chmod 4755 /c/busybox; mkfifo /c/fifo;"
        " mknod /c/node b 7 0 || true;"
        " mknod /c/null c 1 3 || true; rm -rf /c/sub2; mkdir -m 000 /c/closed",
        CACHE,
    )
    made.build()
    run = "/c/busybox id -u > /tmp/out; ! cat /c/null; ls -l /c/link/ || true"
    made.spec(run, CACHE, user="app")
    assert made.layer()["tmp/out"] == "7\n"  # no set-user-ID
    archive = made.root / "c.tar"
    made.box.run("cache", "export", "c", str(archive))
    with tarfile.open(archive) as tar:
        assert not [each for each in tar.getnames() if "stays" in each or "outside" in each]
    made.box.run("cache", "ls")
    made.box.run("cache", "rm", "c")
    made.box.run("cache", "gc", "--max-age", "0s")
    assert (outside / "file").read_text() == "stays"


@pytest.mark.parametrize("link", ["/etc", "/../../tmp", "../../../../../tmp", "sub", "nothing"])
def test_a_link_in_a_cache_is_nothing_to_mount_on(made: Made, link: str) -> None:
    made.spec(f"mkdir -p /c/sub; ln -s {link} /c/sub/link", CACHE)
    made.build()
    for target in ("/c/sub/link", "/c/sub/link/new"):
        for mount in ({"tmpfs": target}, {"bind": "box.tar", "target": target}):
            made.spec("true", CACHE, mount)
            said = made.build(status=2).stderr
            assert f"nothing can be mounted at '{target}': '/c/sub/link' is a symlink" in said
            assert "error: specs/x.yaml:" in said


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        ({"tmpfs": "/b/new"}, "'/b/new' is missing in what is bound at '/b'"),
        ({"tmpfs": "/b/new/more"}, "'/b/new' is missing in what is bound at '/b'"),
        ({"tmpfs": "/b/file"}, "'/b/file' is no directory in what is mounted there"),
        ({"tmpfs": "/b/file/x"}, "'/b/file' is no directory in what is mounted there"),
        ({"bind": "src/file", "target": "/b/sub"}, "'/b/sub' is a directory in what is mounted"),
    ],
)
def test_what_does_not_fit_in_another_mount(made: Made, mount: Any, said: str) -> None:
    made.box.file("src/file", "")
    made.box.file("src/sub/file", "")
    made.spec("true", mount, {"bind": "src/file", "target": "/b"})
    assert "a file is mounted at '/b'" in made.build(status=2).stderr
    made.spec("true", {"bind": "src", "target": "/b"}, mount)
    assert said in made.build(status=2).stderr
    made.spec(
        "ls -R /b > /out",
        {"bind": "src", "target": "/b"},
        {"tmpfs": "/b/sub"},
        {"bind": "src/file", "target": "/b/sub/new/file"},
    )
    assert made.layer() == {"out": "/b:\nfile\nsub\n\n/b/sub:\nnew\n\n/b/sub/new:\nfile\n"}


def test_a_cache_is_moved_by_a_tar(made: Made) -> None:
    made.spec(
        "mkdir /c/proc; echo 1 > /c/proc/a; ln -s a /c/l; echo 2 > /c/hosts", CACHE, user="app"
    )
    made.build()
    first, second = made.root / "1.tar", made.root / "2.tar"
    made.box.run("cache", "export", "c", str(first))
    made.box.run("cache", "import", "d", str(first))
    made.box.run("cache", "export", "d", str(second))
    assert first.read_bytes() == second.read_bytes()
    made.spec("cat /c/proc/a /c/hosts > /out; ls -ln /c/hosts", {**CACHE, "cache": "d"})
    assert made.layer() == {"out": "1\n2\n"}


def test_a_hostile_tar_stays_in_the_cache(box: Any) -> None:
    archive = box.root / "h.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("l")
        link.type, link.linkname = tarfile.SYMTYPE, str(box.root)
        tar.addfile(link)
        info = tarfile.TarInfo("l/evil")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    for name in ("l/evil", "../evil"):
        box.run("cache", "import", "c", str(archive), status=1)
        assert not (box.root / "evil").exists(), name
    assert "no cache 'c'" in box.run("cache", "export", "c", status=2).stderr


def test_a_corrupt_cache_is_told_and_the_image_is_right(made: Made) -> None:
    made.spec("ls /c > /out", CACHE)
    made.build()
    (folder,) = (made.box.store / "caches").iterdir()
    (copy,) = (each for each in folder.iterdir() if each.is_dir())
    (copy / "data").rmdir()
    (copy / "data").write_text("no folder")
    made.spec("ls /c > /out; true", CACHE)
    done = made.build()
    assert "the cache 'c' is corrupt; it is made again" in done.stderr
    assert made.layer() == {"out": ""}


@pytest.mark.needs("dockerd")
def test_an_engine_makes_the_same_layer(box: Any, engine: Any) -> None:
    box.file("src/a", "a")
    box.file("src/sub/run", "#!/bin/sh\n").chmod(0o755)
    stage = {"from": "rootfs:box.tar", "steps": [{"run": "echo 1 > /s; mkdir -m 700 /d; ln /s /t"}]}
    steps = [
        (
            "cp -a /new/src /saved; cat /one /srv/n > /out; ! echo x > /new/src/b; echo m > /m/m;"
            " set -- $(ls -ld /m); echo $1 $3 >> /out; mkdir /c/proc; echo c > /c/proc/c;"
            " ln -s proc /c/l; echo b > /srv/b",
            [
                {"bind": "src", "target": "/new/src"},
                {"bind": "src/a", "target": "/one"},
                {"bind": "/s", "from": "stage:first", "target": "/srv/n"},
                {"tmpfs": "/m", "size": "1m"},
                CACHE,
            ],
        ),
        ("cat /c/l/c > /etc/out; set -- $(ls -l /c/l); echo $1 $9 > /out; echo 2 > /c/2", [CACHE]),
        (
            "cat /c/2 /c/l/c > /out; ls -ln /all/d /all/s >> /out",
            [
                {**CACHE, "sharing": "locked"},
                {"bind": "/", "from": "stage:first", "target": "/all"},
            ],
        ),
    ]
    found: dict[str, list[Any]] = {}
    for kind in ("sandbox", "docker"):
        box.store = box.root.parent / kind
        made = Made(box, kind)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", engine.socket)
            for run, mounts in steps:
                made.spec(run, *mounts, stages={"first": stage})
                found.setdefault(kind, []).append(made.layer())
    assert found["docker"] == found["sandbox"]
