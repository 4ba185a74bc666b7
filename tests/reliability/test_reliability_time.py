"""Clocks that jump, edits within one second, files that change while they are read."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder import build
from builder.errors import BuilderError
from builder.oci.digest import CacheKey
from builder.plan.keys import parse
from builder.store.records import load_document

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

COPY = "from: scratch\nsteps:\n- {name: tree, copy: tree/, dest: /srv/}\n"


def layers(scene: Any, document: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """For each file step of an image: what its key says of files, and what the layer holds."""
    found = []
    for layer in document["layers"]:
        if layer["step"] is None or "digest" not in layer:
            continue
        name = layer["key"].removeprefix("sha256:")
        data = load_document(scene.opened(), CacheKey(name))
        assert data is not None
        key = parse(data)
        assert hashlib.sha256(data).hexdigest() == name
        if key["kind"] != "files":
            continue
        blob = (scene.store / "blobs/sha256" / layer["digest"][7:]).read_bytes()
        plain = gzip.decompress(blob)
        assert "sha256:" + hashlib.sha256(plain).hexdigest() == layer["diff_id"]
        held = {}
        with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
            for member in tar:
                if member.isreg():
                    content = tar.extractfile(member)
                    assert content is not None
                    held[member.name] = hashlib.sha256(content.read()).hexdigest()
        said = {
            path.decode(): rest.split(b" ")[-1].decode()
            for path, rest in key["entries"].items()
            if rest.startswith(b"0 ")
        }
        found.append((said, held))
    return found


def check_named(scene: Any, image: dict[str, Any]) -> int:
    """Every layer holds the very bytes that its key names; how many files were compared."""
    compared = 0
    for said, held in layers(scene, image):
        assert said == held
        compared += len(said)
    return compared


def build_site(scene: Any, number: int) -> dict[str, Any]:
    """The image as `build --json` tells it. Every tenth time by a process of its own, else in this
    one, where a build is so quick that many fall into the same tick of the clock. Raises
    BuilderError."""
    if number % 10 == 0:
        done = scene.run("build", "site", "--json", "--progress", "quiet")
        if done.status:
            assert done.status in (1, 2) and done.err.count("error: ") == 1, done.err
            raise BuilderError(done.err)
        image: dict[str, Any] = json.loads(done.out)["images"][0]
        return image
    built = build(["site"], specs=str(scene.project / "specs"), cache_dir=str(scene.store))
    return {
        "layers": [
            {
                "step": step.number,
                "key": f"sha256:{step.key}",
                "digest": step.layer.blob.digest,
                "diff_id": step.layer.diff_id,
            }
            for step in built["site"].steps
            if step.layer
        ]
    }


@pytest.mark.needs("faketime")
@pytest.mark.parametrize("clock", ["-3650d", "+3650d"])
def test_a_clock_that_is_wrong_changes_no_digest_and_no_hit(scene: Any, clock: str) -> None:
    reference = scene.build()
    wrong = ("faketime", "-f", clock)
    done = scene.run("build", "site", prefix=wrong)
    assert done.status == 0 and done.out.split()[-1] == reference, done.err
    assert "nothing to build" in done.err
    shutil.rmtree(scene.store)
    done = scene.run("build", "site", prefix=wrong)
    assert done.status == 0 and done.out.split()[-1] == reference, done.err
    done = scene.run("build", "site")
    assert "nothing to build" in done.err and done.out.split()[-1] == reference
    scene.check_at_rest()


def living(scene: Any) -> bool:
    """Whether a builder has marked itself as alive."""
    folder = scene.store / "live"
    return folder.is_dir() and any(folder.iterdir())


@pytest.mark.needs("faketime")
@pytest.mark.parametrize("clock", ["-3650d", "+3650d"])
def test_gc_takes_nothing_from_a_living_builder_whose_clock_is_wrong(
    scene: Any, clock: str
) -> None:
    scene.spec(
        "slow",
        "from: rootfs:base.tar\nsteps:\n"
        "- {name: tree, copy: tree/, dest: /srv/}\n"
        '- {name: long, run: "sleep 1"}\n- {name: more, run: "ls /srv >/list"}\n',
    )
    reference = scene.build("slow")
    shutil.rmtree(scene.store)
    for builder, collector in ((clock, "+0"), ("+0", clock)):
        build = scene.start("build", "slow", prefix=("faketime", "-f", builder))
        gone = 0
        while not build.ended:
            lives = living(scene)
            argv = ("cache", "gc", "--max-size", "0", "--max-age", "1d")
            done = scene.run(*argv, prefix=("faketime", "-f", collector))
            assert done.status == 0, done.err
            if lives and living(scene):  # it had begun, and was not yet done
                assert "(0 things)" in done.out, done.out
                gone += 1
        done = build.wait().said_clearly()
        assert done.status == 0 and done.out.split()[-1] == reference, done.err
        assert gone > 2 and "made again" not in done.err
        shutil.rmtree(scene.store)


def test_edits_of_equal_size_within_a_second_are_seen(
    scene: Any, rounds: Callable[[int, int], int], seeded: random.Random, figures: Any
) -> None:
    """Write, build, write with equal size, build: at once, and with every other mtime put back to
    what it was."""
    scene.spec("site", COPY)
    path = scene.project / "tree" / "1"
    (scene.project / "tree" / "large").unlink()
    count = rounds(100, 10_000)
    for number in range(count):
        text = f"{seeded.randrange(10**9):010d}"
        before = path.lstat()
        path.write_text(text)
        if number % 2:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        ((said, held),) = layers(scene, build_site(scene, number))
        wanted = hashlib.sha256(text.encode()).hexdigest()
        assert said["srv/1"] == held["srv/1"] == wanted, number
    figures(rounds=count, stale=0)


def churn(folder: Path, seeded: random.Random, stop: threading.Event) -> None:
    """Write to, cut, replace, remove and make the files of a folder, until told to stop; now so
    fast that few builds meet a tree that holds still, now so slowly that most do."""
    paths = [folder / str(number) for number in range(1, 11)] + [folder / "large"]
    pace, until = 0.0, 0.0
    while not stop.is_set():
        if time.monotonic() > until:
            pace, until = seeded.choice((0.002, 0.02, 0.2, 0.5)), time.monotonic() + 0.5
        path = seeded.choice(paths)
        how = seeded.randrange(8)
        if how < 3 and not path.is_file():
            how = 7  # opening a FIFO would wait for a reader
        try:
            if how == 0:
                with path.open("ab") as file:
                    file.write(b"more")
            elif how == 1:
                os.truncate(path, path.stat().st_size // 2)
            elif how == 2:
                with path.open("r+b") as file:
                    file.write(seeded.randbytes(5))
            elif how == 3:
                other = folder.parent / "other"
                other.write_bytes(seeded.randbytes(1000))
                other.rename(path)
            elif how == 4:
                path.unlink()
                os.mkfifo(path)
            elif how == 5:
                path.unlink()
                path.symlink_to("/etc/hostname")
            elif how == 6:
                path.unlink()
            else:
                path.unlink(missing_ok=True)
                path.write_bytes(seeded.randbytes(3_000_000 if path.name == "large" else 20))
        except OSError:
            path.unlink(missing_ok=True)
        time.sleep(seeded.random() * pace)


def test_files_that_change_while_they_are_read_give_an_error_or_the_bytes_of_the_key(
    scene: Any, rounds: Callable[[int, int], int], seeded: random.Random, figures: Any
) -> None:
    scene.spec("site", COPY + "- {name: archive, unpack: archive.tar, dest: /a/}\n")
    counts: Counter[str] = Counter()
    stop = threading.Event()
    archive = scene.project / "archive.tar"
    whole = archive.read_bytes()

    def archives() -> None:
        while not stop.is_set():
            archive.write_bytes(whole[: seeded.choice([len(whole), 700, 3000])])
            time.sleep(0.02)
            archive.write_bytes(whole)
            time.sleep(0.1)

    threads = [
        threading.Thread(target=churn, args=(scene.project / "tree", seeded, stop)),
        threading.Thread(target=archives),
    ]
    for thread in threads:
        thread.start()
    try:
        for number in range(rounds(100, 10_000)):
            try:
                image = build_site(scene, number)
            except BuilderError:
                counts["refused"] += 1
                continue
            counts["files compared"] += check_named(scene, image)
            counts["built"] += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert counts["built"]
    scene.check_published()
    figures(**counts)
