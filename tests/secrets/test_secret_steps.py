"""Secrets in steps: a canary is given, and looked for in all that is said, kept and running."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

REST = f"nary{os.getpid()}xK"  # other runs of these tests have others
CANARY = "Zq7ca" + REST
OTHER = "yT5other+canary/33Q"
FORMS = [
    CANARY.encode(),
    base64.b64encode(CANARY.encode())[:-4],
    base64.b64encode(b"u:" + CANARY.encode())[4:-4],
    OTHER.encode(),
    b"yT5other%2Bcanary%2F33Q",
    base64.b64encode(OTHER.encode())[:-4],
]
pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

SAYS = """
steps:
  - name: uses it
    run: |
      cat /run/secrets/file; echo "$TOKEN"; echo "token=$TOKEN;"
      printf %s "$TOKEN" | fold -w 5; echo
      printf %s "$TOKEN" | base64; printf "u:%s" "$TOKEN" | base64
      printf Zq7ca; sleep 0.3; echo REST
      echo yT5other%2Bcan"ary%2F33Q"
      test "$(id -u)" = 0; stat -c %a:%u:%g /run/secrets/file
      test "$(wc -c < /run/secrets/file)" = 20
      echo well > /made
      echo RUNNING; sleep @
      @
    mounts:
      - {secret: file}
      - {secret: token, env: TOKEN}
"""


def found(data: bytes) -> bool:
    return any(form in data for form in FORMS)


def kept(folder: Path) -> list[str]:
    """Files of a disk that hold it, in their names or bytes, layers unpacked."""
    holding = []
    device = folder.stat().st_dev
    for at, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if os.lstat(f"{at}/{each}").st_dev == device]
        for name in (*folders, *names):
            path = Path(at, name)
            try:
                regular = path.is_file() and not path.is_symlink()
                data = path.read_bytes() if regular else b""
            except OSError:
                continue  # removed meanwhile
            if data[:2] == b"\x1f\x8b":
                data += gzip.decompress(data)
            if data[:1] == b"\x78":
                data += zlib.decompress(data)
            if found(os.fsencode(name) + data):
                holding.append(str(path))
    return holding


def running() -> list[str]:
    """Processes outside of steps that hold it in their arguments or their environment."""
    here = os.stat("/proc/self/root")
    holding = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            inside = os.stat(f"/proc/{name}/root")
            for part in ("cmdline", "environ"):
                data = Path(f"/proc/{name}/{part}").read_bytes()
                outside = (inside.st_dev, inside.st_ino) == (here.st_dev, here.st_ino)
                if found(data) and (outside or part == "cmdline"):
                    holding.append(f"{name} {part} {data[:200]!r}")
        except OSError:
            continue
    return holding


class Steps:
    """Builds with one executor; `--secret` names files that are not the store's."""

    def __init__(self, base: Any, executor: str, engine: Any) -> None:
        self.base, self.executor, self.engine = base, executor, engine
        self.folders = [base.store]
        self.env = {"TMPDIR": str(base.root.parent / "tmp")}
        Path(self.env["TMPDIR"]).mkdir()
        self.folders.append(Path(self.env["TMPDIR"]))
        if engine:
            self.env["DOCKER_HOST"] = engine.socket
            self.folders.append(engine.folder)
        outside = base.root.parent / "outside"
        outside.mkdir()
        (outside / "file").write_text(OTHER + "\n")
        self.given = ["--secret", f"file={outside}/file", "--secret", "token=env:CANARY_OF_TEST"]

    def start(self, *arguments: str, given: bool = True) -> subprocess.Popen[bytes]:
        secrets = self.given if given else []
        return subprocess.Popen(
            [sys.executable, "-m", "builder", *arguments, *secrets],
            cwd=self.base.root,
            env={**os.environ, "BUILDER_CACHE_DIR": str(self.base.store), **self.env,
                 "CANARY_OF_TEST": CANARY},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str, status: int = 0, given: bool = True) -> bytes:
        process = self.start(*arguments, given=given)
        out, err = process.communicate(timeout=120)
        assert process.returncode == status, (out, err)
        assert b"Traceback" not in err and b"itself failed" not in err, err
        return out + err

    def build(self, *arguments: str, status: int = 0, given: bool = True) -> bytes:
        executor = ("--executor", self.executor)
        return self.run("build", *executor, *arguments, status=status, given=given)

    def clean(self) -> None:
        for folder in self.folders:
            assert kept(folder) == []


