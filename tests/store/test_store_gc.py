"""gc: what it takes, what it leaves, beside live and dead builders and under moving clocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.oci import media
from builder.oci.digest import DiffID, digest_of
from builder.oci.image import Descriptor, Layer, Platform, empty_image
from builder.store import unpacked
from builder.store.gc import Report, gc
from builder.store.names import ImageName
from builder.store.store import Store
from builder.store.usage import usage

DAY = 86400.0


def age(store: Store, blob: Descriptor, seconds: float) -> None:
    when = time.time() - seconds
    os.utime(store.blob_path(blob.digest), (when, when))


def tagged(store: Store, name: str, data: bytes) -> tuple[Descriptor, ...]:
    layer = store.put(data, media.LAYER)
    image = empty_image(Platform()).append(Layer(DiffID(str(layer.digest)), layer), {})
    config = store.put(image.config_bytes(), media.CONFIG)
    manifest = store.put(image.manifest_bytes(), media.MANIFEST)
    store.tag(ImageName(name, Platform()), manifest)
    return layer, config, manifest


def test_old_things_go_and_young_ones_stay(store: Store) -> None:
    old, young = store.put(b"old", media.LAYER), store.put(b"young", media.LAYER)
    age(store, old, 40 * DAY)
    assert gc(store, max_age=30 * DAY, dry_run=True).removed == 1
    assert store.has(old)
    assert gc(store, max_age=30 * DAY).removed == 1
    assert (store.has(old), store.has(young)) == (False, True)


def test_the_least_recently_used_go_until_the_store_is_small_enough(store: Store) -> None:
    blobs = [store.put(bytes([number]) * 100_000, media.LAYER) for number in range(5)]
    for number, blob in enumerate(blobs):
        age(store, blob, (5 - number) * DAY)
    report = gc(store, max_size=250_000)
    assert [store.has(blob) for blob in blobs] == [False, False, False, True, True]
    assert report.kept <= 250_000
    assert report.freed >= 300_000


def test_what_a_name_holds_on_to_stays_until_the_name_goes(store: Store) -> None:
    blobs = tagged(store, "site", b"layer")
    for blob in blobs:
        age(store, blob, 400 * DAY)
    gc(store, max_age=0, max_size=0)
    assert all(store.has(blob) for blob in blobs)
    store.untag(ImageName("site", Platform()))
    gc(store, max_age=DAY)
    assert not any(store.has(blob) for blob in blobs)


def test_what_a_base_was_stays_while_a_name_holds_its_layers(store: Store) -> None:
    layer, config, manifest = tagged(store, "site", b"layer")
    pulled = {"manifest": store.read(manifest).decode(), "config": store.read(config).decode()}
    other = json.dumps({"layers": [{**layer.document(), "digest": "sha256:" + "1" * 64}]}).encode()
    entries = {
        "registry-" + "a" * 64: json.dumps(pulled).encode(),
        "debootstrap-" + "b" * 64: json.dumps({"layers": [layer.document()]}).encode(),
        "debootstrap-" + "c" * 64: other,
        "seen-" + "d" * 64: b'["a"]',
        "seen-" + "e" * 64: b'{"manifest": "[[", "layers": 3}',
    }
    for name, data in entries.items():
        store.save("bases", name, data)
    gc(store, max_age=0)
    assert store.entries("bases") == ["debootstrap-" + "b" * 64, "registry-" + "a" * 64]
    store.untag(ImageName("site", Platform()))
    gc(store, max_age=0)
    assert store.entries("bases") == []


def test_without_limits_gc_takes_only_leftovers(store: Store) -> None:
    blob = store.put(b"x", media.LAYER)
    age(store, blob, 4000 * DAY)
    Path(store.root, "tmp", "0123456789abcdef.7").write_text("left by a dead builder")
    Path(store.root, "locks", "b" * 64).write_text("")
    assert gc(store) == Report(0, 0, 4096)
    assert os.listdir(os.path.join(store.root, "tmp")) == []
    assert os.listdir(os.path.join(store.root, "locks")) == ["collector"]


BUILDER = """
import sys, time
from builder.oci.image import Descriptor, Platform
from builder.store import unpacked
from builder.store.names import ImageName
from builder.store.store import Store
root, *digests = sys.argv[1:]
store = Store(root)
with store.live():
    for digest in digests:
        assert store.claim(Descriptor("", digest, 5))
    writing = store.incoming()
    incoming = writing.__enter__()
    incoming.write(b"half")
    folder = store.temporary()
    print("ready", flush=True)
    sys.stdin.read()
    assert all(store.has(Descriptor("", digest, 5)) for digest in digests), "gc took it"
    incoming.publish("x/y")
    unpacked.publish(store, folder, *["sha256:" + "1" * 64] * 2)
