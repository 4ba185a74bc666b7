"""The command line where a user would stumble."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.cli.conftest import Project


def test_several_images_do_not_go_to_one_place(project: Project) -> None:
    for name in ("one", "two"):
        project.spec(name, "from: scratch\nsteps:\n  - {file: /a, content: a}\n")
    made = project.run("build", "--output", "oci:out", status=2)
    assert "error: --output 'oci:out': 2 images would be written to one place: one, two" in (
        made.stderr
    )
    assert not (project.root / "out").exists()


FILES = "from: scratch\nsteps:\n  - {file: /a, content: a}\n"


def test_keys_are_digests_in_json_documents(project: Project) -> None:
    project.spec("one", FILES)
    (layer,) = project.build()["one"]["layers"]
    assert re.fullmatch("sha256:[0-9a-f]{64}", layer["key"])
    planned = json.loads(project.run("plan", "--json").stdout)
    assert planned["images"][0]["steps"][0]["key"] == layer["key"]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_harm_nothing(project: Project, closed: str) -> None:
    project.spec("one", FILES)
    call = [sys.executable, "-m", "builder", "build", "--iidfile", "id"]
    made = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *call],
        cwd=project.root,
        env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0 and "error" not in made.stderr
    assert (project.root / "id").read_text().startswith("sha256:")


def test_a_terminal_that_cannot_say_a_name_gets_an_escape(project: Project) -> None:
    project.spec("one", "from: scratch\nsteps:\n  - {file: /ü, content: a}\n")
    assert "/\\xfc" in project.run("plan", env={"PYTHONIOENCODING": "ascii"}).stdout


def test_a_locale_in_which_paths_are_other_bytes_is_refused(project: Project) -> None:
    project.spec("one", FILES)
    locale = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert "hint: LC_ALL=C.UTF-8" in project.run("build", env=locale, status=2).stderr


@pytest.mark.parametrize("epoch", ["-1", "1e9", "253402300800", "9" * 30])
def test_an_epoch_beyond_all_calendars_is_a_usage_error(project: Project, epoch: str) -> None:
    project.spec("one", FILES)
    made = project.run("build", env={"SOURCE_DATE_EPOCH": epoch}, status=2)
    assert f"error: SOURCE_DATE_EPOCH '{epoch}' is not" in made.stderr


def test_a_word_that_is_no_platform_is_a_usage_error(project: Project) -> None:
    project.spec("one", FILES)
    made = project.run("plan", "--platform", "foo", status=2)
    assert "error: 'foo' is not a platform, expected os/arch" in made.stderr


def test_usage_is_checked_before_anything_is_built(project: Project) -> None:
    project.spec("one", FILES)
    project.run("build", "--depfile", "d", status=2)
    assert project.plan()["one"] == [("build", "first build")]


def test_a_wrong_folder_says_what_to_do(project: Project) -> None:
    made = project.run("plan", "--specs", "nowhere", status=2)
    assert "--specs" in made.stderr.splitlines()[1]


def test_a_store_below_proc_is_an_error_of_one_line(project: Project) -> None:
    project.spec("one", FILES)
    made = project.run("build", "--cache-dir", "/proc/x/y", status=1)
    assert "cannot make the store's folder /proc/x/y" in made.stderr


def test_a_failed_command_is_told_in_json(base: Project) -> None:
    base.spec(
        "fails",
        "from: rootfs:base.tar\nsteps:\n  - file: /x\n    content: x\n"
        "  - name: it ends\n    run: |\n      echo one\n      echo two >&2\n      exit 7\n",
    )
    done = base.run("build", "fails", "--json", status=1)
    error = json.loads(done.stdout)["error"]
    assert error.pop("place") == {"file": "specs/fails.yaml", "line": 6, "column": 10}
    assert error.pop("step") == {"image": "fails", "number": 2, "name": "it ends"}
    assert (error.pop("exit_status"), error.pop("tail")) == (7, ["one", "two"])
    assert error.pop("message") == "step 'it ends' failed: exit status 7"
    assert (error.pop("first_errors"), error.pop("log")) == ([], "builder logs fails 2")
    assert set(error) <= {"hint"}
