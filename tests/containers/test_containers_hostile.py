"""What is in a container, or says what one is, may be anybody's bytes."""

from __future__ import annotations

import copy
import json
import os
import random
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from builder.containers.container import find, kept
from builder.containers.files import lines
from builder.errors import BuilderError
from builder.events import ignore
from builder.rootfs.layers import Layers
from builder.store.store import Store
from tests.containers.conftest import Box

ROUNDS = int(os.environ.get("BUILDER_CONTAINER_ROUNDS", "40"))


@pytest.mark.parametrize(("to", "source"), [("out", "work:/holes"), ("work:/srv/", "holes")])
def test_holes_are_copied_as_holes(box: Box, to: str, source: str) -> None:
    """A container can make files that are larger than the disk, of nothing."""
    script = (
        "cd /; mkdir holes; truncate -s 3000000000000 holes/none; seq 9 > holes/full;"
        " : > holes/empty;"
        " dd if=/bin/busybox of=holes/some bs=4096 count=20 seek=300000000 conv=notrunc;"
        " truncate -s 2000000000000 holes/some; truncate -s 5000 holes/small"
    )
    box.call("run", "--keep", "work", "box", "sh", "-c", script, check=True)
    here = box.root / "holes"
    if not here.exists():
        box.call("cp", "work:/holes", ".", check=True)
    box.call("cp", source, to, check=True)
    upper = box.store / "containers/work/upper"
    made = box.root / "out" if to == "out" else upper / "srv/holes"
    truth = upper / "holes"
    for name in ("none", "full", "empty", "some", "small"):
        status, meant = (made / name).stat(), (truth / name).stat()
        assert status.st_size == meant.st_size
        assert status.st_blocks <= meant.st_blocks + 8
    assert (made / "full").read_text() == "".join(f"{n}\n" for n in range(1, 10))
    with open(made / "some", "rb") as file, open("/bin/busybox", "rb") as busybox:
        file.seek(300_000_000 * 4096)
        assert file.read(20 * 4096) == busybox.read(20 * 4096)
        assert file.read(4096) == bytes(4096)


@pytest.mark.root
def test_a_device_is_not_replaced_by_a_file(box: Box) -> None:
    """`/dev/null` is where somebody sends a file that is not wanted."""
    box.call("run", "--keep", "work", "box", "sh", "-c", "echo x > /new", check=True)
    (box.root / "devices/new").parent.mkdir()
    device = box.root / "devices/new"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (box.root / "link").symlink_to(device)
    for target in ("devices/new", str(device), "link"):
        assert "is neither a file nor a folder" in box.fails("cp", "work:/new", target, status=2)
    assert "'new' is a device there" in box.fails("cp", "work:/new", "devices", status=1)
    assert device.is_char_device()
    assert (box.root / "link").is_symlink()


BAD: list[Any] = [
    None, -1, 10**40, 1.5, "", "\0", "\udcff", "../" * 9, "sha256:" + "../" * 20,
    "sha256:" + "a" * 64, [], [1], [[]], {}, {"a": 1}, ["folder", "/x", "/etc/passwd", True],
]  # fmt: skip


def _places(document: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(document, dict | list):
        keys = document if isinstance(document, dict) else range(len(document))
        for key in keys:
            yield from _places(document[key], (*above, key))


def test_what_is_written_of_a_container_is_read_or_is_none(box: Box) -> None:
    """Whatever a value of it is replaced by."""
    box.call("run", "--keep", "work", "box", "sh", "-c", "echo x > /new", check=True)
    place = box.store / "containers/work/about.json"
    whole = json.loads(place.read_bytes())
    store = Store(str(box.store), ignore)
    # what is looked up in the store, each time; of the others some
    places = [each for each in _places(whole) if each[:1] == ("layers",) and len(each) > 1]
    every = [(each, bad) for each in places for bad in BAD]
    chosen = random.Random(14)
    every += [(each, bad) for each in _places(whole) for bad in chosen.sample(BAD, 2)]
    chosen.shuffle(every)
    read = 0
    for each, bad in every[: ROUNDS * 4]:
        changed = copy.deepcopy(whole)
        inner = changed
        for key in each[:-1]:
            inner = inner[key]
        if each:
            inner[each[-1]] = bad
        else:
            changed = bad
        text = json.dumps(changed, ensure_ascii=False)
        place.write_bytes(text.encode("utf-8", "surrogateescape"))
        try:
            with store.live():
                kept(store)
                lines(Layers(store), find(store, "work"))
            read += 1
        except BuilderError:
            pass
    assert read
    place.write_bytes(json.dumps(whole).encode())