"""


@pytest.mark.parametrize("shift", ["", "-5d", "+5d"])
@pytest.mark.needs("faketime")
def test_gc_never_takes_what_a_living_builder_uses(store: Store, shift: str) -> None:
    used, unused = store.put(b"used!", media.LAYER), store.put(b"not !", media.LAYER)
    for blob in (used, unused):
        age(store, blob, 40 * DAY)
    command = [sys.executable, "-c", BUILDER, store.root, used.digest]
    clock = ["faketime", "-f", shift] if shift else []
    with subprocess.Popen(
        [*clock, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as builder:
        assert builder.stdout and builder.stdin
        assert builder.stdout.readline() == "ready\n"
        for _ in range(3):
            gc(store, max_age=0, max_size=0)
        assert store.has(used)
        assert not store.has(unused)
        builder.stdin.close()
        assert builder.wait(10) == 0
    assert unpacked.claim(store, "sha256:" + "1" * 64)
    store.close()
    assert os.listdir(os.path.join(store.root, "live")) == []


def test_what_a_killed_builder_left_is_swept_by_the_next(store: Store) -> None:
    store.close()
    with subprocess.Popen(
        [sys.executable, "-c", BUILDER, store.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as builder:
        assert builder.stdout and builder.stdout.readline() == "ready\n"
        assert len(os.listdir(os.path.join(store.root, "tmp"))) == 2
        with store.live():
            assert len(os.listdir(os.path.join(store.root, "tmp"))) == 2
        builder.kill()
    with store.live():
        assert os.listdir(os.path.join(store.root, "tmp")) == []
    assert os.listdir(os.path.join(store.root, "live")) == []


def test_a_time_from_the_future_is_not_young_for_ever(store: Store) -> None:
    blob = store.put(b"x", media.LAYER)
    age(store, blob, -400 * DAY)
    gc(store, max_age=DAY)
    assert abs(os.stat(store.blob_path(blob.digest)).st_mtime - time.time()) < 60
    age(store, blob, 2 * DAY)
    assert gc(store, max_age=DAY).removed == 1


def test_use_is_marked_at_most_once_an_hour(store: Store) -> None:
    store.save("records", "a", b"x")
    path = os.path.join(store.root, "records", "a")
    recent = time.time() - 1000
    os.utime(path, (recent, recent))
    store.load("records", "a")
    assert os.stat(path).st_mtime == pytest.approx(recent, abs=1)
    os.utime(path, (recent - DAY, recent - DAY))
    store.load("records", "a")
    assert os.stat(path).st_mtime == pytest.approx(time.time(), abs=60)


def test_an_unpacked_layer_goes_by_its_mark_not_by_its_own_time(store: Store) -> None:
    diff_id = digest_of(b"layer")
    folder = store.temporary()
    os.utime(folder, (0, 0))
    path = unpacked.publish(store, folder, diff_id, diff_id)
    gc(store, max_age=DAY)
    assert os.path.isdir(path)
    os.utime(unpacked.mark_path(store, diff_id), (0, 0))
    gc(store, max_age=DAY)
    assert not os.path.exists(path)
    assert not os.path.exists(unpacked.mark_path(store, diff_id))


def test_usage_says_what_is_shared(store: Store) -> None:
    tagged(store, "site", b"common")
    layer, config, manifest = tagged(store, "shop", b"common")
    tagged(store, "base", b"alone")
    seen = usage(store)
    assert {image.name.name: image.shared for image in seen.images} == {
        "site": layer.size + config.size + manifest.size,
        "shop": layer.size + config.size + manifest.size,
        "base": 0,
    }
    assert {kind.kind: kind.number for kind in seen.kinds} == {"blobs": 6, "names": 3}
    assert seen.total > 0


WORKER = """
import os, sys
from builder.oci.digest import hex_of
from builder.oci.image import Platform
from builder.store.names import ImageName
from builder.store.store import Store
root, log = sys.argv[1:]
store = Store(root)
with store.live():
    for number in range(30):
        key = hex_of(b"%d" % number)
        with store.lock(key, "step"):
            if store.load("records", key) is None:
                with open(log, "a") as file:
                    file.write(key + "\\n")
                blob = store.put(key.encode() * 500, "x/y")
                store.save("records", key, blob.digest.encode())
        store.tag(ImageName(f"image{number % 3}", Platform()), store.put(key.encode(), "x/y"))
"""


def test_many_builders_make_each_step_once(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", WORKER, store.root, str(log)]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [each.wait(60) for each in running] == [0, 0, 0, 0]
    made = log.read_text().split()
    assert len(made) == len(set(made)) == 30
    assert [name.name for name in store.names()] == ["image0", "image1", "image2"]


def test_killed_builders_never_leave_a_torn_name(store: Store, tmp_path: Path) -> None:
    from builder.store.check import check

    command = [sys.executable, "-c", WORKER, store.root, str(tmp_path / "log")]
    for round_ in range(25):
        worker = subprocess.Popen(command)
        time.sleep(0.04 + round_ * 0.004)
        worker.kill()
        worker.wait()
        assert check(Store(store.root)) == []
        if round_ % 5 == 4:
            gc(store, max_age=0)
            store.close()
    assert subprocess.run(command).returncode == 0
    with store.live():
        pass
    assert os.listdir(os.path.join(store.root, "tmp")) == []
    assert os.listdir(os.path.join(store.root, "live")) == []
    assert len(os.listdir(os.path.join(store.root, "locks"))) <= 26
