"""Names: an entry each, and index.json that says the same once the builders have ended."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from builder.oci import media
from builder.oci.digest import digest_of
from builder.oci.image import Platform
from builder.store.files import Files
from builder.store.gc import gc
from builder.store.names import ImageName
from builder.store.store import Store

AMD64, ARM64 = Platform(), Platform("linux", "arm64")


def listed(store: Store) -> set[tuple[str, str, str, str]]:
    """What index.json says: name, architecture, project, digest."""
    document = json.loads(Path(store.root, "index.json").read_bytes())
    return {
        (
            entry["annotations"]["org.opencontainers.image.ref.name"],
            entry["platform"]["architecture"],
            entry["annotations"]["builder.project"],
            entry["digest"],
        )
        for entry in document["manifests"]
    }


def said(store: Store) -> set[tuple[str, str, str, str]]:
    """What the names say."""
    return {
        (name.name, name.platform.architecture, name.project, blob.digest)
        for name, blob in store.names().items()
    }


def test_a_name_is_a_name_of_a_project_for_a_platform(store: Store) -> None:
    names = [
        ImageName("web", platform, project)
        for platform in (AMD64, ARM64, Platform("linux", "arm", "v6"), Platform("linux", "arm"))
        for project in ("", "/a", "/b", "shop")
    ]
    for number, name in enumerate(names):
        store.tag(name, store.put(b"%d" % number, media.MANIFEST))
    assert [store.names()[name].digest for name in names] == [
        digest_of(b"%d" % number) for number in range(len(names))
    ]
    assert store.untag(names[0]) and not store.untag(names[0])
    assert store.named(names[0]) is None and len(store.names()) == len(names) - 1
    assert listed(store) == said(store)


KILLED = """
import os, signal, sys
from builder.oci.image import Platform
from builder.store.names import ImageName
from builder.store.store import Store
store = Store(sys.argv[1])
with store.live():
    for number in range(3):
        name = ImageName(f"image{number}", Platform(), "/p")
        store.tag(name, store.put(b"%d" % number, "x/y"))
    store.untag(ImageName("old", Platform(), "/p"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_builder_named_is_listed_by_the_next_one(store: Store) -> None:
    store.tag(ImageName("old", AMD64, "/p"), store.put(b"old", "x/y"))
    store.close()
    subprocess.run([sys.executable, "-c", KILLED, store.root])
    assert {name for name, *_ in said(store)} == {"image0", "image1", "image2"}
    assert {name for name, *_ in listed(store)} == {"old"}
    with Store(store.root).live():
        pass
    assert listed(store) == said(store)
    subprocess.run([sys.executable, "-c", KILLED, store.root])
    gc(Store(store.root))
    assert listed(store) == said(store)


def test_a_run_writes_the_index_once(store: Store) -> None:
    path = Path(store.root, "index.json")
    before = path.stat().st_ino
    with store.live():
        for number in range(50):
            name = ImageName(f"image{number}", AMD64, "/p")
            store.tag(name, store.put(b"%d" % number, "x/y"))
            assert store.named(name)
        assert path.stat().st_ino == before
    assert listed(store) == said(store) and len(said(store)) == 50


FULL = """
import errno, sys
from builder.oci.image import Platform
from builder.store.files import Files
from builder.store.names import ImageName
from builder.store.store import Store
class Full(Files):
    def rename(self, source, target):
        if target.endswith("index.json"):
            raise OSError(errno.ENOSPC, "full")
        super().rename(source, target)
store = Store(sys.argv[1], print, Full())
with store.live():
    store.tag(ImageName("web", Platform(), "/p"), store.put(b"1", "x/y"))
"""


def test_an_index_that_cannot_be_written_is_written_by_the_next_builder(store: Store) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, store.root], capture_output=True, text=True, check=True
    )
    assert "no space left" in done.stdout and done.stderr == ""
    assert listed(store) == set() and len(said(store)) == 1
    with Store(store.root).live():
        pass
    assert listed(store) == said(store)


WORKER = """
import random, sys
from builder.oci.image import Platform
from builder.store.names import ImageName
from builder.store.store import Store
root, seed = sys.argv[1:]
seeded = random.Random(seed)
for run in range(4):
    store = Store(root)
    with store.live():
        for _ in range(10):
            name = ImageName(f"image{seeded.randrange(8)}", Platform(), seeded.choice("pq"))
            if seeded.random() < 0.3:
                store.untag(name)
            else:
                store.tag(name, store.put(b"%d" % seeded.randrange(100), "x/y"))
"""


def test_the_index_says_what_the_names_say_after_many_builders(store: Store) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", WORKER, store.root, str(seed)])
        for seed in random.Random(7).sample(range(1000), 4)
    ]
    assert [each.wait(60) for each in running] == [0, 0, 0, 0]
    assert listed(store) == said(store)


def test_an_image_that_another_tool_listed_is_known_and_held(store: Store) -> None:
    path = Path(store.root, "index.json")
    blob = store.put(b"{}", media.MANIFEST)
    platform = {"os": "linux", "architecture": "arm64"}
    annotations = {"org.opencontainers.image.ref.name": "theirs"}
    entry = {**blob.document(), "platform": platform, "annotations": annotations}
    nameless = {**blob.document(), "odd": [1]}
    path.write_text(json.dumps({"schemaVersion": 2, "manifests": [entry, nameless]}))
    store.tag(ImageName("ours", AMD64), store.put(b"[]", media.MANIFEST))
    theirs = ImageName("theirs", ARM64)
    assert store.names()[theirs] == blob
    os.utime(store.blob_path(blob.digest), (1, 1))
    gc(store, max_age=1)
    assert store.has(blob)
    assert store.untag(theirs) and theirs not in store.names()
    manifests = json.loads(path.read_bytes())["manifests"]
    assert nameless in manifests and entry not in manifests


def test_a_damaged_entry_is_found_in_the_index(store: Store) -> None:
    names = [ImageName(each, AMD64, "/p") for each in ("a", "b", "c")]
    for name in names:
        store.tag(name, store.put(name.name.encode(), "x/y"))
    before = store.names()
    for number, damage in enumerate((b"", b"junk", b"\0" * 400)):
        Path(store.root, "names", names[number].key).write_bytes(damage)
    assert Store(store.root).names() == before
    for name in names:
        store.tag(name, before[name])
    events: list[object] = []
    again = Store(store.root, events.append)
    assert again.names() == before and events == []


class Counting(Files):
    calls = 0

    def open(self, path: str, flags: int) -> int:
        self.calls += 1
        return super().open(path, flags)


def test_what_a_name_costs_does_not_grow_with_how_many_there_are(store: Store) -> None:
    files = Counting()
    counting = Store(store.root, files=files)
    blob = counting.put(b"{}", media.MANIFEST)
    counts = []
    with counting.live():
        for number in range(300):
            before = files.calls
            counting.tag(ImageName(f"image{number}", AMD64, "/p"), blob)
            counts.append(files.calls - before)
    assert max(counts[1:]) == min(counts[1:])
