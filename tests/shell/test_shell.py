"""`builder shell` behind the steps of an image, and with what is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.shell.conftest import Place, make_base

pytestmark = [pytest.mark.root, pytest.mark.needs("runc", "busybox")]

LOOK = "id; pwd; env | sort | grep -v SHLVL; ls -a . | sort"
STEPS = """\
from: rootfs:base.tar
config: {{env: {{A: "1"}}, working_dir: /srv}}
steps:
  - {{name: first, run: "{look}"}}
  - {{name: second, run: "{look}", user: app, working_dir: old, env: {{B: "two words"}}}}
  - {{set: {{user: app, env: {{C: "3"}}}}}}
  - {{name: third, run: "{look}"}}
  - {{name: numbers, run: "{look}", user: "7:8", network: none}}
  - {{name: last, file: /srv/made, content: made}}
"""


def test_it_is_as_the_next_step_will_have_it(place: Place) -> None:
    place.spec(STEPS.format(look=LOOK))
    said = place.call("build", "app", "--progress", "plain")[1]
    for number in (1, 2, 4, 5):
        lines = [
            line.partition("| ")[2]
            for line in said.splitlines()
            if line.startswith(f"app {number}| ")
        ]
        assert len(lines) > 8
        at = ("app", "--at", str(number - 1))
        assert place.sh(*at, script=LOOK).splitlines() == lines, number
    assert place.sh("app", "--at", "numbers", script="id -u; ls") == "1000\nlink\nold\n"
    assert place.sh("app", script="id -u; ls") == "1000\nlink\nmade\nold\n"


def test_what_is_done_there_is_thrown_away_unless_it_is_kept(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: touch /one\n  - run: exit 1\n")
    at = ("app", "--at", "1")
    place.sh(*at, script="rm /one; echo mine > /mine")
    assert place.states() == []
    assert place.sh(*at, "--keep", "work", script="ls /one /mine; echo mine > /mine; exit 3",
                    status=3) == "/one\n"  # fmt: skip
    assert place.states() == ["work"]
    assert place.call("run", "container:work", "cat", "/mine")[0] == "mine\n"
    said = place.call("shell", *at, "--keep", "work", status=125)[1]
    assert "there is a container 'work' already" in said


def test_a_stage_and_what_the_store_has(place: Place) -> None:
    place.spec(
        "from: stage:early\nstages:\n  early:\n    from: rootfs:base.tar\n"
        "    steps: [{run: touch /early}, {run: touch /late}]\n"
    )
    assert place.sh("app:early", "--at", "1", script="ls -d /early /late", status=1) == "/early\n"
    place.call("build", "app", "-t", "mine:1")
    assert place.sh("mine:1", script="ls -d /early /late") == "/early\n/late\n"


def test_a_program_in_its_place(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps: [{run: touch /one}]\n")
    at = ("shell", "app", "--at", "1")
    assert place.call(*at, "--", "ls", "-d", "--", "/one")[0] == "/one\n"
    assert place.call(*at, "--shell", "/bin/ash", input="echo $0")[0] == "/bin/ash\n"
    (place.root / "file").write_text("from here")
    assert place.call(*at, "-v", "./file:/x/file:ro", "--", "cat", "/x/file")[0] == "from here"
    assert place.call(*at, "-u", "app", "--", "sh", "-c", "id -u; echo $HOME")[0] == (
        "1000\n/home/app\n"
    )
    place.call(*at, "--", "sh", "-c", "exit 7", status=7)


def test_bash_where_there_is_one_else_the_images_shell_else_sh(place: Place) -> None:
    place.spec(
        "from: rootfs:base.tar\nsteps:\n"
        "  - run: ln -s busybox /bin/mysh\n"
        "  - {set: {shell: [/bin/ash, -c]}}\n"
        "  - run: [ln, -s, busybox, /bin/bash]\n"
        "  - run: [rm, /bin/bash]\n"
        "  - run: [sh, -c, ln -s /bin/busybox /bin/bash; exit 1]\n"
    )
    found = [
        place.call("shell", "app", "--at", str(at), input="echo $0", status=None)
        for at in (1, 2, 3, 4)
    ]
    assert [each[0] for each in found[:2]] == ["/bin/sh\n", "/bin/ash\n"]
    assert "applet" in "".join(found[2]) or "/bin/bash" in "".join(found[2])
    assert found[3][0] == "/bin/ash\n"
    place.fails("app")
    told = "".join(place.call("shell", "--failed", input="echo $0", status=None))
    assert "ash" in told and told != "/bin/ash\n"


def test_of_an_image_without_a_shell_the_hint_brings_one(place: Place, tmp_path: Path) -> None:
    make_base(place.root / "bare.tar", tmp_path / "bare", applets=False)
    place.spec("from: rootfs:bare.tar\nsteps: [{file: /etc/bare, content: x}]\n")
    said = place.call("shell", "app", "--at", "1", status=127)[1]
    said = said[said.index("error: ") :]
    assert said.startswith("error: the image has no /bin/sh\nhint: ") and said.count("\n") == 2
    words = said[said.index("-v ") :].split()
    assert words[1] == f"{shutil.which('busybox')}:/busybox"
    assert place.call("shell", "app", "--at", "1", *words, input="cat /etc/bare")[0] == "x"


def test_a_user_who_is_not_there_yet_is_root_and_that_is_said(place: Place) -> None:
    place.spec(
        "from: rootfs:base.tar\nconfig: {user: later}\nsteps:\n"
        "  - {run: 'echo later:x:9:9::/:/bin/sh >> /etc/passwd', user: root}\n"
        "  - {file: /a, content: a}\n"
    )
    assert place.sh("app", "--at", "0", script="id -u") == "0\n"
    assert place.sh("app", "--at", "1", script="id -u") == "9\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("app", "--at", "frist"), "'app' has no step 'frist'\nhint: did you mean 'first'?"),
        (("app", "--at", "9"), "'app' has no step '9'\nhint: 0 is its base, its steps: first"),
        (("gone", "--at", "1"), "gone"),
        ((), "no IMAGE is named\nhint: builder shell IMAGE, or --failed"),
        (("--failed", "--at", "1"), "--failed stands where a step failed"),
        (("--failed", "app"), "no failed state of 'app' is kept\nhint: "),
        (("--failed",), "no failed state of this project is kept\nhint: "),
        (("app", "ls"), "ls"),
        (("app", "--at", "0", "-v", "nowhere:/x"), "-v 'nowhere:/x'"),
        (("app", "--at", "0", "-u", "nobody9"), "user 'nobody9'"),
        (("app", "--at", "0", "--keep", "a b"), "'a b' is no name of a container"),
        (("app", "--at", "0", "--executor", "chroot"), "the executor 'chroot' has no containers"),
    ],
)
def test_what_is_asked_for_and_is_not_there(
    arguments: tuple[str, ...], said: str, place: Place
) -> None:
    place.spec("from: rootfs:base.tar\nsteps: [{name: first, run: 'true'}]\n")
    told = place.call("shell", *arguments, status=None)[1]
    error = told[told.index("error: ") :]
    assert said in error and error.count("\n") <= 2, told


def test_build_asks_for_a_terminal_before_it_builds(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps: [{run: exit 1}]\n")
    said = place.call("build", "app", "--shell-on-failure", status=2)[1]
    assert said.startswith("error: --shell-on-failure needs a terminal\nhint: ")
    assert place.states() == []
