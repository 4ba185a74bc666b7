"""What a day's commands say: the words of plan, why, build, images, history and lint."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

BASE = "from: rootfs:base.tar\n"


def test_stdout_names_what_was_asked_for_and_quiet_prints_digests(scene: Any) -> None:
    scene.spec("base", f"{BASE}steps:\n- {{file: /a, content: a}}\n")
    scene.spec("app", "from: image:base\nsteps:\n- {file: /b, content: b}\n")
    scene.spec("other", "from: image:base\nsteps:\n- {file: /c, content: c}\n")
    document = json.loads(scene.run("build", "--json", "app", "other").stdout)
    digests = {each["name"]: each["digest"] for each in document["images"]}
    assert set(digests) == {"base", "app", "other"}
    assert all(each["seconds"] >= 0 for each in document["images"])
    assert all(
        layer["seconds"] >= 0
        for each in document["images"]
        for layer in each["layers"]
        if layer["step"]
    )
    assert scene.run("build", "app").stdout == f"app {digests['app']}\n"
    quiet = scene.run("build", "-q", "app", "other")
    assert quiet.stdout == f"{digests['app']}\n{digests['other']}\n"
    assert quiet.stderr == ""
    both = scene.run(
        "build", "-q", "app", "--allow-foreign", "--platform", "linux/amd64,linux/arm64"
    )
    assert len(both.stdout.splitlines()) == 1  # of the index


def test_plan_knows_what_steps_took_and_which_failed(scene: Any) -> None:
    text = f"{BASE}steps:\n- {{name: one, run: sleep 1; true}}\n- {{name: two, run: 'true'}}\n"
    scene.spec("app", text)
    first = json.loads(scene.run("plan", "--json").stdout)["images"][0]
    assert [each["seconds"] for each in first["steps"]] == [None, None]
    scene.build("app")
    scene.spec(
        "app", text.replace("true}}", "exit 7}}").replace("sleep 1; true", "sleep 1; exit 7")
    )
    planned = json.loads(scene.run("plan", "--json").stdout)["images"][0]["steps"]
    assert planned[0]["seconds"] >= 1 and planned[1]["seconds"] is not None
    assert [each["failed"] for each in planned] == [None, None]
    scene.run("build", "app", status=1)
    planned = json.loads(scene.run("plan", "--json").stdout)["images"][0]["steps"]
    assert [each["failed"] for each in planned] == ["exit status 7", None]
    shown = scene.run("plan").stdout
    assert "  1  one    failed   " in shown and "exit status 7; command: " in shown
    assert "when they were last built" in shown
    scene.spec("app", text)
    scene.build("app")
    assert "failed" not in scene.run("plan").stdout


def test_images_and_history_tell_when_and_how_long(scene: Any) -> None:
    scene.spec(
        "app",
        f"{BASE}steps:\n- {{name: slow, run: sleep 1; echo x > /x}}\n"
        "- {name: quiet, run: 'true'}\n- {name: page, file: /b, content: b}\n",
    )
    scene.build("app")
    scene.run("tag", "app", "other:1")
    listed = scene.run("images").stdout.splitlines()
    assert listed[0].split() == ["NAME", "DIGEST", "PLATFORM", "BUILT", "SIZE", "PROJECT"]
    assert all("ago" in line or "just now" in line for line in listed[1:])
    built = {each["name"]: each["built"] for each in _json(scene, "images", "--json")["images"]}
    assert built["app"] == built["other:1"] is not None
    for name in ("app", "other:1"):
        history = _json(scene, "history", name, "--json")["history"]
        (slow,) = [each for each in history if each.get("step") == "slow"]
        assert slow["seconds"] >= 1 and slow["built"] > "2020"
        rows = scene.run("history", name).stdout.splitlines()
        assert rows[0].split() == ["DIFF_ID", "BUILT", "TOOK", "SIZE", "STEP", "CREATED", "BY"]
        for step in ("slow", "quiet", "page"):
            (row,) = [row for row in rows if f" {step} " in row]
            assert ("ago" in row or "just now" in row) and " s " in row


def test_lint_and_errors_are_counted(scene: Any) -> None:
    scene.spec("one", f"{BASE}steps:\n- {{file: /a, content: a}}\n")
    scene.spec("two", "from: image:one\nsteps: []\n")
    assert scene.run("lint").stdout == "2 specs, no faults\n"
    assert scene.run("lint", "one").stdout == "1 spec, no faults\n"
    scene.spec("bad", f"{BASE}steps:\n- {{fil: /a}}\n- {{file: /b}}\n")
    for verb in ("lint", "plan"):
        said = scene.run(verb, status=2).stderr.splitlines()
        assert said[-1] == f"{sum(line.startswith('error:') for line in said)} errors in 1 file"


def test_why_all_tells_every_path_and_how_texts_differ(scene: Any) -> None:
    """Random trees, before and after: the paths that it names are those that differ."""
    seeded = random.Random(3)
    folder: Path = scene.root / "tree"
    scene.spec("app", f"{BASE}steps:\n- {{name: tree, copy: tree/, dest: /t/}}\n")
    for _ in range(int(os.environ.get("FEEL_ROUNDS", "3"))):
        before, after = _tree(seeded), _tree(seeded)
        _write(folder, before)
        scene.build("app")
        _write(folder, after)
        said = scene.run("why", "app", "--all").stdout.splitlines()
        told = {line[4:].partition(": ")[0] for line in said if line.startswith("    /t/")}
        names = {f"/t/{n}" for n in {*before, *after} if before.get(n) != after.get(n)}
        assert told == names, said
        for name in before.keys() & after.keys():
            old, new = before[name], after[name]
            if old != new and b"\0" not in old + new:
                at = said.index(f"    --- /t/{name} (last build)")
                diff = [line[4:] for line in said[at + 2 :]]
                assert diff[0].startswith("@@ ")
                gone = set(old.decode().splitlines()) - set(new.decode().splitlines())
                assert all(f"-{line}" in diff for line in gone)


def test_why_all_tells_fields_of_a_command_and_no_value_of_env(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOK", "first-secret")
    text = (
        BASE + "steps:\n- name: cmd\n  run: |\n    echo one\n    echo two\n  env: {A: '1', B: x}\n"
        "- {name: text, file: /t, content: \"token {{ env('TOK', 'none') }}\\nline\\n\"}\n"
    )
    scene.spec("app", text)
    scene.build("app")
    scene.spec("app", text.replace("echo two", "echo 2").replace("A: '1'", "A: '2', C: '3'"))
    said = scene.run("why", "app", "cmd", "--all").stdout
    for line in (
        "env A: '1' -> '2'", "env C: unset -> '3'", "-echo two", "+echo 2",
    ):  # fmt: skip
        assert f"    {line}\n" in said, said
    scene.spec("app", text.replace("line", "other line"))
    monkeypatch.setenv("TOK", "second-secret")
    said = scene.run("why", "app", "--all").stdout
    assert "    -line\n" in said and "    +other line\n" in said, said
    assert "second-secret" not in said


def _tree(seeded: random.Random) -> dict[str, bytes]:
    lines = [f"line {n}\n".encode() for n in range(9)]
    return {
        name: b"".join(seeded.sample(lines, seeded.randrange(1, 9)))
        + (b"\0" if seeded.random() < 0.2 else b"")
        for name in seeded.sample("abcdefgh", seeded.randrange(1, 8))
    }


def _write(folder: Path, files: dict[str, bytes]) -> None:
    subprocess.run(["rm", "-rf", folder], check=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _json(scene: Any, *arguments: str) -> Any:
    return json.loads(scene.run(*arguments).stdout)