EXECUTORS = ("sandbox", "runc", "docker")


@pytest.fixture(params=EXECUTORS)
def steps(base: Any, request: pytest.FixtureRequest) -> Steps:
    engine = request.getfixturevalue("engine") if request.param == "docker" else None
    return Steps(base, request.param, engine)


@pytest.fixture
def sandbox(base: Any) -> Steps:
    return Steps(base, "sandbox", None)


def of_the_builder(lines: list[str], pid: int) -> list[str]:
    """Without the builder itself, whose caller gave it the variable."""
    return [line for line in lines if line.split()[0] != str(pid) or " cmdline " in line]


@pytest.mark.parametrize(
    ("steps", "progress", "ends"),
    [
        *((executor, "plain", ends) for executor in EXECUTORS for ends in ("well", "badly")),
        *(("sandbox", progress, "well") for progress in ("json", "tty", "quiet")),
    ],
    indirect=["steps"],
)
def test_a_canary_is_seen_by_its_step_alone(steps: Steps, progress: str, ends: str) -> None:
    script = (
        SAYS.replace("REST", REST)
        .replace("@", "2", 1)
        .replace("@", "true" if ends == "well" else "exit 3")
    )
    steps.base.spec("x", "from: rootfs:base.tar" + script)
    process = steps.start("build", "--executor", steps.executor, "--progress", progress)
    assert process.stderr is not None and process.stdout is not None
    said = b""
    out: list[bytes] = []
    reading = threading.Thread(target=lambda: out.append(process.stdout.read()), daemon=True)
    reading.start()
    if progress == "quiet":
        time.sleep(2)
    else:
        while b"RUNNING" not in said:
            chunk = os.read(process.stderr.fileno(), 1 << 16)
            assert chunk, said
            said += chunk
    assert of_the_builder(running(), process.pid) == []
    steps.clean()
    said += process.stderr.read()
    reading.join()
    assert process.wait() == (0 if ends == "well" else 1), said
    assert not found(said + out[0]), said
    if progress in ("plain", "json"):
        assert said.count(b"***") >= 8 and b"token=***;" in said and b"400:0:0" in said, said
    steps.clean()
    for command in ("plan", "plan --json", "why x", "build --json", "history x", "inspect x"):
        executor = ["--executor", steps.executor] if command[0] in "bhi" else []
        status = 1 if ends == "badly" and executor else 0
        told = steps.run(*command.split(), *executor, status=status)
        assert not found(told), told
        if status and "--json" in command:
            start = told.index(b'{\n  "error"')
            error, _ = json.JSONDecoder().raw_decode(told[start:].decode())
            assert error["error"]["exit_status"] == 3
            assert "RUNNING" in error["error"]["tail"] and "***" in error["error"]["tail"]
    steps.clean()


def test_nothing_of_it_is_in_the_layer(steps: Steps) -> None:
    file = "{secret: file, target: /srv/deep/er/f}"
    mounts = f"mounts: [{file}, {{secret: token, env: T}}, {{secret: token}}]"
    for name, more in (("with", mounts), ("without", "network: none")):
        steps.base.spec(name, f"from: rootfs:base.tar\nsteps:\n  - {{run: touch /x, {more}}}\n")
    told = steps.build("--json")
    start = told.index(b'{\n  "images"')
    images, _ = json.JSONDecoder().raw_decode(told[start:].decode())
    layers = {image["name"]: image["layers"][-1]["diff_id"] for image in images["images"]}
    assert layers["with"] == layers["without"], layers


def test_modes_owners_and_users(steps: Steps) -> None:
    steps.base.spec("x", """
from: rootfs:base.tar
steps:
  - run: |
      cmp /srv/a /run/secrets/other; ! cat /run/secrets/file; test -n "$T"; test ! -w /srv/a
      test -f /run/secrets/file
    user: web
    mounts:
      - {secret: file, target: /srv/a, mode: "0440", owner: web}
      - {secret: file, target: /run/secrets/other, mode: "444"}
      - {secret: file}
      - {secret: token, env: T}
""")  # fmt: skip
    steps.build()
    steps.clean()


