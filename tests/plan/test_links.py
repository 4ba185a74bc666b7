"""Hard links in what is copied: one inode in the layer too, whatever lands where."""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import tarfile
from pathlib import Path
from typing import Any

from builder.layer.write import write_layer
from builder.spec.model import Place
from builder.steps.copy import Copy
from builder.steps.symlink import Symlink
from tests.patterns import NAMES

HERE = Place("specs/a.yaml", 3, 5)
COUNT = 1500 if os.environ.get("RELIABILITY") == "full" else 60
SEED = int(os.environ.get("RELIABILITY_SEED", "1"))


def copy(*sources: str, dest: str = "/to/", **options: Any) -> Copy:
    return Copy(HERE, None, sources, dest, **options)


def tree(shop: Any, *steps: Any) -> dict[str, tuple[str, bytes]]:
    """Path -> the first path of its file, and content; links lead to what came before."""
    written = write_layer(shop.planned(*steps).decision.changes.sorted(), shop.store)
    with shop.store.open(written.layer.blob) as blob:
        data = gzip.decompress(blob.read())
    found: dict[str, tuple[str, bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            if member.islnk():
                assert found[member.linkname][0] == member.linkname
                found[member.name] = found[member.linkname]
            elif member.isreg():
                content = tar.extractfile(member)
                assert content is not None
                found[member.name] = (member.name, content.read())
    return found


def test_the_first_path_is_the_file_and_the_others_are_links(shop: Any) -> None:
    (shop.context / "d" / "sub").mkdir(parents=True)
    (shop.context / "d" / "b").write_text("one")
    for other in ("d/a", "d/sub/c", "outside"):
        os.link(shop.context / "d" / "b", shop.context / other)
    entries = shop.entries(copy("d"))
    assert entries["to/a"].type == "0"
    for path in ("to/b", "to/sub/c"):
        assert (entries[path].type, entries[path].link, entries[path].size) == ("1", b"to/a", 0)
        assert entries[path][2:6] == entries["to/a"][2:6]
    before = shop.key(copy("d"))
    (shop.context / "d" / "b").unlink()
    (shop.context / "d" / "b").write_text("one")
    assert shop.key(copy("d")) != before
    # as with both of Docker's builders and buildah: one source, one set of links
    assert {entry.type for entry in shop.entries(copy("d/a", "d/b")).values()} == {"0", "5"}


def test_the_order_is_that_of_where_they_land(shop: Any) -> None:
    """`z/` lands in `a/`, before `m/`."""
    for folder in ("m", "z"):
        (shop.context / "d" / folder).mkdir(parents=True)
    (shop.context / "d" / "m" / "x").write_text("x")
    os.link(shop.context / "d" / "m" / "x", shop.context / "d" / "z" / "y")
    link = Symlink(HERE, None, "/z", "/a")
    assert tree(shop, link, copy("d", dest="/")) == {
        "a/y": ("a/y", b"x"),
        "m/x": ("a/y", b"x"),
    }


def test_a_link_to_what_a_later_source_replaced_is_a_file(shop: Any) -> None:
    for folder in ("one", "two"):
        (shop.context / folder).mkdir()
    (shop.context / "one" / "a").write_text("one")
    for name in ("b", "c"):
        os.link(shop.context / "one" / "a", shop.context / "one" / name)
    (shop.context / "two" / "a").write_text("two")
    assert tree(shop, copy("one", "two")) == {
        "to/a": ("to/a", b"two"),
        "to/b": ("to/b", b"one"),
        "to/c": ("to/b", b"one"),
    }
    os.link(shop.context / "two" / "a", shop.context / "two" / "b")
    assert tree(shop, copy("one", "two")) == {
        "to/a": ("to/a", b"two"),
        "to/b": ("to/a", b"two"),
        "to/c": ("to/c", b"one"),
    }


def test_random_links(shop: Any) -> None:
    """One to three sources that overlap, over an image with a symlink to a folder."""
    rng = random.Random(SEED)
    names = NAMES[:6]
    for number in range(COUNT):
        expected: dict[str, tuple[int, bytes]] = {}
        name, target = rng.sample((*names, "zz", "-"), 2)
        link = Symlink(HERE, None, f"/to/{name}", target)
        sources = [f"s{each}" for each in range(rng.randrange(1, 4))]
        for source in sources:
            made: list[Path] = []
            root = shop.context / source
            root.mkdir()
            for _ in range(rng.randrange(1, 12)):
                parts = [rng.choice(names) for _ in range(rng.randrange(1, 4))]
                path = root.joinpath(*parts[:-1], parts[-1] + ".f")
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    if made and rng.random() < 0.6:
                        os.link(rng.choice(made), path)
                    else:
                        path.write_text(f"{number} {source} {len(made)}")
                    made.append(path)
            for path in sorted(made, key=lambda path: str(path.relative_to(root)).split("/")):
                below = "/to/" + str(path.relative_to(root))
                if below.startswith(f"/to/{name}/"):
                    below = f"/to/{target}/" + below.removeprefix(f"/to/{name}/")
                expected[below[1:]] = (path.stat().st_ino, path.read_bytes())
        found = tree(shop, link, copy(*sources))
        assert {path: content for path, (_, content) in found.items()} == {
            path: content for path, (_, content) in expected.items()
        }
        firsts: dict[int, str] = {}
        for path in sorted(expected, key=lambda path: path.split("/")):
            first = firsts.setdefault(expected[path][0], path)
            assert found[path][0] == first, (number, path)
        for source in sources:
            shutil.rmtree(shop.context / source)
