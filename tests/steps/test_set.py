"""`set`: from here on, and in no key before it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

LATE = """
from: rootfs:box.tar
vars: {commit: none}
steps:
  - run: sleep 2; echo done > /done
  - set:
      env: {COMMIT: "{{ commit }}"}
"""


def config(project: Any, image: str = "x") -> dict[str, Any]:
    document = json.loads(project.run("inspect", image, "--no-build").stdout)
    found: dict[str, Any] = document["config"]["config"]
    return found


@pytest.mark.needs("busybox")
def test_a_late_stamp_runs_nothing_again(box: Any) -> None:
    box.spec("x", LATE)
    box.run("build")
    began = time.monotonic()
    box.run("build", "--set", "commit=abc")
    assert time.monotonic() - began < 2
    assert "COMMIT=abc" in config_env(box, "--set", "commit=abc")
    plan = json.loads(box.run("plan", "--json", "--set", "commit=def").stdout)["images"][0]
    assert [step["status"] for step in plan["steps"]] == ["hit", "config"]
    assert plan["image"]["why"] == 'env COMMIT: "abc" -> "def"'
    box.run("plan", "--exit-code", "--set", "commit=def", status=3)
    box.run("plan", "--exit-code", "--set", "commit=abc")
    text = box.run("plan", "--set", "commit=abc").stdout
    assert "set COMMIT=abc" in text and text.endswith("1 step: 1 hit, 0 to build\n")


def config_env(project: Any, *arguments: str) -> list[str]:
    document = json.loads(project.run("inspect", "x", "--no-build", *arguments).stdout)
    env: list[str] = document["config"]["config"]["Env"]
    return env


SEEN = """
from: rootfs:box.tar
config: {env: {A: one, B: stays}, user: app, working_dir: /srv, path: /opt/first}
steps:
  - run: (pwd; id -u; echo $A $B $PATH) > /tmp/before
  - set: {user: "9", env: {A: two}, path: [/opt/second], working_dir: deep/er}
  - run: (pwd; id -u; echo $A $B $PATH) > /tmp/after
  - file: here.txt
    content: x
  - set: {shell: [/bin/sh, -c]}
  - run: false; true
  - set: {working_dir: /end}
"""


@pytest.mark.needs("busybox")
def test_what_it_says_holds_for_what_follows_and_the_image(box: Any) -> None:
    box.spec("x", SEEN)
    box.run("build", "-o", "docker-archive:out.tar")
    files = layers(box.root / "out.tar")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert files["tmp/before"] == f"/srv\n7\none stays /opt/first:{path}\n".encode()
    assert files["tmp/after"] == (
        f"/srv/deep/er\n9\ntwo stays /opt/second:/opt/first:{path}\n".encode()
    )
    assert files["srv/deep/er/here.txt"] == b"x"
    assert "end" in files
    found = config(box)
    assert (found["User"], found["WorkingDir"], found["Shell"]) == ("9", "/end", ["/bin/sh", "-c"])
    assert f"PATH=/opt/second:/opt/first:{path}" in found["Env"] and "A=two" in found["Env"]


def layers(archive: Any) -> dict[str, bytes]:
    """The files of a saved image by path, the topmost; b"" for what is no file."""
    import io
    import tarfile

    found: dict[str, bytes] = {}
    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))  # type: ignore[arg-type]
        for name in manifest[0]["Layers"]:
            data = outer.extractfile(name).read()  # type: ignore[union-attr]
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.isreg() else None
                    found[member.name.rstrip("/")] = file.read() if file else b""
    return found


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("set: {}", "'set' sets nothing"),
        ("set: {cmd: [x]}", "cmd"),
        ("set: {user: ''}", "user"),
        ("set: {env: {PATH: '$PATH:/x'}}", "PATH"),
        ("set: {working_dir: ../x}", ".."),
        ("set: [user]", "expected"),
    ],
)
def test_what_is_no_setting_is_told_with_its_place(project: Any, step: str, says: str) -> None:
    project.spec("x", f"from: scratch\nsteps:\n  - {step}\n")
    error = json.loads(project.run("plan", "--json", status=2).stdout)["error"]
    assert error["place"]["line"] == 3 and says in error["message"] + error.get("hint", "")


def test_it_is_read_where_templates_name_the_base(project: Any) -> None:
    project.spec("below", "from: scratch\nconfig: {env: {V: '3'}}\n")
    project.spec("x", "from: image:below\nsteps: [{set: {env: {W: '{{ base.env.V }}!'}}}]\n")
    project.run("build")
    assert "W=3!" in config(project)["Env"]


NO_USER = """
from: rootfs:box.tar
steps:
  - run: echo new:x:9:9::/:/bin/sh >> /etc/passwd
{first}  - run: id -u > /tmp/id
{config}
"""


@pytest.mark.needs("busybox")
@pytest.mark.parametrize("user", ["new", "neww:8"])
def test_a_user_that_a_step_is_to_make_is_told_with_both_ways_out(box: Any, user: str) -> None:
    box.spec("x", NO_USER.format(first="", config=f"config: {{user: '{user}'}}"))
    error = json.loads(box.run("build", "--json", status=2).stdout)["error"]
    assert (
        error["place"]["line"] == 4 and "user: root" in error["hint"] and "`set`" in error["hint"]
    )
    own = NO_USER.replace("/etc/passwd", "/etc/passwd\n    user: root")
    box.spec("x", own.format(first="", config="config: {user: new}"))
    box.run("build")
    box.spec("x", NO_USER.format(first="  - set: {user: new}\n", config=""))
    box.run("build")
