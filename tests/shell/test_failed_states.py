"""What is kept of a step that failed: the tree and the surroundings that it had, within bounds, and
no secret."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from builder.containers import failed
from builder.store.store import Store
from tests.shell.conftest import Place

pytestmark = [pytest.mark.root, pytest.mark.needs("runc", "busybox")]

ROUNDS = int(os.environ.get("BUILDER_SHELL_ROUNDS", "1"))
FULL = "BUILDER_SHELL_ROUNDS" in os.environ
EXECUTORS = pytest.mark.parametrize("executor", ["sandbox", "runc"] if FULL else ["runc"])
"""What both do alike, as tests of executors and containers show."""
LIST = r"""cd /; find . -path ./proc -prune -o -path ./sys -prune -o -path ./dev -prune \
  -o -path ./bin -prune -o -path ./told -prune -o -path ./etc/hosts -o -path ./etc/resolv.conf \
  -o -print | sort | while IFS= read -r f; do
  if [ -d "$f" ] && [ ! -L "$f" ]; then s=; else s=$(stat -c '%s %Y' "$f"); fi
  echo "$f $(stat -c '%f %u %g' "$f") $s $(readlink "$f") $([ -f "$f" ] && md5sum < "$f")"
done"""


def a_step(seed: int) -> str:
    """Lines that change a tree at random; most do something, some fail."""
    chance = random.Random(seed)
    names = [
        "a",
        "b",
        "old",
        "old/deep",
        "old/deep/file",
        "link",
        "a/in",
        "b/in",
        "sp ace",
        "old/n",
    ]

    def path() -> str:
        return f"'/srv/{chance.choice(names)}'"

    acts = [
        lambda: f"mkdir -p {path()}",
        lambda: f"echo {chance.random()} > {path()}",
        lambda: f"echo more >> {path()}",
        lambda: f"rm -rf {path()}",
        lambda: f"mv {path()} {path()}",
        lambda: f"ln -s {chance.choice(['old', '/etc/passwd', 'nowhere'])} {path()}",
        lambda: f"ln {path()} {path()}",
        lambda: f"chmod {chance.choice(['600', '4755', '1777', '000'])} {path()}",
        lambda: f"chown {chance.choice(['1000:44', '0:7', '65534:65534'])} {path()}",
        lambda: f"mkfifo {path()}",
        lambda: f"cp -a /srv/old {path()}",
        lambda: f"touch -d @{chance.randrange(10**9)} {path()}",
        lambda: f"rm -rf /srv/old; mkdir /srv/old; echo anew > {path()}",
    ]
    return "\n".join(f"({chance.choice(acts)()}) 2>/dev/null" for _ in range(chance.randrange(30)))


@EXECUTORS
def test_what_the_step_saw_last_is_what_is_there(executor: str, place: Place) -> None:
    for seed in range(ROUNDS):
        script = f"{a_step(seed)}\n({LIST}) > /told/list\nexit 1\n"
        place.spec(
            "from: rootfs:base.tar\nsteps:\n"
            "  - run: |\n"
            + "".join(f"      {line}\n" for line in script.splitlines())
            + "    errexit: false\n    mounts: [{cache: told, target: /told}]\n"
        )
        place.fails("app", "--executor", executor)
        at = ("--failed", "app", "--executor", executor)
        told = place.sh(*at, script="cat /told/list")
        assert "/srv" in told, seed
        assert place.sh(*at, script=f"({LIST})") == told, seed


SURROUNDINGS = """\
from: rootfs:base.tar
config: {env: {GREETING: hello}, user: "0"}
steps:
  - directory: /work
    owner: app
  - name: look
    run: |
      id; pwd; env | sort | grep -v SHLVL; grep -c . /bound/app.yaml
      echo cached > /cached/file; ls -ld /memory; echo x > /memory/x
      touch here; exit 4
    user: app
    working_dir: /work
    env: {OWN: "two words"}
    mounts:
      - {bind: specs/app.yaml, target: /bound/app.yaml}
      - {cache: kept, target: /cached}
      - {tmpfs: /memory}
      - {secret: token, target: /token, mode: "0444"}
      - {secret: other, env: OTHER, required: false}
