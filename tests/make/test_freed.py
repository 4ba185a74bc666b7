"""What `rmi` and `cache gc` say that they free, held against the disk; and what they leave."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

from builder.api import build
from builder.store.check import check
from builder.store.gc import MAX_AGE, gc, items
from builder.store.reach import let_go
from builder.store.store import Store

DAY = 86400.0
ROUNDS = int(os.environ.get("FREED_ROUNDS", "2"))


def used(store: Path) -> int:
    """Bytes on disk, as du has them."""
    said = subprocess.run(["du", "-sB1", str(store)], capture_output=True, text=True, check=True)
    return int(said.stdout.split()[0])


def write_specs(scene: Any, seeded: random.Random) -> list[str]:
    """Images that share bases, layers, or both; some with an own codec's layers beside, some that
    stand on others, some of which are the same."""
    names = [f"i{number}" for number in range(seeded.randrange(3, 6))]
    for number, name in enumerate(names):
        above = f"image:{seeded.choice(names[:number])}" if number and seeded.random() < 0.4 else ""
        steps = []
        for _ in range(seeded.randrange(1, 4)):
            at, size = seeded.randrange(3), seeded.choice((0, 1, 5_000, 200_000))
            steps.append(
                seeded.choice(
                    (
                        f"- {{file: /f{at}, content: '{'x' * min(size, 3000)}'}}\n",
                        f"- run: dd if=/dev/urandom of=/r{at} count={size // 2000 + 1}\n",
                        f"- run: mkdir -p /d{at}/e; echo made {at} | cat > /d{at}/e/f\n",
                        "- run: 'true'\n",
                        f"- {{copy: data{at}, dest: /c{at}}}\n",
                    )
                )
            )
        scene.spec(name, f"from: {above or 'rootfs:base.tar'}\nsteps:\n{''.join(steps)}")
    for at in range(3):
        (scene.root / f"data{at}").mkdir(exist_ok=True)
        for each in range(seeded.randrange(1, 80)):
            (scene.root / f"data{at}/{each}").write_text(str(each) * seeded.randrange(1, 999))
    return names


def built(scene: Any, codec: str = "gzip") -> dict[str, str]:
    options: dict[str, Any] = {"cache_dir": str(scene.store), "specs": str(scene.root / "specs")}
    found = build([], **options, codec=codec)
    return {name: each.manifest.digest for name, each in found.items()}


def test_rmi_says_to_the_byte_what_the_next_gc_frees(scene: Any) -> None:
    for number in range(ROUNDS):
        seeded = random.Random(number)
        subprocess.run(["rm", "-rf", scene.store, scene.root / "specs"], check=True)
        (scene.root / "specs").mkdir()
        write_specs(scene, seeded)
        codecs = seeded.choice((("gzip",), ("zstd", "gzip"), ("none",)))
        for codec in codecs:
            built(scene, codec)
        store = Store(str(scene.store))
        assert gc(store, max_age=MAX_AGE).removed == 0
        while names := list(store.names()):
            chosen = seeded.sample(names, seeded.randrange(1, len(names) + 1))
            would = let_go(store, chosen, dry_run=True)
            assert list(store.names()) == names
            store.close()
            report = gc(store, max_age=MAX_AGE)
            assert report.removed == 0, "a dry run marks nothing"
            assert let_go(store, chosen) == would
            store.close()
            before = used(scene.store)
            report = gc(store, max_age=MAX_AGE)
            store.close()
            assert (report.freed, before - used(scene.store)) == (would, would)
            assert check(store) == []
            left = list(store.names())
            assert left == [name for name in names if name not in chosen]
        # what is left is of no image: how a base was made, what was looked at, empty steps; and
        # of several codecs the documents of the images that lost their names
        gone = {"unpacked", "tables", "contents", "layers"}
        gone |= {"blobs"} if len(codecs) == 1 else set()
        assert [item for item in items(store) if item.kind in gone] == []


def test_named_images_are_found_again_whatever_gc_took(scene: Any) -> None:
    """After any gc the named images are there, and building them makes nothing."""
    for number in range(ROUNDS):
        seeded = random.Random(100 + number)
        subprocess.run(["rm", "-rf", scene.store, scene.root / "specs"], check=True)
        (scene.root / "specs").mkdir()
        write_specs(scene, seeded)
        digests = built(scene)
        store = Store(str(scene.store))
        old = time.time() - 30 * DAY
        for item in list(items(store)):
            if seeded.random() < 0.8:
                at = item.path
                if item.kind == "unpacked":
                    at = os.path.join(store.root, "uses", item.name)
                os.utime(at, (old, old), follow_symlinks=False)
        before = used(scene.store)
        limits: list[dict[str, Any]] = [{"max_age": MAX_AGE}, {"max_age": 0}, {"max_size": 0}]
        report = gc(store, **seeded.choice(limits))
        store.close()
        assert before - used(scene.store) == report.freed
        assert check(store) == []
        done = scene.run("build")
        assert done.stderr.count("nothing to build") == len(digests), done.stderr
        assert built(scene) == digests


def test_the_log_of_a_step_goes_with_its_record(scene: Any) -> None:
    scene.spec("app", "from: rootfs:base.tar\nsteps:\n- run: echo one > /x; echo said\n")
    built(scene)
    store = Store(str(scene.store))
    logs = scene.store / "logs"
    (log,) = logs.iterdir()
    os.utime(log, (1, 1))
    gc(store, max_age=MAX_AGE)  # it is as old as its record, which a name holds
    assert log.exists() and (scene.store / "records" / log.name).exists()
    let_go(store, list(store.names()))
    store.close()
    gc(store, max_age=MAX_AGE)
    assert not log.exists() and not (scene.store / "records" / log.name).exists()


def test_gc_without_options_takes_what_its_words_promise(scene: Any) -> None:
    scene.spec("app", "from: rootfs:base.tar\nsteps:\n- run: echo one > /x; echo said\n")
    built(scene)
    scene.spec("app", "from: rootfs:base.tar\nsteps:\n- run: echo two > /x; echo said\n")
    built(scene)
    store = Store(str(scene.store))
    young = scene.run("cache", "gc").stdout
    assert young.startswith("freed 0 B (0 things)")
    unnamed = {item.path for item in items(store)}
    for path in unnamed:
        os.utime(path, (time.time() - 8 * DAY,) * 2, follow_symlinks=False)
    assert scene.run("cache", "gc", "--max-age", "9d").stdout.startswith("freed 0 B (0 things)")
    would = scene.run("cache", "gc", "--dry-run").stdout
    freed = scene.run("cache", "gc").stdout
    assert freed == would.replace("would free", "freed") and not freed.startswith("freed 0 B")
    assert scene.run("build").stderr.count("nothing to build") == 1
    # what nobody would have said to be old
    store = Store(str(scene.store))
    store.put(b"x" * 50_000, "x/y")
    store.close()
    assert scene.run("cache", "gc").stdout.startswith("freed 0 B (0 things)")
    assert "freed 0 B" not in scene.run("cache", "gc", "--all").stdout
    assert scene.run("build").stderr.count("nothing to build") == 1
    assert "--all" in scene.run("cache", "gc", "--all", "--max-age", "1d", status=2).stderr


def test_rmi_says_what_it_frees(scene: Any) -> None:
    scene.spec("app", "from: rootfs:base.tar\nsteps:\n- run: echo one > /x; echo said\n")
    built(scene)
    scene.run("tag", "app", "kept:1")
    held = "`builder cache gc` would free nothing: others hold all of it\n"
    assert scene.run("rmi", "app", "--dry-run").stdout.endswith(f" would be removed\n{held}")
    assert "kept:1" in scene.run("images").stdout and "app" in scene.run("images").stdout
    said = scene.run("rmi", "app", "kept:1").stdout.splitlines()
    assert said[-1].startswith("`builder cache gc` frees ") and len(said) == 3
    freed = said[-1].removeprefix("`builder cache gc` frees ")
    assert scene.run("cache", "gc").stdout.startswith(f"freed {freed} (")


def test_what_a_kept_container_stands_on_stays(scene: Any) -> None:
    scene.spec("app", "from: rootfs:base.tar\nsteps:\n- run: echo one > /x\n")
    built(scene)
    scene.run("run", "--keep", "c", "app", "true")
    scene.run("rmi", "app")
    scene.run("cache", "gc", "--all")
    assert scene.run("run", "container:c", "cat", "/x").stdout == "one\n"
    scene.run("rm", "c")
    scene.run("cache", "gc", "--all")
    store = Store(str(scene.store))
    assert [item for item in items(store) if item.kind in ("blobs", "layers")] == []
