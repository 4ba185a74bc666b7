"""Mounts of a command step, in the executors that have namespaces."""

from __future__ import annotations

import io
import json
import os
import tarfile
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
        step |= {name: top.pop(name) for name in ("working_dir", "user") if name in top}
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
    ({"tmpfs": "."}, (), "a mount at './' is '/', which is the image's root"),
    ({"tmpfs": "/l"}, ({"symlink": "/l", "to": "/proc"},), "'/proc', which lies in /proc"),
    ({"tmpfs": "/l"}, ({"symlink": "/l", "to": "l"},), "leads through symlinks in a circle"),
    ({"bind": "/no", "from": "rootfs:box.tar", "target": "/x"}, (), "'/no' does not exist in"),
]


@pytest.mark.parametrize(("mount", "before", "said"), FAULTS)
def test_what_cannot_be_mounted(box: Any, mount: Any, before: Any, said: str) -> None:
    made = Made(box, "sandbox")
    made.spec("true", mount, before=before)
    text = made.build(status=2).stderr
    assert said in text
    lines = (made.root / "specs/x.yaml").read_text().splitlines()
    assert f"specs/x.yaml:{lines.index('  mounts:') + 2}:" in text


def test_lint_sees_what_is_missing(box: Any) -> None:
    made = Made(box, "sandbox")
    made.spec("true", {"bind": "none", "target": "/x"})
    assert "'none' does not exist in the context" in box.run("lint", status=2).stderr