"""
LOOK = "id; pwd; env | sort | grep -v SHLVL; grep -c . /bound/app.yaml"


@EXECUTORS
def test_its_surroundings_are_those_of_the_step(executor: str, place: Place) -> None:
    place.spec(SURROUNDINGS)
    token, other = place.root / "token", place.root / "other"
    token.write_text("one secret of many bytes")
    other.write_text("another of many bytes")
    given = ("--secret", f"token={token}", "--executor", executor)
    said = place.fails("app", *given, "--progress", "plain")
    lines = [line.partition("| ")[2] for line in said.splitlines() if line.startswith("app 2| ")]
    at = ("--failed", "--executor", executor)
    assert place.sh(*at, script=LOOK).splitlines() == lines[:-1] and len(lines) > 8
    found = place.sh(*at, script="cat /cached/file; ls -A /memory; ls; ls -d /token || true")
    assert found == "cached\nhere\n"
    found = place.sh(*at, "--secret", f"token={token}", script="cat /token; echo; env")
    assert found.startswith("one secret of many bytes\n")
    assert "OTHER" not in found
    copied = place.call(
        "shell", *at, "--secret", f"token={token}", input="cat /token > copy; rm copy"
    )
    assert "warning" not in copied[1]
    copied = place.call("shell", *at, "--secret", f"token={token}", input="cat /token > copy")
    assert "/copy' holds the secret 'token'" in copied[1]
    place.sh(*at, script="rm copy")
    found = place.sh(*at, "--secret", f"other={other}", script="echo $OTHER")
    assert found == "another of many bytes\n"
    held = subprocess.run(
        ["grep", "-rlF", "-e", "many bytes", str(place.store)], capture_output=True, text=True
    )
    assert held.stdout == ""


def test_what_is_changed_there_stays_there(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: echo half > /half; exit 1\n")
    place.fails("app")
    place.sh("--failed", "app", script="echo more >> /half; rm -r /srv/old")
    assert (
        place.sh("--failed", "specs/app.yaml", script="cat /half; ls /srv") == "half\nmore\nlink\n"
    )
    assert place.sh("app", "--at", "0", script="ls /srv; ls /half", status=1) == "link\nold\n"


@EXECUTORS
@pytest.mark.parametrize(
    "step",
    [
        "{run: 'echo half > /half; sleep 1000', timeout: 1s}",
        "{run: \"echo half > /half; sh -c 'kill -9 $$'; exit 1\"}",
        "{run: [sh, -c, 'echo half > /half; nothing-of-that-name']}",
    ],
)
def test_however_it_ended(executor: str, step: str, place: Place) -> None:
    place.spec(f"from: rootfs:base.tar\nsteps:\n  - {step}\n")
    assert "`builder shell --failed app`" in place.fails("app", "--executor", executor)
    assert place.sh("--failed", "app", script="cat /half") == "half\n"


def test_a_chroot_keeps_none_and_no_hint_tells_of_one(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: exit 1\n")
    assert "shell" not in place.fails("app", "--executor", "chroot")
    assert place.states() == []


def test_a_later_success_removes_it_also_one_in_which_nothing_is_built(place: Place) -> None:
    good = "from: rootfs:base.tar\nsteps:\n  - run: touch /good\n"
    place.spec(good)
    place.call("build", "app")
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: exit 1\n", "other")
    place.fails("other")
    for text in (good, good.replace("good", "better")):
        place.spec(good.replace("touch /good", "exit 1"))
        place.fails("app")
        assert place.states() == ["failed-app", "failed-other"]
        place.spec(text)
        place.call("build", "app")
        assert place.states() == ["failed-other"]


def test_a_build_up_to_a_step_before_it_leaves_it(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: 'true'\n  - run: exit 1\n")
    place.fails("app")
    place.sh("app", "--at", "1", script="true")
    assert place.states() == ["failed-app"]


def test_the_newest_of_an_image_and_five_in_all(place: Place) -> None:
    names = [f"app{number}" for number in range(6)]
    for name in names:
        place.spec(f"from: rootfs:base.tar\nsteps:\n  - run: echo {name} > /n; exit 1\n", name)
    place.fails(*names, "--keep-going", "--jobs", "1")
    assert len(place.states()) == 5
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: echo newest > /n; exit 1\n", "app5")
    place.fails("app5")
    assert place.sh("--failed", "app5", script="cat /n") == "newest\n"
    assert len(place.states()) == 5


def test_one_of_another_project_is_neither_found_nor_replaced_nor_removed(
    place: Place, tmp_path: Path, base: Path
) -> None:
    others = Place(tmp_path / "others", place.store)
    shutil.copy(base, others.root / "base.tar")
    for each, text in ((place, "mine"), (others, "theirs")):
        each.spec(f"from: rootfs:base.tar\nsteps:\n  - run: echo {text} > /n; exit 1\n")
        each.fails("app")
    assert place.sh("--failed", script="cat /n") == "mine\n"
    assert others.sh("--failed", "app", script="cat /n") == "theirs\n"
    others.spec("from: rootfs:base.tar\n")
    others.call("build", "app")
    assert place.states() == ["failed-app"]
    said = others.call("shell", "--failed", "app", status=125)[1]
    assert "no failed state of 'app' is kept" in said


LEAKS = [
    "mkdir /$(cat /t); cat /t > /.dockerenv",
    "base64 /t > /leak",
    "mkdir -p /a/b/c; cp /t /a/b/c/; chmod 0 /a/b/c/t /a",
]
MORE_LEAKS = [
    "cat /t > /leak",
    "ln -s $(cat /t) /leak",
    "cat /t > /etc/hosts",
]


@pytest.mark.parametrize("leak", [*LEAKS, *(MORE_LEAKS if FULL else ())])
def test_one_that_holds_a_secret_is_not_kept_and_said_so(leak: str, place: Place) -> None:
    place.spec(
        f"from: rootfs:base.tar\nsteps:\n  - run: {leak}; exit 1\n"
        "    mounts: [{secret: token, target: /t}]\n"
    )
    (place.root / "token").write_text("s3cret-of-many-bytes")
    said = place.fails("app", "--secret", f"token={place.root / 'token'}")
    assert "what it left is not kept: " in said and "would hold the secret 'token'" in said
    assert "s3cret" not in said
    assert place.states() == []
    held = subprocess.run(["grep", "-rl", "s3cret-of", str(place.store)], capture_output=True)
    assert held.stdout == b""


def test_what_env_gave_is_on_no_disk_and_there_at_once(place: Place) -> None:
    place.spec(
        "from: rootfs:base.tar\nsteps:\n  - run: echo \"{{ env('KEY') }}\" > /dev/null; exit 1\n"
        "    env: {KEY: \"{{ env('KEY') }}\"}\n"
    )
    place.fails("app", KEY="precious-value")
    held = subprocess.run(["grep", "-rl", "precious", str(place.store)], capture_output=True)
    assert held.stdout == b""
    assert place.sh("--failed", script='echo "<$KEY>"') == "<>\n"


def test_one_that_is_too_large_is_not_kept_and_said_so(place: Place) -> None:
    if shutil.disk_usage(place.store.parent).free < 5 * 10**9:
        pytest.skip("needs 5 GB of disk")
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: fallocate -l 2100000000 /big; exit 1\n")
    said = place.fails("app")
    assert "what it left is not kept: 2.1 GB, and at most 2 GB are" in said
    assert place.states() == []
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: truncate -s 9T /sparse; exit 1\n")
    assert "`builder shell --failed app`" in place.fails("app")


def test_while_somebody_stands_there_it_is_neither_replaced_nor_removed(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: echo one > /n; exit 1\n")
    place.fails("app")
    shell = subprocess.Popen(
        place.argv("shell", "--failed", "app"),
        cwd=place.root, env=place.env(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert shell.stdin and shell.stdout
    shell.stdin.write("echo there\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == "there\n"
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: echo two > /n; exit 1\n")
    said = place.fails("app")
    assert "what it left is not kept: the container 'failed-app' runs" in said
    place.spec("from: rootfs:base.tar\n")
    place.call("build", "app")
    shell.stdin.write("cat /n; exit 5\n")
    shell.stdin.close()
    assert shell.stdout.read() == "one\n"
    assert shell.wait(60) == 5
    assert place.sh("--failed", "app", script="cat /n") == "one\n"


def test_bytes_that_are_not_understood_are_as_if_there_was_none(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: exit 1\n")
    chance = random.Random(1)
    place.fails("app")
    for file in ("step.json", "about.json"):
        path = place.store / "containers/failed-app" / file
        whole = path.read_bytes()
        for data in (b"", b"[]", b"{}", b"nu\xffll", whole[: len(whole) // 2],
                     whole.replace(b'"', b"'"), chance.randbytes(100)):  # fmt: skip
            path.write_bytes(data)
            assert failed.states(Store(str(place.store))) == []
        path.write_bytes(whole)
    assert len(failed.states(Store(str(place.store)))) == 1


def test_gc_takes_old_ones_in_which_nobody_stands(place: Place) -> None:
    place.spec("from: rootfs:base.tar\nsteps:\n  - run: echo one > /n; exit 1\n")
    place.fails("app")
    place.call("cache", "gc")
    assert place.states() == ["failed-app"]
    place.call("cache", "gc", "--max-age", "1s", "--dry-run")
    assert place.states() == ["failed-app"]
    assert place.sh("--failed", script="cat /n") == "one\n"
    place.call("cache", "gc", "--all")
    assert place.states() == []
