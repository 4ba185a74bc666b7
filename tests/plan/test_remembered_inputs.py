"""What is remembered of a step's inputs: a store that has seen another project gives what a new one
gives, whichever of the things that a file step sees is the one that differs."""

from __future__ import annotations

import os
import tarfile
import time
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from builder import build
from builder.oci.image import Platform

SPEC = """
from: rootfs:base.tar
vars: {word: w}
config: {user: app, working_dir: /srv}
steps:
  - template: t.j2
    dest: told
  - copy: tree
    dest: /tree/
"""
TEMPLATE = """{{ spec.name }} {{ word }} {{ target.arch }} {{ env('SEEN', '-') }}
{{ base.env.PATH }} {{ base.user }} {{ base.working_dir }}
"""
PASSWD = "app:x:7:8::/srv:/bin/sh\n"
IN_A_STAGE = f"from: stage:first\nstages:\n  first:\n{indent(SPEC, '    ')}"

DIFFERENT: dict[str, dict[str, Any]] = {
    "the image's name by its file": {"image": "other"},
    "the image's name by its text": {"spec": f"name: another{SPEC}"},
    "the image's name by a row": {"spec": f"name: 'x-{{{{ r }}}}'\nmatrix: {{r: [a, b]}}{SPEC}"},
    "the image's name, in a stage": {"spec": IN_A_STAGE, "image": "third"},
    "a variable": {"spec": SPEC.replace("word: w", "word: v")},
    "a variable that is set": {"options": {"variables": {"word": "v"}}},
    "what env() gives": {"options": {"environ": {"SEEN": "1"}}},
    "the platform": {"options": {"platforms": (Platform("linux", "arm64"),)}},
    "the epoch": {"options": {"epoch": 5}},
    "the user's number": {"passwd": PASSWD.replace("7:8", "9:9")},
    "the user": {"spec": SPEC.replace("user: app", "user: '12'")},
    "the folder": {"spec": SPEC.replace("/srv", "/opt")},
    "the base's environment": {"spec": SPEC.replace("user: app", "user: app, path: [/x]")},
    "the template": {"template": TEMPLATE + "!"},
    "a copied file": {"tree": "other"},
    "the owner": {"spec": SPEC.replace("dest: told", "dest: told\n    owner: app")},
    "the mode": {"spec": SPEC.replace("dest: told", "dest: told\n    mode: '0600'")},
}


def make(root: Path, case: dict[str, Any]) -> None:
    (root / "specs").mkdir(parents=True)
    (root / "tree").mkdir()
    image = case.get("image", "image")
    (root / "specs" / f"{image}.yaml").write_text(case.get("spec", SPEC))
    first = root.parent / "first"
    for path, text, given in (("t.j2", TEMPLATE, "template"), ("tree/file", "tree", "tree")):
        if given in case or root == first:
            (root / path).write_text(case.get(given, text))
        else:
            os.link(first / path, root / path)  # told by its inode: the same, wherever it lies
    (root / "passwd").write_text(case.get("passwd", PASSWD))
    with tarfile.open(root / "base.tar", "w") as tar:
        tar.add(
            root / "passwd", "etc/passwd", filter=lambda info: info.replace(mtime=0, deep=False)
        )


def without_time(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime = 0
    return info


def built(root: Path, case: dict[str, Any], store: Path) -> dict[str, str]:
    """The digest of each image."""
    given: dict[str, Any] = {"environ": {}, **case.get("options", {})}
    made = build(specs=str(root / "specs"), cache_dir=str(store), **given)
    return {name: each.manifest.digest for name, each in made.items()}


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Projects whose files are old enough to be remembered, `first` among them."""
    root = tmp_path_factory.mktemp("projects")
    make(root / "first", {})
    for name, case in DIFFERENT.items():
        make(root / name, case)
    time.sleep(2.1)
    return root


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_store_that_saw_another_gives_what_a_new_one_gives(
    settled: Path, tmp_path: Path, name: str
) -> None:
    case = DIFFERENT[name]
    first = built(settled / "first", {}, tmp_path / "store")
    again = built(settled / name, case, tmp_path / "store")
    assert again == built(settled / name, case, tmp_path / "new")
    assert again != first
    assert built(settled / "first", {}, tmp_path / "store") == first