def test_a_step_that_says_the_value_itself(sandbox: Steps) -> None:
    sandbox.base.spec("x", f"""
from: rootfs:base.tar
steps:
  - run: test "$T" = {CANARY}
    mounts: [{{secret: token, env: T}}]
""")  # fmt: skip
    told = sandbox.build(status=1)
    assert b"what the step says would hold the secret 'token'" in told and not found(told), told


LEAKS = {
    "content": ("run: cat /run/secrets/file > /srv/leak", "'/srv/leak'"),
    "within much": (
        "run: head -c 3000000 /dev/urandom > /srv/leak; cat /run/secrets/file >> /srv/leak;"
        " head -c 3000000 /dev/urandom >> /srv/leak", "'/srv/leak'"),
    "encoded": ("run: base64 /run/secrets/file > /srv/leak", "'/srv/leak'"),
    "a name": ("run: mkdir -p /srv/x && touch \"/srv/x/$TOKEN\"", "'/srv/x/***'"),
    "a link": ("run: ln -s \"to-$TOKEN\" /srv/l", "'/srv/l'"),
    "a folder's name": ("run: mkdir /srv/a$TOKEN", "'/srv/a***'"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "case"),
    [
        *(("sandbox", case) for case in LEAKS),
        *((executor, case) for executor in ("runc", "docker") for case in ("content", "a name")),
    ],
    indirect=["steps"],
)
def test_a_layer_that_would_hold_it(steps: Steps, case: str) -> None:
    run, where = LEAKS[case]
    mounts = "mounts: [{secret: file}, {secret: token, env: TOKEN}]"
    steps.base.spec("x", f"from: rootfs:base.tar\nsteps:\n  - {run}\n    {mounts}\n")
    told = steps.build(status=1)
    assert f"{where} would hold the secret '".encode() in told and b"x.yaml:3:" in told, told
    assert b"hint:" in told and not found(told)
    steps.clean()
    assert b"0 hit, 1 to build" in steps.run("plan")


USES = "- {run: 'true', mounts: [{secret: file}, {secret: token, env: T}]}"
HOLDS = {
    "a copy": ("steps: [{copy: own, dest: /own}, @]", "'/own'"),
    "a file": ("steps: [{file: /own, content: 'a #'}, @]", "'/own'"),
    "many": ("steps: [{copy: many/, dest: /many}, @]", "'/many/77'"),
    "a bind": ("steps: [{run: 'true', mounts: [{bind: own, target: /b}]}, @]", "'/b'"),
    "binds": ("steps: [{run: 'true', mounts: [{bind: many, target: /b}]}, @]", "'/b/77'"),
    "a label": ("steps: [@]\nconfig: {labels: {a: 'x #'}}", "config.Labels.a"),
    "a name of one": ("steps: [@]\nconfig: {labels: {'x #': a}}", "config.Labels.x ***"),
    "the environment": ("steps: [@]\nconfig: {env: {A: '#'}}", "what the step says"),
    "the environment later": ("steps: [@, {set: {env: {A: '#'}}}]", "the image's "),
    "the history": ("steps: [@, {name: 'says #', file: /a, content: b}]", "history["),
}


@pytest.mark.parametrize("case", HOLDS)
def test_what_has_it_from_elsewhere(sandbox: Steps, case: str) -> None:
    text, where = HOLDS[case]
    sandbox.base.file("own", "x" * 5000 + OTHER)
    for number in range(100):
        sandbox.base.file(f"many/{number}", CANARY if number == 77 else str(number))
    text = text.replace("@", USES.removeprefix("- ")).replace("#", CANARY)
    sandbox.base.spec("x", f"from: rootfs:base.tar\n{text}\n")
    told = sandbox.build(status=2 if where[:3] in ("con", "the", "his") else 1)
    assert where.encode() in told and b"would hold the secret" in told, told
    assert not found(told)
    holding = {Path(path).parent.name for path in kept(sandbox.base.store)}
    assert holding <= {"specs"}, holding  # the spec says it, and what was read of it is kept


