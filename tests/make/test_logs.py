"""Logs: all that steps print is kept and found again, whatever becomes of the build."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.errors import StoreError
from builder.oci.image import Platform
from builder.store import logs
from builder.store.logs import END, MOST, Failure, Log, load_log
from builder.store.names import ImageName
from builder.store.store import Store

BASE = "from: rootfs:base.tar\n"
IMAGE = ImageName("app", Platform("linux", "amd64"), "/x")


def test_every_line_is_found_again(scene: Any) -> None:
    """Over builds that fail at any step, are mended and built again: the log is what was told."""
    seeded = random.Random(7)
    for round_ in range(int(os.environ.get("LOG_ROUNDS", "3"))):
        count = seeded.randrange(1, 5)
        fails = seeded.randrange(1, count + 1)
        texts = [
            [seeded.choice(("x", "ü\\x1b[31m", "a b" * 300, "", "e: no")) + f"{round_}-{at}-{n}"
             for n in range(seeded.randrange(60))]
            for at in range(count)
        ]  # fmt: skip
        steps = "".join(
            f"- name: s{at}\n  run: |\n    cat <<'E'\n"
            + "".join(f"    {line}\n" for line in lines)
            + f"    E\n    exit {1 if at + 1 == fails else 0}\n"
            for at, lines in enumerate(texts)
        )
        scene.spec("app", f"{BASE}steps:\n{steps}")
        told: list[list[str]] = [[] for _ in texts]
        for line in scene.run("build", "app", "--progress", "json", status=1).stderr.splitlines():
            event = json.loads(line)
            if event["event"] == "step_output":
                told[event["step"] - 1].append(event["line"])
        assert told[:fails] == texts[:fails]
        found = json.loads(scene.run("logs", "app", "--json").stdout)["steps"]
        assert [(each["step"], each["lines"] or []) for each in found] == [
            (fails, texts[fails - 1])
        ]
        scene.spec("app", f"{BASE}steps:\n{steps.replace('exit 1', 'exit 0')}")
        for _ in range(2):  # built, and then all hits
            scene.build("app")
            found = json.loads(scene.run("logs", "app", "--json").stdout)["steps"][1:]
            assert [each["lines"] or [] for each in found] == texts
            assert not any(each["failed"] for each in found)


def test_one_step_is_printed_bare_and_several_with_their_names(scene: Any) -> None:
    scene.spec(
        "app",
        f"{BASE}steps:\n- name: one\n  run: echo out; echo err >&2; printf '\\033[31mred\\033[2J'\n"
        "- {file: /x, content: x}\n- name: two\n  run: echo two\n",
    )
    scene.build("app")
    assert scene.run("logs", "app", "one").stdout == "out\nerr\nred\n"
    assert scene.run("logs", "app", "3").stdout == "two\n"
    all_of_it = "app [1] one\nout\nerr\nred\n\napp [3] two\ntwo\n"
    assert scene.run("logs", "app").stdout == all_of_it
    assert scene.run("logs", "specs/app.yaml").stdout == all_of_it
    done = scene.run("logs", "app", "2")
    assert (done.stdout, done.stderr) == (
        "",
        "step 'file /x' printed nothing, or its log is gone\n",
    )
    assert "there are: 1 one, 2 file /x, 3 two" in scene.run("logs", "app", "3x", status=2).stderr
    assert "no build of 'nope' is known" in scene.run("logs", "nope", status=2).stderr


def test_a_failure_is_forgotten_once_the_image_is_built(scene: Any) -> None:
    good = f"{BASE}steps:\n- name: one\n  run: echo fine\n"
    scene.spec("app", good)
    scene.build("app")
    scene.spec("app", good + "- name: two\n  run: echo broken; exit 3\n")
    scene.run("build", "app", status=1)
    said = scene.run("logs", "app").stdout.splitlines()
    assert said[0].startswith("app [2] two  failed ") and said[0].endswith(": exit status 3")
    assert said[1:] == ["broken"]
    assert scene.run("logs", "app", "one").stdout == "fine\n"
    scene.spec("app", good)  # all hits: nothing is made
    scene.build("app")
    assert scene.run("logs", "app").stdout == "app [1] one\nfine\n"


def test_a_stage_that_failed_is_its_image_s_failure(scene: Any) -> None:
    scene.spec(
        "app",
        "stages:\n  make:\n    from: rootfs:base.tar\n    steps:\n"
        "    - {name: compile, run: 'echo no; exit 1'}\n"
        "from: scratch\nsteps:\n- {copy: /etc, from: stage:make, dest: /etc}\n",
    )
    done = scene.run("build", "app", status=1)
    assert scene.run("logs", "app").stdout.endswith(": exit status 1\nno\n")
    assert scene.run("logs", "app:make", "1").stdout == "no\n"
    assert done.stdout == ""


def test_each_platform_has_its_logs(scene: Any) -> None:
    scene.spec(
        "app",
        "platforms: [linux/amd64, linux/arm64]\nstages:\n  make:\n    from: rootfs:base.tar\n"
        "    platform: host\n    steps:\n    - {name: say, run: 'echo {{ target.arch }}'}\n"
        "from: scratch\nsteps:\n- {copy: /etc, from: stage:make, dest: /etc}\n",
    )
    scene.run("build", "app")
    for name in ("amd64", "arm64"):
        found = scene.run("logs", "app:make", "say", "--platform", f"linux/{name}")
        assert found.stdout == f"{name}\n"


def test_a_secret_is_in_no_log(scene: Any) -> None:
    scene.spec(
        "app",
        f"{BASE}steps:\n- name: one\n  run: cat /run/secrets/key; exit 3\n"
        "  mounts: [{secret: key}]\n",
    )
    (scene.root / "key").write_text("s3cr3t-value-of-it")
    for _ in range(2):
        scene.run("build", "app", "--secret", f"key={scene.root}/key", status=1)
    assert "***" in scene.run("logs", "app").stdout
    for path in Path(scene.store, "logs").iterdir():
        kept = load_log(Store(str(scene.store)), path.name)
        assert kept and b"s3cr3t" not in kept.text and b"s3cr3t" not in path.read_bytes()


def test_each_view_shows_a_failure_once_and_shortly(scene: Any) -> None:
    scene.spec(
        "app",
        f"{BASE}steps:\n- name: one\n  run: |\n"
        '    i=0; while [ $i -lt 300 ]; do echo "word $i"; i=$((i+1))\n'
        "    [ $i != 50 ] || printf 'x.c:1:2: error: \\033]0;t\\007no\\n   foo\\n   ^\\n'\n"
        "    done\n    exit 3\n",
    )
    error, after = "x.c:1:2: error: no", "(286 lines not shown: builder logs app 1)"
    last = [f"word {number}" for number in range(286, 300)]
    short = [f"| {line}" for line in (error, "   foo", "   ^", after, *last)]
    for mode in ("quiet", "plain", "json", "tty"):
        said = scene.run("build", "app", "--progress", mode, status=1).stderr
        assert "\x1b]" not in said and "\x07" not in said
        lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in said.splitlines()]
        if mode == "quiet":
            assert lines[: len(short)] == short and lines[len(short)].startswith("error: ")
        if mode == "tty":
            at = lines.index(short[0])
            assert lines[at : at + len(short)] == short and lines.count(short[0]) == 1
        if mode == "plain":
            assert sum(line == f"app 1| {error}" for line in lines) == 1
            assert sum("word 299" in line for line in lines) == 1
            at = lines.index(f"| {error}")
            assert lines[at : at + 4] == [*short[:3], "| (all of it: builder logs app 1)"]
        if mode == "json":
            events = [json.loads(line) for line in lines]
            assert sum(each.get("line") == "word 299" for each in events) == 1
            assert events[-1]["first_errors"] == [
                "x.c:1:2: error: \x1b]0;t\x07no",
                "   foo",
                "   ^",
            ]
            assert (events[-1]["tail"], events[-1]["log"]) == (last, "builder logs app 1")


# -- the log itself ----------------------------------------------------------------------------


def test_a_long_log_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    store, log = Store(str(tmp_path / "store")), Log()
    lines = [f"line {number} {'x' * (number % 3000)}" for number in range(45_000)]
    for at in range(0, len(lines), 100):
        log.write("\n".join(lines[at : at + 100]))
    assert log.lines == len(lines)
    assert log.save(store, "a" * 64)
    kept = load_log(store, "a" * 64)
    assert kept and len(kept.text) <= MOST + 200
    found = kept.text.decode().splitlines()
    (gap,) = (at for at, line in enumerate(found) if line.startswith("... ("))
    assert found[gap] == f"... ({kept.missing} bytes are not kept) ..."
    assert found[:gap] == lines[:gap]
    after = found[gap + 1 :]
    assert after == lines[-len(after) :]
    assert END * 0.9 < sum(map(len, after)) + len(after) <= END
    whole = sum(map(len, lines)) + len(lines)
    assert whole == kept.missing + len(kept.text) - len(found[gap]) - 1


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_store_that_takes_no_log_fails_no_build(tmp_path: Path, kind: str) -> None:
    store, log = Store(str(tmp_path / "store")), Log()
    log.write("x")

    def save(*_: object) -> None:
        raise StoreError("no")

    warned: list[str] = []
    store.folder.warn = warned.append  # type: ignore[method-assign]
    (tmp_path / "store/logs").write_text("no folder") if kind == "full" else None
    if kind == "read-only":
        subprocess.run(["chmod", "a-w", tmp_path / "store"], check=True)
        store.save = save  # type: ignore[method-assign]
    assert not log.save(store, "b" * 64)
    assert len(warned) == 1 and warned[0].startswith("what steps print is not kept in the store: ")


def test_hostile_logs_are_misses_or_bounded(tmp_path: Path) -> None:
    from isal import isal_zlib

    store = Store(str(tmp_path / "store"))
    good = Log()
    good.write("one\ntwo")
    good.save(store, "c" * 64, Failure(IMAGE, 3, "s", "m", 5, ((1, "a", "d" * 64),), "e"))
    kept = load_log(store, "c" * 64)
    assert kept == (b"one\ntwo\n", 0, Failure(IMAGE, 3, "s", "m", 5, ((1, "a", "d" * 64),), "e"))
    data = store.load("logs", "c" * 64)
    assert data
    seeded = random.Random(3)
    for number in range(int(os.environ.get("LOG_ROUNDS", "3")) * 300):
        flipped = bytearray(data)
        for _ in range(seeded.randrange(1, 6)):
            flipped[seeded.randrange(len(flipped))] = seeded.randrange(256)
        if number % 3 == 0:
            del flipped[seeded.randrange(len(flipped)) :]
        store.save("logs", "c" * 64, bytes(flipped))
        load_log(store, "c" * 64)
        logs.failures(store)
    store.save("logs", "c" * 64, b"{}\n" + isal_zlib.compress(bytes(200_000_000), 1))
    bomb = load_log(store, "c" * 64)
    assert bomb is None or len(bomb.text) <= MOST + END + (1 << 17)
