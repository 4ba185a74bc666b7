"""`builder diff`: any two images, of whatever they are kept in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Project, project

__all__ = ["project"]


@pytest.fixture
def two(project: Project) -> Project:
    """Images `a`, and `b` on it."""
    project.file("src/one", "one\n")
    project.file("src/d/e", "e")
    project.spec(
        "a",
        """
from: scratch
steps: [{copy: src/, dest: /srv/}]
config: {env: {A: "1"}, cmd: [x]}
""",
    )
    project.spec(
        "b",
        """
from: image:a
steps:
  - {file: /srv/one, content: "other\\n"}
  - {remove: /srv/d}
  - {file: /etc/new/x, content: y, mode: "0600"}
config: {env: {A: "2"}}
""",
    )
    return project


def test_all_sections_of_two_specs_built_for_it(two: Project) -> None:
    told = two.run("diff", "a", "b", "--text", status=3).stdout.splitlines()
    assert told[0].startswith("size: 5 B -> 7 B (+2 B), compressed ")
    assert told[1].startswith("layers: 1 shared, ")
    assert [line.split()[0] + " " + line.split("  ")[-1] for line in told[2:5]] == [
        "A file /srv/one",
        "A remove /srv/d",
        "A file /etc/new/x",
    ]
    assert told[5:] == [
        "config",
        "  C config.Env.A: '1' -> '2'",
        "files: 3 added, 2 removed, 1 changed",
        "  A /etc/  0 B",
        "  A /etc/new/  0 B",
        "  A /etc/new/x  1 B",
        "  D /srv/d/  0 B",
        "  D /srv/d/e  1 B",
        "  C /srv/one  content, 4 B -> 6 B",
        "    @@ -1,1 +1,1 @@",
        "    -one",
        "    +other",
    ]


def test_as_json_and_only_what_is_asked_for(two: Project) -> None:
    made = two.run("diff", "a", "b", "--json", "--only", "files,config", status=3)
    document = json.loads(made.stdout)
    assert document["differs"] is True
    assert not document.keys() & {"layers", "packages"}
    assert document["config"] == [{"field": "config.Env.A", "before": "1", "after": "2"}]
    files = {each["path"]: each for each in document["files"]}
    assert files["/srv/one"]["what"] == ["content", "size"]
    assert files["/etc/new/x"]["before"] is None
    assert files["/etc/new/x"]["after"] == {
        "type": "file", "mode": "0600", "uid": 0, "gid": 0, "size": 1,
    }  # fmt: skip
    told = two.run("diff", "a", "b", "--only", "packages")
    assert told.stdout == "no difference in packages\n"


def test_an_image_is_the_same_in_whatever_it_is_kept(two: Project) -> None:
    two.build(
        "b", "--tag", "other:1", "-o", "oci:layout:x", "-o", "oci-archive:o.tar",
        "-o", "docker-archive:d.tar",
    )  # fmt: skip
    digest = two.build("b")["b"]["digest"]
    for text in (
        *("specs/b.yaml", "other:1", digest[7:20]),
        *("oci:layout", "oci:layout:x", "oci-archive:o.tar", "docker-archive:d.tar"),
    ):
        told = two.run("diff", "b", text)
        assert told.stdout == "no difference in files, packages, config, layers\n", text


def test_another_store_brings_all_of_a_layout(two: Project, tmp_path: Path) -> None:
    two.build("a", "-o", "oci:a")
    two.build("b", "-o", "oci:b")
    two.store = tmp_path / "empty"
    told = two.run("diff", "oci:a", "oci:b", "--only", "files", status=3).stdout
    assert "files: 3 added, 2 removed, 1 changed" in told


BAD = [
    (2, "a", "", "no container 'a'", "builder diff A B"),
    (2, "a", "nope", "no image 'nope' in the store", "builder images"),
    (2, "a", "oci:", "'oci:' names no image, expected oci:DIR[:TAG]", ""),
    (2, "a", "a.tar", "'a.tar' is a file, expected an image", "docker-archive:a.tar is what"),
    (2, "a", "layout", "'layout' is a folder", "oci:layout is the layout in it"),
    (1, "a", "docker-archive:specs/a.yaml", "docker-archive:specs/a.yaml: ", ""),
    (1, "docker-archive:none.tar", "a", "docker-archive:none.tar: ", ""),
    (1, "a", "oci-archive:specs/a.yaml", "oci-archive:specs/a.yaml: ", ""),
    (1, "a", "oci-archive:a.tar", "oci-archive:a.tar: it has no index.json", "docker-archive"),
    (1, "a", "oci:layout:none", "oci:layout:none: the layout has no image 'none'", "tags are"),
    (1, "a", "localhost:1/x:1", "localhost:1: ", "registry running"),
    (2, "a", "arm:1", "'a' is for linux/amd64, 'arm:1' is for linux/arm64", "--platform"),
]


def test_bad_input_is_a_line_and_a_hint(two: Project) -> None:
    two.run("build", "a", "--platform", "linux/arm64", "--tag", "arm:1")
    two.build("a", "-o", "docker-archive:a.tar", "-o", "oci:layout")
    for status, one, other, message, hint in BAD:
        names = [each for each in (one, other) if each]
        made = two.run("diff", *names, "--progress", "quiet", status=status)
        told = made.stderr.splitlines()
        assert told[0].startswith(f"error: {message}"), told
        assert len(told) <= 2
        assert not hint or hint in told[1], told
    made = two.run("diff", "a", "a", "--only", "file", status=2)
    assert "--only 'file': expected files, packages, config, layers" in made.stderr