def test_a_value_is_no_part_of_a_key_unless_it_rotates(sandbox: Steps) -> None:
    text = "from: rootfs:base.tar\nsteps:\n  - {run: touch /x, mounts: [{secret: file@}]}\n"
    secret = sandbox.base.root.parent / "outside" / "file"
    sandbox.base.spec("x", text.replace("@", ""))
    sandbox.base.spec("y", text.replace("@", ", rotate: true"))
    sandbox.build()
    assert b"0 to build" in sandbox.run("plan")
    secret.write_text("another value")
    assert b"1 to build" in (told := sandbox.run("plan")), told
    assert b"secret 'file'" in sandbox.run("why", "y")
    sandbox.build()
    assert b"0 to build" in sandbox.run("plan")
    # a hit needs no secret, and one that rotates cannot be told without
    assert b"hit" in sandbox.run("plan", "x", given=False)
    sandbox.build("x", given=False)
    told = sandbox.run("plan", "y", given=False, status=2)
    assert b"secret 'file' is not given" in told and b"y.yaml:3:" in told, told
    for name in ("records", "documents", "memos"):
        for path in (sandbox.base.store / name).iterdir():
            assert b"another value" not in path.read_bytes()


def test_what_rotates_and_is_not_given_is_told_with_all_others(sandbox: Steps) -> None:
    mounts = "[{secret: one, rotate: true}, {secret: two}, {bind: /, from: image:b, target: /b}]"
    sandbox.base.spec("b", "from: rootfs:base.tar\n")
    sandbox.base.spec(
        "x",
        f"from: rootfs:base.tar\nsteps:\n  - {{run: touch /x, mounts: {mounts}}}\n"
        "  - {run: touch /y, mounts: [{secret: three}]}\n",
    )
    sandbox.build("b", given=False)
    told = sandbox.build("x", given=False, status=2)
    for name in (b"one", b"two", b"three"):
        assert told.count(b"secret '%b' is not given" % name) == 1, told


def test_variables_that_go_are_told(sandbox: Steps) -> None:
    """Several secrets that are seen at no place."""
    kinds = [f"{{secret: file, env: {name}}}" for name in "ABCD"]
    for number, mounts in enumerate((kinds[:3], kinds[1:3], kinds[2:], kinds[3:], kinds[:1])):
        text = f"from: rootfs:base.tar\nsteps: [{{run: touch /x, mounts: [{', '.join(mounts)}]}}]\n"
        sandbox.base.spec("x", text)
        told = sandbox.run("why", "x")
        assert not number or b": mount secret " in told, told
        sandbox.build("x")


def test_the_lines_of_a_secret_of_a_step_that_waited_are_masked(sandbox: Steps) -> None:
    """Which secrets it sees is known when its base is: by then others are masked already."""
    secret = sandbox.base.root.parent / "outside" / "file"
    secret.write_text("a-value-that-is-cut-into-lines-as-it-is-told\n")
    sandbox.base.spec("b", "from: rootfs:base.tar\nconfig: {env: {NAME: file}}\n")
    sandbox.base.spec(
        "x",
        "from: image:b\nsteps:\n"
        '  - {run: \'sed "s/-/-\\\\n/g" /run/secrets/file |'
        " while read -r each; do echo $each; sleep 0.2; done',"
        ' mounts: [{secret: "{{ base.env.NAME }}"}]}\n',
    )
    told = sandbox.build("--progress", "plain", "x")
    assert b"***" in told
    assert b"into" not in told, told


def test_all_that_are_missing_are_told_before_anything_runs(sandbox: Steps) -> None:
    for name, secret in (("a", "one"), ("b", "two"), ("c", "fil")):
        sandbox.base.spec(name, f"""
from: rootfs:base.tar
steps:
  - run: touch /ran
  - run: 'true'
    mounts: [{{secret: {secret}}}, {{secret: one}}, {{secret: may, required: false}}]
  - {{run: 'true', mounts: [{{ssh: work}}]}}
""")  # fmt: skip
    told = sandbox.build("--keep-going", status=2)
    lines = [line for line in told.decode().splitlines() if line.startswith("error:")]
    assert len(lines) == 4, told
    for text in ("'one' is not", "'two' is not", "'fil' is not", "'work' is not"):
        assert any(text in line for line in lines), (text, lines)
    for text in (
        "did you mean 'file'",
        "--secret one=FILE",
        "--ssh work=",
        "a.yaml:6:",
        "b.yaml:6:",
    ):
        assert text.encode() in told, told
    assert b"touch" not in told


