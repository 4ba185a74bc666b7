"""What both of Docker's builders refuse, ours refuses too; and what parents a layer must name."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

CONTEXT = {"file": "file", "dir/x": "x", "links/out": "-> ../../outside", "links/gone": "-> gone"}
BASE = {
    "file": "file",
    "dir/old": "old",
    "flink": "-> file",
    "tmp/": ("", 0o1777),
    "root/": ("", 0o700),
    "home/app/": ("", 0o750, (1000, 1001)),
}

REFUSED = {
    "a missing source": ("missing", "/x"),
    "a source out of the context": ("links/out", "/x"),
    "a dangling source": ("links/gone", "/x"),
    "a directory over a file": ("dir", "/file"),
    "a directory over a symlink to a file": ("dir", "/flink"),
    "a file into a file": ("file", "/file/"),
    "a file below a file": ("file", "/file/x"),
}


@pytest.fixture(scope="module")
def base(sides: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A context with the base's archive in it."""
    folder: Path = tmp_path_factory.mktemp("errors")
    sides.make_tree(folder / "context", CONTEXT)
    (folder / "outside").write_text("secret")
    sides.make_tree(folder / "root", BASE)
    sides.out("import", "-", "parity:errors", input=sides.tar_of(folder / "root"))
    (folder / "context" / "base.tar").write_bytes(sides.out("save", "parity:errors"))
    return folder / "context"


@pytest.mark.root
@pytest.mark.needs("dockerd")
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_by_all(sides: Any, base: Path, tmp_path: Path, name: str) -> None:
    source, dest = REFUSED[name]
    text = f"FROM parity:errors\nCOPY {source} {dest}\n"
    for buildkit in (False, True):
        assert sides.build(text, base, "parity:refused", buildkit=buildkit)
    spec = {"from": "docker-archive:base.tar", "steps": [{"copy": source, "dest": dest}]}
    done = sides.ours(spec, base, tmp_path)
    assert done.returncode in (1, 2)
    assert "ours.yaml:1:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.root
@pytest.mark.needs("dockerd", "skopeo")
def test_parents_keep_their_metadata_because_the_layer_names_them(
    sides: Any, base: Path, tmp_path: Path
) -> None:
    parents = ("tmp", "root", "home/app")
    steps = [{"file": f"/{parent}/x", "content": "x"} for parent in parents]
    done = sides.ours({"from": "docker-archive:base.tar", "steps": steps}, base, tmp_path)
    assert done.returncode == 0, done.stderr
    sides.load(tmp_path / "store", "ours", "parity:parents", tmp_path)
    below, ours = (sides.tree(image) for image in ("parity:errors", "parity:parents"))
    assert [ours[parent] for parent in parents] == [below[parent] for parent in parents]


@pytest.mark.root
@pytest.mark.needs("dockerd")
def test_docker_makes_parents_that_a_layer_does_not_name_plain(
    sides: Any, base: Path, tmp_path: Path
) -> None:
    """The reason for the rule: were it to fall, layers could leave parents out."""
    if b"overlay2" not in sides.out("info", "--format", "{{.Driver}}"):
        return  # other drivers unpack into the folders below
    with tarfile.open(base / "base.tar") as tar:
        (manifest,) = json.loads(member(tar, "manifest.json"))
        config = json.loads(member(tar, manifest["Config"]))
        layer = member(tar, manifest["Layers"][0])
    from builder.oci.digest import digest_of

    added = archive({"tmp/x": b"x", "root/x": b"x", "home/app/x": b"x"})
    config["rootfs"]["diff_ids"].append(digest_of(added))
    config["history"].append({"created_by": "by hand"})
    entry = {"Config": "c.json", "RepoTags": ["parity:hand"], "Layers": ["1.tar", "2.tar"]}
    image = {
        "manifest.json": json.dumps([entry]).encode(),
        "c.json": json.dumps(config).encode(),
        "1.tar": layer,
        "2.tar": added,
    }
    sides.out("load", input=archive(image))
    tree = sides.tree("parity:hand")
    for parent in ("tmp", "root", "home/app"):
        assert (tree[parent].mode[-4:], tree[parent].owner) == ("0755", "0:0")


def member(tar: tarfile.TarFile, name: str) -> bytes:
    content = tar.extractfile(name)
    assert content is not None
    return content.read()


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
