"""What the context lacks is told before anything runs, of all images at once."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

SPECS = {
    "base": """from: scratch
steps:
- run: [/no/such/program]
- {copy: [nothing, there], dest: /a/}
""",
    "top": """from: image:base
steps:
- {copy: here, dest: /}
- {copy: "no*thing", dest: /b/}
- {copy: secret, dest: /}
- {template: nowhere.j2, dest: /t}
- {template: folder, dest: /t}
- {unpack: gone.tar, dest: /}
""",
    "other": "from: rootfs:absent.tar\nsteps:\n- {copy: here, dest: /}\n",
    "fine": "from: scratch\nsteps:\n- {copy: here, dest: /}\n",
}
TOLD = (
    "base.yaml:4:10: 'nothing' does not exist in the context",
    "base.yaml:4:10: 'there' does not exist in the context",
    "top.yaml:4:10: 'no*thing' matches nothing in the context",
    "top.yaml:5:10: 'secret' is excluded by .dockerignore",
    "top.yaml:6:14: 'nowhere.j2' does not exist in the context",
    "top.yaml:7:14: 'folder' is not a file, expected a file: the template",
    "top.yaml:8:12: 'gone.tar' does not exist in the context",
    "other.yaml:1:7: there is no 'absent.tar', expected a path from the context folder",
)


@pytest.mark.parametrize("command", ["build", "plan"])
def test_all_missing_sources_are_told_before_anything_runs(project: Any, command: str) -> None:
    for name, text in SPECS.items():
        project.spec(name, text)
    for name in ("here", "secret", "folder/x"):
        project.file(name, name)
    project.file(".dockerignore", "secret\n")
    said = project.run(command, status=2).stderr
    for each in TOLD:
        assert f"specs/{each}" in said, (each, said)
    assert "no/such/program" not in said
    assert project.run(command, "fine").stderr.count("error") == 0


def test_a_bad_ignore_file_is_told_once_with_its_line(project: Any) -> None:
    project.spec("a", "from: scratch\nsteps:\n- {copy: [here, here], dest: /a/}\n")
    project.file("here", "")
    project.file(".dockerignore", "# fine\n[a\n")
    for command in ("build", "plan", "lint"):
        said = project.run(command, status=2).stderr
        assert said.count(".dockerignore:2:1: '[a' is no pattern") == 1, (command, said)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "is not a regular file"),
        (os.mkdir, "is not a regular file"),
        (lambda path: os.symlink("/etc/passwd", path), "leads out of the context"),
        (lambda path: os.symlink(path, path), "leads through symlinks in a circle"),
    ],
)
def test_what_is_no_ignore_file_is_told_once_and_is_no_steps_fault(
    project: Any, make: Callable[[str], None], said: str
) -> None:
    project.spec("a", "from: scratch\nsteps:\n- {copy: [here, here], dest: /a/}\n")
    project.file("here", "")
    make(str(project.root / ".dockerignore"))
    for command in ("build", "plan", "lint"):
        text = project.run(command, status=2).stderr
        assert text.count(said) == 1 and "specs/a.yaml" not in text, (command, text)


COPIES = {
    "all": {"copy": ".", "exclude": ["specs"]},
    "folder": {"copy": "deep"},
    "glob": {"copy": "de*"},
    "folders": {"copy": "**", "exclude": ["specs"]},
    "kept": {"copy": ".", "exclude": ["specs"], "preserve": ["mode", "xattrs"]},
}


@pytest.mark.parametrize("name", COPIES)
def test_a_store_in_the_context_is_left_out_and_told_once(project: Any, name: str) -> None:
    steps = [{**COPIES[name], "dest": f"/{number}/"} for number in range(2)]
    project.spec("a", json.dumps({"from": "scratch", "steps": steps}))
    project.file("deep/f", "f")
    store = project.root / "deep" / ".cache"
    project.run("build", "--cache-dir", "deep/.cache")
    for command in (["build"], ["plan", "--exit-code"]):
        said = project.run(*command, "--cache-dir", "deep/.cache").stderr
        told = [line for line in said.splitlines() if "is left out" in line]
        assert told == ["warning: 'deep/.cache' is left out: a store of the builder's"], command
    project.run("build", "-o", "docker-archive:../out.tar", "--cache-dir", "deep/.cache")
    with tarfile.open(project.root.parent / "out.tar") as out:
        (manifest,) = json.loads(_member(out, "manifest.json"))
        for layer in manifest["Layers"]:
            data = _member(out, layer)
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                names = tar.getnames()
            assert any(each.endswith("/f") for each in names)
            assert not [each for each in names if ".cache" in each]
    assert store.is_dir()


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


@pytest.mark.parametrize("source", [".cache", ".cache/blobs", ".cache/*", "link"])
def test_a_store_is_no_source(project: Any, source: str) -> None:
    project.spec("a", json.dumps({"from": "scratch", "steps": [{"copy": source, "dest": "/a/"}]}))
    (project.root / "link").symlink_to(".cache")
    said = project.run("build", "--cache-dir", ".cache", status=2).stderr
    assert "a store of the builder's" in said or "matches nothing" in said


def test_another_cache_folder_is_copied(project: Any) -> None:
    """The tag says what a folder is; other programs have tags of their own."""
    project.spec("a", '{"from": "scratch", "steps": [{"copy": "c", "dest": "/a/"}]}')
    project.file("c/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# of another\n")
    project.file("c/version", "1")
    assert "left out" not in project.run("build").stderr


MISSING = ("oci:none", "docker-archive:none.tar", "rootfs:none.tar", "oci:none/below:1")
USES = {
    "the base": "from: {0}",
    "a copy": "from: scratch\nsteps:\n  - {{copy: /x, from: '{0}', dest: /x}}",
    "a stage's base": "from: stage:a\nstages:\n  a: {{from: '{0}'}}",
    "a stage's copy": "from: stage:a\nstages:\n  a:\n    from: scratch\n    steps:\n"
    "      - {{copy: /x, from: '{0}', dest: /x}}",
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("ref", MISSING)
def test_a_missing_file_of_an_image_is_told_by_all_with_the_others(
    project: Any, use: str, ref: str
) -> None:
    project.spec("a", USES[use].format(ref))
    project.spec("b", "from: scratch\nsteps:\n  - {copy: none.txt, dest: /x}")
    for command in ("lint", "plan", "build"):
        said = project.run(command, status=2).stderr
        assert said.count("error: ") == 2 and "specs/a.yaml:" in said and "specs/b.yaml:" in said
        assert f"there is no {ref.partition(':')[2].partition(':')[0]!r}" in said