def test_steps_at_the_same_time_see_nothing(sandbox: Steps) -> None:
    sandbox.base.spec("holds", """
from: rootfs:base.tar
steps:
  - run: cat /run/secrets/file > /dev/null; sleep 4
    mounts: [{secret: file}, {secret: token, env: TOKEN}]
""")  # fmt: skip
    sandbox.base.spec("looks", """
from: rootfs:base.tar
steps:
  - run: |
      sleep 1
      half=Zq7ca; rest=REST; other=yT5other; end=+canary
      cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline > /tmp/all 2>/dev/null || true
      for each in $half$rest $other$end; do
        ! grep -r "$each" /tmp/all /run /dev/shm /root /srv @ 2>/dev/null
      done
      ls /run/secrets 2>/dev/null && exit 1
      rm /tmp/all
""".replace("@", str(sandbox.base.store)).replace("REST", REST))  # fmt: skip
    sandbox.build("--jobs", "2")


@pytest.mark.parametrize("steps", ["sandbox", "docker"], indirect=True)
def test_what_a_killed_builder_leaves(steps: Steps) -> None:
    steps.base.spec("x", """
from: rootfs:base.tar
steps:
  - run: echo RUNNING; sleep 60
    mounts: [{secret: file}, {secret: token, env: TOKEN}]
""")  # fmt: skip
    process = steps.start("build", "--executor", steps.executor, "--progress", "plain")
    assert process.stderr is not None
    said = b""
    while b"RUNNING" not in said:
        said += os.read(process.stderr.fileno(), 1 << 16)
    process.kill()
    process.communicate()
    steps.clean()
    if steps.engine:  # in its memory, until the next one
        assert steps.engine.docker("volume", "ls", "-q") != b""
        steps.base.spec("x", f"from: rootfs:base.tar\nsteps: [{USES.removeprefix('- ')}]\n")
        steps.build()
        assert steps.engine.docker("volume", "ls", "-q") == b""
        assert steps.engine.docker("ps", "-a", "-q") == b""


def test_values_that_are_too_short_or_not_there(sandbox: Steps) -> None:
    (sandbox.base.root.parent / "outside" / "file").write_text("abc\n")
    uses = "{run: '@', mounts: [{secret: file}, {secret: none}]}"
    run = "test -s /run/secrets/file; test -f /run/secrets/none; test ! -s /run/secrets/none"
    sandbox.base.spec("x", f"from: rootfs:base.tar\nsteps: [{uses.replace('@', run)}]\n")
    sandbox.given += ["--secret", "id=none,src=/dev/null"]
    told = sandbox.build(status=2)
    assert b"not a regular file" in told  # of a device's bytes there is no end
    (sandbox.base.root / "none").write_text("")
    sandbox.given[-1] = "id=none,src=none"
    told = sandbox.build()
    assert b"secret 'file' has 4 bytes: too few" in told and b"'none' has 0 bytes" in told, told


def test_short_values_are_not_found_in_what_the_builder_makes_itself(sandbox: Steps) -> None:
    outside = sandbox.base.root.parent / "outside" / "file"
    sandbox.base.spec("x", f"from: rootfs:base.tar\nsteps: [{USES.removeprefix('- ')}]\n")
    for value in ("linux", "amd64", "sha256", "layers", "mounts"):
        outside.write_text(value)
        sandbox.build("--platform", "linux/amd64")
    outside.write_text("/sbin")
    text = USES.replace("true", "id").removeprefix("- ")
    sandbox.base.spec("y", f"from: rootfs:base.tar\nsteps: [{text}]\n")
    told = sandbox.build("y", status=1)
    assert b"would hold the secret 'file'" in told and b"by chance" in told, told
